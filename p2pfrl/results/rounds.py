"""Rounds of all agents: which agent has ended which round, and its numbers at that time.

Numbers lie side by side, in arrays and packed rows. As objects of Python they would be scattered,
and to find them in memory would take most of the time.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Mapping, Sequence
from itertools import compress
from struct import Struct
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.parameters import Vector
from p2pfrl.core.state import State
from p2pfrl.core.types import Update
from p2pfrl.core.units import SECOND

EPISODES = 20
"""Number of finished training episodes over which an agent's return is averaged."""
ENTRY = np.dtype(
    [
        ("virtual_seconds", np.float64),
        ("return", np.float64),
        ("loss", np.float64),
        ("staleness", np.float64),
        ("epsilon", np.float64),
        ("episodes", np.int64),
        ("env_steps", np.int64),
        ("bytes_sent", np.int64),
    ]
)
"""Numbers of one agent at the end of one of its rounds."""
_WHOLE = np.dtype((np.void, ENTRY.itemsize))
"""An entry as one piece, which numpy copies ten times as fast."""
Rows = NDArray[np.void]
"""Entries, `(b,)`."""
Measures = Mapping[str, float]
"""The environment's own measures of a local update."""
_pack = Struct("=5d3q").pack
_NONE: Measures = {}
"""No measures. All agents share this dict, which nobody changes."""


class Progress:
    """Training progress of all agents.

    Attributes:
        measures: of the last local update of each agent.

    Args:
        agents: number of agents n.
    """

    def __init__(self, agents: int) -> None:
        self.measures = [_NONE] * agents
        self._returns = [array("d") for _ in range(agents)]  # of the last finished episodes
        self._means = array("d", [np.nan]) * agents  # of these returns
        self._episodes = array("q", [0]) * agents  # how many have finished
        self._steps = array("q", [0]) * agents
        self._losses = array("d", [np.nan]) * agents  # of the last local update
        self._lags: dict[int, list[int]] = {}  # of payloads applied since the last round

    def trained(self, agent: int, update: Update) -> None:
        """Add a local update of an agent."""
        self._steps[agent] += update.env_steps
        self._losses[agent] = update.loss
        self.measures[agent] = update.measures or _NONE
        found = update.returns
        if found:
            self._episodes[agent] += len(found)
            returns = self._returns[agent]
            returns.extend(found)
            if len(returns) > EPISODES:
                del returns[:-EPISODES]
            self._means[agent] = sum(returns) / len(returns)

    def finished(self, agent: int, episodes: int) -> None:
        """Add finished episodes whose returns are not known."""
        self._episodes[agent] += episodes

    def applied(self, agent: int, tau: int) -> None:
        """Add the staleness of a payload that counts for the round that an agent is in."""
        self._lags.setdefault(agent, []).append(tau)

    def row(
        self, agent: int, now: int, staleness: Collection[int], epsilon: float, bytes_sent: int
    ) -> bytes:
        """Return the entry of a round that an agent ends now, packed.

        `staleness` is that of the payloads with which the round ends.
        """
        if self._lags and agent in self._lags:
            staleness = [*self._lags.pop(agent), *staleness]
        return _pack(
            now / SECOND,
            self._means[agent],
            self._losses[agent],
            sum(staleness) / len(staleness) if staleness else np.nan,
            epsilon,
            self._episodes[agent],
            self._steps[agent],
            bytes_sent,
        )

    def save(self) -> State:
        """Return the state."""
        return {
            "measures": list(self.measures),
            "returns": [tuple(own) for own in self._returns],
            "episodes": np.array(self._episodes),
            "steps": np.array(self._steps),
            "losses": np.array(self._losses),
            "lags": {agent: list(own) for agent, own in self._lags.items()},
        }

    def restore(self, state: State) -> None:
        """Restore a state that `save` returned."""
        self.measures = list(state["measures"])
        self._returns = [array("d", own) for own in state["returns"]]
        self._means = array("d", [sum(own) / len(own) if own else np.nan for own in self._returns])
        self._episodes = array("q", state["episodes"].tolist())
        self._steps = array("q", state["steps"].tolist())
        self._losses = array("d", state["losses"].tolist())
        self._lags = {agent: list(own) for agent, own in state["lags"].items()}


class Ended:
    """The agents that have ended a round, in order, with their entries.

    Attributes:
        agents: they.
        parameters: of each, `(d,)`.
        measures: of each.
        packed: the entries.
    """

    __slots__ = ("agents", "measures", "packed", "parameters")

    def __init__(self) -> None:
        self.agents: list[int] = []
        self.parameters: list[Vector] = []
        self.measures: list[Measures] = []
        self.packed = bytearray()

    @property
    def rows(self) -> Rows:
        """The entries; none can be added while somebody uses them."""
        return np.frombuffer(self.packed, ENTRY)

    def remove(self, agent: int) -> None:
        """Remove an agent, if it is there."""
        if agent in self.agents:
            place = self.agents.index(agent)
            for column in (self.agents, self.parameters, self.measures):
                del column[place]
            del self.packed[place * ENTRY.itemsize : (place + 1) * ENTRY.itemsize]

    def save(self) -> State:
        """Return the state. Arrays are shared, not copied."""
        lists = ("agents", "parameters", "measures")
        return {**{name: list(getattr(self, name)) for name in lists}, **_columns(self.rows)}

    @classmethod
    def of(cls, state: State) -> Ended:
        """Return what has a state that `save` returned."""
        ended = cls()
        ended.agents, ended.parameters = list(state["agents"]), list(state["parameters"])
        ended.measures = list(state["measures"])
        ended.packed = bytearray(len(ended.agents) * ENTRY.itemsize)
        _fill(ended.rows, state)
        return ended


class Last(NamedTuple):
    """The last entries of agents that have ended a round.

    Attributes:
        agents: they.
        rows: their entries.
        measures: their measures.
    """

    agents: Sequence[int]
    rows: Rows
    measures: Sequence[Measures]


class Latest:
    """The last entry of each agent.

    Args:
        agents: number of agents n.
    """

    def __init__(self, agents: int) -> None:
        self._packed = bytearray(agents * ENTRY.itemsize)
        self._rows = np.frombuffer(self._packed, ENTRY)
        self._measures = [_NONE] * agents
        self._is_there = np.zeros(agents, dtype=bool)
        self._all = range(agents)

    def put(self, agent: int, row: bytes, measures: Measures) -> None:
        """Replace the entry of an agent."""
        self._packed[agent * ENTRY.itemsize : (agent + 1) * ENTRY.itemsize] = row
        self._measures[agent], self._is_there[agent] = measures, True

    def take(self, ended: Ended) -> None:
        """Replace the entries of all agents that have ended a round."""
        self._rows.view(_WHOLE)[ended.agents] = ended.rows.view(_WHOLE)
        self._is_there[ended.agents] = True
        for agent, measures in zip(ended.agents, ended.measures, strict=True):
            self._measures[agent] = measures

    def of(self, agents: Sequence[int]) -> Last:
        """Return the last entries of those of `agents`, distinct ones, that have ended a round."""
        if len(agents) == len(self._all) and self._is_there.all():
            return Last(agents, self._rows, self._measures)
        agents = [*compress(agents, self._is_there[list(agents)])]
        return Last(agents, self._rows[agents], [self._measures[agent] for agent in agents])

    def save(self) -> State:
        """Return the state."""
        return {
            "is_there": self._is_there.copy(),
            "measures": list(self._measures),
            **_columns(self._rows),
        }

    def restore(self, state: State) -> None:
        """Restore a state that `save` returned."""
        self._is_there[:], self._measures = state["is_there"], list(state["measures"])
        _fill(self._rows, state)


class Rounds:
    """The agents that are alive, and the rounds that each agent has ended.

    A round is complete when every agent that is alive has ended it, or is known to skip it.

    Attributes:
        row: the first round that is not complete.
        alive: whether each agent is alive.
        behind: agents that are alive and have not ended this round.

    Args:
        agents: number of agents n.
    """

    def __init__(self, agents: int) -> None:
        self.row = 0
        self.alive = [True] * agents
        self._completed = [0] * agents
        self.behind = agents
        self._ended: dict[int, Ended] = {}

    def live(self, agent: int, alive: bool) -> None:
        """Record that an agent joined, or that it left."""
        self.alive[agent] = alive
        if self._completed[agent] <= self.row:
            self.behind += 1 if alive else -1

    def end(
        self, agent: int, round: int, row: bytes, parameters: Vector, measures: Measures
    ) -> None:
        """Record that an agent has ended a round that is not complete, with its entry."""
        ended = self._ended.get(round)
        if ended is None:
            ended = self._ended[round] = Ended()
        if self._completed[agent] > round:  # it was restarted
            ended.remove(agent)
        ended.agents.append(agent)
        ended.parameters.append(parameters)
        ended.measures.append(measures)
        ended.packed += row
        self.complete(agent, round + 1)

    def complete(self, agent: int, completed: int) -> None:
        """Record that an agent has ended or skips its first `completed` rounds."""
        before = self._completed[agent]
        if completed > before:
            if before <= self.row < completed and self.alive[agent]:
                self.behind -= 1
            self._completed[agent] = completed

    def is_complete(self) -> bool:
        """Whether every agent is past this round, and at least one has ended it or a later one."""
        return not self.behind and any(self.alive) and any(r >= self.row for r in self._ended)

    def take(self) -> Ended:
        """Return who has ended the round that is complete, and advance to the next round."""
        ended = self._ended.pop(self.row, None) or Ended()
        self.skip_to(self.row + 1)
        return ended

    def skip_to(self, row: int) -> None:
        """Advance to a round that is not before this one."""
        self.row = max(self.row, row)
        self.behind = sum(
            alive and done <= self.row
            for alive, done in zip(self.alive, self._completed, strict=True)
        )

    def save(self) -> State:
        """Return the state. Arrays are shared, not copied."""
        return {
            "row": self.row,
            "alive": list(self.alive),
            "completed": list(self._completed),
            "behind": self.behind,
            "ended": {round: ended.save() for round, ended in self._ended.items()},
        }

    def restore(self, state: State) -> None:
        """Restore a state that `save` returned."""
        self.row, self.behind = state["row"], state["behind"]
        self.alive, self._completed = list(state["alive"]), list(state["completed"])
        self._ended = {round: Ended.of(found) for round, found in state["ended"].items()}


def _columns(rows: Rows) -> dict[str, NDArray[Any]]:
    """Return the numbers of entries by name."""
    return {name: rows[name].copy() for name in ENTRY.fields or ()}


def _fill(rows: Rows, columns: State) -> None:
    """Set the numbers of entries to those that `_columns` returned."""
    for name in ENTRY.fields or ():
        rows[name] = columns[name]
