"""Runs for the laws: scenarios from tables, with the real loader, agents, codec and network."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from p2pfrl.consensus.mixing.base import Mixing
from p2pfrl.experiment.run import simulate
from p2pfrl.results.record import INTERRUPT, Record
from p2pfrl.scenario import loads

Array = NDArray[np.float64]
Table = Mapping[str, object]
FLAT: Table = {"lr": 0.0, "initial_spread": 1.0}
"""Learner that does not move, so that mixing alone moves the agents."""


def toml(value: object) -> str:
    """Return a value as TOML, with inline tables."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)


def text(
    agents: int,
    rounds: int | None,
    *,
    mode: str = "gossip",
    seed: int = 1,
    faults: tuple[Table, ...] = (),
    attacks: tuple[Table, ...] = (),
    **tables: Table,
) -> str:
    """Return a scenario file. The default learner is a quadratic of 8 dimensions."""
    head: dict[str, object] = {"name": "law", "seed": seed, "agents": agents, "mode": mode}
    if faults:
        head["faults"] = faults
    if attacks:
        head["attacks"] = attacks
    learner = {"kind": "quadratic", **tables.pop("learner", {})}
    if learner["kind"] == "quadratic":
        learner.setdefault("dimension", 8)
    tables["stop"] = {**({} if rounds is None else {"rounds": rounds}), **tables.get("stop", {})}
    tables["learner"] = learner
    lines = [f"{key} = {toml(value)}" for key, value in head.items()]
    for name, table in tables.items():
        lines += [f"[{name}]", *(f"{key} = {toml(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def play(
    agents: int,
    rounds: int | None,
    *,
    mode: str = "gossip",
    seed: int = 1,
    faults: tuple[Table, ...] = (),
    attacks: tuple[Table, ...] = (),
    trace: bool = False,
    mixing_rule: Mixing | None = None,
    **tables: Table,
) -> Record:
    """Run a scenario of these tables and return its record."""
    file = text(agents, rounds, mode=mode, seed=seed, faults=faults, attacks=attacks, **tables)
    return ended(simulate(loads(file), trace=trace, mixing=mixing_rule))


def ended(record: Record) -> Record:
    """Return a record that ended by itself.

    Raises:
        KeyboardInterrupt: it was interrupted, so that it says nothing about a law.
    """
    if record.summary["stopped_by"] == INTERRUPT:
        raise KeyboardInterrupt
    return record


def play_tables(
    agents: int, rounds: int | None, tables: Mapping[str, Table], *, mode: str, seed: int = 1
) -> Record:
    """Run a scenario of these tables without faults and return its record."""
    return ended(
        simulate(loads(text(agents, rounds, mode=mode, seed=seed, faults=(), attacks=(), **tables)))
    )


def slope(record: Record, skip: int) -> float:
    """Return the consensus distance's factor per round, fitted to its logarithm after `skip`."""
    rounds, distance = record.metrics["round"][skip:], record.metrics["consensus_distance"][skip:]
    return float(np.exp(np.polyfit(rounds, np.log(distance), 1)[0]))


def start(record: Record, seed: int, spread: float = 1.0, dimension: int = 8) -> Array:
    """Return the start points `(n, d)` of a quadratic run."""
    from p2pfrl.core.rng import Purpose, generator

    common = generator(seed, Purpose.START).standard_normal(dimension)
    agents = len(record.parameters)
    return np.array(
        [
            common + spread * generator(seed, i, Purpose.START).standard_normal(dimension)
            for i in range(agents)
        ]
    )
