"""Groups of runs that differ only in the seed, their labels, and their curves over seeds."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.tables import leaves
from p2pfrl.results.numbers import drawable
from p2pfrl.results.record import PHYSICS, Record
from p2pfrl.results.statistics import band

_ROUNDING = 1e-12  # share of the parameters' size that rounding leaves of equal parameters
POINTS = 400  # maximum number of points of a curve over seeds
_FAMILIAR = ("name", "mode")  # their values need no key beside them
_CANDIDATES = 16  # keys among which the fewest are found
_MOST_KEYS = 4


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

    Attributes:
        label: distinguishes it from the other groups.
        records: the runs.
        settings: the values of the fewest keys that tell all groups apart; None where a group has
            no such key.
    """

    label: str
    records: tuple[Record, ...]
    settings: Mapping[str, object] = field(default_factory=dict)

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
        value = scenario_keys(self.first.scenario).get("stop.target_return")
        target = float(drawable(value)) if isinstance(value, int | float) else np.nan
        return target if np.isfinite(target) else None

    @cached_property
    def rates(self) -> tuple[float, ...]:
        """The different predicted contractions per round of the runs, in ascending order.

        There are several if seeds draw different graphs.
        """
        found = sorted(r.lambda_2 for r in self.records if r.lambda_2 is not None)
        kept: list[float] = []
        for rate in found:
            if not kept or rate > kept[-1] * (1 + 1e-9) + 1e-15:
                kept.append(rate)
        return tuple(kept)

    def has(self, x: str, y: str) -> bool:
        """Whether at least one run has numbers to draw in column `y` against column `x`."""
        return any(len(_points(record, x, y)[0]) for record in self.records)

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
    a, b = drawable(record.metrics[x]), drawable(record.metrics[y])
    finite = np.isfinite(a) & np.isfinite(b)
    return a[finite], b[finite]


def group(records: Iterable[Record], labels: Mapping[Path, str] | None = None) -> tuple[Group, ...]:
    """Return `records` in groups that differ only in the seed, in order of first appearance.

    Args:
        records: the runs.
        labels: labels by run directory, for groups all of whose runs have the same; the others are
            named by what tells them apart.
    """
    found: dict[tuple[tuple[str, str], ...], list[Record]] = {}
    for record in records:
        flat = {**scenario_keys(record.scenario), "name": record.name, "mode": record.mode}
        flat.pop("seed", None)
        found.setdefault(tuple(sorted((k, repr(v)) for k, v in flat.items())), []).append(record)
    identities = [dict(identity) for identity in found]
    chosen = _chosen(identities)
    own = _labels(identities, chosen)
    given = {path.resolve(): label for path, label in (labels or {}).items()}
    groups = []
    for label, members in zip(own, found.values(), strict=True):
        other = _given(given, members)
        # What is called by another name, such as a recipe, differs in more than these keys.
        keys = chosen if other in (None, label) else ()
        groups.append(
            Group(
                other or label,
                tuple(sorted(members, key=lambda r: r.seed)),
                {key: _value_of(members[0], key) for key in keys},
            )
        )
    return tuple(groups)


def _given(labels: Mapping[Path, str], records: Sequence[Record]) -> str | None:
    """Return the label that all records have, or None."""
    found = {labels.get(r.directory.resolve()) if r.directory else None for r in records}
    return found.pop() if len(found) == 1 else None


def _value_of(record: Record, key: str) -> object:
    """Return the value of a key of a scenario, None if it has none."""
    known = {"name": record.name, "mode": record.mode}
    return known[key] if key in known else scenario_keys(record.scenario).get(key)


def _chosen(identities: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the fewest keys that tell all groups apart; none for one group.

    Among as few keys, name and mode come first, then the keys with the shortest labels.
    """
    keys = dict.fromkeys(key for identity in identities for key in identity)
    differing = [key for key in keys if len({identity.get(key) for identity in identities}) > 1]
    if not differing:
        return []
    differing.sort(key=lambda key: (key not in _FAMILIAR, _length([key], identities)))
    chosen = _fewest(differing[:_CANDIDATES], identities) or _greedy(differing, identities)
    chosen.sort(key=lambda key: (key not in _FAMILIAR, list(keys).index(key)))
    return chosen


def _labels(identities: Sequence[Mapping[str, str]], chosen: Sequence[str]) -> list[str]:
    """Return one label per group: the values of the keys that tell all apart, else its mode."""
    if not chosen:
        return [_word(identity["mode"]) for identity in identities]
    return [" · ".join(_words(chosen, identity)) for identity in identities]


def _fewest(keys: Sequence[str], identities: Sequence[Mapping[str, str]]) -> list[str] | None:
    for count in range(1, min(len(keys), _MOST_KEYS) + 1):
        found = [list(c) for c in combinations(keys, count) if _tell_apart(c, identities)]
        if found:
            return min(
                found,
                key=lambda c: (
                    sum(key not in _FAMILIAR for key in c),
                    _length(c, identities),
                ),
            )
    return None


def _greedy(keys: Sequence[str], identities: Sequence[Mapping[str, str]]) -> list[str]:
    """Return keys that tell all apart, each of which splits the groups further than any other."""
    chosen: list[str] = []
    while not _tell_apart(chosen, identities):
        rest = (key for key in keys if key not in chosen)
        chosen.append(max(rest, key=lambda key: len(_values([*chosen, key], identities))))
    return chosen


def _values(
    keys: Sequence[str], identities: Sequence[Mapping[str, str]]
) -> set[tuple[str | None, ...]]:
    return {tuple(identity.get(key) for key in keys) for identity in identities}


def _tell_apart(keys: Sequence[str], identities: Sequence[Mapping[str, str]]) -> bool:
    return len(_values(keys, identities)) == len(identities)


def _length(keys: Sequence[str], identities: Sequence[Mapping[str, str]]) -> int:
    return sum(len(" · ".join(_words(keys, identity))) for identity in identities)


def _words(keys: Sequence[str], identity: Mapping[str, str]) -> list[str]:
    """Return "key value" per key: the last word of a key, or more where that is not unique.

    A section says more than its key `kind`: "topology ring" of topology.kind.
    """
    names = {key: key.removesuffix(".kind").split(".") for key in keys}
    words = []
    for key, parts in names.items():
        value = _word(identity[key]) if key in identity else "not set"
        if key in _FAMILIAR:
            words.append(value)
            continue
        others = [other for name, other in names.items() if name != key]
        count = 1
        while any(other[-count:] == parts[-count:] for other in others) and count < len(parts):
            count += 1
        words.append(f"{'.'.join(parts[-count:])} {value}")
    return words


def _word(value: str) -> str:
    return value.replace("'", "").replace('"', "")


def scenario_keys(scenario: str) -> dict[str, Any]:
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
    last = final(record.agents)
    return {name: values[last] for name, values in record.agents.items()}


def final(agents: Mapping[str, NDArray[Any]]) -> NDArray[np.intp]:
    """Return the number of each agent's last row in the columns of agents.csv, by agent id."""
    ids = agents["agent"]
    order = np.lexsort((agents["round"], ids))
    is_last = np.ones(len(order), dtype=np.bool_)
    is_last[:-1] = ids[order][1:] != ids[order][:-1]
    return order[is_last]


def is_one_model(record: Record) -> bool:
    """Whether a coordinator kept the parameters of all agents equal, up to rounding."""
    return bool(record.coordinators) and (is_agreed(record) or not len(distances(record)))


def is_agreed(record: Record) -> bool:
    """Whether the parameters of all agents were equal, up to rounding, whenever it was measured."""
    size = np.sqrt((drawable(record.parameters) ** 2).sum(axis=1).mean())
    found = distances(record)
    return len(found) > 0 and bool(found.max() <= _ROUNDING * size)


def distances(record: Record) -> NDArray[np.float64]:
    """Return the consensus distances that were measured."""
    found = drawable(record.metrics.get("consensus_distance", ()))
    return found[np.isfinite(found)]


def varied(record: Record) -> tuple[str, ...]:
    """Return the physics columns of the agents' table in which the agents differ."""
    rows = final_rows(record)
    return tuple(c for c, v in rows.items() if c.startswith(PHYSICS) and len(np.unique(v)) > 1)
