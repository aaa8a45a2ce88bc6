"""The recorder: watches a run and writes its rows. Nothing of what it computes flows back to the agents.

Synchronous runs get one row per round, when the last agent that is awaited has finished it; an
agent that skipped a round counts with what it had. Asynchronous runs get one row per tick of
virtual time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from p2pfrl.core.parameters import Layout, Vector
from p2pfrl.core.state import State, copied
from p2pfrl.core.traffic import Traffic
from p2pfrl.core.types import Update
from p2pfrl.core.units import SECOND
from p2pfrl.results.record import Interval
from p2pfrl.results.witness import Drift, Entry, Judge, distances

EPISODES = 20
_MAX_INTERVALS = 20_000
_TIMELINE_AGENTS = 32
Row = dict[str, float]
_STATE = (
    "staleness",
    "current",
    "env_steps",
    "updates",
    "row",
    "stopped_at_row",
    "_alive",
    "_completed",
    "_behind",
    "_finished",
    "_updates",
    "_steps",
    "_lags",
    "_free_since",
)
"""Attributes of plain values that change during a run."""


def _values(item: Entry) -> tuple[Any, ...]:
    """Return the values of an entry in order; its arrays are not copied."""
    return tuple(getattr(item, entry.name) for entry in fields(item))


class Recorder:
    """Collects rows.

    Args:
        layout: of the parameters.
        agents: number of agents n.
        start: `(n, stride)` start parameters.
        judge: computes objective, divergence and evaluation.
        now: the clock, nanoseconds.
        every: rounds between evaluations.
        episodes: of an evaluation.
        on_row: called with every new row; returns whether the run should stop here.
        mixes: whether what happens between training and the next round is mixing, so that the mean
            can drift by it.
        tick: nanoseconds between rows of an asynchronous run; None for one row per round.
        parts: that distances are measured over; None for all.
    """

    def __init__(
        self,
        *,
        layout: Layout,
        agents: int,
        start: Vector,
        judge: Judge,
        now: Callable[[], int],
        every: int,
        episodes: int,
        on_row: Callable[[Row], bool],
        mixes: bool,
        tick: int | None,
        parts: Sequence[str] | None = None,
    ) -> None:
        self.rows: list[Row] = []
        self.agent_rows: list[Row] = []
        self.staleness: list[int] = []
        self.intervals: list[Interval] = []
        self.traffic: Traffic  # set when there is a network
        self.current = start.copy()
        self.env_steps = 0
        self.updates = 0
        self.row = 0
        self.stopped_at_row = False
        self._n = agents
        self._layout = layout
        self._judge = judge
        self._now = now
        self._every = every
        self._episodes = episodes
        self._on_row = on_row
        self._mixes = mixes
        self._tick = tick
        self._parts = parts
        self._alive = [True] * agents
        self._completed = [0] * agents
        self._behind = agents
        self._entries: dict[int, dict[int, Entry]] = {}
        self._latest: list[Entry | None] = [None] * agents
        self._returns: list[deque[float]] = [deque(maxlen=EPISODES) for _ in range(agents)]
        self._finished = [0] * agents
        self._updates: list[Update | None] = [None] * agents
        self._steps = [0] * agents
        self._lags: list[list[int]] = [[] for _ in range(agents)]
        self._drift = Drift(agents)
        self._free_since = [0] * agents
        self._max_updates: int | None = None
        self._stop: Callable[[], None] = lambda: None
        self._post: Callable[..., None] = lambda when, callback, *args: None
        self._is_busy: Callable[[], bool] = lambda: False
        self.initial_distance = self._distances(range(agents))[1]

    # What agents and the world tell.

    def trained(self, agent: int, update: Update) -> None:
        """A local update ended."""
        self._returns[agent].extend(update.returns)
        self._finished[agent] += len(update.returns)
        self._updates[agent] = update
        self._steps[agent] += update.env_steps
        self.env_steps += update.env_steps

    def mixed(
        self, agent: int, round: int, staleness: Mapping[int, int], before: Vector, after: Vector
    ) -> None:
        """A round of `agent` ended: mixing moved its shared vector from `before` to `after`."""
        for tau in staleness.values():
            self.applied(agent, tau)
        self._drift.add(round if self._tick is None else 0, before, after)
        self._end_round(agent, round)

    def answered(self, agent: int, before: Vector, after: Vector) -> None:
        """An exchange with a neighbor that asked moved the shared vector of `agent`; its own round goes on."""
        self._drift.add(0, before, after)

    def applied(self, agent: int, tau: int) -> None:
        """A payload of staleness `tau` was applied: by `agent`, or by the coordinator to an update of `agent`."""
        self._lags[agent].append(tau)
        if tau >= len(self.staleness):
            self.staleness.extend([0] * (tau + 1 - len(self.staleness)))
        self.staleness[tau] += 1

    def sat_out(self, agent: int, round: int) -> None:
        """A round of `agent` ended in which it took no part."""
        self._end_round(agent, round)

    def excused(self, round: int, participants: Sequence[int]) -> None:
        """A coordinator's model `round` went to `participants` only: nobody else is awaited for the round before."""
        if self._tick is not None:
            return
        asked = set(participants)
        for agent in range(self._n):
            if agent not in asked:
                self._pass(agent, round)
        self._advance()

    def live(self, agent: int, alive: bool) -> None:
        """An agent came or went."""
        if agent < 0 or self._alive[agent] == alive:
            return
        self._alive[agent] = alive
        if self._completed[agent] <= self.row:
            self._behind += 1 if alive else -1
        if alive:
            self._free_since[agent] = self._now()
        self._advance()

    def interval(self, agent: int, kind: str, start: int, end: int) -> None:
        """An agent trained or sent from `start` to `end`; what lies between is waiting."""
        if not 0 <= agent < _TIMELINE_AGENTS or len(self.intervals) >= _MAX_INTERVALS:
            return
        free = self._free_since[agent]
        if start > free:
            self.intervals.append(Interval(agent, "wait", free / SECOND, start / SECOND))
        self.intervals.append(Interval(agent, kind, start / SECOND, end / SECOND))  # type: ignore[arg-type]
        self._free_since[agent] = max(free, end)

    def finish(self) -> None:
        """Write the last row of an asynchronous run; evaluate the end."""
        if self._tick is not None:
            self._write(self._now())
        if self.rows and self._episodes and np.isnan(self.rows[-1]["evaluation_own"]):
            self.rows[-1].update(self._evaluation(range(self._n)))

    def follow_clock(
        self,
        post: Callable[..., None],
        is_busy: Callable[[], bool],
        max_updates: int | None,
        stop: Callable[[], None],
    ) -> None:
        """Write a row at every tick of an asynchronous run, and end it after `max_updates` updates of all agents.

        Ticks double where less than a quarter of the agents ended a round, and end where nothing
        else is to come.
        """
        assert self._tick is not None
        self._max_updates, self._stop = max_updates, stop

        self._post, self._is_busy = post, is_busy
        post(self._tick, self.tick, self._tick, 0)

    def tick(self, tick: int, before: int) -> None:
        """Write the row of a tick, and arrange for the next: what `follow_clock` posts.

        Args:
            tick: nanoseconds since the last one.
            before: updates that had ended by then.
        """
        self._write(self._now())
        longer = 2 * tick if 4 * (self.updates - before) < self._n else tick
        if not self.stopped_at_row and self._is_busy():
            self._post(self._now() + longer, self.tick, longer, self.updates)

    def save(self) -> State:
        """Return the state but for `rows` and `agent_rows`, which only grow; arrays are shared."""
        return {
            **{name: getattr(self, name) for name in _STATE},
            "entries": {
                round: {agent: _values(entry) for agent, entry in entries.items()}
                for round, entries in self._entries.items()
            },
            "latest": [None if entry is None else _values(entry) for entry in self._latest],
            "intervals": [tuple(interval) for interval in self.intervals],
            "returns": [tuple(returns) for returns in self._returns],
            "drift": self._drift.save(),
        }

    def restore(self, state: State) -> None:
        """Take over what `save` returned."""
        for name in _STATE:
            setattr(self, name, copied(state[name]))
        self.current = self.current.copy()
        self._entries = {
            round: {agent: Entry(*entry) for agent, entry in entries.items()}
            for round, entries in state["entries"].items()
        }
        self._latest = [None if entry is None else Entry(*entry) for entry in state["latest"]]
        self.intervals = [Interval(*interval) for interval in state["intervals"]]
        self._returns = [deque(returns, maxlen=EPISODES) for returns in state["returns"]]
        self._drift.restore(state["drift"])

    def latest(self) -> list[Entry]:
        """Return the last entry of every agent that has one."""
        return [entry for entry in self._latest if entry is not None]

    # Rows.

    def _end_round(self, agent: int, round: int) -> None:
        if self._max_updates is not None and self.updates >= self._max_updates:
            return
        self.updates += 1
        update, lags = self._updates[agent], self._lags[agent]
        entry = Entry(
            self._judge.parameters(agent),
            self._now(),
            self._return(agent),
            self._finished[agent],
            update.loss if update else np.nan,
            self.traffic.bytes_by.get(agent, 0),
            sum(lags) / len(lags) if lags else np.nan,
            self._steps[agent],
            update.measures if update else {},
        )
        lags.clear()
        if self._tick is not None or round < self.row:
            self._settle(agent, entry)
        else:
            self._entries.setdefault(round, {})[agent] = entry
        if self._tick is None:
            self._pass(agent, round + 1)
            self._advance()
        elif self.updates == self._max_updates:
            self._stop()

    def _return(self, agent: int) -> float:
        returns = self._returns[agent]
        return sum(returns) / len(returns) if returns else np.nan

    def _settle(self, agent: int, entry: Entry) -> None:
        self._latest[agent] = entry
        self.current[agent] = entry.parameters

    def _pass(self, agent: int, completed: int) -> None:
        if completed > self._completed[agent]:
            if self._alive[agent] and self._completed[agent] <= self.row < completed:
                self._behind -= 1
            self._completed[agent] = completed

    def _advance(self) -> None:
        while (
            not self._behind and not self.stopped_at_row and any(self._alive) and self._tick is None
        ):
            if self.row not in self._entries and not any(r > self.row for r in self._entries):
                return
            entries = self._entries.pop(self.row, {})
            for agent, entry in entries.items():
                self._settle(agent, entry)
            self.row += 1
            self._behind = sum(
                alive and done <= self.row
                for alive, done in zip(self._alive, self._completed, strict=True)
            )
            self._write(self._now(), len(entries))

    def _write(self, now: int, active: int | None = None) -> None:
        alive = [i for i in range(self._n) if self._alive[i]] or list(range(self._n))
        self._drift.close(self.row - 1 if self._tick is None else 0)
        round = self.row if self._tick is None else self.updates // self._n
        returns = np.array([e.returns if (e := self._latest[i]) else np.nan for i in alive])
        known = returns[np.isfinite(returns)]
        disagreements, distance = self._distances(alive)
        error = self._judge.error(self.current[alive])
        lags = [
            e.staleness
            for i in alive
            if (e := self._latest[i]) is not None and e.staleness == e.staleness
        ]
        nan = float("nan")
        kl = self._judge.divergence(alive, self.current[alive]) if len(alive) <= 256 else None
        row: Row = {
            "round": round,
            "virtual_seconds": now / SECOND,
            "env_steps": sum(
                e.env_steps for i in range(self._n) if (e := self._latest[i]) is not None
            ),
            "return_mean": float(known.mean()) if known.size else nan,
            "return_min": float(known.min()) if known.size else nan,
            "return_max": float(known.max()) if known.size else nan,
            "objective": error[0] if error else nan,
            "error": error[1] if error else nan,
            "consensus_distance": distance,
            "consensus_actor": self._part_distance("actor", alive),
            "consensus_critic": self._part_distance("critic", alive),
            "policy_kl": nan if kl is None else kl,
            "mean_drift": self._drift.norm if self._mixes else nan,
            "bytes_sent": self.traffic.bytes_sent,
            "messages_dropped": self.traffic.messages_dropped,
            "staleness_mean": sum(lags) / len(lags) if lags else nan,
            "active": len(alive) if active is None else active,
            "evaluation_own": nan,
            "evaluation_mean_parameters": nan,
        }
        if (
            self._episodes
            and round
            and round % self._every == 0
            and (not self.rows or self.rows[-1]["round"] < round)
        ):
            row.update(self._evaluation(alive))
        self.rows.append(row)
        for agent, own in zip(alive, disagreements, strict=True):
            entry = self._latest[agent]
            if entry is not None:
                self.agent_rows.append(
                    {
                        "round": round,
                        "agent": agent,
                        "virtual_seconds": entry.time / SECOND,
                        "return": entry.returns,
                        "episodes": entry.episodes,
                        "loss": entry.loss,
                        "disagreement": own,
                        "bytes_sent": entry.bytes_sent,
                        "staleness": entry.staleness,
                        **entry.measures,
                    }
                )
        if self._on_row(row):
            self.stopped_at_row = True

    def _distances(self, agents: Sequence[int]) -> tuple[list[float], float]:
        rows = self.current if self._parts is None else self._layout.pack(self.current, self._parts)
        return distances(rows, agents)

    def _part_distance(self, part: str, agents: Sequence[int]) -> float:
        if part not in self._layout.parts:
            return float("nan")
        return distances(
            self._layout.pack(self.current[list(agents)], (part,)), range(len(agents))
        )[1]

    def _evaluation(self, agents: Sequence[int]) -> Row:
        """Evaluate each agent's own model, and the mean of what they share in each agent's environment."""
        chosen = self.current[list(agents)]
        own = self._judge.evaluate(agents, chosen, self._episodes, len(self.rows))
        if own is None:
            return {}
        common = self._judge.evaluate(
            agents, self._judge.average(agents, chosen), self._episodes, len(self.rows)
        )
        assert common is not None
        return {
            "evaluation_own": float(own.mean()),
            "evaluation_mean_parameters": float(common.mean()),
        }
