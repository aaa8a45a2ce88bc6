"""Runs of a scenario in the simulated world."""

from __future__ import annotations

import gc
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Protocol

from threadpoolctl import threadpool_limits
from typing_extensions import Unpack

from p2pfrl.build.devices import Choice, using
from p2pfrl.build.privacy import SIMULATED, among, spent
from p2pfrl.build.record import Totals, compose, opted_out
from p2pfrl.build.world import World, build
from p2pfrl.core.actor import Actor
from p2pfrl.core.arguments import Kind, checked_call
from p2pfrl.core.causes import FOREIGN, cause, is_of_user
from p2pfrl.core.errors import (
    IdleWarning,
    P2PFRLError,
    RecordError,
    ScenarioError,
    ScenarioWarning,
)
from p2pfrl.core.floats import allow_overflow
from p2pfrl.core.garbage import SELDOM, USUAL, is_all_ours
from p2pfrl.core.heap import keep_freed
from p2pfrl.core.interrupts import postponed, raised
from p2pfrl.core.state import State
from p2pfrl.core.units import SECOND
from p2pfrl.core.wording import show
from p2pfrl.core.writes import Writes
from p2pfrl.experiment.checkpoints import Checkpoints, device_of, scenario_of, text_of
from p2pfrl.experiment.live import Live
from p2pfrl.experiment.rules import (
    AllRules,
    knowing_learner,
    left_out,
    recorded_otherwise,
    with_rules,
)
from p2pfrl.experiment.starts import Start, with_start
from p2pfrl.experiment.workforce import Count, Workforce, employed
from p2pfrl.results.directory import clear, reserved
from p2pfrl.results.record import FAILURE, INTERRUPT, Record, save
from p2pfrl.results.recorder import Row
from p2pfrl.results.stream import Stream
from p2pfrl.results.trace import Event
from p2pfrl.scenario import Scenario, load
from p2pfrl.scenario.checks.notes import is_idle, notes
from p2pfrl.scenario.given import Given, knowing, with_environment
from p2pfrl.scenario.render import resolved
from p2pfrl.scenario.sources import copy_files
from p2pfrl.simulator.digest import NAMES

Progress = Callable[[Row], None]
Runnable = Annotated[Scenario | str | Path, Kind("a scenario, or the file or name of one")]
"""What is run."""


@checked_call
def simulate(
    scenario: Runnable,
    *,
    seed: int | None = None,
    out: str | Path | None = None,
    environment: Given | None = None,
    vary: Mapping[str, object] | None = None,
    start: Start | None = None,
    progress: Progress | None = None,
    working: Callable[[str], None] | None = None,
    trace: bool = False,
    resuming: bool = False,
    overwrite: bool = False,
    workers: Count | None = None,
    cluster: str | None = None,
    **rules: Unpack[AllRules],
) -> Record:
    """Run `scenario` to its end and return the record.

    Matrix products use one thread on every machine: they are small, and sums must not depend on the
    number of threads.

    What has no effect in the scenario is a `ScenarioWarning`. All notes on it are in the record's
    summary, under `notes`.

    Args:
        scenario: scenario from `load`, or the file or name of one.
        seed: replaces the scenario's seed.
        out: directory for the record; no files are written without it.
        environment: an environment that replaces the scenario's: one of arrays, a class or function
            that makes environments of Gymnasium, an id such as "module:MyEnv", or a table such as
            {"id": "CartPole-v1", "max_steps": 200}. A function with a parameter `agent`, or with
            just one, gets the agent.
        vary: physics that differ between agents, as in `[environment.vary]`: a number, a list with
            one per agent, or a table such as {"kind": "uniform", "low": 1.0, "high": 2.0}, by name.
        start: saved parameters from which agents start: the record of a run that was saved, its
            directory, a file of parameters, or a table such as {"path": "runs/a", "parts":
            ["actor"]}.
        progress: called with every new row of metrics.
        working: called at every step of Gymnasium environments with the agent, the update or
            evaluation, and the step.
        trace: whether to keep every event in the record.
        resuming: whether to continue from the last checkpoint in `out`, or from the beginning
            without one.
        overwrite: whether to replace a run in `out`. Other files are never replaced.
        workers: number of processes that train, or "auto": one for each core, once training has
            taken a few seconds and if it pays. None: this process alone. Results do not depend on
            it. A script needs `if __name__ == "__main__":` around the call.
        cluster: address of a Ray cluster whose workers train, one per CPU by default; "auto": the
            one on this machine, "local": one that ends with the run.
        rules: by axis (mixing, learner, topology, gate, compressor, aggregator, ...), a rule that
            replaces the scenario's: one from Python, a name such as "metropolis", or a table such
            as {"kind": "laplacian", "alpha": 0.1}. A learner may be a class, if it is a
            `LocalLearner`.

    Raises:
        P2PFRLError: the run cannot be built, all agents wait forever, or `out` is in use.
    """
    with knowing(environment), knowing_learner(rules):
        scenario = scenario_from(scenario)
        if seed is not None:
            scenario = replace(scenario, seed=seed)
        scenario = with_rules(with_environment(scenario, environment, vary), rules)
        scenario = with_start(scenario, start)
        run = _Run(scenario, progress)
        folder = None if out is None else Path(out)
        device = device_of(folder) if resuming and folder is not None else None
        with (
            nullcontext()
            if folder is None
            else reserved(folder, overwrite=overwrite, resuming=resuming),
            _built(scenario, run, trace=trace, device=device) as world,
            nullcontext()
            if workers is None and cluster is None
            else employed(
                "auto" if workers is None else workers, scenario, world.trainer, cluster
            ) as force,
        ):
            world.assembly.learning.follow(working)
            run.notes = tuple(notes(scenario))
            for note in () if resuming else filter(is_idle, run.notes):
                warnings.warn(note, IdleWarning, stacklevel=3)
            if device is None and (said := world.assembly.device.said):
                warnings.warn(said, ScenarioWarning, stacklevel=3)
            return _simulate(scenario, world, run, folder, resuming, force)


def _simulate(
    scenario: Scenario,
    world: World,
    run: _Run,
    out: Path | None,
    resuming: bool,
    force: Workforce | None,
) -> Record:
    """Run a built world to its end; return the record, after saving it in `out`."""
    run.world = world
    _limit(scenario, world, run)
    if out is not None:
        if not resuming:
            clear(out)
        engine = world.assembly.learning.stack.traits.engine
        run.checkpoints = Checkpoints(out, scenario, run.writes, engine)
        run.stream = Stream(out, resolved(scenario), run.writes)
        run.live = Live(out, world, run.wall_seconds)
    with raised():
        has_begun = run.begin(resuming=resuming)
        more: dict[str, Any] = {"notes": [*run.notes]} if run.notes else {}
        if has_begun and (forgets := world.assembly.forgets):
            more["episodes_began_anew"] = True
            warnings.warn(f"{out}: {forgets}", ScenarioWarning, stacklevel=5)
        try:
            keep_freed()
            # What is no longer finite is found where it matters, so numpy need not warn.
            with (
                fewer_collections(),
                threadpool_limits(1, "blas"),
                allow_overflow(),
            ):
                if has_begun:
                    world.simulation.resume()
                else:
                    world.simulation.run()
                world.recorder.finish()
        except KeyboardInterrupt:
            run.reason = "interrupt"
            world.recorder.finish(evaluating=False)
        except FOREIGN as error:
            run.reason = FAILURE
            with postponed():
                _keep_failed(error, scenario, world, run, out, more)
            raise
        finally:
            if run.checkpoints is not None:
                run.checkpoints.close()
            if run.stream is not None:
                run.stream.close(world.recorder.rows, world.recorder.agent_rows)
            if run.live is not None:
                run.live.close()
        with postponed():
            reason = _reason(scenario, world, run.reason)
            if force is not None:
                more["workers"] = force.count
            if run.writes.failed:
                more["writes_failed"] = run.writes.failed
            if late := () if reason == INTERRUPT else [*_late_faults(scenario, world, run.notes)]:
                more["notes"] = [*run.notes, *late]
                for note in late:
                    warnings.warn(note, IdleWarning, stacklevel=4)
            record = _record(scenario, world, reason, run.wall_seconds(), more)
            if out is not None:
                try:
                    record = save(record, out)
                    copy_files(scenario, Path(out))
                except (OSError, RecordError) as error:
                    raise _unsaved(error, run, out) from error
            if run.checkpoints is not None and run.reason != "interrupt":
                run.checkpoints.end()
    return record


def _unsaved(error: Exception, run: _Run, out: Path) -> RecordError:
    """Return the error of a run that has ended and cannot save its record, and keep its text."""
    fix = f"once it can, as after freeing space, `p2pfrl scenario --resume {out}` finishes the run"
    found = RecordError(f"{error}; the record cannot be saved; {fix}")
    if run.checkpoints is not None:
        run.checkpoints.note(str(error))
    return found


def _keep_failed(
    error: BaseException,
    scenario: Scenario,
    world: World,
    run: _Run,
    out: Path | None,
    more: Mapping[str, Any],
) -> None:
    """Keep the record of a run that an error ended, and let the error say where it is."""
    rounds = len(world.recorder.rows)
    failure = str(error) if isinstance(error, P2PFRLError) else cause(error)
    more = {**more, "failure": failure}
    record = _record(scenario, world, run.reason, run.wall_seconds(), more)
    if isinstance(error, P2PFRLError):
        error.record = record
    if out is None:
        return
    try:
        save(record, out)
        copy_files(scenario, Path(out))
    except (OSError, RecordError) as second:
        if run.checkpoints is not None:
            run.checkpoints.note(failure)
        fix = f"`p2pfrl scenario --resume {out}` goes on from the last checkpoint"
        error.add_note(f"{out}: the record until then could not be saved: {second}; {fix}")
    else:
        many = f"the {rounds} rounds" if rounds != 1 else "the one round"
        error.add_note(f"{out} holds the record of {many} before")


@checked_call
def resume(
    directory: str | Path,
    *,
    progress: Progress | None = None,
    environment: Given | None = None,
    workers: Count | None = None,
    cluster: str | None = None,
    **rules: Unpack[AllRules],
) -> Record:
    """Continue a simulated run that was killed or interrupted; return the record of the whole run.

    It has the digest, the rows and the parameters of an uninterrupted run. Gymnasium environments
    cannot be saved. If the scenario uses one, its episodes start anew, and the record reports this.

    Args:
        directory: the run directory.
        progress: called with every new row of metrics.
        environment: the class, function or environment from Python with which the run began, if it
            cannot be imported.
        workers: as of `simulate`.
        cluster: as of `simulate`.
        rules: by axis, those from Python with which the run began, if they cannot be imported; of a
            `LocalLearner` and of a network the class.

    Raises:
        P2PFRLError: there is nothing to resume, or another version began it.
    """
    folder = Path(directory)
    text = text_of(folder)
    with knowing(environment, text=text), knowing_learner(rules, text=text):
        scenario = scenario_of(folder, left_out(rules))
        scenario = with_rules(scenario, recorded_otherwise(rules))
        return simulate(
            scenario,
            out=folder,
            progress=progress,
            resuming=True,
            workers=workers,
            cluster=cluster,
        )


class Watching(Protocol):
    """What looks at a run from outside while it runs. Nothing flows back from it."""

    def actor(self, actor: Actor) -> Actor:
        """Return what runs in place of a new life of an agent or coordinator."""

    def begins(self, world: World, others: Mapping[str, object]) -> None:
        """A world is built and runs next; `others` are as in `World.save`."""


def watched(scenario: Scenario, watching: Watching, state: State | None = None) -> Record:
    """Run a scenario to its end under somebody's eyes and return the record, with every event.

    It writes no files. For many small runs: collections of garbage and threads are the caller's.

    Args:
        scenario: what to run.
        watching: looks at the run.
        state: of a run of the same scenario (`World.save`), from which it goes on; None: it begins.

    Raises:
        P2PFRLError: as `simulate`, or what `watching` raised.
    """
    run = _Run(scenario, None)
    with _built(scenario, run, trace=True, actors=watching.actor) as world:
        run.world = world
        watching.begins(world, {"run": run})
        if state is not None:
            world.restore(state, {"run": run})
            world.simulation.resume()
        else:
            _limit(scenario, world, run)
            world.simulation.run()
        world.recorder.finish()
        reason = _reason(scenario, world, run.reason)
        return _record(scenario, world, reason, run.wall_seconds(), {})


def _limit(scenario: Scenario, world: World, run: _Run) -> None:
    """Let the run end at the virtual time that the scenario sets."""
    if scenario.stop.virtual_time is not None:
        world.loop.post(round(scenario.stop.virtual_time * SECOND), run.because, "virtual_time")


def _built(
    scenario: Scenario,
    run: _Run,
    *,
    trace: bool,
    actors: Callable[[Actor], Actor] | None = None,
    device: Choice | None = None,
) -> World:
    """Return the world of a run; `device` is the one with which it began, if it goes on.

    Raises:
        P2PFRLError: it cannot be built, or a rule of the user's own raised an error.
    """
    try:
        with nullcontext() if device is None else using(device):
            return build(scenario, trace=trace, on_row=run.on_row, actors=actors)
    except P2PFRLError:
        raise
    except FOREIGN as error:
        if not is_of_user(error):
            raise  # our own bug, with its traceback
        raise P2PFRLError(f"a rule or environment of your own failed: {cause(error)}") from error


def scenario_from(given: object) -> Scenario:
    """Return the scenario that a caller means: one that is loaded, or the file or name of one.

    Raises:
        ScenarioError: it is neither, or the file is not valid.
    """
    if isinstance(given, Scenario):
        return given
    if isinstance(given, str | Path):
        return load(given)
    raise ScenarioError([f"expected a scenario, or the file or name of one, got {show(given)}"])


class _Run:
    """Watcher of a run's rows, for the conditions of `[stop]` and for checkpoints.

    Attributes:
        reason: why the run ended.
        world: the running world.
        checkpoints: writer of checkpoints; None if the run writes no files.
        stream: writer of rows while the run runs; None if it writes no files.
        live: writer of what the run looks like while it runs; None if it writes no files.
        writes: tries the writes of checkpoints and rows.
        notes: on the scenario: what has no effect, and what messages reveal.
    """

    def __init__(self, scenario: Scenario, progress: Progress | None) -> None:
        self.writes = Writes(
            _warn,
            goes_on=scenario.checkpoint.on_error != "stop",
            fix="free space, and give --resume and the run directory to go on from the last checkpoint",
        )
        self.reason = "rounds"
        self.world: World | None = None
        self.checkpoints: Checkpoints | None = None
        self.stream: Stream | None = None
        self.live: Live | None = None
        self.notes: tuple[str, ...] = ()
        self._stop = scenario.stop
        self._progress = progress
        self._began = time.perf_counter()
        self._earlier = 0.0

    def begin(self, *, resuming: bool) -> bool:
        """Prepare the checkpoints; return whether the run continues an earlier one."""
        assert self.world is not None
        if self.checkpoints is None:
            return False
        found: dict[str, Any] = {}
        if resuming:
            found = self.checkpoints.resume(self.world, {"run": self})
            self._earlier = found.get("wall_seconds", 0.0)
        else:
            self.checkpoints.begin(self.world)
        if self.stream is not None:
            self.stream.begin()
            self.stream.write(self.world.recorder.rows, self.world.recorder.agent_rows)
        if self.live is not None:
            self.live.begin()
        return bool(found)

    def wall_seconds(self) -> float:
        """Return the seconds that the run has taken, including those before an interrupt."""
        return self._earlier + time.perf_counter() - self._began

    def _save(self) -> None:
        assert self.world is not None
        assert self.checkpoints is not None
        self.checkpoints.save(self.world, {"run": self}, wall_seconds=self.wall_seconds())

    def on_row(self, row: Row) -> bool:
        """Return whether the run ends with this row."""
        assert self.world is not None
        if self.stream is not None:
            self.stream.write(self.world.recorder.rows, self.world.recorder.agent_rows)
        if self._progress is not None:
            self._progress(row)
        target, steps = self._stop.target_return, self._stop.env_steps
        if target is not None and row["return_mean"] >= target:
            return self.because("target_return")
        if steps is not None and row["env_steps"] >= steps:
            return self.because("env_steps")
        if self.checkpoints is not None and self.checkpoints.is_due(int(row["round"])):
            self.world.loop.when_idle(self._save)
        return False

    def because(self, reason: str) -> bool:
        """End the run for this reason."""
        self.reason = reason
        assert self.world is not None
        self.world.simulation.stop()
        return True


def _warn(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _reason(scenario: Scenario, world: World, reason: str) -> str:
    """Return `reason`, or why there are fewer rounds than were asked for."""
    rows, rounds = world.recorder.rows, scenario.stop.rounds
    is_whole = rounds is not None and bool(rows) and rows[-1]["round"] >= rounds
    return reason if is_whole or reason != "rounds" else world.simulation.end()


def _late_faults(scenario: Scenario, world: World, known: Sequence[str]) -> Iterator[str]:
    """Yield a note for every fault whose time had not come when the run ended."""
    now = world.loop.now
    for position, fault in enumerate(scenario.faults):
        what = f"without effect: faults.{position};"
        if round(fault.at * SECOND) > now and not any(note.startswith(what) for note in known):
            end = f"the run ended at {now / SECOND:.3g} s of virtual time"
            yield f"{what} at = {fault.at:g}, and {end}"


def _record(
    scenario: Scenario, world: World, reason: str, wall: float, more: Mapping[str, Any]
) -> Record:
    world.simulation.note_unfinished()
    recorder, (late, expired) = world.recorder, world.simulation.waited()
    layout = world.assembly.learning.stack.layout
    parameters = (
        recorder.parameters() if recorder.stopped_at_row else layout.pack(world.trainer.parameters)
    )
    events = None
    if world.log.events is not None:
        events = tuple(Event(t, NAMES[kind], *rest) for t, kind, *rest in world.log.events)
    totals = Totals(
        stopped_by=reason,
        virtual_seconds=world.loop.now / SECOND,
        wall_seconds=wall,
        traffic=replace(
            world.network.traffic,
            messages_late=late,
            deadlines_expired=expired,
        ),
        mean_batch=world.trainer.mean_batch,
        more={
            **spent(world.assembly.privacy, world.ledgers, SIMULATED, among(world.assembly)),
            **world.assembly.secured(),
            **opted_out(world.simulation.departed),
            **more,
        },
        refused=world.network.refused,
    )
    digest = world.log.digest(parameters)
    return compose(
        scenario, world.assembly, recorder, parameters, digest=digest, totals=totals, events=events
    )


@contextmanager
def fewer_collections() -> Iterator[None]:
    """Collect garbage once, then collect less often in the block.

    What exists before is of the oldest generation then, which a run does not come to collect. So it
    is not frozen: to ask whether a program had frozen its objects takes longer than a small run.

    Where there is code of others, Python looks as often as usual after the block. It comes to file
    objects then while they are in use, and so to a text before what it is written to: a text that
    was left open is not lost when all of it is garbage.
    """
    thresholds = gc.get_threshold()
    gc.collect()
    gc.set_threshold(*SELDOM)
    try:
        yield
    finally:
        gc.set_threshold(*(thresholds if is_all_ours() else USUAL))
