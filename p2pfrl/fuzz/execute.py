"""One case: run under all checks, again for the same digest, and resumed in the middle."""

from __future__ import annotations

import signal
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, Self

from p2pfrl.build.world import World
from p2pfrl.core.causes import FOREIGN, PassingError
from p2pfrl.core.errors import (
    AgentError,
    DeadlockError,
    P2PFRLError,
    ScenarioError,
    TopologyError,
)
from p2pfrl.core.state import State, pack, unpack
from p2pfrl.experiment.run import watched
from p2pfrl.fuzz.checks import CHECKS
from p2pfrl.fuzz.watch import Check, ViolationError, Watch
from p2pfrl.results.record import Record
from p2pfrl.scenario import Scenario

PASSED, REFUSED, STOPPED, FAILED = "passed", "refused", "stopped", "failed"
"""What becomes of a case; one that is stopped ended with an error that its scenario earns."""
LIMIT = 60.0
"""Seconds of processor time per agent: a run without an event for so long stands still.

Between two events all agents may train and be evaluated.
"""
_AGAIN, _RESUMED = 8, 4
"""One of so many cases runs twice, or is resumed."""
_POINTS = (5, 12, 25, 50, 90, 150)
"""Events after which a run is saved that is looked at thoroughly."""
_EARNED = ("its privacy budget is spent",)
"""Errors of agents that are no bugs: the scenario asks for what cannot be."""
_OVERDUE, _LONGER = "(ten deadlines)", 10.0
"""In the error of a rule that needs every message; and how many times longer than usual an update
may be so that it is no bug."""


@dataclass(frozen=True)
class Outcome:
    """What became of a case.

    Attributes:
        state: PASSED, REFUSED, STOPPED or FAILED.
        why: the reason, unless it passed.
        kind: what kind of failure it is: the check, or the error and the place that raised it. A
            smaller scenario fails in the same way if it is the same.
        events: that happened in it.
    """

    state: str
    why: str = ""
    kind: str = ""
    events: int = 0


@dataclass(frozen=True)
class _Kept:
    """The state of a run in the middle, as bytes, and how much had happened by then."""

    text: str
    arrays: list[Any]
    rows: list[Any]
    agent_rows: State
    events: int

    @classmethod
    def of(cls, world: World, others: Mapping[str, object]) -> _Kept:
        """Return the state between two events."""
        assert world.log.events is not None
        text, arrays = pack(world.save(others))
        recorder, copies = world.recorder, [array.copy() for array in arrays]
        rows, agent_rows = list(recorder.rows), recorder.agent_rows.save()
        return cls(text, copies, rows, agent_rows, len(world.log.events))


class _Resumed(Watch):
    """A watch of a run that goes on: it has the rows of the record so far."""

    def __init__(self, kept: _Kept) -> None:
        super().__init__(())
        self._kept = kept

    def begins(self, world: World, others: Mapping[str, object]) -> None:
        super().begins(world, others)
        world.recorder.rows += self._kept.rows
        world.recorder.agent_rows.restore(self._kept.agent_rows)


def execute(
    scenario: Scenario,
    number: int = 0,
    *,
    thorough: bool = False,
    checks: Sequence[type[Check]] = CHECKS,
) -> Outcome:
    """Run a scenario under the checks, and return what became of it.

    Args:
        scenario: what to run.
        number: of the case, by which some run twice and some are resumed.
        thorough: run it twice and resume it in any case.
        checks: the invariants.
    """
    try:
        with _Alarm(LIMIT * scenario.agents) as alarm:
            return _run(scenario, number, alarm, thorough=thorough, checks=checks)
    except (ScenarioError, TopologyError) as error:
        return Outcome(REFUSED, str(error))
    except ViolationError as error:
        return Outcome(FAILED, str(error), error.check)
    except AgentError as error:
        if any(reason in str(error) for reason in _EARNED):
            return Outcome(STOPPED, str(error))
        return Outcome(FAILED, f"AgentError: {error}", "AgentError")
    except DeadlockError as error:
        return Outcome(FAILED, f"DeadlockError: {error}", "DeadlockError")
    except P2PFRLError as error:
        if _OVERDUE in str(error) and scenario.compute.variation.bounds[1] > _LONGER:
            return Outcome(STOPPED, str(error))
        return Outcome(FAILED, f"{type(error).__name__}: {error}", type(error).__name__)
    except _StillError as error:
        where = "".join(traceback.format_tb(error.__traceback__)[-6:])
        return Outcome(FAILED, f"Progress: {error}\n{where}", "Progress")
    except FOREIGN as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{last.filename.rpartition('/')[2]}:{last.name}"
        text = "".join(traceback.format_exception(error)[-6:])
        return Outcome(FAILED, text, f"{type(error).__name__} in {place}")


def _run(
    scenario: Scenario,
    number: int,
    alarm: _Alarm,
    *,
    thorough: bool,
    checks: Sequence[type[Check]],
) -> Outcome:
    points: Sequence[int] = ()
    if thorough:
        points = _POINTS
    elif number % _RESUMED == 0:
        points = (5 + number * 7919 % 150,)
    kept: list[_Kept] = []

    def keep(world: World, others: Mapping[str, object]) -> None:
        if not world.assembly.forgets:
            kept.append(_Kept.of(world, others))

    watch = Watch(checks, points, keep)
    record = watched(scenario, alarm.follow(watch))
    watch.ended(record)
    if thorough or number % _AGAIN == 1:
        _same("Again", record, watched(scenario, alarm.follow(Watch(()))), 0)
    for one in kept:
        state = unpack(one.text, one.arrays)
        resumed = watched(scenario, alarm.follow(_Resumed(one)), state)
        _same("Resumed", record, resumed, one.events)
    return Outcome(PASSED, events=len(record.events or ()))


def _same(name: str, first: Record, second: Record, skipped: int) -> None:
    """Compare the events and final parameters of two runs that have to be equal.

    Raises:
        ViolationError: they differ.
    """
    says = {
        "Again": "the same scenario and seed give the same run",
        "Resumed": "a run that is saved and goes on equals the uninterrupted one",
    }[name]
    events, others = (first.events or ())[skipped:], second.events or ()
    for position, (one, other) in enumerate(zip(events, others, strict=False)):
        if one != other:
            raise ViolationError(name, f"event {position}: {one}, then {other}; {says}")
    if len(events) != len(others):
        raise ViolationError(name, f"{len(events)} events, then {len(others)}; {says}")
    if first.parameters.tobytes() != second.parameters.tobytes():
        raise ViolationError(name, f"the final parameters differ; {says}")
    if first.summary["rounds"] != second.summary["rounds"]:
        rounds = first.summary["rounds"], second.summary["rounds"]
        raise ViolationError(name, f"{rounds[0]} rounds, then {rounds[1]}; {says}")


class _StillError(PassingError):
    """Nothing has happened in a run for so long that it counts as one that does not end."""


class _Alarm:
    """Raises an error in its block once nothing happens; in the main thread of a process.

    It rings again and again, and compares the events of the run that it follows with those at the
    ring before.

    Args:
        seconds: of processor time between two rings.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._watch: Watch | None = None
        self._seen = -1

    def follow(self, watch: Watch) -> Watch:
        """Look at the events of another run from now on, and return its watch."""
        self._watch, self._seen = watch, -1
        return watch

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGPROF, self._ring)
        signal.setitimer(signal.ITIMER_PROF, self._seconds, self._seconds)
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        signal.signal(signal.SIGPROF, self._before)

    def _ring(self, number: int, frame: FrameType | None) -> None:
        events = 0 if self._watch is None else self._watch.events
        if events != self._seen:
            self._seen = events
            return
        # Soon again, since an error is lost that is raised in a callback of the garbage collector.
        signal.setitimer(signal.ITIMER_PROF, 1.0, 1.0)
        raise _StillError(
            f"no event for {self._seconds:g} s of processor time, after {events} events"
        )
