"""Groups of runs that differ only in the seed, their labels, and their curves over seeds."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.tables import leaves
from p2pfrl.results.record import PHYSICS, Record
from p2pfrl.results.statistics import band

POINTS = 400  # maximum number of points of a curve over seeds


@dataclass(frozen=True)
class Curve:
    """The mean over seeds as a function of x.

    It has a confidence interval if there are `MIN_SEEDS` seeds or more.

    Attributes:
        x: `(points,)`.
        mean: `(points,)`.
        low: lower end of the interval, nan if there is none.
        high: upper end of the interval, nan if there is none.
        runs: `(seeds, points)`, the curve of every seed.
    """

    x: NDArray[np.float64]
    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    runs: NDArray[np.float64]

    @property
    def is_empty(self) -> bool:
        """Whether the curve has no points."""
        return len(self.x) == 0


@dataclass(frozen=True)
class Group:
    """Runs of one scenario in one mode, sorted by seed.

    `label` distinguishes it from the other groups.
    """

    label: str
    records: tuple[Record, ...]

    @property
    def first(self) -> Record:
        """The run with the lowest seed. Figures that show one run show this one."""
        return self.records[0]

    @property
    def mode(self) -> str:
        """Mode of the runs."""
        return self.first.mode

    @cached_property
    def target(self) -> float | None:
        """The `stop.target_return` of the scenario."""
        value = _flat(self.first.scenario).get("stop.target_return")
        return float(value) if isinstance(value, int | float) else None

    def has(self, *columns: str) -> bool:
        """Whether at least one run has numbers in all these columns of its metrics."""
        return any(all(record.has(column) for column in columns) for record in self.records)

    def curve(self, x: str, y: str) -> Curve:
        """Return the mean of column `y` against column `x` over the seeds.

        Seeds are interpolated to common values of x. A seed that ended early keeps its last value.
        Without it the mean would be that of the slow seeds alone, because a seed ends when it
        reaches its target.
        """
        pairs = [p for p in (_points(record, x, y) for record in self.records) if len(p[0])]
        if not pairs:
            nothing = np.empty(0)
            return Curve(nothing, nothing, nothing, nothing, np.empty((0, 0)))
        if len(pairs) == 1:
            undefined = np.full(len(pairs[0][0]), np.nan)
            return Curve(*pairs[0], undefined, undefined, pairs[0][1][None])
        grid = np.unique(np.concatenate([p[0] for p in pairs]))
        grid = grid[grid >= max(p[0][0] for p in pairs)]
        if len(grid) > POINTS:
            grid = np.linspace(grid[0], grid[-1], POINTS)
        values = np.stack([np.interp(grid, *p) for p in pairs])
        return Curve(grid, values.mean(axis=0), *band(values), values)


def _points(record: Record, x: str, y: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    nothing = np.empty(0)
    if x not in record.metrics or y not in record.metrics:
        return nothing, nothing
    a, b = record.metrics[x], record.metrics[y]
    finite = np.isfinite(a) & np.isfinite(b)
    return a[finite], b[finite]


def group(records: Iterable[Record]) -> tuple[Group, ...]:
    """Return `records` in groups that differ only in the seed, in order of first appearance."""
    found: dict[tuple[tuple[str, str], ...], list[Record]] = {}
    for record in records:
        flat = {**_flat(record.scenario), "name": record.name, "mode": record.mode}
        flat.pop("seed", None)
        found.setdefault(tuple(sorted((k, repr(v)) for k, v in flat.items())), []).append(record)
    labels = _labels([dict(identity) for identity in found])
    return tuple(
        Group(label, tuple(sorted(members, key=lambda r: r.seed)))
        for label, members in zip(labels, found.values(), strict=True)
    )


def _labels(identities: Sequence[Mapping[str, str]]) -> list[str]:
    """Return one label per group: its mode and the keys in which it differs from others."""
    keys = dict.fromkeys(key for identity in identities for key in identity)
    differing = [key for key in keys if len({identity.get(key) for identity in identities}) > 1]
    telling = [key for key in differing if key not in ("mode", "name")][:3]
    labels = []
    for identity in identities:
        words = [identity[key].strip("'\"") for key in ("name", "mode") if key in differing]
        words += [
            f"{key.rpartition('.')[2]} {identity.get(key, '-')}".replace("'", "") for key in telling
        ]
        labels.append(" · ".join(words) or identity["mode"].strip("'\""))
    return labels


def _flat(scenario: str) -> dict[str, Any]:
    """Return the keys of a TOML text with dots, such as `stop.rounds`.

    Empty if it is not valid TOML.
    """
    try:
        tree = tomllib.loads(scenario)
    except tomllib.TOMLDecodeError:
        return {}
    return dict(leaves(tree))


def final_rows(record: Record) -> dict[str, NDArray[Any]]:
    """Return the row of each agent's last round in the agents' table, sorted by agent id."""
    if "agent" not in record.agents or not len(record.agents["agent"]):
        return {}
    ids = record.agents["agent"]
    order = np.lexsort((record.agents["round"], ids))
    last = order[np.append(np.flatnonzero(np.diff(ids[order])), len(order) - 1)]
    return {name: values[last] for name, values in record.agents.items()}


def varied(record: Record) -> tuple[str, ...]:
    """Return the physics columns of the agents' table in which the agents differ."""
    rows = final_rows(record)
    return tuple(c for c, v in rows.items() if c.startswith(PHYSICS) and len(np.unique(v)) > 1)
