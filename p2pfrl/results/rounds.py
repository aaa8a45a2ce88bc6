"""Rounds of all agents: which agent has ended which round, and its numbers at that time."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from p2pfrl.core.parameters import Vector
from p2pfrl.core.state import State
from p2pfrl.core.types import Update

EPISODES = 20
"""Number of finished training episodes over which an agent's return is averaged."""


@dataclass(slots=True)
class Entry:
    """Numbers of one agent at the end of one of its rounds.

    Attributes:
        parameters: `(d,)`; None once the recorder has them.
    """

    parameters: Vector | None
    time: int
    returns: float
    episodes: int
    loss: float
    bytes_sent: int
    staleness: float
    env_steps: int
    measures: Mapping[str, float]
    epsilon: float = 0.0


@dataclass(slots=True)
class Progress:
    """Training progress of one agent.

    Attributes:
        returns: returns of its last finished episodes.
        mean: of these returns; nan if there are none.
        finished: number of finished episodes.
        update: its last local update.
        steps: environment steps.
        lags: staleness of the payloads applied since its last round.
        latest: its last entry.
    """

    returns: deque[float] = field(default_factory=lambda: deque(maxlen=EPISODES))
    mean: float = np.nan
    finished: int = 0
    update: Update | None = None
    steps: int = 0
    lags: list[int] = field(default_factory=list)
    latest: Entry | None = None

    def trained(self, update: Update) -> None:
        """Add a local update."""
        self.update = update
        self.steps += update.env_steps
        if update.returns:
            self.finished += len(update.returns)
            self.returns.extend(update.returns)
            self.mean = _mean(self.returns)

    def entry(self, parameters: Vector, time: int, bytes_sent: int, epsilon: float = 0.0) -> Entry:
        """Return the numbers of a round that ends now, and clear the staleness."""
        update, lags = self.update, self.lags
        # By position, which is twice as fast: there is one for each round of each agent.
        entry = Entry(
            parameters,
            time,
            self.mean,
            self.finished,
            update.loss if update else np.nan,
            bytes_sent,
            _mean(lags),
            self.steps,
            update.measures if update else {},
            epsilon,
        )
        lags.clear()
        return entry

    def save(self) -> State:
        """Return the state. Arrays are shared, not copied."""
        return {
            "returns": tuple(self.returns),
            "finished": self.finished,
            "update": self.update,
            "steps": self.steps,
            "lags": list(self.lags),
            "latest": None if self.latest is None else _values(self.latest),
        }

    @classmethod
    def of(cls, state: State) -> Progress:
        """Return the progress with a state that `save` returned."""
        latest, returns = state["latest"], state["returns"]
        return cls(
            deque(returns, maxlen=EPISODES),
            _mean(returns),
            state["finished"],
            state["update"],
            state["steps"],
            list(state["lags"]),
            None if latest is None else Entry(*latest),
        )


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
        self._entries: dict[int, dict[int, Entry]] = {}

    def live(self, agent: int, alive: bool) -> None:
        """Record that an agent joined, or that it left."""
        self.alive[agent] = alive
        if self._completed[agent] <= self.row:
            self.behind += 1 if alive else -1

    def add(self, round: int, agent: int, entry: Entry) -> None:
        """Add the entry of an agent that ended a round before the round is complete."""
        entries = self._entries.get(round)
        if entries is None:
            entries = self._entries[round] = {}
        entries[agent] = entry

    def complete(self, agent: int, completed: int) -> None:
        """Record that an agent has ended or skips its first `completed` rounds."""
        before = self._completed[agent]
        if completed > before:
            if before <= self.row < completed and self.alive[agent]:
                self.behind -= 1
            self._completed[agent] = completed

    def is_complete(self) -> bool:
        """Whether every agent is past this round, and at least one has ended it or a later one."""
        return not self.behind and any(self.alive) and any(r >= self.row for r in self._entries)

    def take(self) -> Mapping[int, Entry]:
        """Return the entries of the round that is complete and advance to the next round."""
        entries = self._entries.pop(self.row, {})
        self.skip_to(self.row + 1)
        return entries

    def skip_to(self, row: int) -> None:
        """Advance to a round that is not before this one."""
        self.row = max(self.row, row)
        self.behind = sum(
            alive and done <= self.row
            for alive, done in zip(self.alive, self._completed, strict=True)
        )

    def save(self) -> State:
        """Return the state. Arrays are shared, not copied."""
        entries = {
            round: {agent: _values(entry) for agent, entry in found.items()}
            for round, found in self._entries.items()
        }
        return {
            "row": self.row,
            "alive": list(self.alive),
            "completed": list(self._completed),
            "behind": self.behind,
            "entries": entries,
        }

    def restore(self, state: State) -> None:
        """Restore a state that `save` returned."""
        self.row, self.behind = state["row"], state["behind"]
        self.alive, self._completed = list(state["alive"]), list(state["completed"])
        self._entries = {
            round: {agent: Entry(*values) for agent, values in found.items()}
            for round, found in state["entries"].items()
        }


def _mean(values: Collection[float]) -> float:
    """Return the mean; nan if there are no values."""
    return sum(values) / len(values) if values else np.nan


def _values(entry: Entry) -> tuple[Any, ...]:
    """Return the values of an entry in order. Arrays are not copied."""
    return tuple(getattr(entry, item.name) for item in fields(entry))
