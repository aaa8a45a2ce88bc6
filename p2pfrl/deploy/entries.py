"""Entries of a journal, checked when they are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from p2pfrl.core.traffic import Traffic
from p2pfrl.core.types import COORDINATOR, LOWEST_ID, Scores, Update

T = TypeVar("T")
_TOTALS = 6
"""Length of the totals of rounds without entries, in the place of a local update of 5."""


@dataclass(frozen=True, slots=True)
class Begin:
    """The agents of a process begin, at first or after a restart.

    Attributes:
        incarnation: how many times the process was started before.
        agents: ids of its agents.
        time: nanoseconds of the process's clock, as in all entries.
        wall: nanoseconds since 1970 by the machine's clock at `time`.
        is_projected: whether rounds have projections instead of parameters.
    """

    incarnation: int
    agents: tuple[int, ...]
    time: int
    wall: int
    is_projected: bool


@dataclass(frozen=True, slots=True)
class Passed:
    """Totals of the rounds before an entry that have no entry of their own.

    Attributes:
        end: the time at which the last of them ended.
        rounds: their number.
        update: their last local update, with all environment steps and the last returns; None if
            there was none.
        episodes: number of finished episodes whose returns are left out.
        staleness: staleness -> number of payloads that were applied with it.
    """

    end: int
    rounds: int
    update: Update | None
    episodes: int
    staleness: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Entry:
    """One agent at the end of one of its rounds.

    Attributes:
        round: counted from 0.
        passed: the rounds without entries since the previous entry; None if there are none.
        updates: (end, update): local updates after these rounds.
        is_active: False if it sat out the round.
        staleness: by sender.
        bytes_sent: bytes sent by this agent since its process was started.
        totals: totals of its process.
        before: the shared vector before mixing, raw bytes; empty in a projection, for zero.
        shared: the shared vector after mixing; empty for all parameters. In a projection, the
            change by mixing.
        parameters: all parameters after mixing.
        scores: how the agent's robust rule met what it received; empty without one.
    """

    agent: int
    round: int
    time: int
    passed: Passed | None
    updates: Sequence[tuple[int, Update]]
    is_active: bool
    staleness: Mapping[int, int]
    bytes_sent: int
    totals: Traffic
    before: bytes
    shared: bytes
    parameters: bytes
    scores: Scores = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Excused:
    """The coordinator `by` sent the model of `round`.

    Attributes:
        passed: staleness -> number of updates that it applied without an entry since the last one.
    """

    round: int
    time: int
    totals: Traffic
    by: int = COORDINATOR
    passed: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Applied:
    """The coordinator `by` applied an update of `agent` of staleness `tau`."""

    agent: int
    tau: int
    time: int
    by: int = COORDINATOR


@dataclass(frozen=True, slots=True)
class Judged:
    """The robust aggregator of coordinator `by` met the vectors of a round."""

    round: int
    scores: Scores
    time: int
    by: int = COORDINATOR


@dataclass(frozen=True, slots=True)
class Final:
    """All parameters of an agent when its process ended."""

    agent: int
    parameters: bytes


@dataclass(frozen=True, slots=True)
class End:
    """The process ended normally."""

    time: int
    totals: Traffic


Item = Begin | Entry | Excused | Applied | Judged | Final | End


def parse(found: object) -> Item:
    """Return the entry that a map describes.

    Raises:
        ValueError, KeyError, TypeError: the map is not an entry.
    """
    if not isinstance(found, dict) or not found:
        raise TypeError("expected a map")
    return _ITEMS[next(iter(found))](found)


def _begin(found: dict[str, Any]) -> Item:
    agents = tuple(_count(agent, LOWEST_ID) for agent in found["agents"])
    return Begin(
        _count(found["begin"]),
        agents,
        _count(found["time"]),
        _count(found["wall"]),
        _is(found["projected"], bool),
    )


def _entry(found: dict[str, Any]) -> Item:
    agent = _count(found["agent"])
    rows = list(found["updates"])
    has_passed = bool(rows) and len(rows[0]) == _TOTALS
    passed = _passed(agent, *rows.pop(0)) if has_passed else None
    updates = [(_count(end), _update(agent, *row)) for *row, end in rows]
    staleness = {_count(sender): _count(tau) for sender, tau in found["staleness"]}
    before, shared, parameters = (
        _is(found[name], bytes) for name in ("before", "shared", "parameters")
    )
    return Entry(
        agent,
        _count(found["round"]),
        _count(found["time"]),
        passed,
        updates,
        _is(found["active"], bool),
        staleness,
        _count(found["bytes_sent"]),
        _totals(found["totals"]),
        before,
        shared,
        parameters,
        _scores(found.get("scores", ())),
    )


def _excused(found: dict[str, Any]) -> Item:
    return Excused(
        _count(found["excused"]),
        _count(found["time"]),
        _totals(found["totals"]),
        _by(found),
        _histogram(found.get("passed", ())),
    )


def _applied(found: dict[str, Any]) -> Item:
    return Applied(
        _count(found["applied"]), _count(found["tau"]), _count(found["time"]), _by(found)
    )


def _judged(found: dict[str, Any]) -> Item:
    return Judged(
        _count(found["judged"]), _scores(found["scores"]), _count(found["time"]), _by(found)
    )


def _scores(found: Any) -> Scores:
    return {
        _count(sender): (_is(distance, float), _is(cosine, float))
        for sender, distance, cosine in found
    }


def _by(found: dict[str, Any]) -> int:
    return _count(found.get("by", COORDINATOR), LOWEST_ID)


def _final(found: dict[str, Any]) -> Item:
    return Final(_count(found["final"]), _is(found["parameters"], bytes))


def _end(found: dict[str, Any]) -> Item:
    return End(_count(found["end"]), _totals(found["totals"]))


_ITEMS: dict[str, Callable[[dict[str, Any]], Item]] = {
    "begin": _begin,
    "agent": _entry,
    "excused": _excused,
    "applied": _applied,
    "judged": _judged,
    "final": _final,
    "end": _end,
}


def _update(agent: int, steps: Any, loss: Any, returns: Any, measures: Any) -> Update:
    return Update(
        agent,
        _count(steps),
        _is(loss, float),
        tuple(_is(r, float) for r in returns),
        {_is(name, str): _is(value, float) for name, value in measures.items()},
    )


def _passed(
    agent: int, steps: Any, loss: Any, returns: Any, measures: Any, passed: Any, end: Any
) -> Passed:
    rounds, updates, episodes, staleness = passed
    update = _update(agent, steps, loss, returns, measures)
    return Passed(
        _count(end),
        _count(rounds, 1),
        update if _count(updates) else None,
        _count(episodes),
        _histogram(staleness),
    )


def _histogram(found: Any) -> dict[int, int]:
    return {_count(tau): _count(times) for tau, times in found}


def _totals(found: Any) -> Traffic:
    sent, delivered, dropped, size = map(_count, found)
    return Traffic(sent, delivered, dropped, bytes_sent=size)


def _count(value: Any, least: int = 0) -> int:
    if type(value) is not int or value < least:
        raise ValueError(f"expected a whole number of at least {least}, got {str(value)[:40]!r}")
    return value


def _is(value: Any, kind: type[T]) -> T:
    if type(value) is not kind:
        raise TypeError(f"expected {kind.__name__}, got {type(value).__name__}")
    return value
