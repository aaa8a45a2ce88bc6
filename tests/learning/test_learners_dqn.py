"""DQN against plain loops: its updates, its buffer and its target network.

The agents that share a batch do not matter.
"""

import numpy as np
import pytest
import torch
from learner_worlds import CONTINUOUS, DISCRETE, Constant, stack, task

from p2pfrl.core.errors import ScenarioError
from p2pfrl.learning.learners.base import Batch
from p2pfrl.learning.learners.distill import Distill
from p2pfrl.learning.learners.dqn import DQN, Share
from p2pfrl.learning.replay_buffer import FILLED, ROWS, SEEN, ReplayBuffer
from p2pfrl.learning.trainer import Trainer

N = 7
QUICK = {"learn_start": 40, "batch_size": 16, "steps": 24, "target_every": 5, "hidden": (16,)}
LEARNERS = {
    "plain": DQN(**QUICK, double=False, after_mixing="keep"),
    "double": DQN(**QUICK),
    "sync": DQN(**QUICK, after_mixing="sync", train_every=3, activation="tanh"),
    "wraps": DQN(**(QUICK | {"learn_start": 90}), capacity=100, optimizer="rmsprop"),
    "wide": DQN(
        **(QUICK | {"hidden": (64, 64), "batch_size": 33}), optimizer="sgd", max_grad_norm=0.0
    ),
}
ALIKE = ("double",)
"""The default suite leaves these out: their options are those of another one here."""


def run(learner, groups, *, instances=1, offer=None, updates=4):
    """Return the trainer after some updates of every agent, computed group by group.

    Agent 2 is late.
    """
    known = task(DISCRETE, N, instances=instances)
    bound = learner.prepare(type(known)(**{**known.__dict__, "offer": offer}))
    trainer = Trainer(bound, N)
    for update in range(updates):
        for group in groups:
            trainer.update([i for i in group if i != 2 or update > 1])
        for agent in range(N):
            if offer:
                trainer.receive(
                    agent,
                    offer,
                    {
                        (agent + 1) % N: bound.exchange.offer(
                            offer, 0, *_row(trainer, (agent + 1) % N)
                        )
                    },
                )
    return trainer


def _row(trainer, agent):
    return trainer.parameters[agent : agent + 1], {
        k: v[agent : agent + 1] for k, v in trainer.state.items()
    }


@pytest.mark.parametrize(
    ("instances", "offer"),
    [(1, None), (3, "logits"), pytest.param(1, "logits", marks=pytest.mark.slow)],
)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in ALIKE)) for name in LEARNERS]
)
def test_alone_in_subsets_and_all_together_are_bit_identical(name, instances, offer):
    def played(groups):
        return run(LEARNERS[name], groups, instances=instances, offer=offer)

    everyone = played([range(N)])
    assert not np.array_equal(everyone.parameters[0], everyone.parameters[1])
    for groups in (
        [[i] for i in range(N)],
        [[6, 1, 4], [5, 3], [0, 2]],
    ):
        other = played(groups)
        assert np.array_equal(everyone.parameters, other.parameters)
        for key, values in everyone.state.items():
            assert np.array_equal(values, other.state[key]), key


def test_a_gradient_step_is_that_of_the_huber_loss_of_double_q_learning():
    bound = stack(DQN(**(QUICK | {"reward_scale": 0.5})), DISCRETE, 2, instances=1)
    trainer = Trainer(bound, 2)
    for _ in range(4):
        trainer.update(range(2))
    rng = np.random.default_rng(0)
    ahead = trainer.parameters + 0.1 * rng.standard_normal(trainer.parameters.shape).astype(
        np.float32
    )
    sample = bound.replay.sample(trainer.state, np.arange(2), rng.random((2, 16)))
    sample[:, ::3, -1] = 1.0
    gradient = bound.layout.zeros(2)
    loss = bound._gradient(sample, ahead, trainer.parameters, gradient)
    for row in range(2):
        own = torch.tensor(trainer.parameters[row], dtype=torch.float64, requires_grad=True)

        def q(flat, x):
            at = dict(
                zip((t.name for t in bound.layout.tensors), bound.layout.offsets, strict=True)
            )
            for name in ("actor.0", "actor.head"):
                tensors = {t.name: t for t in bound.layout.tensors}
                w, b = (
                    flat[
                        at[f"{name}.{part}"] : at[f"{name}.{part}"] + tensors[f"{name}.{part}"].size
                    ].reshape(tensors[f"{name}.{part}"].shape)
                    for part in ("weight", "bias")
                )
                x = x @ w.T + b
                x = torch.relu(x) if name == "actor.0" else x
            return x

        s = torch.tensor(sample[row], dtype=torch.float64)
        obs, after, action, reward, terminated = (
            s[:, :4],
            s[:, 4:8],
            s[:, 8].long(),
            s[:, 9],
            s[:, 10],
        )
        with torch.no_grad():
            best = q(own, after).argmax(dim=1)
            future = q(torch.tensor(ahead[row], dtype=torch.float64), after)[range(16), best]
            wanted = 0.5 * reward + 0.99 * (1 - terminated) * future
        want = torch.nn.functional.huber_loss(q(own, obs)[range(16), action], wanted)
        want.backward()
        assert loss[row] == pytest.approx(want.item(), rel=1e-4)
        assert np.allclose(gradient[row], own.grad.numpy(), atol=1e-6)


def test_the_value_of_a_game_without_end_is_that_of_its_endless_reward():
    """Reward 1 for ever, cut every 3 steps: Q = 1 / (1 - gamma) = 5.

    If a cut were an end, Q would be below 3.
    """
    learner = DQN(
        lr=1e-2,
        gamma=0.8,
        reward_scale=1.0,
        learn_start=50,
        batch_size=32,
        hidden=(16,),
        target_every=20,
        steps=100,
    )
    trainer = Trainer(stack(learner, Constant(limit=3), 1, instances=1), 1)
    for _ in range(20):
        trainer.update([0])
    obs = np.array([[0.0, 0.1, 0.2], [1.0, 1.0, 1.0]], dtype=np.float32)[None]
    assert trainer.stack._values(trainer.parameters, obs) == pytest.approx(
        np.full((1, 2, 3), 5.0), abs=0.3
    )


def test_the_buffer_keeps_the_newest():
    replay = ReplayBuffer(observation=1, actions=5, capacity=4)
    state = replay.init(1)

    class Step:
        reward, terminated = np.array([[0.5]]), np.array([[False]])

    for t in range(6):
        Step.next_obs = np.full((1, 1, 1), t + 1, dtype=np.float32)
        replay.add(state, np.full((1, 1, 1), t, dtype=np.float32), np.array([[t % 5]]), Step)
    assert state[FILLED].tolist() == [6]
    assert sorted(state[ROWS][0, :, 0]) == [2, 3, 4, 5]
    assert (state[ROWS][0, :, 1] == state[ROWS][0, :, 0] + 1).all()
    drawn = replay.sample(state, np.array([0]), np.array([[0.0, 0.3, 0.6, 0.999]]))
    assert sorted(drawn[0, :, 0]) == [2, 3, 4, 5]


@pytest.mark.parametrize(
    ("after_mixing", "expected"), [("sync", "own"), ("shift", "moved"), ("keep", "kept")]
)
def test_the_target_network_follows_what_the_exchange_did(after_mixing, expected):
    learner = DQN(**(QUICK | {"target_every": 10**6}), after_mixing=after_mixing)
    trainer = Trainer(stack(learner, DISCRETE, 2, instances=1), 2)
    for _ in range(3):
        trainer.update(range(2))
    before, after = trainer.state["dqn_target"].copy(), trainer.parameters.copy()
    trainer.write(1, trainer.stack.layout.pack(trainer.parameters[1]) + np.float32(0.25))
    mixed = trainer.parameters.copy()
    bound, state = trainer.stack, {name: values.copy() for name, values in trainer.state.items()}
    bound._meet(mixed, state)
    assert np.array_equal(state["dqn_target"][0], before[0])
    want = {"own": mixed[1], "moved": before[1] + (mixed - after)[1], "kept": before[1]}[expected]
    assert np.array_equal(state["dqn_target"][1], want)


@pytest.mark.parametrize("select", ["newest", "td_error"])
def test_what_is_shared_is_of_the_last_update_and_lands_in_the_other_buffer(select):
    learner = DQN(**QUICK, share=Share(count=5, select=select))
    known = task(DISCRETE, 2, instances=1)
    bound = learner.prepare(type(known)(**{**known.__dict__, "offer": "transitions"}))
    trainer = Trainer(bound, 2)
    nothing = bound.exchange.offer("transitions", 0, *_row(trainer, 0))
    trainer.receive(1, "transitions", {0: nothing})
    assert trainer.state[FILLED].tolist() == [0, 0]
    for _ in range(3):
        trainer.update(range(2))
    offered = bound.exchange.offer("transitions", 0, *_row(trainer, 0))
    assert len(offered) == bound.exchange.offer_size("transitions") == 5 * 11
    last = trainer.state[ROWS][0, 48:72]
    rows = offered.reshape(5, 11)
    assert all((last == row).all(axis=1).any() for row in rows)
    if select == "newest":
        assert np.array_equal(rows, last[-5:])
    else:
        error = np.abs(
            bound._errors(last[None], trainer.state["dqn_target"][:1], trainer.parameters[:1])[0][
                0, 0
            ]
        )
        assert np.array_equal(rows, last[np.argsort(error, kind="stable")][-5:])
    trainer.receive(1, "transitions", {0: offered})
    assert np.array_equal(trainer.state[ROWS][1, 72:77], rows)
    assert trainer.state[FILLED].tolist() == [72, 77]
    again = bound.exchange.offer("transitions", 1, *_row(trainer, 1)).reshape(5, 11)
    assert all((trainer.state[ROWS][1, 48:72] == row).all(axis=1).any() for row in again), (
        "others' are not passed on"
    )
    assert trainer.state[SEEN].tolist() == [72, 72]


def test_transitions_that_cannot_have_been_are_left_out():
    replay = ReplayBuffer(observation=1, actions=2, capacity=8)
    rows = np.zeros((5, 5), dtype=np.float32)
    rows[1, 2], rows[2, 2], rows[3, 4] = 2.0, 0.5, 0.5
    rows[4, 2:] = 1.0
    state = replay.init(1)
    replay.receive(state, {3: rows.ravel()})
    assert state[FILLED].tolist() == [2]
    assert np.array_equal(state[ROWS][0, :2], rows[[0, 4]])


def test_what_cannot_be_is_refused():
    with pytest.raises(ScenarioError, match="discrete"):
        stack(DQN(), CONTINUOUS, 1)
    with pytest.raises(ScenarioError, match="train_every"):
        stack(DQN(steps=10, train_every=4), DISCRETE, 1)
    with pytest.raises(ScenarioError, match="capacity"):
        stack(DQN(capacity=100), DISCRETE, 1)
    with pytest.raises(ScenarioError, match="share: needs"):
        stack(DQN(share=Share(count=3)), DISCRETE, 1)
    with pytest.raises(ScenarioError, match="distill: needs"):
        stack(DQN(distill=Distill(coef=3)), DISCRETE, 1)


CHANGES = {
    "gamma": 0.5,
    "train_every": 3,
    "batch_size": 8,
    "capacity": 70,
    "learn_start": 60,
    "epsilon_start": 0.2,
    "epsilon_end": 0.5,
    "epsilon_steps": 300,
    "target_every": 2,
    "double": False,
    "max_grad_norm": 1e-4,
    "optimizer": "sgd",
    "reward_scale": 3.0,
    "hidden": (8,),
    "activation": "tanh",
    "lr": 0.1,
    "steps": 12,
}


def test_every_option_does_something():
    base, results = QUICK | {"epsilon_steps": 100}, []
    for options in (base, *(base | {name: value} for name, value in CHANGES.items())):
        trainer = Trainer(stack(DQN(**options), DISCRETE, 1, instances=1), 1)
        for _ in range(8):
            trainer.update([0])
        results.append(trainer.parameters)
    plain, *others = results
    for name, other in zip(CHANGES, others, strict=True):
        assert plain.shape != other.shape or not np.array_equal(plain, other), name


def test_the_first_actions_are_random_and_later_ones_greedy():
    bound = stack(DQN(epsilon_end=0.0, epsilon_steps=100), DISCRETE, 1, instances=1)
    rows, obs = bound.start([0], same=True), np.zeros((1, 1, 4), dtype=np.float32)
    chances = np.random.default_rng(1).random((1000, 1, 2, 1))

    def acted(taken):
        return np.array([bound._act(rows, obs, c, np.array([[taken]]))[0, 0] for c in chances])

    assert 0.4 < acted(0).mean() < 0.6
    assert acted(100).std() == 0


def test_epsilon_falls_with_the_environment_steps_of_all_instances():
    bound = stack(DQN(**QUICK | {"steps": 6, "epsilon_steps": 100}), DISCRETE, 2, instances=3)
    seen, act = [], bound._act

    def spy(rows, obs, chances, taken):
        seen.append(taken.ravel().tolist())
        return act(rows, obs, chances, taken)

    bound._act = spy
    bound.update(Batch([0, 1], [0, 4], bound.start([0, 1], same=True), bound.init([0, 1])))
    assert seen == [[3 * t, 4 * 6 * 3 + 3 * t] for t in range(6)]


def test_updates_count_their_steps():
    bound = stack(DQN(**QUICK), DISCRETE, 2, instances=3)
    outcome = bound.update(
        Batch([0, 1], [0, 0], bound.start([0, 1], same=True), bound.init([0, 1]))
    )
    assert outcome.env_steps.tolist() == [72, 72]
