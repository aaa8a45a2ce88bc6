"""The recorder: an observer of a run that writes the rows of its tables. Agents never read them.

`Rounds` (rounds.py) determines when a row is due, `Distances` (distances.py) measures how far apart
agents are, and `Timeline` (timeline.py) stores the activities of agents.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, compress
from math import isfinite
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.errors import RecordError
from p2pfrl.core.measures import apart
from p2pfrl.core.parameters import Layout, Vector
from p2pfrl.core.resources import Resources
from p2pfrl.core.state import State
from p2pfrl.core.traffic import Traffic
from p2pfrl.core.types import Update
from p2pfrl.core.units import SECOND
from p2pfrl.results.agent_table import AgentTable, Column
from p2pfrl.results.distances import Apart, Distances, Drift, Sums
from p2pfrl.results.record import (
    BYZANTINE,
    EPSILON,
    EVALUATION,
    JOULES,
    OWN_COLUMNS,
    PHYSICS,
    STEPS,
    SUSPICION,
    UPDATES,
    Interval,
)
from p2pfrl.results.rounds import Last, Latest, Measures, Progress, Rounds
from p2pfrl.results.timeline import Timeline

Row = dict[str, float]
Rows = Callable[[], Vector]
"""Makes the parameters `(b, stride)` of agents, where somebody asks for them."""
Judged = dict[int, list[tuple[float, float]]]
"""Sender -> (distance, cosine) of all who judged its vector."""
_PARTS = ("actor", "critic")
"""Parts that have columns of their own."""
_EVALUATED = ("evaluation_own", "evaluation_mean_parameters")
"""Columns of metrics.csv with an evaluation."""
_OF_ENTRIES = ("virtual_seconds", "return", "episodes", "loss", "bytes_sent", "staleness")
"""Columns of agents.csv that are numbers of entries."""
_BLOCK = 16
_MOST_COMPARED = 256
"""Number of agents up to which policies are compared."""


@dataclass(frozen=True)
class Evaluation:
    """An evaluation of agents.

    Attributes:
        index: names its random streams.
        agents: whose, `(b,)`.
        own: `(b,)` mean return of every agent's own parameters.
    """

    index: int
    agents: tuple[int, ...]
    own: NDArray[np.float64]


class Judge(Protocol):
    """Measures that only the learner can compute.

    The build binds it to the learner and the trainer.
    """

    def parameters(self, agent: int, shared: Vector | None) -> Vector:
        """Return the agent's parameters `(d,)`, which nobody writes to.

        Args:
            agent: whose.
            shared: `(k,)` the vector that a round ended with, which may be all of them; None if
                there was none.
        """

    def error(self, parameters: Rows) -> tuple[float, float] | None:
        """Return objective and error of `(b, stride)` parameters, or None if unknown."""

    def divergence(
        self, agents: Sequence[int], vectors: Sequence[Vector], parameters: Rows
    ) -> float | None:
        """Return the mean KL divergence of the policies from the policy of the mean parameters.

        Args:
            agents: whose.
            vectors: their parameters `(d,)`.
            parameters: the same as `(b, stride)`, for learners that need rows.
        """

    def evaluate(
        self, agents: Sequence[int], parameters: Vector, episodes: int, index: int
    ) -> NDArray[np.float64] | None:
        """Return the mean return of the episodes of an evaluation per agent."""

    def average(self, agents: Sequence[int], parameters: Vector) -> Vector:
        """Return the mean parameters as each agent would use them, `(b, stride)`."""


class Recorder:
    """Observer of a run that collects the rows of its tables.

    Attributes:
        rows: rows of `metrics.csv`, in order. No two have the same round.
        agent_rows: the rows of `agents.csv`, in order.
        staleness: number of messages applied at staleness 0, 1, ...
        traffic: totals of the network; set when there is one.
        current: the parameters `(d,)` of every agent at the end of its last complete round. Nobody
            writes to them, so they may be vectors that the agent holds, too.
        env_steps: environment steps of all agents.
        updates: rounds that have ended, summed over agents.
        stopped_at_row: whether `on_row` has ended the run.
        initial_distance: the consensus distance at the start.
        honest: the agents that no attack names. Returns, distances, drift and evaluations are
            theirs; as long as none of them is there, those of the others.
        byzantine: the other agents.
        interval: records that an agent trained or sent, see `Timeline.interval`.
        evaluation: the last evaluation; None if there was none.

    Args:
        layout: names and shapes of the parameters.
        agents: number of agents n.
        start: `(n, stride)` start parameters.
        judge: computes objective, divergence and evaluation.
        now: the clock, nanoseconds.
        every: rounds between evaluations.
        episodes: episodes of an evaluation.
        on_row: called with every new row; it returns whether the run should stop here.
        mixes: whether agents mix between training and the next round. If so, mixing can move the
            mean.
        tick: nanoseconds between two looks at an asynchronous run; None for one row per round.
        parts: the parts over which distances are measured; None for all.
        resources: of agents whose steps and joules are counted; None to count none.
        counts_applied: whether n updates that a coordinator applied are a round of an asynchronous
            run, as `stop.rounds` counts them; else n updates that agents ended are.
        byzantine: the agents that an attack names, ascending.
        epsilon: (agent, round that ends) -> epsilon of what left it so far; None where nothing is
            accounted.
        engine: computes drift and distances; None: numpy does.
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
        counts_applied: bool = False,
        resources: Resources | None = None,
        judges: bool = False,
        byzantine: Sequence[int] = (),
        epsilon: Callable[[int, int], float] | None = None,
        engine: Sums | None = None,
    ) -> None:
        self.byzantine = tuple(byzantine)
        self.honest = tuple(agent for agent in range(agents) if agent not in self.byzantine)
        self._is_honest = frozenset(self.honest)
        self.rows: list[Row] = []
        self.agent_rows = AgentTable()
        self.staleness: list[int] = []
        self.traffic: Traffic
        self._layout = layout
        self.current = _vectors(layout.pack(start))
        self.env_steps = self.updates = 0
        self.stopped_at_row = False
        self.evaluation: Evaluation | None = None
        self._n = agents
        self._judge, self._now, self._on_row = judge, now, on_row
        self._every, self._episodes = every, episodes
        self._mixes, self._tick, self._counts_applied = mixes, tick, counts_applied
        self._resources = resources
        self._judged: dict[int, Judged] | None = {} if judges else None
        self.terms: list[tuple[int, int, int]] = []
        self._epsilon = epsilon
        self._rounds = Rounds(agents)
        self._progress, self._latest = Progress(agents), Latest(agents)
        self._timeline = Timeline(now)
        self.interval = self._timeline.interval
        self._distances = Distances(layout, parts, _PARTS, engine)
        self._drift = Drift(len(self.honest), engine)
        self._drift_of_all = Drift(agents, engine)  # beside it, where there are Byzantine agents
        self._ticks = _Ticks()
        self._ended = np.zeros(0 if tick is None else agents, dtype=np.int64)
        self._looks = 0
        self._last_judged: Judged = {}
        self.initial_distance = self._distances.of(self._of(self.honest)).consensus

    @property
    def round(self) -> int:
        """The round of a row that would be written now."""
        return self._rounds.row if self._tick is None else self._count_of_rounds()

    @property
    def updates_by(self) -> list[int] | None:
        """Rounds that each agent itself has ended in an asynchronous run; None in others."""
        return None if self._tick is None else self._ended.tolist()

    @property
    def intervals(self) -> list[Interval]:
        """The timeline."""
        return self._timeline.intervals

    @property
    def latest_intervals(self) -> list[tuple[int, str, int, int]]:
        """The last intervals of the timeline: agent, kind, start and end in nanoseconds."""
        return list(self._timeline.latest)

    # Methods of the observer of agents and coordinators.

    def trained(self, agent: int, update: Update) -> None:
        """Record the end of a local update of `agent`."""
        self._progress.trained(agent, update)
        self.env_steps += update.env_steps

    def mixed(
        self, agent: int, round: int, staleness: Mapping[int, int], before: Vector, after: Vector
    ) -> None:
        """Record the end of a round of `agent`.

        Mixing moved its shared vector from `before` to `after`.
        """
        lags, counts = staleness.values(), self.staleness
        for tau in lags:
            if tau < len(counts):
                counts[tau] += 1
            else:
                self._count(tau, 1)
        # An asynchronous run has no common rounds, so all moves between two rows count together.
        row = round if self._tick is None else 0
        if self.byzantine:
            self._moved(agent, row, before, after)
        else:
            self._drift.add(row, before, after)
        self._end_round(agent, round, lags, after)

    def sending(self, agent: int, round: int) -> None:
        """Nothing is recorded of it."""

    def answered(self, agent: int, before: Vector, after: Vector) -> None:
        """Record that an answer to a neighbor moved the shared vector of `agent`.

        The agent's own round goes on.
        """
        self._moved(agent, 0, before, after)

    def _moved(self, agent: int, row: int, before: Vector, after: Vector) -> None:
        """Add a move by mixing to the drift."""
        if self.byzantine:
            self._drift_of_all.add(row, before, after)
            if agent in self.byzantine:
                return
        self._drift.add(row, before, after)

    def applied(self, agent: int, tau: int) -> None:
        """Record that `agent`, or the coordinator for an update of `agent`, applied a payload.

        `tau` is the staleness of the payload.
        """
        self._progress.applied(agent, tau)
        self._count(tau, 1)

    def sat_out(self, agent: int, round: int) -> None:
        """Record the end of a round in which `agent` took no part."""
        self._end_round(agent, round)

    def excused(self, round: int, participants: Sequence[int]) -> None:
        """Record that a coordinator sent its model of `round` to `participants` only.

        The other agents end no round before it.
        """
        if self._tick is not None:
            return
        asked = set(participants)
        for agent in range(self._n):
            if agent not in asked:
                self._rounds.complete(agent, round)
        self._advance()

    def took_office(self, id: int, epoch: int) -> None:
        """Record that a coordinator or standby takes office in an epoch."""
        self.terms.append((self._now(), id, epoch))

    def judged(self, round: int, scores: Mapping[int, tuple[float, float]]) -> None:
        """Record how a robust rule met the vectors of senders: (distance, cosine) by sender.

        Scores of a round that has its row already are not recorded.
        """
        key = round if self._tick is None else 0
        if self._judged is not None and key >= (self._rounds.row if self._tick is None else 0):
            known = self._judged.setdefault(key, {})
            for sender, score in scores.items():
                known.setdefault(sender, []).append(score)

    # Methods for a journal without entries of some rounds.

    def passed(self, agent: int, rounds: int, update: Update | None, episodes: int) -> None:
        """Record rounds of `agent` of which only totals are known.

        Args:
            agent: the agent.
            rounds: their number.
            update: the last local update, with all environment steps and the last returns; None if
                there was none.
            episodes: number of finished episodes whose returns are not known.
        """
        self.updates += rounds
        if self._tick is not None:
            self._ended[agent] += rounds
        self._progress.finished(agent, episodes)
        if update is not None:
            self.trained(agent, update)

    def count(self, staleness: Mapping[int, int]) -> None:
        """Record how often payloads of each staleness were applied, at unknown times."""
        for tau, times in staleness.items():
            self._count(tau, times)

    def skip_to(self, round: int) -> None:
        """Record that the rounds before `round` have no rows."""
        self._rounds.skip_to(round)

    # Methods of the witness of the world.

    def live(self, agent: int, alive: bool) -> None:
        """Record that an agent joined, or that it left."""
        if agent < 0:
            if alive:
                self._timeline.came(agent)
            return
        if self._rounds.alive[agent] == alive:
            return
        self._rounds.live(agent, alive)
        if alive:
            self._timeline.came(agent)
        self._advance()

    # Methods for the clock of an asynchronous run.

    def follow_clock(
        self,
        post: Callable[..., None],
        is_busy: Callable[[], bool],
        max_updates: int | None,
        stop: Callable[[], None],
    ) -> None:
        """Look at an asynchronous run at every tick; write a row of the first look in a round.

        The run ends after `max_updates` updates of all agents. The interval between ticks doubles
        if fewer than a quarter of the agents have ended a round since the last tick. Ticks end when
        the world is idle.
        """
        assert self._tick is not None
        self._ticks = _Ticks(post, is_busy, max_updates, stop)
        post(self._tick, self.tick, self._tick, 0)

    def tick(self, tick: int, before: int) -> None:
        """Look at the run and post the next tick; `follow_clock` posts the first.

        Args:
            tick: nanoseconds since the last one.
            before: number of updates at the last one.
        """
        self._look()
        longer = 2 * tick if 4 * (self.updates - before) < self._n else tick
        if not self.stopped_at_row and self._ticks.is_busy():
            self._ticks.post(self._now() + longer, self.tick, longer, self.updates)

    def finish(self, *, evaluating: bool = True) -> None:
        """Write the last row of an asynchronous run and evaluate the final parameters.

        If its round has a row already, the last row replaces it. Without `evaluating`, nothing is
        evaluated.
        """
        if self._tick is not None:
            taken = self._take_last_row()
            if evaluating:
                taken = dict.fromkeys(taken, float("nan"))  # of an earlier state
            self._write(self._now(), evaluated=taken)
        if (
            evaluating
            and self.rows
            and self._episodes
            and np.isnan(self.rows[-1]["evaluation_own"])
        ):
            self.rows[-1].update(self._evaluation(self.honest))

    # The state.

    def last_returns(self, agents: Sequence[int]) -> NDArray[np.float64]:
        """Return the last returns of those of `agents` that have one."""
        found: NDArray[np.float64] = self._latest.of(agents).rows["return"]
        return found[np.isfinite(found)]

    def returns_by_agent(self) -> dict[int, float]:
        """Return the last return of every agent that has one."""
        last = self._latest.of(range(self._n))
        own = zip(last.agents, last.rows["return"].tolist(), strict=True)
        return {agent: value for agent, value in own if isfinite(value)}

    def of_all(self) -> tuple[float, float]:
        """Return consensus distance and mean drift over all agents, Byzantine ones included."""
        distance = self._distances.of(self.current).consensus
        return distance, self._drift_of_all.norm if self._mixes else float("nan")

    def parameters(self) -> Vector:
        """Return the parameters `(n, d)` of all agents at the end of their last complete round."""
        return np.stack(self.current)

    def save(self) -> State:
        """Return the state without `rows` and `agent_rows`, which only grow.

        Arrays are shared, not copied.
        """
        own = self.evaluation
        return {
            "staleness": self.staleness,
            "current": self.current,
            "counts": (self.env_steps, self.updates, self.stopped_at_row),
            "rounds": self._rounds.save(),
            "progress": self._progress.save(),
            "latest": self._latest.save(),
            "timeline": self._timeline.save(),
            "drift": self._drift.save(),
            "drift_of_all": self._drift_of_all.save(),
            "evaluation": None if own is None else (own.index, own.agents, own.own),
            "judged": self._judged,
            "terms": self.terms,
            "looks": (self._looks, self._ended.copy(), self._last_judged),
        }

    def restore(self, state: State) -> None:
        """Restore a state that `save` returned.

        Raises:
            RecordError: the state is of another version.
        """
        if "latest" not in state:
            what = "the saved state of the record is of another version of p2pfrl"
            raise RecordError(f"{what}; go on with that version, or begin anew")
        self.staleness = list(state["staleness"])
        self.current = list(state["current"])
        self.env_steps, self.updates, self.stopped_at_row = state["counts"]
        self._rounds.restore(state["rounds"])
        self._progress.restore(state["progress"])
        self._latest.restore(state["latest"])
        self._timeline.restore(state["timeline"])
        self._drift.restore(state["drift"])
        self._judged = state["judged"]
        self.terms = list(state.get("terms", ()))  # earlier versions have none
        if "drift_of_all" in state:  # earlier versions have none
            self._drift_of_all.restore(state["drift_of_all"])
        self._looks = len(self.rows)
        if "looks" in state:  # earlier versions have none
            self._looks, ended, self._last_judged = state["looks"]
            self._ended = np.array(ended, dtype=np.int64)
        own = state["evaluation"]
        self.evaluation = None if own is None else Evaluation(*own)

    # Rows.

    def _end_round(
        self, agent: int, round: int, staleness: Collection[int] = (), shared: Vector | None = None
    ) -> None:
        most = self._ticks.max_updates
        if most is not None and self.updates >= most:
            return  # updates that end at the same time as the last one do not count
        self.updates += 1
        if self._tick is not None:
            self._ended[agent] += 1
        sent = self.traffic.bytes_by.get(agent, 0)
        spent = 0.0 if self._epsilon is None else self._epsilon(agent, round)
        parameters, progress = self._judge.parameters(agent, shared), self._progress
        row = progress.row(agent, self._now(), staleness, spent, sent)
        measures, rounds = progress.measures[agent], self._rounds
        # An entry waits until its round is complete, so that a row never mixes two rounds. A late
        # agent's round has its row already: the entry then only updates the current parameters.
        if self._tick is None and round >= rounds.row:
            rounds.end(agent, round, row, parameters, measures)
            if not rounds.behind:
                self._advance()
            return
        self.current[agent] = parameters
        self._latest.put(agent, row, measures)
        if self._tick is None:
            rounds.complete(agent, round + 1)
        elif self.updates == most:
            self._ticks.stop()

    def _count(self, tau: int, times: int) -> None:
        if tau >= len(self.staleness):
            self.staleness.extend([0] * (tau + 1 - len(self.staleness)))
        self.staleness[tau] += times

    def _count_of_rounds(self) -> int:
        """Return how many rounds an asynchronous run has had."""
        return (sum(self.staleness) if self._counts_applied else self.updates) // self._n

    def _advance(self) -> None:
        """Write the rows of all rounds that are complete."""
        while self._tick is None and not self.stopped_at_row and self._rounds.is_complete():
            ended = self._rounds.take()
            for agent, parameters in zip(ended.agents, ended.parameters, strict=True):
                self.current[agent] = parameters
            self._latest.take(ended)
            self._write(self._now(), len(ended.agents))

    def _look(self) -> None:
        """Write a row of an asynchronous run, unless its round has one.

        In a round that has one, `on_row` gets what the row would be.
        """
        if not self.rows or self.rows[-1]["round"] < self.round:
            self._write(self._now())
            return
        present, alive = self._there()
        self._close_drift(0)
        distances = self._distances.of(self._of(present))
        row = self._row(self.round, self._now(), present, self._latest.of(present), distances)
        row["active"] = len(alive)
        self._looks += 1
        if self._on_row(row):
            self.stopped_at_row = True

    def _take_last_row(self) -> Row:
        """Remove the rows of the current round, if it has some; return their evaluation."""
        if not self.rows or self.rows[-1]["round"] < self.round:
            return {}
        taken = self.rows.pop()
        self.agent_rows.drop(self.round)
        if self._judged is not None:
            since = self._judged.pop(0, {})
            self._judged[0] = {
                sender: [*self._last_judged.get(sender, ()), *since.get(sender, ())]
                for sender in dict.fromkeys((*self._last_judged, *since))
            }
        return {name: taken[name] for name in _EVALUATED}

    def _there(self) -> tuple[list[int], list[int]]:
        """Return the agents that rows are about, and all that are alive."""
        # If all agents have left, the row is about all of them.
        here = self._rounds.alive
        alive = [*compress(range(self._n), here)] or [*range(self._n)]
        if not self.byzantine:
            return alive, alive
        return [i for i in alive if i in self._is_honest] or alive, alive

    def _close_drift(self, row: int) -> None:
        self._drift.close(row)
        self._drift_of_all.close(row)

    def _write(self, now: int, active: int | None = None, evaluated: Row | None = None) -> None:
        """Write a row.

        Args:
            now: its time.
            active: the number of agents that ended the round; None for those that are alive.
            evaluated: the evaluation of a row that this one replaces.
        """
        present, alive = self._there()
        self._close_drift(self._rounds.row - 1 if self._tick is None else 0)
        round = self.round
        vectors = self._of(present)
        distances, last = self._distances.of(vectors), self._latest.of(present)
        row = self._row(round, now, present, last, distances)
        row["active"] = len(alive) if active is None else active
        if evaluated:
            row.update(evaluated)
        elif self._episodes and round and round % self._every == 0:
            row.update(self._evaluation(present))
        self.rows.append(row)
        self._looks += 1
        judged: Judged | None = None
        if self._judged is not None:
            judged = self._judged.pop(self._rounds.row - 1 if self._tick is None else 0, {})
            self._last_judged = {} if self._tick is None else judged
        others = [i for i in alive if i not in self._is_honest] if present is not alive else []
        apart = dict(zip(present, distances.own, strict=True))
        if others:
            apart.update(
                zip(others, self._distances.to_mean(vectors, self._of(others)), strict=True)
            )
            last = self._latest.of(alive)
        if last.agents:
            self._write_agents(round, last, apart, judged)
        if self._on_row(row):
            self.stopped_at_row = True

    def _write_agents(
        self, round: int, last: Last, apart: Mapping[int, float], judged: Judged | None
    ) -> None:
        """Write the rows of agents that have ended a round."""
        ids, rows, of_all = last.agents, last.rows, _measures(last.measures)
        columns: dict[str, Column] = {
            "round": [round] * len(ids),
            "agent": ids,
            "disagreement": [apart[agent] for agent in ids],
            **{name: rows[name] for name in _OF_ENTRIES},
            **{name: of_all[name] for name in _measures(last.measures[:1])},
        }
        if self._tick is not None:
            columns[UPDATES] = self._ended[ids]
        if self._resources is not None:
            columns[STEPS] = rows["env_steps"]
            if self._resources.uses_energy:
                columns[JOULES] = self._joules(last)
        if self._epsilon is not None:
            columns[EPSILON] = rows["epsilon"]
        if judged is not None:
            medians = [_suspicion(judged, agent) for agent in ids]
            columns |= dict(zip(SUSPICION, zip(*medians, strict=True), strict=True))
        if self.byzantine:
            columns[BYZANTINE] = [int(agent not in self._is_honest) for agent in ids]
        self.agent_rows.add(columns | of_all)

    def _of(self, agents: Sequence[int]) -> Sequence[Vector]:
        """Return the current parameters of some agents."""
        return self.current if len(agents) == self._n else [self.current[i] for i in agents]

    def _rows_of(self, agents: Sequence[int]) -> Vector:
        """Return the current parameters of some agents as new rows, `(b, stride)`."""
        rows, vectors = self._layout.zeros(len(agents)), self._of(agents)
        for first in range(0, len(agents), _BLOCK):  # few at a time stay in the processor's cache
            block = slice(first, first + _BLOCK)
            self._layout.unpack(np.stack(vectors[block]), rows[block])
        return rows

    def _row(self, round: int, now: int, alive: Sequence[int], last: Last, distances: Apart) -> Row:
        """Return a row of metrics over the agents that are alive; `last` has their entries."""
        of_all = last if len(last.agents) == self._n else self._latest.of(range(self._n))
        returns = last.rows["return"]
        known = returns[np.isfinite(returns)]
        lags = [mean for mean in last.rows["staleness"].tolist() if mean == mean]
        kept: list[Vector] = []

        def rows() -> Vector:
            if not kept:
                kept.append(self._rows_of(alive))
            return kept[0]

        error = self._judge.error(rows)
        is_few = len(alive) <= _MOST_COMPARED
        kl = self._judge.divergence(alive, self._of(alive), rows) if is_few else None
        nan = float("nan")
        return {
            "round": round,
            "virtual_seconds": now / SECOND,
            "env_steps": int(of_all.rows["env_steps"].sum()),
            "return_mean": float(known.mean()) if known.size else nan,
            "return_min": float(known.min()) if known.size else nan,
            "return_max": float(known.max()) if known.size else nan,
            "objective": error[0] if error else nan,
            "error": error[1] if error else nan,
            "consensus_distance": distances.consensus,
            **{f"consensus_{part}": distances.parts.get(part, nan) for part in _PARTS},
            "policy_kl": nan if kl is None else kl,
            "mean_drift": self._drift.norm if self._mixes else nan,
            "bytes_sent": self.traffic.bytes_sent,
            "messages_dropped": self.traffic.messages_dropped,
            "staleness_mean": sum(lags) / len(lags) if lags else nan,
            "active": 0,
            "evaluation_own": nan,
            "evaluation_mean_parameters": nan,
            **self._energy_of_all(of_all),
            **self._spent(of_all),
        }

    def _joules(self, last: Last) -> list[float]:
        """Return the joules that each agent has used."""
        assert self._resources is not None
        counts = (last.rows[name].tolist() for name in ("env_steps", "bytes_sent"))
        used = zip(last.agents, *counts, strict=True)
        return [self._resources.joules(*own) for own in used]

    def _energy_of_all(self, last: Last) -> Row:
        """Return the column with the joules that all agents have used."""
        if self._resources is None or not self._resources.uses_energy:
            return {}
        return {JOULES: sum(self._joules(last))}

    def _spent(self, last: Last) -> Row:
        """Return the column with the largest epsilon of the agents."""
        return (
            {} if self._epsilon is None else {EPSILON: float(last.rows["epsilon"].max(initial=0.0))}
        )

    def _evaluation(self, agents: Sequence[int]) -> Row:
        """Evaluate each agent's own model, and the mean model in each agent's environment."""
        chosen = self._rows_of(agents)
        own = self._judge.evaluate(agents, chosen, self._episodes, self._looks)
        if own is None:
            return {}
        mean = self._judge.average(agents, chosen)
        common = self._judge.evaluate(agents, mean, self._episodes, self._looks)
        assert common is not None
        self.evaluation = Evaluation(self._looks, tuple(agents), own)
        return {
            "evaluation_own": float(own.mean()),
            "evaluation_mean_parameters": float(common.mean()),
        }


class _Ticks:
    """The clock of an asynchronous run: it posts the next tick and determines the end."""

    def __init__(
        self,
        post: Callable[..., None] = lambda when, callback, *args: None,
        is_busy: Callable[[], bool] = lambda: False,
        max_updates: int | None = None,
        stop: Callable[[], None] = lambda: None,
    ) -> None:
        self.post = post
        self.is_busy = is_busy
        self.max_updates = max_updates
        self.stop = stop


def _vectors(rows: Vector) -> list[Vector]:
    """Return the rows `(n, d)` as vectors; one for all where they are equal."""
    is_equal = len(rows) > 1 and all(np.array_equal(row, rows[0]) for row in rows[1:])
    return [rows[0].copy()] * len(rows) if is_equal else [row.copy() for row in rows]


def _measures(of: Sequence[Measures]) -> dict[str, Sequence[float]]:
    """Return the environments' own measures, by name.

    A measure with the name of one of our columns has the prefix "measure.".
    """
    names = dict.fromkeys(chain.from_iterable(filter(None, of)))
    return {
        apart(name, _is_ours): [measures.get(name, np.nan) for measures in of] for name in names
    }


def _suspicion(judged: Judged, agent: int) -> tuple[float, float]:
    """Return the medians over all who judged an agent."""
    if agent not in judged:
        return np.nan, np.nan
    distance, cosine = map(float, np.median(judged[agent], axis=0))
    return distance, cosine


def _is_ours(name: str) -> bool:
    return name in OWN_COLUMNS or name.startswith((PHYSICS, EVALUATION))
