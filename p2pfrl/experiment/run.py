"""Run a scenario in the simulated world and return its record."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from threadpoolctl import threadpool_limits

from p2pfrl.build.record import Totals, compose
from p2pfrl.build.world import World, build
from p2pfrl.consensus.mixing import Mixing
from p2pfrl.core.units import SECOND
from p2pfrl.results.record import Record, save
from p2pfrl.results.recorder import Row
from p2pfrl.results.trace import Event
from p2pfrl.scenario import Scenario
from p2pfrl.simulator.digest import NAMES

Progress = Callable[[Row], None]


def simulate(
    scenario: Scenario,
    *,
    seed: int | None = None,
    out: str | Path | None = None,
    mixing: Mixing | None = None,
    progress: Progress | None = None,
    trace: bool = False,
) -> Record:
    """Run `scenario` to its end and return the record.

    Matrix products take one thread, whatever the machine has: they are small, and sums must not
    depend on it.

    Args:
        scenario: as `load` returned it.
        seed: in place of the scenario's.
        out: a directory for the record; no files are written without it.
        mixing: a rule of your own, in place of the scenario's.
        progress: called with every new row of metrics.
        trace: keep every event in the record.

    Raises:
        P2PFRLError: the run cannot be built, or everyone waits for ever.
    """
    began = time.perf_counter()
    if seed is not None:
        scenario = replace(scenario, seed=seed)
    stop = _Stop(scenario, progress)
    world = build(scenario, mixing=mixing, trace=trace, on_row=stop.on_row)
    stop.world = world
    if scenario.stop.virtual_time is not None:
        world.loop.post(round(scenario.stop.virtual_time * SECOND), stop.because, "virtual_time")
    with fewer_collections(), threadpool_limits(1, "blas"):
        try:
            world.simulation.run()
        except KeyboardInterrupt:
            stop.reason = "interrupt"
    world.recorder.finish()
    record = _record(scenario, world, stop.reason, time.perf_counter() - began)
    return save(record, out) if out is not None else record


class _Stop:
    """Watches the rows for the conditions of `[stop]`."""

    def __init__(self, scenario: Scenario, progress: Progress | None) -> None:
        self.reason = "rounds"
        self.world: World | None = None
        self._stop = scenario.stop
        self._progress = progress

    def on_row(self, row: Row) -> bool:
        """Return whether the run ends with this row."""
        if self._progress is not None:
            self._progress(row)
        target, steps = self._stop.target_return, self._stop.env_steps
        if target is not None and row["return_mean"] >= target:
            return self.because("target_return")
        if steps is not None and row["env_steps"] >= steps:
            return self.because("env_steps")
        return False

    def because(self, reason: str) -> bool:
        """End the run."""
        self.reason = reason
        assert self.world is not None
        self.world.simulation.stop()
        return True


def _record(scenario: Scenario, world: World, reason: str, wall: float) -> Record:
    recorder, schedules = world.recorder, world.simulation.schedules()
    rows = recorder.current if recorder.stopped_at_row else world.trainer.parameters
    parameters = world.blueprint.learning.stack.layout.pack(rows)
    events = None
    if world.log.events is not None:
        events = tuple(Event(t, NAMES[kind], *rest) for t, kind, *rest in world.log.events)
    totals = Totals(
        stopped_by=reason,
        virtual_seconds=world.loop.now / SECOND,
        wall_seconds=wall,
        traffic=replace(
            world.network.traffic,
            messages_late=sum(schedule.messages_late for schedule in schedules),
            deadlines_expired=sum(schedule.deadlines_expired for schedule in schedules),
        ),
        mean_batch=world.trainer.mean_batch,
    )
    digest = world.log.digest(parameters)
    return compose(
        world.blueprint, recorder, parameters, digest=digest, totals=totals, events=events
    )


@contextmanager
def fewer_collections() -> Iterator[None]:
    """Collect garbage once, then leave alone what is there and look more rarely, until the block ends.

    What a program froze before stays frozen: it knows its own objects, so none of them is looked at
    here.
    """
    is_ours = gc.get_freeze_count() == 0
    thresholds = gc.get_threshold()
    gc.collect()
    if is_ours:
        gc.freeze()
    gc.set_threshold(50_000, 50, 100)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        if is_ours:
            gc.unfreeze()
