"""The policy of a record acts as the run did, and its numbers load into torch modules."""

from __future__ import annotations

from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch

import p2pfrl
from p2pfrl.core.errors import RecordError
from p2pfrl.laws.runs import play


@pytest.fixture(scope="module")
def cartpole(tmp_path_factory: pytest.TempPathFactory) -> p2pfrl.Record:
    out = tmp_path_factory.mktemp("policy") / "run"
    scenario = p2pfrl.load(
        "ring_16.toml", overrides={"agents": 2, "stop.rounds": 8, "evaluation.episodes": 0}
    )
    p2pfrl.run(scenario, out=out)
    return p2pfrl.load_record(out)


def network(record: p2pfrl.Record, agent: int) -> torch.nn.ModuleDict:
    linear = torch.nn.Linear
    parts = {
        part: torch.nn.ModuleDict(
            {"0": linear(4, 64), "1": linear(64, 64), "head": linear(64, out)}
        )
        for part, out in (("actor", 2), ("critic", 1))
    }
    module = torch.nn.ModuleDict(parts)
    module.load_state_dict(record.state_dict(agent))
    return module


@pytest.mark.parametrize("agent", [0, 1])
def test_a_state_dict_loads_into_a_module_that_acts_like_the_policy(
    cartpole: p2pfrl.Record, agent: int
) -> None:
    obs = p2pfrl.generator(0, "observations").normal(size=(200, 4)).astype(np.float32)
    actor = network(cartpole, agent)["actor"]
    with torch.no_grad():
        hidden = torch.tanh(actor["1"](torch.tanh(actor["0"](torch.from_numpy(obs)))))
        heads = actor["head"](hidden).numpy()
    clear = np.abs(heads[:, 0] - heads[:, 1]) > 1e-4
    assert clear.sum() > 150
    found = cartpole.policy(agent).act(obs)
    np.testing.assert_array_equal(found[clear], heads.argmax(axis=1)[clear])
    assert len(set(found.tolist())) == 2
    assert cartpole.policy(agent).act(obs[0]) == found[0]


def test_a_policy_plays_in_gymnasium(cartpole: p2pfrl.Record) -> None:
    policy, environment = cartpole.policy(0), gymnasium.make("CartPole-v1")
    obs, _ = environment.reset(seed=1)
    for _ in range(8):
        action = policy.act(obs)
        assert environment.action_space.contains(action)
        obs, *_ = environment.step(action)
    environment.close()


def test_continuous_actions_are_within_bounds() -> None:
    record = p2pfrl.run(
        p2pfrl.load(
            "pendulum_ring.toml",
            overrides={"agents": 2, "stop.rounds": 1, "evaluation.episodes": 0},
        )
    )
    actions = record.policy(1).act(100 * np.eye(3))
    assert actions.shape == (3, 1)
    assert (np.abs(actions.astype(float)) <= 2).all()
    assert record.policy(1).act(np.zeros(3)).shape == (1,)


@pytest.mark.parametrize("kind", ["tabular_q", "softmax_pg"])
def test_tables_act_on_states(kind: str) -> None:
    environment = {"id": "garnet", "states": 5, "actions": 3}
    record = play(2, 4, learner={"kind": kind, "lr": 0.5}, environment=environment)
    table = record.parameters[1].reshape(5, 3)
    policy = record.policy(1)
    np.testing.assert_array_equal(policy.act(np.eye(5)), table.argmax(axis=1))
    assert [policy.act(state) for state in range(5)] == table.argmax(axis=1).tolist()


def test_groups_have_policies_of_their_own_sizes() -> None:
    record = p2pfrl.run(
        p2pfrl.load(
            "heterogeneous_cartpole.toml", overrides={"stop.rounds": 1, "evaluation.episodes": 0}
        )
    )
    for agent in range(len(record.parameters)):
        assert int(record.policy(agent).act(np.zeros(4))) in (0, 1)


def test_what_cannot_act_is_refused(cartpole: p2pfrl.Record) -> None:
    for agent in (-1, 2):
        with pytest.raises(RecordError, match="expected an agent from 0 to 1"):
            cartpole.policy(agent)
        with pytest.raises(RecordError, match="expected an agent from 0 to 1"):
            cartpole.state_dict(agent)
    for obs in (np.zeros(3), np.zeros((2, 2, 4)), "up", 7, [1j] * 4):
        with pytest.raises(RecordError, match="expected an observation of 4 numbers"):
            cartpole.policy(0).act(obs)
    with pytest.raises(RecordError, match="learner of agent 0 has no policy"):
        play(2, 1).policy(0)


def test_the_state_dict_is_a_copy(cartpole: p2pfrl.Record, tmp_path: Path) -> None:
    before = cartpole.parameters.copy()
    for tensor in cartpole.state_dict(0).values():
        tensor += 1
    np.testing.assert_array_equal(cartpole.parameters, before)
    torch.save(cartpole.state_dict(0), tmp_path / "agent0.pt")
    assert set(torch.load(tmp_path / "agent0.pt")) == {name for name, _ in cartpole.layout}
