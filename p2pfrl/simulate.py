"""Run a scenario in the simulated world and return its record."""

from __future__ import annotations

import gc
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pfrl import __version__
from p2pfrl.build import World, build
from p2pfrl.consensus.mixing import Mixing
from p2pfrl.consensus.theory import predict
from p2pfrl.results.record import AGENTS, METRICS, PHYSICS, Record, save
from p2pfrl.results.recorder import Row
from p2pfrl.results.trace import Event
from p2pfrl.scenario import Scenario
from p2pfrl.scenario.render import resolved
from p2pfrl.world.digest import NAMES
from p2pfrl.world.loop import SECOND

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
    with _fewer_collections():
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


@contextmanager
def _fewer_collections() -> Iterator[None]:
    """Let the garbage collector leave alone what is there already: a world is many small objects that live on."""
    gc.collect()
    gc.freeze()
    thresholds = gc.get_threshold()
    gc.set_threshold(50_000, 50, 100)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


def _record(scenario: Scenario, world: World, reason: str, wall: float) -> Record:
    recorder, stack = world.recorder, world.blueprint.learning.stack
    rows = recorder.current if recorder.stopped_at_row else world.trainer.parameters
    parameters = stack.layout.pack(rows)
    physics = {
        PHYSICS + name: values.astype(np.float64)
        for name, values in world.blueprint.learning.physics.items()
        if values.ndim == 1 and np.ptp(values.astype(np.float64)) > 0
    }
    events = None
    if world.log.events is not None:
        events = tuple(Event(t, NAMES[kind], *rest) for t, kind, *rest in world.log.events)
    lambda_2 = None
    if world.blueprint.mode.mixes and not scenario.schedule.is_asynchronous:
        lambda_2 = predict(world.blueprint.view, world.blueprint.mixing).lambda_2
    return Record(
        scenario=resolved(scenario),
        summary=_summary(scenario, world, reason, wall, world.log.digest(parameters)),
        metrics=_columns(recorder.rows),
        agents=_agent_columns(recorder.agent_rows, physics),
        parameters=parameters,
        layout=tuple((tensor.name, tensor.shape) for tensor in stack.layout.tensors),
        problem=world.blueprint.learning.instance,
        graph=world.blueprint.view.union,
        lambda_2=lambda_2,
        staleness=np.array(recorder.staleness, dtype=np.int64),
        timeline=tuple(recorder.intervals),
        heterogeneity=world.blueprint.learning.heterogeneity,
        events=events,
    )


def _columns(rows: Sequence[Row]) -> dict[str, NDArray[np.float64]]:
    names = rows[0] if rows else METRICS
    return {name: np.array([row[name] for row in rows], dtype=np.float64) for name in names}


def _agent_columns(rows: Sequence[Row], physics: dict[str, NDArray[np.float64]]) -> dict[str, NDArray[Any]]:
    names = dict.fromkeys((*AGENTS, *(name for row in rows for name in row)))
    table: dict[str, NDArray[Any]] = {}
    for name in names:
        kind = np.int64 if name in ("round", "agent", "episodes", "bytes_sent") else np.float64
        table[name] = np.array([row.get(name, np.nan) for row in rows], dtype=kind)
    own = {name: values[table["agent"]] for name, values in physics.items()} if rows else {}
    return {name: table[name] for name in AGENTS} | own | {n: c for n, c in table.items() if n not in AGENTS}


def _summary(scenario: Scenario, world: World, reason: str, wall: float, digest: str) -> dict[str, Any]:
    recorder, network = world.recorder, world.network
    schedules = world.simulation.schedules()
    last = recorder.rows[-1] if recorder.rows else {}
    returns = np.array([entry.returns for entry in recorder.latest() if np.isfinite(entry.returns)])
    target = scenario.stop.target_return
    reached = next((row for row in recorder.rows if target is not None and row["return_mean"] >= target), None)
    lags = np.repeat(np.arange(len(recorder.staleness)), recorder.staleness)
    return {
        "name": scenario.name,
        "mode": scenario.mode,
        "seed": scenario.seed,
        "agents": scenario.agents,
        "parameters": world.blueprint.learning.stack.layout.size,
        "digest": digest,
        "stopped_by": reason,
        "rounds": int(last.get("round", 0)),
        "virtual_seconds": world.loop.now / SECOND,
        "wall_seconds": wall,
        "env_steps": recorder.env_steps,
        "messages_sent": network.messages_sent,
        "messages_delivered": network.messages_delivered,
        "messages_dropped": network.messages_dropped,
        "messages_late": sum(schedule.messages_late for schedule in schedules),
        "deadlines_expired": sum(schedule.deadlines_expired for schedule in schedules),
        "bytes_sent": network.bytes_sent,
        "final_return": {
            "mean": _finite(returns.mean()) if returns.size else None,
            "min": _finite(returns.min()) if returns.size else None,
            "max": _finite(returns.max()) if returns.size else None,
            "iqm": _interquartile_mean(returns) if returns.size else None,
        },
        "evaluation": {
            "own": _finite(last.get("evaluation_own")),
            "mean_parameters": _finite(last.get("evaluation_mean_parameters")),
        },
        "target_reached": None if target is None else reached is not None,
        "time_to_target": None if reached is None else {
            "rounds": int(reached["round"]),
            "env_steps": int(reached["env_steps"]),
            "virtual_seconds": reached["virtual_seconds"],
            "bytes": int(reached["bytes_sent"]),
        },
        "initial_consensus_distance": recorder.initial_distance,
        "consensus_distance": _finite(last.get("consensus_distance")),
        "mean_drift": _finite(last.get("mean_drift")),
        "staleness": {
            "mean": float(lags.mean()) if lags.size else 0.0,
            "p95": float(np.percentile(lags, 95)) if lags.size else 0.0,
            "max": int(lags.max()) if lags.size else 0,
        },
        "mean_batch": world.trainer.mean_batch,
        "versions": versions(),
    }  # fmt: skip


def versions() -> dict[str, str]:
    """Return what a digest depends on besides the scenario: package versions and the processor type."""
    from importlib.metadata import version

    return {
        "p2pfrl": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in ("numpy", "torch", "gymnasium", "msgpack")},
        "machine": platform.machine(),
    }


def _finite(value: float | np.floating | None) -> float | None:
    return float(value) if value is not None and np.isfinite(value) else None


def _interquartile_mean(values: NDArray[np.float64]) -> float:
    """Return the mean without the lowest and highest quarter: scipy's `trim_mean(values, 0.25)`."""
    cut = int(0.25 * len(values))
    return float(np.sort(values)[cut : len(values) - cut].mean())
