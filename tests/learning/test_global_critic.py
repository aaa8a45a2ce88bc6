"""Critics that see the world in training, beside actors that see their own part."""

from typing import Any

import numpy as np
import pytest

import p2pfrl
from p2pfrl.build.assembly import Assembly
from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.parameters import aligned_zeros
from p2pfrl.learning.environments.spectrum import Spectrum
from p2pfrl.learning.environments.vary import columns
from p2pfrl.learning.learners.on_policy import OnPolicyStack
from p2pfrl.learning.networks import Network
from p2pfrl.scenario import Scenario, loads

TEXT = """
name = "critics"
agents = 4
stop = {rounds = 2}
environment = {id = "spectrum", members = 2, instances = 2, max_steps = 5}
evaluation = {episodes = 2}
[learner]
kind = "ppo"
steps = 8
hidden = [4]
critic_sees = "world"
"""


def scenario(**overrides: Any) -> Scenario:
    return loads(TEXT, {name.replace("__", "."): value for name, value in overrides.items()})


@pytest.fixture(scope="module", params=["ppo", "a2c"])
def stack(request) -> OnPolicyStack:
    made = Assembly(scenario(learner__kind=request.param)).trainer(range(4)).stack
    assert isinstance(made, OnPolicyStack)
    return made


def outputs(stack: OnPolicyStack, rows: np.ndarray, x: np.ndarray) -> np.ndarray:
    out = np.zeros((len(rows), stack.network.outputs, x.shape[2]), dtype=rows.dtype)
    stack.network.forward(rows, x, out)
    return out


def test_actors_ignore_the_world_part_and_critics_do_not(stack):
    rows = stack.start(range(3), same=False)
    spec = stack.simulator.spec
    own, whole = spec.acts_on, spec.observation
    assert (own, whole) == (6, 12)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, whole, 5)).astype(np.float32)
    other = x.copy()
    other[:, own:] = rng.normal(size=(3, whole - own, 5))
    ours, theirs = outputs(stack, rows, x), outputs(stack, rows, other)
    assert np.array_equal(ours[:, :-1], theirs[:, :-1])
    assert (ours[:, -1] != theirs[:, -1]).all()
    other[:, : own - 1] += 1.0
    assert (outputs(stack, rows, other)[:, :-1] != ours[:, :-1]).all()


def test_greedy_policies_need_their_own_part_alone(stack):
    rows = stack.start(range(4), same=False)
    obs = np.random.default_rng(0).normal(size=(4, 3, 12)).astype(np.float32)
    whole = stack.evaluator.act(range(4), rows, obs)
    assert np.array_equal(stack.evaluator.act(range(4), rows, obs[..., :6]), whole)


def test_the_world_part_is_what_the_next_members_observe():
    environment = Spectrum(members=3, max_steps=2)
    table = environment.physics(1, range(6), columns(environment, {}, 1, range(6), 6))
    plain = environment.simulator(table, 2, 1)
    whole = plain.with_world()
    assert whole is not None
    agents = list(range(6))
    states = plain.init(agents), whole.init(agents)
    for made in (plain, whole):
        made.begin(agents, [0] * 6)
    seen = [(plain.observe(agents, states[0]), whole.observe(agents, states[1]))]
    for _ in range(3):  # an episode ends within
        steps = [
            made.step(state, np.ones((6, 2), dtype=np.int64))
            for made, state in zip((plain, whole), states, strict=True)
        ]
        seen += [(steps[0].obs, steps[1].obs), (steps[0].next_obs, steps[1].next_obs)]
    for own, all_ in seen:
        for agent in agents:
            first = agent - agent % 3
            order = [first + (agent + d) % 3 for d in range(3)]
            assert np.array_equal(all_[agent], np.concatenate(own[order], axis=-1))


def test_gradients_are_those_of_finite_differences():
    network = Network(5, 2, hidden=[3], actor_inputs=2, dtype="float64")
    assert network.layout.size < Network(5, 2, hidden=[3], dtype="float64").layout.size
    rng = np.random.default_rng(0)
    rows = aligned_zeros((1, network.layout.stride), "float64")
    rows[0] = network.start(rng)
    x, weight = rng.normal(size=(1, 5, 4)), rng.normal(size=(1, 3, 4))

    def loss(at: np.ndarray) -> float:
        out = np.zeros((1, 3, 4))
        network.forward(at, x, out)
        return float((out * weight).sum())

    loss(rows)
    gradient = np.zeros_like(rows)
    network.backward(rows, x, weight, gradient)
    for i in np.flatnonzero(rows[0]):
        step = np.zeros_like(rows)
        step[0, i] = 1e-6
        assert gradient[0, i] == pytest.approx(
            (loss(rows + step) - loss(rows - step)) / 2e-6, abs=1e-6
        )


def test_a_run_learns_evaluates_and_acts_on_what_an_agent_sees_alone():
    record = p2pfrl.run(scenario(learner__normalize_observations=True))
    assert np.isfinite(record.summary["evaluation"]["own"])
    assert 0 <= int(record.policy(1).act(np.zeros(6, dtype=np.float32))) < 5
    own = p2pfrl.run(scenario(learner__critic_sees="own"))
    assert own.summary["parameters_digest"] != record.summary["parameters_digest"]


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        ({"learner__shared_trunk": True}, "critic_sees: actor and critic that share layers"),
        ({"learner__frame_stack": 2}, "critic_sees: 'world' needs encoder = \"none\""),
        ({"environment": {"id": "cartpole"}}, "critic_sees: 'world' needs a shared world"),
    ],
)
def test_what_has_no_world_part_is_refused_in_words(overrides, complaint):
    text = TEXT
    if environment := overrides.pop("environment", None):
        text = text.replace(
            'id = "spectrum", members = 2, instances = 2, max_steps = 5',
            f'id = "{environment["id"]}"',
        )
    with pytest.raises(ScenarioError, match=complaint):
        p2pfrl.run(loads(text, {name.replace("__", "."): v for name, v in overrides.items()}))
