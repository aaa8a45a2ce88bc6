"""Normalization: running statistics are exact, travel as they should, and belong to the agent."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from learner_worlds import CONTINUOUS, DISCRETE, stack, task

import p2pfrl
from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.parameters import Layout, Tensor, Vector
from p2pfrl.laws.runs import play, text
from p2pfrl.learning.learners.a2c import A2C
from p2pfrl.learning.learners.dqn import DQN
from p2pfrl.learning.learners.ppo import PPO
from p2pfrl.learning.learners.reinforce import REINFORCE
from p2pfrl.learning.learners.sac import SAC
from p2pfrl.learning.learners.td3 import TD3
from p2pfrl.learning.networks import Network
from p2pfrl.learning.normalization import Moments, Normalizer, RewardScale, Statistics, moments
from p2pfrl.learning.trainer import Trainer
from p2pfrl.scenario import loads
from p2pfrl.scenario.bind import outline
from p2pfrl.scenario.checks.notes import notes

KINDS: tuple[Statistics, ...] = ("personal", "averaged", "merged")
REPLAY: dict[str, Any] = {"learn_start": 16, "batch_size": 8, "steps": 12, "hidden": (8,)}
LEARNERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "reinforce": (REINFORCE, {"steps": 8, "hidden": (8,)}),
    "a2c": (A2C, {"steps": 8, "hidden": (8,), "shared_trunk": True}),
    "ppo": (PPO, {"steps": 8, "hidden": (8,), "num_minibatches": 2}),
    "dqn": (DQN, REPLAY),
    "sac": (SAC, REPLAY),
    "td3": (TD3, REPLAY),
}


def made(kind: Statistics, size: int = 3, dtype: str = "float32") -> tuple[Normalizer, Layout]:
    normalizer = Normalizer(size, kind)
    layout = Layout((Tensor("actor.w", (5,)), *normalizer.tensors), dtype)
    normalizer.place(layout)
    return normalizer, layout


def gap(found: Moments, samples: Any) -> float:
    """Return the largest distance from mean and variance of all samples, over their size."""
    mean, variance = samples.mean(axis=0), samples.var(axis=0)
    apart = np.abs(found.mean - mean) / (1.0 + np.abs(mean))
    return float(max(apart.max(), np.abs(found.variance / variance - 1.0).max()))


# --- statistics ---------------------------------------------------------------------------------


def test_joined_moments_are_those_of_all_samples_together() -> None:
    rng = np.random.default_rng(0)
    sets = [rng.normal(i, 1 + i, size=(1, 3, 7 * i + 1)) for i in range(6)]
    found = moments(sets[0])
    for one in sets[1:]:
        found = found.joined(moments(one))
    everything = np.concatenate(sets, axis=2)[0].T
    assert found.count.item() == len(everything)
    assert gap(found, everything) < 1e-12


@pytest.mark.parametrize("kind", KINDS)
def test_absorbed_observations_have_their_mean_and_variance(kind: Statistics) -> None:
    for dtype, bound in (("float64", 1e-12), ("float32", 2e-6)):
        normalizer, layout = made(kind, dtype=dtype)
        rows, rng = layout.zeros(2), np.random.default_rng(1)
        rows[:, :5] = 7.0
        x = rng.normal([[1.0], [-2.0], [0.1]], [[1.0], [3.0], [0.2]], size=(2, 9, 3, 40))
        for part in x.transpose(1, 0, 2, 3):
            normalizer.absorb(rows, part)
        assert (rows[:, :5] == 7.0).all()
        for row in range(2):
            known = normalizer.moments(rows[row : row + 1])
            assert known.count.item() == 360
            assert gap(known, x[row].transpose(0, 2, 1).reshape(-1, 3)) < bound


def test_averages_of_merged_statistics_are_those_of_all_agents_observations() -> None:
    """Agents with unlike numbers of unlike observations; any doubly stochastic mixing will do."""
    rng = np.random.default_rng(2)
    sets = [rng.normal(i, 1 + i, size=(1, 3, 10 * 2**i)) for i in range(4)]
    for dtype, bound in (("float64", 1e-12), ("float32", 2e-6)):
        normalizer, layout = made("merged", dtype=dtype)
        rows = layout.zeros(4)
        for row, x in enumerate(sets):
            normalizer.absorb(rows[row : row + 1], x)
        mean = layout.zeros(1)
        mean[:] = rows.mean(axis=0)
        assert gap(normalizer.moments(mean), np.concatenate(sets, axis=2)[0].T) < bound
    normalizer, layout = made("averaged")
    rows = layout.zeros(4)
    for row, x in enumerate(sets):
        normalizer.absorb(rows[row : row + 1], x)
    mean = layout.zeros(1)
    mean[:] = rows.mean(axis=0)
    assert normalizer.moments(mean).mean == pytest.approx(
        np.mean([x.mean(axis=2) for x in sets], axis=0), abs=1e-5
    )


def test_observations_are_scaled_once_there_are_statistics_and_masks_never_are() -> None:
    normalizer, layout = made("personal", size=2)
    rows, rng = layout.zeros(1), np.random.default_rng(3)
    x = rng.normal(5.0, 2.0, size=(1, 3, 500)).astype(np.float32)
    assert np.array_equal(normalizer.scaled(rows, x), x)
    normalizer.absorb(rows, x)
    scaled = normalizer.scaled(rows, x)
    assert np.array_equal(scaled[:, 2], x[:, 2])
    assert scaled[:, :2].mean(axis=2) == pytest.approx(0.0, abs=1e-5)
    assert scaled[:, :2].std(axis=2) == pytest.approx(1.0, abs=1e-5)
    assert normalizer.scaled(rows, 1e6 + x)[0, 0, 0] == 10.0


def test_broken_statistics_scale_by_something_finite() -> None:
    for kind in KINDS:
        normalizer, layout = made(kind)
        rows = layout.zeros(3)
        rows[:, normalizer.columns] = -3.0
        rows[1, normalizer.columns.start] = 5.0
        assert np.isfinite(normalizer.scaled(rows, np.ones((3, 3, 4)))).all()


# --- networks -----------------------------------------------------------------------------------


def test_a_network_sees_scaled_observations_and_statistics_have_no_gradient() -> None:
    normalizer = Normalizer(4, "personal")
    inside = Network(4, 2, hidden=(8,), normalizer=normalizer)
    plain, rng = Network(4, 2, hidden=(8,)), np.random.default_rng(4)
    rows, alone = inside.layout.zeros(2), plain.layout.zeros(2)
    rows[:] = inside.start(rng)
    x = rng.normal(3.0, 2.0, size=(2, 4, 20)).astype(np.float32)
    normalizer.absorb(rows, x)
    parts = ("actor", "critic")
    plain.layout.unpack(inside.layout.pack(rows, parts), alone, parts)
    outs = [np.empty((2, 3, 20), dtype=np.float32) for _ in range(2)]
    slopes = rng.normal(size=(2, 3, 20)).astype(np.float32)
    gradients = inside.layout.zeros(2), plain.layout.zeros(2)
    shown: tuple[Vector, Vector] = (x, normalizer.scaled(rows, x))
    for network, own, seen, out, gradient in zip(
        (inside, plain), (rows, alone), shown, outs, gradients, strict=True
    ):
        network.forward(own, seen, out)
        network.backward(own, seen, slopes, gradient)
    assert np.array_equal(*outs)
    first, second = gradients
    assert np.array_equal(inside.layout.pack(first, parts), plain.layout.pack(second, parts))
    assert (first[:, normalizer.columns] == 0).all()


@pytest.mark.parametrize("name", list(LEARNERS))
def test_who_shares_a_batch_does_not_matter(name: str) -> None:
    learner, options = LEARNERS[name]
    problem = CONTINUOUS if name in ("sac", "td3", "a2c") else DISCRETE
    results = []
    for groups in ([range(3)], [[2], [0], [1]]):
        own = learner(**options, normalize_observations=True, normalize_rewards=True)
        trainer = Trainer(stack(own, problem, 3, instances=2), 3)
        for _ in range(3):
            for group in groups:
                trainer.update(group)
        results.append(trainer)
    together, apart = results
    assert np.array_equal(together.parameters, apart.parameters)
    for key, values in together.state.items():
        assert np.array_equal(values, apart.state[key]), key
    known = together.stack.network.normalizer.moments(together.parameters)  # type: ignore[attr-defined]
    assert known.count.tolist() == [6 * options["steps"]] * 3
    assert (known.variance > 0).all()


def test_evaluation_and_mean_parameters_use_the_agents_own_statistics() -> None:
    for kind in ("personal", "merged"):
        learner = PPO(hidden=(8,), steps=16, normalize_observations=True, statistics=kind)
        bound = stack(learner, DISCRETE, 3)
        trainer = Trainer(bound, 3)
        trainer.update(range(3))
        mean = bound.evaluator.average(range(3), trainer.parameters)
        columns = bound.network.normalizer.columns  # type: ignore[attr-defined]
        is_own = np.array_equal(mean[:, columns], trainer.parameters[:, columns])
        assert is_own == (kind == "personal")
        assert np.array_equal(mean[0, : columns.start], mean[1, : columns.start])
        other = trainer.parameters.copy()
        other[:, columns] *= 3.0
        other[:, columns.start + 1 :] += 5.0
        obs = np.random.default_rng(0).normal(size=(3, 200, 4)).astype(np.float32)
        before, after = (
            bound.evaluator.act(range(3), rows, obs) for rows in (trainer.parameters, other)
        )
        assert before is not None
        assert not np.array_equal(before, after)


def test_a_correction_does_not_move_statistics() -> None:
    tables = {
        "mode": "central",
        "environment": {"id": "CartPole-v1", "instances": 1},
        "learner": {
            "kind": "dqn",
            **REPLAY,
            "hidden": [8],
            "epsilon_end": 1.0,
            "normalize_observations": True,
        },
        "schedule": {"every": 2},
    }
    plain, pulled = (
        statistics(play(3, 2, **tables, **more), 3)  # type: ignore[arg-type]
        for more in ({}, {"correction": {"kind": "prox", "mu": 5.0}})
    )
    assert np.array_equal(plain, pulled)


# --- what travels -------------------------------------------------------------------------------


def random_walk(mode: str, kind: str | None, **more: Any) -> Any:
    """Run agents that act at random, so that what they see does not depend on their networks."""
    options: dict[str, Any] = {"kind": "dqn", **REPLAY, "hidden": [8], "epsilon_end": 1.0}
    if kind is not None:
        options |= {"normalize_observations": True, "statistics": kind}
    vary = {"gravity": {"kind": "linspace", "low": 5.0, "high": 15.0}}
    environment = {"id": "CartPole-v1", "instances": 1, "vary": vary}
    return play(4, 5, mode=mode, environment=environment, learner=options, **more)


def statistics(record: Any, agents: int) -> Any:
    """Return number, first and second of every agent, `(n, 9)`."""
    layout = outline(loads(record.scenario)).layout
    rows = layout.zeros(agents)
    layout.unpack(record.parameters, rows)
    return layout.pack(rows, ["normalization"]).astype(np.float64)


def test_personal_statistics_never_travel_and_merged_ones_become_those_of_all_agents() -> None:
    alone = statistics(random_walk("independent", "personal"), 4)
    ring = random_walk("gossip", "personal", topology={"kind": "ring"})
    without = random_walk("gossip", None, topology={"kind": "ring"})
    assert np.array_equal(statistics(ring, 4), alone)
    assert ring.summary["bytes_sent"] == without.summary["bytes_sent"]
    pooled = Moments(alone[:1, 0], alone[:1, 1:5], alone[:1, 5:])
    for row in range(1, 4):
        own = slice(row, row + 1)
        pooled = pooled.joined(Moments(alone[own, 0], alone[own, 1:5], alone[own, 5:]))
    complete = {"topology": {"kind": "complete"}, "mixing": {"kind": "uniform"}}
    for mode, more in (("central", {}), ("gossip", complete)):
        found = statistics(random_walk(mode, "merged", **more), 4)
        mean = found[:, 1:5] / found[:, :1]
        variance = found[:, 5:] / found[:, :1] - mean**2
        assert mean == pytest.approx(np.repeat(pooled.mean, 4, 0), rel=1e-4, abs=1e-6)
        assert variance == pytest.approx(np.repeat(pooled.variance, 4, 0), rel=1e-5)
        assert found[:, 0] == pytest.approx(pooled.count.item() / 4)
    averaged = statistics(random_walk("central", "averaged"), 4)
    assert np.ptp(averaged, axis=0).max() == 0
    assert not np.allclose(averaged[0, 5:], pooled.variance[0], rtol=1e-3)


# --- rewards ------------------------------------------------------------------------------------


def test_rewards_are_over_the_standard_deviation_of_the_discounted_sums_of_their_episodes() -> None:
    rng, scale = np.random.default_rng(5), RewardScale(0.9)
    reward = rng.normal(2.0, 3.0, size=(2, 30, 3)).astype(np.float32)
    finished = rng.random((2, 30, 3)) < 0.2
    state = scale.init(2, 3)
    assert np.array_equal(scale.scaled(state, reward), np.clip(reward, -10, 10))
    for part in (slice(0, 10), slice(10, 30)):
        scale.absorb(state, reward[:, part], finished[:, part])
    for row in range(2):
        sums = []
        for instance in range(3):
            running = 0.0
            for r, over in zip(reward[row, :, instance], finished[row, :, instance], strict=True):
                running = 0.9 * running + float(r)
                sums.append(running)
                running = 0.0 if over else running
        want = np.clip(reward[row] / np.sqrt(np.var(sums) + 1e-8), -10, 10)
        assert scale.scaled(state, reward)[row] == pytest.approx(want, abs=1e-6)


@pytest.mark.parametrize("name", list(LEARNERS))
def test_learning_does_not_depend_on_the_unit_of_rewards(name: str) -> None:
    """Rewards in another unit give the same update, up to rounding, and the same returns."""
    learner, options = LEARNERS[name]
    found = []
    for scale in (1.0, 100.0):
        problem = CONTINUOUS if name in ("sac", "td3", "a2c") else DISCRETE
        known = task(problem, 1, instances=1)
        simulator = known.simulator
        assert simulator is not None
        step = simulator.step

        def scaled(state: Any, action: Any, step: Any = step, scale: float = scale) -> Any:
            came = step(state, action)
            return replace(came, reward=scale * came.reward)

        simulator.step = scaled  # type: ignore[method-assign]
        trainer = Trainer(learner(**options, normalize_rewards=True).prepare(known), 1)
        for _ in range(2):
            trainer.update([0])
        found.append(trainer.parameters)
    assert found[0] == pytest.approx(found[1], abs=2e-4)


# --- what cannot be -----------------------------------------------------------------------------

CART: dict[str, Any] = {"environment": {"id": "CartPole-v1"}}


def read(learner: dict[str, Any], **tables: Any) -> Any:
    own = {"kind": "a2c", "normalize_observations": True, **learner}
    return loads(text(4, 2, **CART, learner=own, **tables))


def test_statistics_that_could_not_travel_are_refused_or_named() -> None:
    with pytest.raises(ScenarioError, match=r"learner\.statistics: 'merged' needs parameters"):
        read({"statistics": "merged"}, exchange={"payload": "logits"})
    with pytest.raises(ScenarioError, match=r"learner\.statistics: 'averaged' needs parameters"):
        read(
            {"statistics": "averaged"},
            mode="central",
            exchange={"payload": "gradient"},
            coordinator={"server_optimizer": {"kind": "adam"}},
        )
    with pytest.raises(ScenarioError, match="the part 'normalization' is personal here"):
        read({}, exchange={"shared": ["actor", "normalization"]})
    with pytest.raises(ScenarioError, match="not in mode pooled"):
        read({}, mode="pooled")
    named = {"exchange": {"shared": ["actor"]}}
    assert "not in exchange.shared: 'normalization'" in " ".join(
        notes(read({"statistics": "merged"}, **named))
    )
    assert not list(notes(read({}, **named)))
    idle = read({"normalize_observations": False, "statistics": "merged"})
    assert "learner.statistics" in " ".join(notes(idle))


def test_groups_with_unlike_learners_keep_personal_statistics_apart() -> None:
    learner = {"kind": "a2c", "steps": 8, "normalize_observations": True}
    group = "\n[[groups]]\nagents = [1]\nlearner = {steps = 16}\n"
    record = p2pfrl.run(loads(text(3, 2, **CART, learner=learner) + group))
    assert statistics(record, 3)[:, 0].tolist() == [64, 128, 64]
