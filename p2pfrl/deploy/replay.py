"""Replay of journals into a recorder, in the order of a simulated world."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import numpy as np

from p2pfrl.build.assembly import Assembly
from p2pfrl.core.parameters import Layout, Vector
from p2pfrl.core.traffic import Traffic
from p2pfrl.core.types import COORDINATOR, OPTED_OUT, Scores
from p2pfrl.deploy.entries import Applied, Entry, Excused, Judged
from p2pfrl.deploy.journal import vector
from p2pfrl.deploy.journals import Life, Peer, Step, check_size
from p2pfrl.deploy.ledgers import path_of, read_charges
from p2pfrl.deploy.projection import Projection
from p2pfrl.exchange.privacy.ledger import Charge
from p2pfrl.learning.learners.base import Evaluator, Objective
from p2pfrl.results.record import FAILURE
from p2pfrl.results.recorder import Recorder, Row, Rows

_Event = tuple[int, int, int, Callable[[], object]]
"""Time, agent, rank among simultaneous events of the agent, and the function that applies it."""
_OUT = ("interrupt", "died", FAILURE, OPTED_OUT)


class Logged:
    """Judge that returns the logged parameters.

    Args:
        rows: `(n, stride)`, the start parameters or their projections.
        layout: of the rows.
        objective: objective of the learner; an empty one for projections.
        evaluator: evaluator of the learner; an empty one for projections.
    """

    def __init__(
        self, rows: Vector, layout: Layout, objective: Objective, evaluator: Evaluator
    ) -> None:
        self.rows = rows
        self._layout, self._error = layout, objective.error
        self.evaluate, self.average = evaluator.evaluate, evaluator.average

    def parameters(self, agent: int, shared: Vector | None) -> Vector:
        """Return a copy of the agent's row."""
        return self._layout.pack(self.rows[agent])

    def error(self, parameters: Rows) -> tuple[float, float] | None:
        """Return objective and error of `(b, stride)` parameters, or None if unknown."""
        return self._error(parameters())

    def divergence(
        self, agents: Sequence[int], vectors: Sequence[Vector], parameters: Rows
    ) -> float | None:
        """Return None, because observations are not logged."""
        return None


class _Counted:
    """Traffic of all processes over all their lives up to the current entry."""

    def __init__(self) -> None:
        self.traffic = Traffic()
        self._is_over = False
        self._lives: dict[int, Traffic] = {}
        self._agents: dict[tuple[int, int], int] = {}

    def count(self, life: Life, totals: Traffic) -> None:
        """Add the totals of a process, which start from zero in every life."""
        if self._is_over:
            return
        before, self._lives[id(life)] = self._lives.get(id(life), Traffic()), totals
        self.traffic.add(totals)
        self.traffic.add(before, -1)

    def end(self, lives: Sequence[Life]) -> None:
        """Add the last totals of all processes, before the last row."""
        for life in lives:
            self.count(life, life.totals)
        self._is_over = True

    def count_agent(self, life: Life, entry: Entry) -> None:
        """Add the totals in one agent's entry."""
        self.count(life, entry.totals)
        place = id(life), entry.agent
        grown = entry.bytes_sent - self._agents.get(place, 0)
        self.traffic.bytes_by[entry.agent] = self.traffic.bytes_by.get(entry.agent, 0) + grown
        self._agents[place] = entry.bytes_sent


def totals_of(lives: Sequence[Life]) -> Traffic:
    """Return the sum of all lives' totals."""
    total = Traffic()
    for life in lives:
        total.add(life.totals)
    return total


def charges(assembly: Assembly, peers: Sequence[Peer]) -> dict[int, list[Charge]]:
    """Return the charges of whoever adds noise, by id."""
    accounted = assembly.accounted
    homes = {id: peer.directory for peer in peers for id in peer.agents if id in accounted}
    return {agent: read_charges(path_of(home, agent))[0] for agent, home in homes.items()}


def _epsilon(assembly: Assembly, peers: Sequence[Peer]) -> Callable[[int, int], float]:
    """Return (agent, round) -> epsilon of what left the agent up to the end of the round."""
    found, privacy = charges(assembly, peers), assembly.privacy
    rounds = {agent: [charge.round for charge in own] for agent, own in found.items()}

    def epsilon(agent: int, round: int) -> float:
        own = COORDINATOR if privacy.is_central else agent
        count = bisect_right(rounds[own], round)
        return privacy.epsilon(found[own][count - 1].spent if count else 0.0)

    return epsilon


class Replay:
    """Replays journals into a recorder.

    Attributes:
        recorder: receives all events.
        now: nanoseconds since the processes began.

    Args:
        assembly: assembly of the scenario.
        peers: all processes.
        projection: projection of the rounds, if they are projected.
        is_thin: whether some rounds have no entry.
        evaluating: whether to evaluate the agents.
    """

    def __init__(
        self,
        assembly: Assembly,
        peers: Sequence[Peer],
        projection: Projection | None,
        *,
        is_thin: bool = False,
        evaluating: bool = True,
    ) -> None:
        evaluates = evaluating and assembly.scenario.environment and not projection
        scenario, stack = assembly.scenario, assembly.learning.stack
        self._n = scenario.agents
        self._peers = peers
        self._is_projected = projection is not None
        self._is_thin = is_thin
        self._layout = projection.layout if projection else stack.layout
        start = stack.start(range(self._n), same=scenario.learner.same_start)
        if projection:
            packed = stack.layout.pack(start)
            start = np.array([projection.parameters(row) for row in packed])
        self._judge = Logged(
            start.copy(),
            self._layout,
            Objective() if projection else stack.objective,
            Evaluator() if projection else stack.evaluator,
        )
        self._counted = _Counted()
        self._steps = [step for peer in peers for life in peer.lives for step in life.steps]
        self._trained_until = [0] * self._n
        self.now = 0
        is_asynchronous = scenario.schedule.is_asynchronous
        self.recorder = Recorder(
            layout=self._layout,
            agents=self._n,
            start=start,
            judge=self._judge,
            now=lambda: self.now,
            every=scenario.evaluation.every,
            episodes=scenario.evaluation.episodes if evaluates else 0,
            on_row=_go_on,
            mixes=not assembly.mode.pools,
            tick=self._tick() if is_asynchronous else None,
            parts=assembly.compared,
            counts_applied=assembly.mode.has_coordinator and not assembly.mode.has_edges,
            resources=assembly.counted,
            judges=assembly.judges,
            epsilon=_epsilon(assembly, peers) if assembly.accounted else None,
        )
        self.recorder.traffic = self._counted.traffic
        self._run: Callable[[], None] = self._by_time if is_asynchronous else self._by_round

    def run(self) -> None:
        """Replay everything."""
        for peer in self._peers:
            for life in peer.lives:
                for note in _kept(peer, life):
                    if isinstance(note, Excused):
                        self.recorder.count(note.passed)
        self._run()
        self.now = max(self.now, *(life.last for peer in self._peers for life in peer.lives))
        self.recorder.finish()

    def _by_round(self) -> None:
        """Replay round by round. An agent that skips a round is not waited for."""
        recorder = self.recorder
        rounds: dict[int, dict[int, list[Step]]] = defaultdict(lambda: defaultdict(list))
        for step in self._steps:
            rounds[step.round][step.agent].append(step)
        absent = {agent: gaps for peer in self._peers for agent, gaps in _absences(peer).items()}
        applied, sent, judged = self._applied(), self._sent(), self._judged()
        for round in sorted(rounds):
            if self._is_thin:
                recorder.skip_to(round)
            present = rounds[round]
            for agent in range(self._n):
                recorder.live(
                    agent, agent in present or not any(a <= round < b for a, b in absent[agent])
                )
            for note in applied.get(round, ()):
                recorder.applied(note.agent, note.tau)
            for scores in judged.get(round, ()):
                recorder.judged(round, scores)
            for life, totals in sent.get(round, ()):
                self._counted.count(life, totals)
            if round == max(rounds):
                self._counted.end([life for peer in self._peers for life in peer.lives])
            previous = self.now
            order = sorted(present.values(), key=lambda steps: (steps[-1].time, steps[-1].agent))
            for steps in order:
                for step, following in pairwise(steps):
                    self._train_if_lost(step.read(), step, following.read())
                self.now = (
                    steps[-1].time if steps is not order[-1] else max(steps[-1].time, previous)
                )
                self._end_round(steps[-1])
            recorder.excused(round + 1, sorted(present))

    def _by_time(self) -> None:
        """Replay entry by entry, ordered by the clocks of all processes."""
        recorder = self.recorder
        due: list[tuple[int, Callable[[], None]]] = []

        def post(when: int, write: Callable[..., None], *args: int) -> None:
            due.append((when, partial(write, *args)))

        recorder.follow_clock(post, lambda: True, None, _nothing)
        events: list[_Event] = [
            (step.time, step.agent, 1, partial(self._end_round, step)) for step in self._steps
        ]
        for peer in self._peers:
            for life in peer.lives:
                start, is_last = life.begin.time + life.offset, life is peer.lives[-1]
                for agent in peer.agents:
                    events.append((start, agent, 0, partial(recorder.live, agent, True)))
                    if not is_last or peer.stopped_by in _OUT:
                        events.append((life.last, agent, 2, partial(recorder.live, agent, False)))
                for note in _kept(peer, life):
                    if isinstance(note, Applied):
                        tell_lag = partial(recorder.applied, note.agent, note.tau)
                        events.append((note.time + life.offset, note.agent, 0, tell_lag))
                    elif isinstance(note, Judged):
                        judge = partial(recorder.judged, note.round, note.scores)
                        events.append((note.time + life.offset, note.by, 0, judge))
                    else:
                        count_totals = partial(self._counted.count, life, note.totals)
                        events.append((note.time + life.offset, COORDINATOR, 0, count_totals))
        for when, _, _, tell in sorted(events, key=lambda event: event[:3]):
            while due and due[0][0] <= when:
                self.now, write = due.pop(0)
                write()
            self.now = when
            tell()

    def _train_if_lost(self, entry: Entry, step: Step, following: Entry) -> None:
        """Train as a process did that was killed in the round, and that a later life repeats.

        What it had saved of its updates, the later life did not make again: it is in its entry too.
        """
        made, saved = (
            [(end, update.env_steps, update.returns) for end, update in found.updates]
            for found in (entry, following)
        )
        if not made or made != saved[: len(made)]:
            self._train(step, entry)

    def _train(self, step: Step, entry: Entry) -> None:
        agent = entry.agent
        self._trained_until[agent] = max(self._trained_until[agent], step.start)
        if (passed := entry.passed) is not None:
            self._trained_until[agent] = passed.end + step.life.offset
            self.recorder.passed(agent, passed.rounds, passed.update, passed.episodes)
            self.recorder.count(passed.staleness)
        for end, update in entry.updates:
            end += step.life.offset
            self.recorder.interval(agent, "train", self._trained_until[agent], end)
            self._trained_until[agent] = end
            self.recorder.trained(agent, update)

    def _end_round(self, step: Step) -> None:
        entry = step.read()
        check_size(step, entry, self._layout)
        self._train(step, entry)
        self._trained_until[entry.agent] = step.time
        self._counted.count_agent(step.life, entry)
        dtype = self._layout.dtype
        parameters = vector(entry.parameters, dtype)
        self._layout.unpack(parameters, self._judge.rows[entry.agent])
        if not entry.is_active:
            self.recorder.sat_out(entry.agent, entry.round)
            return
        if entry.scores:
            self.recorder.judged(entry.round, entry.scores)
        after = vector(entry.shared, dtype) if entry.shared else parameters
        before = np.zeros_like(after) if self._is_projected else vector(entry.before, dtype)
        self.recorder.mixed(entry.agent, entry.round, entry.staleness, before, after)

    def _applied(self) -> dict[int, list[Applied]]:
        """Return the updates that a coordinator applied in a round before its next model."""
        found: dict[int, list[Applied]] = {}
        for peer in self._peers:
            for life in peer.lives:
                round = dict[int, int]()
                for note in _kept(peer, life):
                    if isinstance(note, Applied):
                        found.setdefault(round.get(note.by, 0), []).append(note)
                    elif isinstance(note, Excused):
                        round[note.by] = note.round
        return found

    def _judged(self) -> dict[int, list[Scores]]:
        """Return by round what robust aggregators made of the updates of agents."""
        found: dict[int, list[Scores]] = {}
        for peer in self._peers:
            for life in peer.lives:
                for note in _kept(peer, life):
                    if isinstance(note, Judged):
                        found.setdefault(note.round, []).append(note.scores)
        return found

    def _sent(self) -> dict[int, list[tuple[Life, Traffic]]]:
        """Return a coordinator's counters after the model of a round, before it sent the next."""
        found: dict[int, list[tuple[Life, Traffic]]] = {}
        for peer in self._peers:
            for life in peer.lives:
                for id in (agent for agent in life.begin.agents if agent < 0):
                    models = [
                        note for note in life.notes if isinstance(note, Excused) and note.by == id
                    ]
                    following = [*(note.totals for note in models[1:]), life.totals]
                    for note, totals in zip(models, following, strict=False):
                        found.setdefault(note.round - 1, []).append((life, totals))
        return found

    def _tick(self) -> int:
        """Return the mean nanoseconds of a round."""
        spent = sum(
            life.last - life.begin.time - life.offset
            for peer in self._peers
            for life in peer.lives
            for agent in peer.agents
            if agent >= 0
        )
        return max(1, spent // max(1, len(self._steps)))


def _kept(peer: Peer, life: Life) -> list[Applied | Excused | Judged]:
    """Return the notes of coordinators in a life, but for what a later life did again.

    A coordinator saves what it made of updates before its next model leaves. One that was killed
    before that sends the model again that it had saved, and what it applied after that was lost.
    One without rounds notes no models: it saves each update before its answer leaves.
    """
    rounds = {note.by for other in peer.lives for note in other.notes if isinstance(note, Excused)}
    later = peer.lives[peer.lives.index(life) + 1 :]
    models = [note for other in later for note in other.notes if isinstance(note, Excused)]
    again = {note.by: note.round for note in reversed(models)}
    saved: dict[int, int] = {}
    for place, note in enumerate(life.notes):
        if isinstance(note, Excused):
            if note.by not in again or note.round < again[note.by]:
                saved[note.by] = len(life.notes)
            elif note.round == again[note.by]:
                saved[note.by] = place
    return [
        note
        for place, note in enumerate(life.notes)
        if isinstance(note, Excused) or note.by not in rounds or place < saved.get(note.by, 0)
    ]


def _absences(peer: Peer) -> dict[int, list[tuple[int, float]]]:
    """Return per agent the rounds [a, b) in which its process was down."""
    gaps: dict[int, list[tuple[int, float]]] = {agent: [] for agent in peer.agents}
    for agent in peer.agents:
        following = 0
        for number, life in enumerate(peer.lives):
            rounds = [step.round for step in life.steps if step.agent == agent]
            if number and rounds:
                gaps[agent].append((following, min(rounds)))
            following = max([following, *(round + 1 for round in rounds)])
        if peer.stopped_by in _OUT:
            gaps[agent].append((following, float("inf")))
    return gaps


def _nothing() -> None:
    """Do nothing."""


def _go_on(row: Row) -> bool:
    """Return False, because a replay never stops early."""
    return False
