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
    "lag",
    "return",
    "staleness",
    "bytes",
    "disagreement",
    "suspicion",
    "state",
    "waits",
)


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

    def marked(self, name: str, above: float) -> list[int]:
        """Return the agents whose number in a column is above a bound."""
        return sorted(a for a, row in self.last.items() if row.get(name, math.nan) > above)


def table(
    agents: Agents, rounds: Sequence[int | None], states: str, waits: Mapping[str, str]
) -> dict[str, Any]:
    """Return the rows of the table, and the worst and best agents.

    Of more than `WHOLE` agents it has those with the most lag, the lowest and the highest returns,
    and the most suspected.

    Args:
        agents: the last numbers of all.
        rounds: rounds that each has ended, None where it is not known; empty if none is.
        states: a letter of `STATES` for each; "" if they are not known.
        waits: agent -> what it waits for.
    """
    ended = {agent: round for agent, round in enumerate(rounds) if round is not None}
    front = max(ended.values(), default=0)
    ids = sorted({*agents.last, *range(len(rounds))})

    def row(agent: int) -> list[Any]:
        known = agents.last.get(agent, {})
        own = ended.get(agent) if rounds else known.get("round")
        return [
            agent,
            None if own is None else int(own),
            front - ended[agent] if agent in ended else None,
            rounded(known.get("return")),
            rounded(known.get("staleness")),
            rounded(known.get("bytes_sent")),
            rounded(known.get("disagreement")),
            rounded(known.get("suspicion")),
            STATES.get(states[agent : agent + 1], ""),
            waits.get(str(agent), "").partition(" for ")[2],
        ]

    returns = {
        a: value
        for a in ids
        if math.isfinite(value := agents.last.get(a, {}).get("return", math.nan))
    }
    by_return = sorted(returns, key=lambda a: (returns[a], a))
    agents.note = ""
    if len(ids) > WHOLE:
        lags = sorted(ended, key=lambda a: (ended[a], a))[:_SOME]
        suspected = sorted(
            agents.marked("suspicion", 0.0), key=lambda a: -agents.last[a]["suspicion"]
        )
        chosen = {*lags, *by_return[:_SOME], *by_return[-_SOME:], *suspected[:_SOME]}
        chosen.update(a for a in range(len(states)) if states[a] == "d" and len(chosen) < WHOLE)
        agents.note = (
            f"{len(chosen):,} of {len(ids):,} agents: those that lag most, with the lowest and the "
            "highest returns, the most suspected, and down"
        )
        ids = sorted(chosen)
    has_suspicion = any("suspicion" in known for known in agents.last.values())
    return {
        "columns": COLUMNS,
        "rows": [row(agent) for agent in ids],
        "worst": [[a, rounded(returns[a])] for a in by_return[:3]],
        "best": [[a, rounded(returns[a])] for a in by_return[::-1][:3]],
        "alarm": ALARM if has_suspicion else None,
    }
