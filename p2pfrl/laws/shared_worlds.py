"""Laws of shared worlds: what is conserved, who crashes, and what learning together is worth."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from p2pfrl.core.distributions.base import Constant
from p2pfrl.experiment.run import simulate
from p2pfrl.laws.base import Figure, Law, at_least, at_most
from p2pfrl.laws.runs import Table, ended, text
from p2pfrl.learning.environments.base import Simulator
from p2pfrl.learning.environments.junction import Junction
from p2pfrl.learning.environments.shared import SharedEnvironment
from p2pfrl.learning.environments.signal_grid import SignalGrid
from p2pfrl.learning.environments.spectrum import Spectrum
from p2pfrl.learning.environments.vary import columns
from p2pfrl.learning.environments.warehouse import Warehouse
from p2pfrl.results.record import Record
from p2pfrl.scenario import loads

_SEEDS = (1, 2, 3)


def made(
    environment: SharedEnvironment, worlds: int, copies: int, **physics: float
) -> tuple[Simulator, range]:
    """Return a simulator of worlds whose members are alike, and their agents."""
    agents = range(worlds * environment.spec.members)
    vary = {name: Constant(value=value) for name, value in physics.items()}
    table = environment.physics(1, agents, columns(environment, vary, 1, agents, len(agents)))
    return environment.simulator(table, copies, 1), agents


def measured(
    environment: SharedEnvironment, policy: str, worlds: int, copies: int, **physics: float
) -> dict[str, float]:
    """Return the means of the measures of a baseline over an episode of every world."""
    simulator, agents = made(environment, worlds, copies, **physics)
    state = simulator.init(agents, "evaluation-0")
    simulator.begin(agents, [0] * len(agents), "evaluation")
    is_open = np.ones((len(agents), copies), dtype=np.bool_)
    found: dict[str, list[Any]] = {name: [] for name in simulator.spec.measures}
    while is_open.any():
        step = simulator.step(state, simulator.baselines[policy](state))
        for name, values in step.measures.items():
            found[name].append(values[is_open])
        is_open &= ~step.finished
    return {name: float(np.nanmean(np.concatenate(values))) for name, values in found.items()}


def late(record: Record, measure: str, rounds: int = 10) -> float:
    """Return the mean of a measure while training, over all agents and the last rounds."""
    table = record.agents
    is_late = table["round"] > table["round"].max() - rounds
    return float(np.nanmean(table[measure][is_late]))


_PPO: Table = {
    "kind": "ppo",
    "lr": 2e-3,
    "steps": 50,
    "gamma": 0.5,
    "reward_scale": 0.5,
    "ent_coef": 0.005,
    "hidden": [32, 32],
}


def _share_band(share: str, seed: int) -> Record:
    """Return a run of two worlds of eight links that learn by gossip on a torus."""
    tables: dict[str, Any] = {
        "environment": {"id": "spectrum", "share": share, "instances": 8},
        "learner": _PPO,
        "topology": {"kind": "torus"},
        "evaluation": {"episodes": 0},
    }
    return ended(simulate(loads(text(16, 100, seed=seed, **tables))))


def _learned_spectrum() -> Iterator[Figure]:
    best = measured(Spectrum(), "wmmse", 8, 32)["rate"]
    full = measured(Spectrum(), "full_power", 8, 32)["rate"]
    for seed in _SEEDS:
        own, externality = (_share_band(share, seed) for share in ("own", "externality"))
        selfish, rate = late(own, "rate"), late(externality, "rate")
        yield at_least(f"seed {seed}, own rewards: power", 0.99, late(own, "power"))
        yield at_least(
            f"seed {seed}, own rewards: rate over that of full power", 0.9, selfish / full
        )
        yield at_least(
            f"seed {seed}, externality: rate over that of own rewards", 1.6, rate / selfish
        )
        yield at_least(f"seed {seed}, externality: rate over that of WMMSE", 0.75, rate / best)


def _learned_junction() -> Iterator[Figure]:
    tables: dict[str, Any] = {
        "environment": {"id": "junction", "share": "own", "instances": 16},
        "learner": {
            **_PPO,
            "steps": 60,
            "gamma": 0.99,
            "reward_scale": 0.3,
            "hidden": [64, 64],
        },
        "topology": {"kind": "torus"},
        "evaluation": {"every": 1000, "episodes": 64},
    }
    costs = list[float]()
    for seed in range(1, 11):
        record = ended(simulate(loads(text(16, 120, seed=seed, **tables))))
        found = record.summary["evaluation"]
        costs.append(found["own"] / found["baselines"]["first_come_first_served"])
    over = "greedy cost over that of first come, first served"
    yield at_most(f"ten seeds: mean of {over}", 1.0, float(np.mean(costs)))
    yield at_least(f"ten seeds: how many have a {over} below 1", 7, sum(c < 1.0 for c in costs))


def _vehicles() -> float:
    """Return the worst error of entered - left - queued - travelling, over random actions."""
    simulator, agents = made(SignalGrid(rows=3, columns=4, max_steps=201), 2, 4)
    state = simulator.init(agents)
    simulator.begin(agents, [0] * len(agents))
    rng, worst, there = np.random.default_rng(0), 0.0, np.zeros((2, 4))
    for _ in range(200):
        own = simulator.step(state, rng.integers(2, size=(len(agents), 4))).measures
        total = {name: values.reshape(2, -1, 4).sum(axis=1) for name, values in own.items()}
        there = there + total["entered"] - total["left"]
        worst = max(worst, float(np.abs(there - total["queue"] - total["travelling"]).max()))
    return worst


def _robots() -> tuple[float, float, float]:
    """Return the worst errors of battery and of parcels, and how often two were in one cell."""
    environment = Warehouse(max_steps=301)
    simulator, agents = made(environment, 2, 4)
    state = simulator.init(agents)
    simulator.begin(agents, [0] * len(agents))
    k, rng = environment.members, np.random.default_rng(0)
    battery = state["state"][::k, :, 3 * k :].copy()
    parcels, worst, lost, shared = np.zeros_like(battery), 0.0, 0.0, 0
    for t in range(300):
        goes = simulator.baselines["shortest_path"](state)  # and gets in the way of others
        action = goes if t % 3 else rng.integers(5, size=goes.shape)
        own = simulator.step(state, action).measures
        rows = {name: values.reshape(2, k, 4).swapaxes(1, 2) for name, values in own.items()}
        world = state["state"][::k]
        battery = battery + rows["charged"] - rows["used"]
        parcels = parcels + rows["picked"] - rows["delivered"]
        worst = max(worst, float(np.abs(battery - world[..., 3 * k :]).max()))
        lost = max(lost, float(np.abs(parcels - world[..., k : 2 * k]).max()))
        cells = np.sort(world[..., :k], axis=-1)
        shared += int((np.diff(cells, axis=-1) == 0).sum())
    return worst, lost, float(shared)


def _conserved() -> Iterator[Figure]:
    yield at_most("signal_grid: entered - left - queued - travelling, vehicles", 1e-12, _vehicles())
    battery, parcels, shared = _robots()
    yield at_most("warehouse: battery at first + charged - used - battery", 1e-12, battery)
    yield at_most("warehouse: parcels picked up - delivered - carried", 0.0, parcels)
    yield at_most("warehouse: two robots in one cell", 0.0, shared)
    first = measured(Junction(), "first_come_first_served", 64, 16)
    yield at_most(
        "junction, 1,024 worlds: first come, first served, crashed", 0.0, first["collisions"]
    )
    full = measured(Junction(), "full_throttle", 64, 16)
    yield at_least("junction, 1,024 worlds: full throttle, crashed", 0.7, full["collisions"])
    longer = first["travel_time"] / full["travel_time"]
    yield at_least(
        "junction: time of first come, first served, over that at full throttle", 1, longer
    )


LAWS = (
    Law(
        "shared_worlds_conserve",
        "vehicles, batteries and parcels are conserved, cells hold one robot, first come, first served never crashes",
        "computed",
        _conserved,
    ),
    Law(
        "learns_spectrum",
        "links paid by their own rate end at full power; those that pay for what they take reach 75% of WMMSE",
        "computed",
        _learned_spectrum,
        is_slow=True,
    ),
    Law(
        "learns_junction",
        "vehicles with rewards of their own learn to cross at less cost than first come, first served, on most seeds",
        "computed",
        _learned_junction,
        is_slow=True,
    ),
)
