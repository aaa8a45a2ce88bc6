"""The memory, disk and time that a run in the simulator will need, said before it starts.

Sizes follow from what a run holds: a few vectors of parameters and of learner's state per agent,
the arrays of the problem, weights and messages per edge, rows of the record. The constants were
measured on runs of 16 to 10,000 agents (tests/build/test_estimate.py compares them with runs).
Memory and disk are right within a factor of two there. Time is rougher: it depends on the
processor, of which a short loop is measured, and on the learner.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import ceil, log2
from pathlib import Path
from typing import Any

import numpy as np

from p2pfrl.learning.learners.base import Stack
from p2pfrl.scenario import Scenario
from p2pfrl.scenario.bind import instance_bytes, is_external

_MB = 1_000_000
_PROCESS, _TORCH, _FIGURES = 66 * _MB, 190 * _MB, 65 * _MB
"""Bytes of a process with what a run imports; of torch; and of what draws figures."""
_AGENT, _VECTORS, _STATES, _COPIES = 12_000, 5.5, 2.0, 2.0
"""Bytes of an agent's objects; how many vectors of parameters it has, and rows of the learner's
state (the trainer's and that of a result); copies of the problem's arrays while the record is
saved."""
_EDGE, _SAVED_EDGE, _SAVED_CROWD, _CROWD = 200, 700, 60, 8
"""Bytes of a directed edge: weight and a message under way; of that message in a checkpoint; of it
there where agents send to more than so many (simulator/crowds.py)."""
_ROW, _METRICS = 250, 4_000
"""Bytes in memory of a row of `agents.csv` and of `metrics.csv`."""
_EVENT, _EVENTS = 29, 2**24
"""Bytes of an event, and of those that are kept before they are written."""
_ROW_TEXT, _METRICS_TEXT, _EDGE_TEXT, _INTERVAL_TEXT = 85, 220, 11, 29
"""Bytes on disk of a row of either table, of an edge and of an interval of the timeline."""
_INTERVALS, _SHOWN = 20_000, 32
_SAVED_MESSAGE = 36
"""Bytes on disk of a message in a checkpoint, without its vector."""
_SMALL, _REPORT, _REPORT_AGENT = 10_000, 650_000, 600
"""Bytes on disk of the small files; of report and figures; and of those per agent, at most."""
_LONG = 30.0
"""Seconds of one core from which on a run may write checkpoints, which it does every minute."""
_START, _START_TORCH, _DRAW = 0.9, 1.7, 1.4
"""CPU seconds of imports, of those of torch, and of figures and report."""
_AGENT_ROUND, _MESSAGE, _BYTE = 45e-6, 9e-6, 0.6e-9
"""CPU seconds of a round of an agent without learning; of a message, and of each byte of it."""
_NEAR, _FARTHER = 2**18, 0.3
"""Messages under way at once up to which memory is near, and how much longer each takes with twice
as many."""
_STEP, _STEP_TORCH = 1.2e-6, 15e-6
"""CPU seconds of an environment step and acting."""
_TABLES, _STEP_TABLES = 30e-6, 0.2e-6
"""CPU seconds of an update of tables, where many agents are computed at once, and of its steps."""
_FLOP, _FLOP_TORCH = 1 / 45e9, 1 / 8e9
"""CPU seconds of an operation on a parameter."""
_LOOP, _LOOP_SECONDS = 30_000, 0.85e-3
"""A loop of so many steps took so long on the processor on which the constants were measured."""
_SAMPLES = 64
"""Agents whose rollouts are in memory at once."""


@dataclass(frozen=True)
class Estimate:
    """What a run will need.

    Attributes:
        memory: bytes at the peak.
        disk: bytes of the run directory in the end.
        disk_while_running: bytes of it at most.
        cpu_seconds: of one core of this machine, without environments that are no arrays (pace.py
            measures these).
    """

    memory: int
    disk: int
    disk_while_running: int
    cpu_seconds: float

    def shown(self) -> dict[str, Any]:
        """Return it with two digits, under the keys of `validate`."""
        return {
            "memory_about": _rough(self.memory),
            "disk_about": _rough(self.disk),
            "disk_running_about": _rough(self.disk_while_running),
            "cpu_seconds_about": float(f"{self.cpu_seconds:.2g}"),
        }


def estimate(
    scenario: Scenario,
    stack: Stack,
    *,
    messages: float,
    message_bytes: float,
    edges: int,
    draws: bool = True,
    factor: Callable[[], float] | None = None,
) -> Estimate:
    """Return what a run in the simulator will need.

    Args:
        scenario: what will run.
        stack: its learner, or the outline.
        messages: of a round, over all agents.
        message_bytes: of one of them, mean.
        edges: pairs of agents (sender, receiver).
        draws: whether figures and report are made.
        factor: returns how much slower than the measured one this processor is; None: measured.
    """
    n, traits = scenario.agents, stack.traits
    vector = traits.layout.stride * np.dtype(traits.layout.dtype).itemsize
    state, torch = _state(scenario, stack), _needs_torch(scenario, stack)
    problem, saved_problem = instance_bytes(scenario, stack)
    rounds = _rounds(scenario, stack)
    rows = n * rounds
    events = _EVENT * (2 * rows + 2 * messages * rounds)
    agent = _AGENT + _VECTORS * vector + _STATES * state + problem + _COPIES * saved_problem
    intervals = min(_INTERVALS, 3 * min(n, _SHOWN) * rounds)
    disk = (
        _SMALL
        + n * (traits.layout.size * np.dtype(traits.layout.dtype).itemsize + saved_problem)
        + _ROW_TEXT * rows
        + _METRICS_TEXT * rounds
        + _EDGE_TEXT * edges
        + _INTERVAL_TEXT * intervals
        + (_REPORT + _REPORT_AGENT * min(n, 1000)) * draws
    )
    work = rounds * (
        n * _AGENT_ROUND
        + messages * (_MESSAGE * _slower_with(edges) + _BYTE * message_bytes)
        + n * scenario.schedule.every * _update(scenario, stack)
    )
    seconds = _START + _START_TORCH * torch + _DRAW * draws + work
    seconds *= (factor or slower)()
    every = scenario.checkpoint.every
    is_saved = rounds >= every if isinstance(every, int) else seconds > _LONG
    saved = 2 * (n * (2 * vector + state) + _SAVED_MESSAGE * edges) * is_saved
    memory = (
        _PROCESS
        + _TORCH * torch
        + _FIGURES * draws
        + n * agent
        + (_EDGE + (_SAVED_CROWD if edges > _CROWD * n else _SAVED_EDGE) * is_saved) * edges
        + _ROW * rows
        + _METRICS * rounds
        + min(events, _EVENTS)
        + min(n, _SAMPLES) * traits.min_steps * 100
    )
    return Estimate(round(memory), round(disk), round(disk + events + saved), seconds)


def _slower_with(edges: int) -> float:
    """Return how much longer a message takes where so many may be under way: caches are small."""
    return 1.0 + _FARTHER * max(0.0, log2(max(1, edges) / _NEAR))


def slower(now: Callable[[], float] = time.process_time) -> float:
    """Return how much slower this processor is now than the one that was measured: >= 1/4."""
    took = []
    for _ in range(3):
        began, total = now(), 0
        for k in range(_LOOP):
            total += k & 7
        took.append(now() - began)
    return max(0.25, min(took) / _LOOP_SECONDS)


def available_memory(
    meminfo: Path = Path("/proc/meminfo"), limit: Path = Path("/sys/fs/cgroup/memory.max")
) -> int | None:
    """Return the bytes that this process may take; None where nobody says it."""
    found = list[int]()
    with suppress(OSError, KeyError, ValueError, IndexError):
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        found.append(1024 * int(fields["MemAvailable"].split()[0]))
    with suppress(OSError, ValueError):
        found.append(int(limit.read_text()))  # "max" is no number: there is no limit
    return min(found, default=None)


def available(directory: Path) -> tuple[int | None, int | None]:
    """Return the bytes of memory that there are, and those of disk where a directory will be."""
    there = next(
        path for path in (directory.absolute(), *directory.absolute().parents) if path.exists()
    )
    return available_memory(), shutil.disk_usage(there).free


def what_is_short(found: Mapping[str, Any], memory: int | None, disk: int | None) -> list[str]:
    """Return a sentence for what a run needs more of than there is.

    Args:
        found: `Estimate.shown`.
        memory: bytes that there are; None: it is not known.
        disk: likewise.
    """
    said = []
    if memory is not None and found["memory_about"] > memory:
        said.append(
            f"agents: the run needs about {amount(found['memory_about'])} of memory, and {amount(memory)} are "
            "available: take fewer agents, a smaller model, or another machine"
        )
    needed = found["disk_running_about"]
    if disk is not None and needed > disk:
        said.append(
            f"stop: the run needs about {amount(needed)} of disk, and {amount(disk)} are free: take fewer agents "
            "or rounds, or another directory (--out)"
        )
    return said


def amount(value: int) -> str:
    """Return bytes as people say them.

    >>> amount(1_500_000), amount(31_000_000_000)
    ('1.5 MB', '31 GB')
    """
    for unit, name in ((1_000_000_000, "GB"), (1_000_000, "MB")):
        if value >= unit:
            return f"{value / unit:.3g} {name}"
    return f"{value / 1000:.3g} kB"


def _rough(value: int) -> int:
    return int(float(f"{value:.2g}"))


def _rounds(scenario: Scenario, stack: Stack) -> int:
    """Return how many rounds there are at most, if agents never wait for messages."""
    stop, steps = scenario.stop, scenario.schedule.every * max(1, stack.traits.min_steps)
    found = list[float]()
    if stop.rounds is not None:
        found.append(stop.rounds)
    if stop.env_steps is not None:
        found.append(stop.env_steps / (scenario.agents * steps))
    if stop.virtual_time is not None and scenario.compute.seconds_per_env_step:
        found.append(stop.virtual_time / (scenario.compute.seconds_per_env_step * steps))
    return ceil(min(found, default=1))


def _state(scenario: Scenario, stack: Stack) -> float:
    """Return the bytes of one agent's row of the learner's state."""
    if is_external(scenario):
        layout = stack.traits.layout
        return len(stack.traits.moments) * layout.stride * np.dtype(layout.dtype).itemsize
    members = range(scenario.players)
    return sum(values.nbytes for values in stack.init(members).values()) / len(members)


def _needs_torch(scenario: Scenario, stack: Stack) -> bool:
    """Return whether a run imports torch.

    Learners with networks do, unless the native engine has their loss: those with a replay buffer
    compute it by autograd.
    """
    return any(
        hasattr(make.learner, "hidden")
        and (stack.traits.engine != "native" or hasattr(make.learner, "batch_size"))
        for make in scenario.makes
    )


def _update(scenario: Scenario, stack: Stack) -> float:
    """Return about the CPU seconds of one local update of an agent, without external steps."""
    traits, learner = stack.traits, scenario.makes[0].learner
    size, steps = int(traits.layout.size), traits.min_steps
    if scenario.makes[0].environment is None:
        return 2 * steps * size * size * 0.25e-9
    if traits.layout.dtype == "float64":
        return _TABLES + _STEP_TABLES * steps
    is_native = traits.engine == "native"
    step, flop = (_STEP, _FLOP) if is_native else (_STEP_TORCH, _FLOP_TORCH)
    samples = steps * getattr(learner, "update_epochs", 1)
    if (batch := getattr(learner, "batch_size", None)) is not None:
        samples = steps * batch / getattr(learner, "train_every", 1) / max(1, _instances(scenario))
    return steps * step + (6 * samples + 2 * steps) * size * flop


def _instances(scenario: Scenario) -> int:
    section = scenario.makes[0].environment
    return 1 if section is None else section.instances
