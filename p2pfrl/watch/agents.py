"""The table of agents on a page: the last numbers of each, from a table that grows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from p2pfrl.results.suspects import ALARM
from p2pfrl.watch.tails import Tail, rounded

WHOLE = 600
"""Number of agents above which the table has only some of them."""
_SOME = 100
_ROW = 400
"""More bytes than a row of agents.csv has, as a rule."""
STATES = {"t": "trains", "w": "waits", "d": "down", "e": "ended"}
COLUMNS = (
    "agent",
    "round",
    "updates",
    "lag",
    "return",
    "staleness",
    "bytes",
    "disagreement",
    "suspicion",
    "state",
    "absent for",
    "waits",
)
ROUND, UPDATES = "round", "updates"
"""Columns with rounds that an agent has ended: those of a run with rounds in common, and in an
asynchronous run its own."""


class Agents:
    """The last row of every agent in agents.csv.

    Attributes:
        last: agent -> column -> number.
        note: what the table of the page leaves out; "" if it has all agents.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.last: dict[int, dict[str, float]] = {}
        self.note = ""
        self._path = path
        self._tail: Tail | None = None

    def read(self, n: int) -> None:
        """Read the new rows of a run of n agents; of those before, only the last."""
        if self._tail is None:
            if not n:
                return
            self._tail = Tail(self._path, most=max(2**16, 2 * _ROW * n))
        rows = self._tail.read()
        if self._tail.is_new:
            self.last = {}
        columns = self._tail.columns
        if "agent" not in columns:
            return
        place = columns.index("agent")
        newest = {int(row[place]): row for row in rows if math.isfinite(row[place])}
        self.last |= {agent: dict(zip(columns, row, strict=True)) for agent, row in newest.items()}

    def column(self, name: str, n: int) -> list[float | None]:
        """Return a number of each of n agents; None where it is not known."""
        return [rounded(self.last.get(agent, {}).get(name)) for agent in range(n)]

    def order(self, name: str) -> list[int]:
        """Return the agents with a number in a column, the lowest first."""
        known = {
            agent: value
            for agent, row in self.last.items()
            if math.isfinite(value := row.get(name, math.nan))
        }
        return sorted(known, key=lambda agent: (known[agent], agent))

    def ended(self, n: int) -> list[int | None]:
        """Return the rounds that each of n agents has ended, as far as its last row says."""
        rows = (self.last.get(agent, {}) for agent in range(n))
        found = (row.get(UPDATES, row.get(ROUND, math.nan)) for row in rows)
        return [int(value) if math.isfinite(value) else None for value in found]

    def marked(self, name: str, above: float) -> list[int]:
        """Return the agents whose number in a column is above a bound."""
        return sorted(a for a, row in self.last.items() if row.get(name, math.nan) > above)


def table(
    agents: Agents,
    rounds: Sequence[int | None],
    states: str,
    waits: Mapping[str, str],
    unit: str = ROUND,
    absent: Mapping[int, float] | None = None,
) -> dict[str, Any]:
    """Return the rows of the table, and the worst and best agents.

    Of more than `WHOLE` agents it has those with the most lag, the lowest and the highest returns
    (without returns the most disagreement), and the most suspected.

    Args:
        agents: the last numbers of all.
        rounds: rounds that each has ended, None where it is not known; empty if none is.
        states: a letter of `STATES` for each; "" if they are not known.
        waits: agent -> what it waits for.
        unit: `ROUND` or `UPDATES`, the column with `rounds`.
        absent: agent -> seconds for which it was not there.
    """
    ended = {agent: round for agent, round in enumerate(rounds) if round is not None}
    front = max(ended.values(), default=0)
    ids = sorted({*agents.last, *range(len(rounds))})

    def row(agent: int) -> list[Any]:
        known = agents.last.get(agent, {})
        own = ended.get(agent) if rounds else known.get(unit)
        count = None if own is None else int(own)
        return [
            agent,
            count if unit == ROUND else None,
            count if unit == UPDATES else rounded(known.get(UPDATES)),
            front - ended[agent] if agent in ended else None,
            rounded(known.get("return")),
            rounded(known.get("staleness")),
            rounded(known.get("bytes_sent")),
            rounded(known.get("disagreement")),
            rounded(known.get("suspicion")),
            STATES.get(states[agent : agent + 1], ""),
            rounded((absent or {}).get(agent)),
            waits.get(str(agent), "").partition(" for ")[2],
        ]

    has_returns = bool(agents.order("return"))
    agents.note = ""
    if len(ids) > WHOLE:
        ids = _some(agents, ids, ended, states)
    has_suspicion = any("suspicion" in known for known in agents.last.values())
    return {
        "columns": COLUMNS,
        "rows": [row(agent) for agent in ids],
        **_extremes(agents, "return", "worst", "best"),
        **({} if has_returns else _extremes(agents, "disagreement", "nearest", "farthest")),
        "alarm": ALARM if has_suspicion else None,
    }


def _some(agents: Agents, ids: Sequence[int], ended: Mapping[int, int], states: str) -> list[int]:
    """Return the agents of many that the table has, and note which they are."""
    by_return, apart = agents.order("return"), agents.order("disagreement")
    front = max(ended.values(), default=0)
    lags = sorted((a for a in ended if ended[a] < front), key=lambda a: (ended[a], a))[:_SOME]
    suspected = agents.marked("suspicion", 0.0)
    suspected = sorted(suspected, key=lambda a: -agents.last[a]["suspicion"])[:_SOME]
    words = ["that lag most"] if lags else []
    chosen = {*lags}
    if by_return:
        chosen |= {*by_return[:_SOME], *by_return[-_SOME:]}
        words.append("with the lowest and the highest returns")
    elif apart:
        chosen |= {*apart[-_SOME:]}
        words.append("farthest from the average")
    if suspected:
        chosen |= {*suspected}
        words.append("the most suspected")
    if "d" in states:
        chosen.update(a for a in range(len(states)) if states[a] == "d" and len(chosen) < WHOLE)
        words.append("down")
    if not chosen:
        chosen, words = {*ids[:_SOME]}, ["with the lowest numbers"]
    agents.note = f"{len(chosen):,} of {len(ids):,} agents: those {_listed(words)}"
    return sorted(chosen)


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _extremes(agents: Agents, name: str, low: str, high: str) -> dict[str, Any]:
    """Return the three agents with the lowest and the highest numbers of a column.

    There are none if all are equal; the number is then `equal`.
    """
    order = agents.order(name)
    own = [[agent, rounded(agents.last[agent][name])] for agent in order]
    is_equal = len(own) > 1 and own[0][1] == own[-1][1]
    highest = sorted(own, key=lambda one: (-(one[1] or 0.0), one[0]))
    return {
        low: [] if is_equal else own[:3],
        high: [] if is_equal else highest[:3],
        "equal": own[0][1] if is_equal else None,
    }
