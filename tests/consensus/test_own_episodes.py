"""A coordinator that corrects its steps by episodes of its own (SCSG, as in FedPG-BR)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typing_extensions import override

import p2pfrl
from p2pfrl.build.assembly import Assembly
from p2pfrl.build.own_episodes import own_episodes
from p2pfrl.consensus.server_optimizers.check import check_server_optimizer
from p2pfrl.consensus.server_optimizers.own_episodes import Scsg
from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.own_episodes import OwnEpisodes
from p2pfrl.core.parameters import Vector
from p2pfrl.scenario import Scenario, loads

TEXT = """name = "own_episodes"
extends = "fedpg_br"
agents = 3
stop = {{rounds = {rounds}}}
environment = {{id = "CartPole-v1", instances = 1, max_steps = 60}}
learner = {{kind = "reinforce", episodes = 2, baseline = "none", norm_adv = true, hidden = [8]{more}}}
evaluation = {{episodes = 0}}
[coordinator]
aggregator = {{kind = "mean"}}
server_optimizer = {{kind = "scsg", lr = 0.01, episodes = 3, batch = 9}}
"""


def world(rounds: int = 4, more: str = "", **overrides: object) -> Scenario:
    return loads(TEXT.format(rounds=rounds, more=more), overrides)


class Exact(OwnEpisodes):
    """Gradients A (x - x*) without noise, and the numbers with which they were asked for."""

    def __init__(self, matrix: Vector, optimum: Vector) -> None:
        self.asked: list[int] = []
        self._matrix, self._optimum = matrix, optimum

    def at(self, x: Vector) -> Vector:
        found: Vector = self._matrix @ (x - self._optimum)
        return found

    @override
    def gradients(self, model: Vector, before: Vector, number: int) -> tuple[Vector, Vector]:
        self.asked.append(number)
        return self.at(model), self.at(before)

    @override
    def generator(self, number: int) -> np.random.Generator:
        return np.random.default_rng(number)


def test_with_exact_gradients_every_step_is_one_of_adam_along_the_gradient_where_it_is() -> None:
    rng = np.random.default_rng(1)
    own = Exact(np.diag([3.0, 1.0, 0.2]), rng.standard_normal(3))
    rule = Scsg(lr=0.05, episodes=2, batch=6)
    playing = rule.with_episodes(lambda episodes: own)
    x, taken = rng.standard_normal(3), 0
    state, y, m, v = playing.init(x), x.copy(), np.zeros(3), np.zeros(3)
    for _ in range(20):
        x, state = playing.step(x, x - own.at(x), 1.0, state)
        for k in range(taken + 1, int(state[2][0]) + 1):
            g = own.at(y)
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            y = y - 0.05 * (m / (1 - 0.9**k)) / (np.sqrt(v / (1 - 0.999**k)) + 1e-8)
        taken = int(state[2][0])
        assert np.abs(x - y).max() < 1e-12
    assert own.asked == sorted(set(own.asked)), "no batch of episodes is used twice"
    assert len(own.asked) == taken - 20, "the first step of a round needs no episodes"


def test_the_steps_of_a_round_are_geometric_with_the_mean_of_the_paper() -> None:
    """N has mean (B + b) / b = 5, and standard deviation sqrt(q) / (1 - q) = 4.47."""
    own = Exact(np.eye(1), np.zeros(1))
    playing = Scsg(lr=1e-9, episodes=4, batch=16).with_episodes(lambda episodes: own)
    x = np.ones(1)
    state, counts = playing.init(x), []
    for _ in range(2000):
        before = state[2][0]
        x, state = playing.step(x, x - 1.0, 1.0, state)
        counts.append(state[2][0] - before)
    assert min(counts) == 1
    assert np.mean(counts) == pytest.approx(5.0, abs=3 * 4.472 / 2000**0.5)


def test_it_keeps_the_contract_of_server_optimizers() -> None:
    check_server_optimizer(Scsg())


def test_own_episodes_are_new_with_every_number_and_belong_to_no_agent() -> None:
    assembly = Assembly(world())
    own = own_episodes(assembly.plan, 3)
    layout = assembly.learning.stack.layout
    model = layout.pack(assembly.learning.stack.common_start()[0])
    new, old = own.gradients(model, model, 1)
    assert new.shape == model.shape
    assert np.array_equal(new, old), "at one point both gradients are one"
    assert np.array_equal(own.gradients(model, model, 1)[0], new)
    assert not np.array_equal(own.gradients(model, model, 2)[0], new)
    away = model + np.float32(0.01)
    there, back = own.gradients(away, model, 1)
    assert not np.array_equal(there, back)
    other = own_episodes(Assembly(world(seed=2)).plan, 3)
    assert not np.array_equal(other.gradients(model, model, 1)[0], new)


def test_gradients_elsewhere_are_unbiased() -> None:
    """The mean over 200 batches of what is weighed is that of episodes of the other policy."""
    own = own_episodes(Assembly(world(**{"environment.max_steps": 6})).plan, 3)
    start = own._start[0]
    model = own._stack.layout.pack(start)
    away = model + 0.1 * np.random.default_rng(0).standard_normal(len(model)).astype(model.dtype)
    weighed = np.mean([own.gradients(away, model, k)[1] for k in range(200)], axis=0)
    fresh = [own.gradients(model, model, 1000 + k)[0] for k in range(200)]
    scatter = float(np.linalg.norm(np.std(fresh, axis=0)))
    error = float(np.linalg.norm(weighed - np.mean(fresh, axis=0)))
    assert error < 3.0 * scatter * (2 / 200) ** 0.5


def test_a_run_repeats_itself_and_differs_from_one_with_fewer_steps() -> None:
    first, again = p2pfrl.run(world()), p2pfrl.run(world())
    assert first.summary["digest"] == again.summary["digest"]
    fewer = p2pfrl.run(world(**{"coordinator.server_optimizer.batch": 1}))
    assert not np.array_equal(fewer.parameters, first.parameters)


def test_a_coordinator_that_was_killed_plays_the_same_episodes_again() -> None:
    faults = [
        {"kind": "crash", "at": "40ms", "agents": ["coordinator"]},
        {"kind": "restart", "at": "200ms", "agents": ["coordinator"]},
    ]
    calm, killed = p2pfrl.run(world(8)), p2pfrl.run(world(8, faults=faults))
    assert killed.summary["virtual_seconds"] > calm.summary["virtual_seconds"]
    assert np.array_equal(killed.parameters, calm.parameters)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"exchange.payload": "delta"}, "scsg"),
        ({"learner.episodes": None, "learner.steps": 20}, "set learner.episodes"),
        ({"exchange.shared": ["actor"], "learner.baseline": "value"}, "needs whole networks"),
    ],
)
def test_what_has_no_episodes_of_its_own_is_refused(
    overrides: dict[str, object], expected: str
) -> None:
    with pytest.raises(ScenarioError, match=expected):
        p2pfrl.run(world(**overrides))


def test_processes_end_with_the_parameters_of_the_simulator(tmp_path: Path) -> None:
    from peer_threads import Fleet

    from p2pfrl.deploy.collect import collect

    scenario = world(3)
    fleet = Fleet(scenario, tmp_path)
    ids = (0, 1, 2, -1)
    fleet.start(*ids)
    fleet.join(*ids)
    record = collect([fleet.home(id) for id in ids], tmp_path / "record")
    assert record.summary["parameters_digest"] == p2pfrl.run(scenario).summary["parameters_digest"]
