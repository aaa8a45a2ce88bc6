"""Agents whose episodes have ended leave an evaluation; critics have an accuracy."""

import numpy as np
import pytest
from learner_worlds import task

import p2pfrl
from p2pfrl.core.errors import AgentError
from p2pfrl.learning.environments.base import ArraySimulator
from p2pfrl.learning.environments.cartpole import CartPole
from p2pfrl.learning.learners.a2c import A2C
from p2pfrl.learning.learners.base import Stack, Task
from p2pfrl.learning.learners.dqn import DQN
from p2pfrl.learning.learners.ppo import PPO
from p2pfrl.learning.rollout import _variance, explained_variance

AGENTS, EPISODES = 12, 3
"""CartPole of these rows ends at unlike steps, at most 60."""


def made(learner, engine="torch", problem=None) -> Stack:
    environment = problem or CartPole(max_steps=60)
    return learner.prepare(task(environment, AGENTS, episodes=EPISODES, engine=engine))


STACKS = {
    "ppo": lambda: made(PPO(hidden=(8,))),
    "ppo, native": lambda: made(PPO(hidden=(8,), normalize_observations=True), "auto"),
    "memory": lambda: made(PPO(hidden=(8,), memory="gru", shared_trunk=True, num_minibatches=1)),
    "dqn": lambda: made(DQN(hidden=(8,))),
}


@pytest.mark.parametrize("name", STACKS)
def test_who_has_finished_is_left_out_and_nobodys_return_changes(name, monkeypatch):
    stack, sizes = STACKS[name](), list[int]()
    rows = stack.start(range(AGENTS), same=False) * 3.0
    step = ArraySimulator.step

    def counted(self, state, action):
        sizes.append(len(action))
        return step(self, state, action)

    monkeypatch.setattr(ArraySimulator, "step", counted)
    ours = stack.evaluator.evaluate(range(AGENTS), rows, EPISODES, 2)
    narrowed, sizes[:] = [*sizes], []
    assert narrowed == sorted(narrowed, reverse=True)
    assert narrowed[0] == AGENTS
    assert narrowed[-1] < AGENTS
    alone = [stack.evaluator.evaluate([i], rows[[i]], EPISODES, 2) for i in range(AGENTS)]
    assert np.array_equal(ours, np.concatenate(alone))
    monkeypatch.setattr(ArraySimulator, "narrow", lambda self, rows: False)
    sizes[:] = []
    assert np.array_equal(stack.evaluator.evaluate(range(AGENTS), rows, EPISODES, 2), ours)
    assert sizes == [AGENTS] * len(narrowed), "the longest episode is as long as before"


@pytest.mark.parametrize("learner", [PPO(hidden=(8,)), A2C(hidden=(8, 8), shared_trunk=True)])
def test_episodes_of_cartpole_in_the_engine_are_those_of_numpy(native, learner, monkeypatch):
    stack = made(learner, "native")
    rows = stack.start(range(AGENTS), same=False) * 3.0
    ours = stack.evaluator.evaluate(range(AGENTS), rows, EPISODES, 2)
    assert len({*ours.tolist()}) > 3
    alone = [stack.evaluator.evaluate([i], rows[[i]], EPISODES, 2) for i in range(AGENTS)]
    assert np.array_equal(ours, np.concatenate(alone))
    monkeypatch.setattr("p2pfrl.learning.native.acting.is_cartpole", lambda *parts: False)
    assert np.array_equal(stack.evaluator.evaluate(range(AGENTS), rows, EPISODES, 2), ours)


def test_a_cart_that_is_nowhere_is_named_as_by_numpy(native):
    problem, physics = (
        CartPole(),
        {name: np.full(2, x) for name, x in CartPole().spec.physics.items()},
    )
    physics["gravity"][1] = np.nan
    simulators = [problem.simulator(physics, m, 1) for m in (4, EPISODES)]
    stack = PPO(hidden=(8,)).prepare(Task(1, 2, *simulators, engine="native"))
    rows = stack.start(range(2), same=True)
    assert stack.evaluator.evaluate([0], rows[:1], EPISODES, 1)[0] > 1.0
    with pytest.raises(AgentError, match=r"an observation of .*nan"):
        stack.evaluator.evaluate([0, 1], rows, EPISODES, 1)


# --- the accuracy of critics ----------------------------------------------------------------------


def test_the_explained_variance_is_one_less_the_share_of_what_is_not_explained() -> None:
    target = np.array([[0.0, 1.0, 2.0, 3.0], [0.0, 1.0, 2.0, 3.0], [1.0, 1.0, 1.0, 1.0]])
    value = np.float32([[5.0, 6.0, 7.0, 8.0], [0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 2.0, 3.0]])
    found = explained_variance(value, target)
    assert found[0] == 1.0  # right up to a constant
    assert found[1] == pytest.approx(1 - np.var([0, 1, 1, 2]) / np.var([0, 1, 2, 3]))
    assert np.isnan(found[2])
    assert np.array_equal(explained_variance(value[1:2], target[1:2]), found[1:2])


@pytest.mark.parametrize(
    ("learner", "has_critic"),
    [
        ({"kind": "a2c"}, True),
        ({"kind": "reinforce", "baseline": "none"}, False),
        ({"kind": "reinforce", "baseline": "value"}, True),
    ],
)
def test_learners_with_a_critic_measure_its_accuracy(learner: dict, has_critic: bool) -> None:
    options = {
        "agents": 2,
        "stop.rounds": 1,
        "topology": {"kind": "complete"},
        "learner": {**learner, "steps": 16, "hidden": [4]},
        "evaluation.episodes": 0,
    }
    record = p2pfrl.run(p2pfrl.load("ring_16.toml", overrides=options))
    assert ("explained_variance" in record.agents) == has_critic
    if has_critic:
        assert (record.agents["explained_variance"] < 1.0).all()


@pytest.mark.parametrize("size", [1, 2, 100, 257, 1000])
def test_the_variance_has_the_bits_of_numpy(size: int) -> None:
    rng = np.random.default_rng(size)
    rows = rng.standard_normal((5, size)) * 10.0 ** rng.uniform(-3, 3, (5, 1)) + 3.0
    assert _variance(rows).tobytes() == rows.var(axis=1).tobytes()
