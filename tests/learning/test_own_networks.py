"""Networks of a user's own in our learners."""

from typing import Any

import numpy as np
import own_networks
import pytest
import torch

import p2pfrl
from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.rng import generator
from p2pfrl.learning.actor_critics import ActorCritics
from p2pfrl.learning.environments.cartpole import CartPole
from p2pfrl.learning.environments.pendulum import Pendulum
from p2pfrl.learning.learners.a2c import A2C
from p2pfrl.learning.learners.dqn import DQN
from p2pfrl.learning.learners.ppo import PPO
from p2pfrl.learning.learners.reinforce import REINFORCE
from p2pfrl.learning.learners.sac import SAC
from p2pfrl.learning.learners.td3 import TD3
from p2pfrl.learning.modules import ModuleNetwork
from p2pfrl.learning.networks import Network
from p2pfrl.learning.stacked import StackedModule

NET, ACTOR = "own_networks:Net", "own_networks:Actor"
REPLAY: dict[str, Any] = {"steps": 4, "train_every": 2, "learn_start": 4, "batch_size": 8}


@pytest.mark.parametrize(
    ("learner", "environment"),
    [
        (PPO(policy=NET, steps=8, num_minibatches=2, update_epochs=1), CartPole(max_steps=6)),
        pytest.param(A2C(policy=NET, steps=4), Pendulum(max_steps=6), marks=pytest.mark.slow),
        (A2C(policy=NET, steps=4, stacked=True), CartPole(max_steps=6)),
        (REINFORCE(policy=ACTOR, steps=4, baseline="none"), CartPole(max_steps=6)),
        pytest.param(
            DQN(policy=ACTOR, stacked=True, normalize_observations=True, **REPLAY),
            CartPole(),
            marks=pytest.mark.slow,
        ),
        (SAC(policy=ACTOR, hidden=(4,), **REPLAY), Pendulum(max_steps=6)),
        pytest.param(
            TD3(policy=ACTOR, hidden=(4,), stacked=True, **REPLAY),
            Pendulum(max_steps=6),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["ppo", "a2c", "stacked", "reinforce", "dqn, stacked", "sac", "td3, stacked"],
)
def test_a_network_of_ones_own_keeps_the_contract_of_learners(learner, environment) -> None:
    p2pfrl.check_learner(learner, environment)


def test_outputs_and_gradients_are_those_of_our_layers_with_the_same_numbers() -> None:
    own = ModuleNetwork("own_networks:Plain", True, 3, 2)
    ours = Network(3, 2, hidden=[4])
    rows = ours.layout.zeros(2)
    rows[:] = [ours.start(generator(1, i)) for i in range(2)]
    assert own.layout.size == ours.layout.size
    given = own.layout.zeros(2)
    own.layout.unpack(ours.layout.pack(rows), given)
    rng = np.random.default_rng(1)
    x = rng.standard_normal((2, 3, 5)).astype(np.float32)
    slope = rng.standard_normal((2, 3, 5)).astype(np.float32)
    outs, gradients = [], []
    for network, values in ((ours, rows), (own, given)):
        outs.append(np.empty((2, 3, 5), dtype=np.float32))
        network.forward(values, x, outs[-1])
        found = network.layout.zeros(2)
        network.backward(values, x, slope, found)
        gradients.append(network.layout.pack(found))
    assert np.allclose(*outs, rtol=0, atol=1e-6)
    assert np.allclose(*gradients, rtol=0, atol=1e-5)


def test_stacked_outputs_and_gradients_are_those_of_agents_one_by_one() -> None:
    alone = ModuleNetwork("own_networks:Net", True, 3, 2)
    stacked = StackedModule("own_networks:Net", True, 3, 2)
    rng, rows = np.random.default_rng(1), alone.layout.zeros(19)
    rows[:] = [alone.start(generator(1, i)) for i in range(19)]
    x, slope = rng.standard_normal((2, 19, 3, 5)).astype(np.float32)
    found = []
    for network in (alone, stacked):
        out, gradient = np.empty_like(slope), network.layout.zeros(19)
        network.forward(rows, x, out)
        network.backward(rows, x, slope, gradient)
        found.append((out, gradient))
    for one, many in zip(*found, strict=True):
        assert np.allclose(one, many, rtol=0, atol=1e-5)
        assert one.any()


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        ("Counting", r"own_networks:Counting: torch.func.vmap cannot run it: .*; leave it out"),
        ("Company", "own_networks:Company: outputs of an agent depend on who shares its batch"),
    ],
)
def test_a_module_whose_rows_are_not_its_own_is_not_stacked(cls: str, message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        StackedModule(f"own_networks:{cls}", True, 3, 2)


@pytest.mark.parametrize(
    ("stacked", "correction"),
    [(False, "none"), pytest.param(False, "prox", marks=pytest.mark.slow), (True, "none")],
)
def test_what_is_frozen_keeps_its_numbers_and_the_rest_is_trained(stacked, correction) -> None:
    changed = {
        "agents": 3,
        "stop.rounds": 2,
        "evaluation.episodes": 0,
        "learner.steps": 8,
        "learner.stacked": stacked,
        "learner.policy": "own_networks:Frozen",
        "correction.kind": correction,
    }
    record = p2pfrl.run(p2pfrl.load("ring_16.toml", changed))
    still = p2pfrl.run(p2pfrl.load("ring_16.toml", {**changed, "learner.lr": 0.0}))
    for agent in range(3):
        start = still.state_dict(agent)
        for name, values in record.state_dict(agent).items():
            assert np.array_equal(values, start[name]) == name.startswith("trunk"), name


@pytest.mark.parametrize("is_stacked", [False, True])
def test_an_actor_of_ones_own_acts_and_has_gradients_as_layers_with_the_same_numbers(
    is_stacked: bool,
) -> None:
    kind = StackedModule if is_stacked else ModuleNetwork
    sizes: dict[str, Any] = {"hidden": (4,), "activation": "tanh", "temperature": True}
    own = ActorCritics(3, 2, 4, own=kind("own_networks:PlainActor", False, 3, 4), **sizes)
    ours = ActorCritics(3, 2, 4, **sizes)
    assert own.layout.size == ours.layout.size
    assert own.layout.parts == ours.layout.parts == ("actor", "temperature", "critic")
    rows = ours.layout.zeros(2)
    rows[:] = [ours.start(generator(1, i)) for i in range(2)]
    given = own.layout.zeros(2)
    own.layout.unpack(ours.layout.pack(rows), given)
    rng = np.random.default_rng(1)
    x = rng.standard_normal((2, 3, 5)).astype(np.float32)
    slope = rng.standard_normal((2, 4, 5)).astype(np.float32)
    heads, gradients = [], []
    for network, values in ((ours, rows), (own, given)):
        heads.append(network.head(values, x))
        found = network.layout.zeros(2)
        network.head_backward(values, x, slope, found)
        gradients.append(network.layout.pack(found))
    assert np.allclose(*heads, rtol=0, atol=1e-6)
    assert np.allclose(*gradients, rtol=0, atol=1e-5)
    assert gradients[0].any()


def test_an_actor_of_ones_own_starts_as_its_constructor_says_and_critics_beside_it() -> None:
    actor = ModuleNetwork(ACTOR, False, 3, 4)
    sizes: dict[str, Any] = {"hidden": (4,), "activation": "tanh", "temperature": False}
    network = ActorCritics(3, 2, 4, own=actor, **sizes)
    row, alone = network.start(generator(1, 0)), actor.start(generator(1, 0))
    size = actor.layout.size
    assert np.array_equal(row[:size], alone[:size])
    assert row[network.critic_columns].any()


@pytest.mark.parametrize("kind", ["dqn", "sac", "td3"])
def test_learners_from_replay_take_a_network_of_ones_own_and_leave_alone_what_is_frozen(
    kind: str,
) -> None:
    environment = "CartPole-v1" if kind == "dqn" else "Pendulum-v1"
    text = f"""name = "own"
agents = 3
stop = {{rounds = 2}}
environment = {{id = "{environment}", instances = 1}}
learner = {{kind = "{kind}", steps = 8, train_every = 4, learn_start = 4, batch_size = 4}}
evaluation = {{episodes = 0}}
correction = {{kind = "{"prox" if kind == "dqn" else "none"}"}}
"""
    record = p2pfrl.run(p2pfrl.loads(text), policy=own_networks.FrozenActor)
    assert 'policy = "own_networks:FrozenActor"' in record.scenario
    still = p2pfrl.run(p2pfrl.loads(text, {"learner.lr": 0.0}), policy=own_networks.FrozenActor)
    prefix = "" if kind == "dqn" else "actor."
    for name, values in still.state_dict(1).items():
        if name.startswith(f"{prefix}trunk"):
            assert np.array_equal(record.state_dict(1)[name], values), name
    name = f"{prefix}actor.weight"
    assert not np.array_equal(record.state_dict(1)[name], still.state_dict(1)[name])
    assert record.policy(1).act(np.zeros((1, 4 if kind == "dqn" else 3), np.float32)) is not None


def test_a_run_takes_the_class_and_its_scenario_names_it(tmp_path) -> None:
    base = p2pfrl.load(
        "ring_16.toml",
        {"agents": 3, "stop.rounds": 2, "evaluation.episodes": 0, "learner.steps": 8},
    )
    record = p2pfrl.run(base, policy=own_networks.Net, out=tmp_path / "run")
    assert 'policy = "own_networks:Net"' in (tmp_path / "run" / "scenario.toml").read_text()
    assert p2pfrl.verify(tmp_path / "run").is_equal
    assert {name.partition(".")[0] for name in record.state_dict(0)} == {
        "trunk",
        "actor",
        "critic",
    }


def test_start_parameters_are_those_of_the_modules_own_constructor() -> None:
    network = ModuleNetwork(NET, True, 4, 2, True)
    first, second = network.start(generator(1, "a")), network.start(generator(1, "a"))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, network.start(generator(1, "b")))
    assert (network.log_std(first[None]) == 0).all()
    assert "log_std" in network.layout.parts
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("own_networks:Dropped", "Dropped: Dropout remembers batches or draws numbers"),
        ("own_networks:Still", "Still: requires_grad is False everywhere"),
        ("own_networks:Noisy", "Noisy: forward draws random numbers: a run could not be repeated"),
        ("own_networks:Unseeded", "Unseeded: two calls of forward with equal parameters .* differ"),
        ("own_networks:Running", "Running: forward changes the buffer mean; buffers neither"),
        ("own_networks:Flat", r"expected outputs \(3, 2\) and values \(3,\), got \(6,\)"),
        ("own_networks:Broken", r"forward of \(3, 4\) raised RuntimeError.*own_networks.py:"),
        ("own_networks:Greedy", r"it cannot be made of \(inputs, outputs\) = 4 and 2: TypeError"),
        ("own_networks:Absent", "own_networks has no class Absent"),
        ("p2pfrl:Spec", "expected a class that is a torch.nn.Module"),
    ],
)
def test_what_is_no_policy_is_refused_with_the_reason(policy: str, message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        p2pfrl.load("ring_16.toml", {"learner.policy": policy})


def test_options_of_layers_are_refused_beside_a_network_of_ones_own() -> None:
    with pytest.raises(ScenarioError, match=r"policy: learner\.hidden has no effect beside it"):
        p2pfrl.load("ring_16.toml", {"learner.policy": NET, "learner.hidden": [8]})
    with pytest.raises(ScenarioError, match=r"policy: learner\.encoder has no effect beside it"):
        p2pfrl.check_learner(DQN(policy=ACTOR, encoder="nature_cnn"), CartPole())
    with pytest.raises(ScenarioError, match="'native' has no code for networks other than dense"):
        p2pfrl.load("sac_pendulum_ring.toml", {"learner.policy": ACTOR, "compute.engine": "native"})
    with pytest.raises(ScenarioError, match="policy: learner 'quadratic' takes none"):
        p2pfrl.run("consensus_ring.toml", policy=own_networks.Net)
