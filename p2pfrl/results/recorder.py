"""The recorder: an observer of a run that writes the rows of its tables. Agents never read them.

`Rounds` (rounds.py) determines when a row is due, `Distances` (distances.py) measures how far apart
agents are, and `Timeline` (timeline.py) stores the activities of agents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.measures import apart
from p2pfrl.core.parameters import Layout, Vector
from p2pfrl.core.resources import Resources
from p2pfrl.core.state import State
from p2pfrl.core.traffic import Traffic
from p2pfrl.core.types import Update
from p2pfrl.core.units import SECOND
from p2pfrl.results.distances import Distances, Drift
from p2pfrl.results.record import (
    BYZANTINE,
    EPSILON,
    EVALUATION,
    JOULES,
    OWN_COLUMNS,
    PHYSICS,
    STEPS,
    SUSPICION,
    Interval,
)
from p2pfrl.results.rounds import Entry, Progress, Rounds
from p2pfrl.results.timeline import Timeline

Row = dict[str, float]
Judged = dict[int, list[tuple[float, float]]]
"""Sender -> (distance, cosine) of all who judged its vector."""


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

    def parameters(self, agent: int) -> Vector:
        """Return a copy of the agent's parameters, `(stride,)`."""

    def error(self, parameters: Vector) -> tuple[float, float] | None:
        """Return objective and error of `(b, stride)` parameters, or None if unknown."""

    def divergence(self, agents: Sequence[int], parameters: Vector) -> float | None:
        """Return the mean KL divergence of the policies from the policy of the mean parameters."""

    def evaluate(
        self, agents: Sequence[int], parameters: Vector, episodes: int, index: int
    ) -> NDArray[np.float64] | None:
        """Return the mean return of the episodes of an evaluation per agent."""

    def average(self, agents: Sequence[int], parameters: Vector) -> Vector:
        """Return the mean parameters as each agent would use them, `(b, stride)`."""


class Recorder:
    """Observer of a run that collects the rows of its tables.

    Attributes:
        rows: rows of `metrics.csv`, in order.
        agent_rows: rows of `agents.csv`, in order.
        staleness: number of messages applied at staleness 0, 1, ...
        traffic: totals of the network; set when there is one.
        current: `(n, stride)` parameters of all agents at the end of their last complete round.
        env_steps: environment steps of all agents.
        updates: rounds that have ended, summed over agents.
        stopped_at_row: whether `on_row` has ended the run.
        initial_distance: the consensus distance at the start.
        honest: the agents that no attack names. Returns, distances, drift and evaluations are
            theirs; as long as none of them is there, those of the others.
        byzantine: the other agents.
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
        tick: nanoseconds between rows of an asynchronous run; None for one row per round.
        parts: the parts over which distances are measured; None for all.
        resources: of agents whose steps and joules are counted; None to count none.
        counts_applied: whether n updates that a coordinator applied are a round of an asynchronous
            run, as `stop.rounds` counts them; else n updates that agents ended are.
        byzantine: the agents that an attack names, ascending.
        epsilon: (agent, round that ends) -> epsilon of what left it so far; None where nothing is
            accounted.
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
    ) -> None:
        self.byzantine = tuple(byzantine)
        self.honest = tuple(agent for agent in range(agents) if agent not in self.byzantine)
        self._is_honest = frozenset(self.honest)
        self.rows: list[Row] = []
        self.agent_rows: list[Row] = []
        self.staleness: list[int] = []
        self.traffic: Traffic
        self.current = start.copy()
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
        self._progress = [Progress() for _ in range(agents)]
        self._timeline = Timeline(now)
        self._distances = Distances(layout, parts)
        self._drift = Drift(len(self.honest))
        self._drift_of_all = Drift(agents)  # beside it, where there are Byzantine agents
        self._ticks = _Ticks()
        self.initial_distance = self._distances.of(self.current, self.honest)[1]

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
        self._progress[agent].trained(update)
        self.env_steps += update.env_steps

    def mixed(
        self, agent: int, round: int, staleness: Mapping[int, int], before: Vector, after: Vector
    ) -> None:
        """Record the end of a round of `agent`.

        Mixing moved its shared vector from `before` to `after`.
        """
        for tau in staleness.values():
            self.applied(agent, tau)
        # An asynchronous run has no common rounds, so all moves between two rows count together.
        self._moved(agent, round if self._tick is None else 0, before, after)
        self._end_round(agent, round)

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
        self._progress[agent].lags.append(tau)
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
        self._progress[agent].finished += episodes
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

    def interval(self, agent: int, kind: str, start: int, end: int) -> None:
        """Record that an agent trained or sent from `start` to `end`.

        The time between intervals is waiting.
        """
        self._timeline.interval(agent, kind, start, end)

    # Methods for the clock of an asynchronous run.

    def follow_clock(
        self,
        post: Callable[..., None],
        is_busy: Callable[[], bool],
        max_updates: int | None,
        stop: Callable[[], None],
    ) -> None:
        """Write a row at every tick of an asynchronous run.

        The run ends after `max_updates` updates of all agents. The interval between ticks doubles
        if fewer than a quarter of the agents have ended a round since the last tick. Ticks end when
        the world is idle.
        """
        assert self._tick is not None
        self._ticks = _Ticks(post, is_busy, max_updates, stop)
        post(self._tick, self.tick, self._tick, 0)

    def tick(self, tick: int, before: int) -> None:
        """Write the row of a tick and post the next tick; `follow_clock` posts the first.

        Args:
            tick: nanoseconds since the last one.
            before: number of updates at the last one.
        """
        self._write(self._now())
        longer = 2 * tick if 4 * (self.updates - before) < self._n else tick
        if not self.stopped_at_row and self._ticks.is_busy():
            self._ticks.post(self._now() + longer, self.tick, longer, self.updates)

    def finish(self, *, evaluating: bool = True) -> None:
        """Write the last row of an asynchronous run and evaluate the final parameters.

        Without `evaluating`, nothing is evaluated.
        """
        if self._tick is not None:
            self._write(self._now())
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
        entries = [own.latest for own in (self._progress[i] for i in agents)]
        found = [entry.returns for entry in entries if entry is not None]
        return np.array([value for value in found if np.isfinite(value)])

    def returns_by_agent(self) -> dict[int, float]:
        """Return the last return of every agent that has one."""
        entries = ((agent, own.latest) for agent, own in enumerate(self._progress))
        return {
            agent: float(entry.returns)
            for agent, entry in entries
            if entry is not None and np.isfinite(entry.returns)
        }

    def of_all(self) -> tuple[float, float]:
        """Return consensus distance and mean drift over all agents, Byzantine ones included."""
        distance = self._distances.of(self.current, range(self._n))[1]
        return distance, self._drift_of_all.norm if self._mixes else float("nan")

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
            "progress": [own.save() for own in self._progress],
            "timeline": self._timeline.save(),
            "drift": self._drift.save(),
            "drift_of_all": self._drift_of_all.save(),
            "evaluation": None if own is None else (own.index, own.agents, own.own),
            "judged": self._judged,
            "terms": self.terms,
        }

    def restore(self, state: State) -> None:
        """Restore a state that `save` returned."""
        self.staleness = list(state["staleness"])
        self.current = state["current"].copy()
        self.env_steps, self.updates, self.stopped_at_row = state["counts"]
        self._rounds.restore(state["rounds"])
        self._progress = [Progress.of(own) for own in state["progress"]]
        self._timeline.restore(state["timeline"])
        self._drift.restore(state["drift"])
        self._judged = state["judged"]
        self.terms = list(state.get("terms", ()))  # earlier versions have none
        if "drift_of_all" in state:  # earlier versions have none
            self._drift_of_all.restore(state["drift_of_all"])
        own = state["evaluation"]
        self.evaluation = None if own is None else Evaluation(*own)

    # Rows.

    def _end_round(self, agent: int, round: int) -> None:
        most = self._ticks.max_updates
        if most is not None and self.updates >= most:
            return  # updates that end at the same time as the last one do not count
        self.updates += 1
        sent = self.traffic.bytes_by.get(agent, 0)
        spent = 0.0 if self._epsilon is None else self._epsilon(agent, round)
        entry = self._progress[agent].entry(self._judge.parameters(agent), self._now(), sent, spent)
        # An entry waits until its round is complete, so that a row never mixes two rounds. A late
        # agent's round has its row already: the entry then only updates the current parameters.
        if self._tick is not None or round < self._rounds.row:
            self._settle(agent, entry)
        else:
            self._rounds.add(round, agent, entry)
        if self._tick is None:
            self._rounds.complete(agent, round + 1)
            self._advance()
        elif self.updates == most:
            self._ticks.stop()

    def _count(self, tau: int, times: int) -> None:
        if tau >= len(self.staleness):
            self.staleness.extend([0] * (tau + 1 - len(self.staleness)))
        self.staleness[tau] += times

    def _count_of_rounds(self) -> int:
        """Return how many rounds an asynchronous run has had."""
        return (sum(self.staleness) if self._counts_applied else self.updates) // self._n

    def _settle(self, agent: int, entry: Entry) -> None:
        self._progress[agent].latest = entry
        self.current[agent] = entry.parameters

    def _advance(self) -> None:
        """Write the rows of all rounds that are complete."""
        while self._tick is None and not self.stopped_at_row and self._rounds.is_complete():
            entries = self._rounds.take()
            for agent, entry in entries.items():
                self._settle(agent, entry)
            self._write(self._now(), len(entries))

    def _write(self, now: int, active: int | None = None) -> None:
        # If all agents have left, the row is about all of them.
        alive = [i for i in range(self._n) if self._rounds.alive[i]] or list(range(self._n))
        present = [i for i in alive if i in self._is_honest] or alive
        closed = self._rounds.row - 1 if self._tick is None else 0
        self._drift.close(closed)
        self._drift_of_all.close(closed)
        round = self._rounds.row if self._tick is None else self._count_of_rounds()
        disagreements, distance = self._distances.of(self.current, present)
        row = self._row(round, now, present, distance)
        row["active"] = len(alive) if active is None else active
        # Several rows of an asynchronous run can have the same round; only the first is evaluated.
        is_due = bool(self._episodes and round) and round % self._every == 0
        if is_due and (not self.rows or self.rows[-1]["round"] < round):
            row.update(self._evaluation(present))
        self.rows.append(row)
        judged: Judged | None = None
        if self._judged is not None:
            judged = self._judged.pop(self._rounds.row - 1 if self._tick is None else 0, {})
        others = [i for i in alive if i not in self._is_honest] if present is not alive else []
        apart = dict(zip(present, disagreements, strict=True))
        apart.update(
            zip(others, self._distances.to_mean(self.current, present, others), strict=True)
        )
        for agent in alive:
            entry, own = self._progress[agent].latest, apart[agent]
            if entry is not None:
                more = {
                    **self._energy(agent, entry),
                    **self._spent([entry]),
                    **_suspicion(judged, agent),
                }
                if self.byzantine:
                    more |= {BYZANTINE: float(agent not in self._is_honest)}
                self.agent_rows.append({**_agent_row(round, agent, own, entry), **more})
        if self._on_row(row):
            self.stopped_at_row = True

    def _row(self, round: int, now: int, alive: Sequence[int], distance: float) -> Row:
        """Return a row of metrics over the agents that are alive."""
        entries = [own.latest for own in self._progress]
        there = [entry for i in alive if (entry := entries[i]) is not None]
        known = np.array([e.returns for e in there if np.isfinite(e.returns)])
        lags = [e.staleness for e in there if e.staleness == e.staleness]
        error = self._judge.error(self.current[alive])
        kl = self._judge.divergence(alive, self.current[alive]) if len(alive) <= 256 else None
        nan = float("nan")
        return {
            "round": round,
            "virtual_seconds": now / SECOND,
            "env_steps": sum(entry.env_steps for entry in entries if entry is not None),
            "return_mean": float(known.mean()) if known.size else nan,
            "return_min": float(known.min()) if known.size else nan,
            "return_max": float(known.max()) if known.size else nan,
            "objective": error[0] if error else nan,
            "error": error[1] if error else nan,
            "consensus_distance": distance,
            "consensus_actor": self._distances.of_part("actor", self.current, alive),
            "consensus_critic": self._distances.of_part("critic", self.current, alive),
            "policy_kl": nan if kl is None else kl,
            "mean_drift": self._drift.norm if self._mixes else nan,
            "bytes_sent": self.traffic.bytes_sent,
            "messages_dropped": self.traffic.messages_dropped,
            "staleness_mean": sum(lags) / len(lags) if lags else nan,
            "active": 0,
            "evaluation_own": nan,
            "evaluation_mean_parameters": nan,
            **self._energy_of_all(entries),
            **self._spent(entries),
        }

    def _energy(self, agent: int, entry: Entry) -> Row:
        """Return columns with the steps of an agent, and the joules that it has used, if any."""
        if self._resources is None:
            return {}
        row: Row = {STEPS: entry.env_steps}
        if self._resources.uses_energy:
            row[JOULES] = self._resources.joules(agent, entry.env_steps, entry.bytes_sent)
        return row

    def _energy_of_all(self, entries: Sequence[Entry | None]) -> Row:
        """Return the column with the joules that all agents have used."""
        if self._resources is None or not self._resources.uses_energy:
            return {}
        used = [self._energy(i, entry) for i, entry in enumerate(entries) if entry is not None]
        return {JOULES: sum(row[JOULES] for row in used)}

    def _spent(self, entries: Sequence[Entry | None]) -> Row:
        """Return the column with the largest epsilon of the agents."""
        if self._epsilon is None:
            return {}
        return {
            EPSILON: max((entry.epsilon for entry in entries if entry is not None), default=0.0)
        }

    def _evaluation(self, agents: Sequence[int]) -> Row:
        """Evaluate each agent's own model, and the mean model in each agent's environment."""
        chosen = self.current[list(agents)]
        own = self._judge.evaluate(agents, chosen, self._episodes, len(self.rows))
        if own is None:
            return {}
        mean = self._judge.average(agents, chosen)
        common = self._judge.evaluate(agents, mean, self._episodes, len(self.rows))
        assert common is not None
        self.evaluation = Evaluation(len(self.rows), tuple(agents), own)
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


def _agent_row(round: int, agent: int, disagreement: float, entry: Entry) -> Row:
    """Return a row of one agent. The environment's own measures come last.

    A measure with the name of one of our columns has the prefix "measure.".
    """
    return {
        "round": round,
        "agent": agent,
        "virtual_seconds": entry.time / SECOND,
        "return": entry.returns,
        "episodes": entry.episodes,
        "loss": entry.loss,
        "disagreement": disagreement,
        "bytes_sent": entry.bytes_sent,
        "staleness": entry.staleness,
        **{apart(name, _is_ours): value for name, value in entry.measures.items()},
    }


def _suspicion(judged: Judged | None, agent: int) -> Row:
    """Return columns with the medians over all who judged an agent."""
    if judged is None:
        return {}
    found = np.median(judged[agent], axis=0) if agent in judged else (np.nan, np.nan)
    return dict(zip(SUSPICION, map(float, found), strict=True))


def _is_ours(name: str) -> bool:
    return name in OWN_COLUMNS or name.startswith((PHYSICS, EVALUATION))
