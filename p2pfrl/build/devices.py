"""The device of minibatch steps: what `compute.device = "auto"` chooses, by measured time.

Results depend on the device, so a choice is made once: the record has it, and a run that is
repeated or goes on takes the same one (`using`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from threadpoolctl import threadpool_limits

from p2pfrl.build.modes import BUILDERS
from p2pfrl.core.causes import FOREIGN, cause
from p2pfrl.core.errors import P2PFRLError, ScenarioError
from p2pfrl.core.files import write_file
from p2pfrl.core.floats import allow_overflow
from p2pfrl.core.wording import show
from p2pfrl.learning.gpu import lacking
from p2pfrl.learning.learners.base import DeviceName, Stack
from p2pfrl.learning.trainer import Trainer
from p2pfrl.results.files import encode_json, read_bytes, refusing
from p2pfrl.scenario import Scenario
from p2pfrl.scenario.bind import learning

FILE = "device.json"
"""Name of the file in which an unfinished run has its choice."""
_TIMES = 3
"""Updates that are measured on each device, after a first one."""
_ON = "torch on "
"""How the name of an engine begins that computes elsewhere than on the processor."""
_KNOWN: ContextVar[Choice | None] = ContextVar("device", default=None)


class _UnmeasuredError(Exception):
    """An update cannot be measured; the message says why."""


@dataclass(frozen=True)
class Choice:
    """The device on which the agents of a process take their minibatch steps.

    Attributes:
        name: of the device.
        why: reason, in words; "": the scenario or a record names the device.
        seconds: device -> wall time of one update of all agents there, if it was measured.
        agents: how many these are.
    """

    name: DeviceName
    why: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)
    agents: int = 0

    def applied(self, scenario: Scenario) -> Scenario:
        """Return the scenario with this device."""
        if scenario.compute.device == self.name:
            return scenario
        return replace(scenario, compute=replace(scenario.compute, device=self.name))

    @property
    def record(self) -> dict[str, Any]:
        """What the summary of a run says of it; nothing if nothing was chosen."""
        if not self.why:
            return {}
        measured = {"seconds": dict(self.seconds), "agents": self.agents} if self.seconds else {}
        return {"name": self.name, "why": self.why, **measured}

    @property
    def said(self) -> str:
        """What the user hears of it: nothing where there is no GPU, so that there was no choice."""
        is_told = self.seconds or (self.why and not lacking())
        return f"compute.device: 'auto' is {self.name!r}: {self.why}" if is_told else ""


def keep(choice: Choice, folder: Path) -> None:
    """Write a choice into a folder, for the run that goes on from there.

    Raises:
        OSError: it cannot be written.
    """
    if choice.record:
        write_file(folder / FILE, encode_json(choice.record))


def kept(folder: Path) -> Choice | None:
    """Return the choice that a folder has; None if there is none.

    Raises:
        RecordError: the file is damaged.
    """
    path = folder / FILE
    if not path.exists():
        return None
    with refusing(path):
        found = json.loads(read_bytes(path))
        if found["name"] not in get_args(DeviceName):
            raise ValueError(f"expected cpu or cuda, got {show(found['name'])}")
        times = {str(name): float(time) for name, time in found.get("seconds", {}).items()}
        agents = int(found.get("agents", 0))
        return Choice(found["name"], str(found["why"]), times, agents)


def choice_of_engine(engine: str) -> Choice:
    """Return the device that a record's engine names (`Traits.engine`).

    Processes of one run may have had several: the processor then.
    """
    return Choice("cuda" if engine == f"{_ON}cuda" else "cpu")


def is_elsewhere(stack: Stack) -> bool:
    """Whether a learner takes its minibatch steps elsewhere than on the processor."""
    return stack.traits.engine.startswith(_ON)


@contextmanager
def using(choice: Choice | None) -> Iterator[None]:
    """Let "auto" be what it was before, in the block: nothing is measured; None: it chooses."""
    token = _KNOWN.set(choice)
    try:
        yield
    finally:
        _KNOWN.reset(token)


def chosen(
    scenario: Scenario,
    agents: int,
    measure: Callable[[Scenario, int], float] | None = None,
) -> Choice:
    """Return the device on which so many agents take their minibatch steps.

    With "auto" it is that on which an update of all of them takes less time, in one process. There
    is no choice, and nothing is measured, without a GPU or where the learner needs the processor.

    Args:
        scenario: of the run.
        agents: that train in this process.
        measure: (scenario that names a device, agents) -> seconds of an update; None: it is tried.
    """
    named = scenario.compute.device
    if named != "auto":
        return Choice(named)
    if (known := _KNOWN.get()) is not None:
        return known
    if why := _without_choice(scenario, agents):
        return Choice("cpu", why)
    seconds: dict[str, float] = {}
    names: tuple[DeviceName, ...] = ("cuda", "cpu")
    for name in names:
        try:
            seconds[name] = (measure or measured)(Choice(name).applied(scenario), agents)
        except _UnmeasuredError as error:
            return Choice("cpu", str(error))
        except ScenarioError as error:
            text = str(error).removeprefix("compute.device: ").removesuffix("; use 'cpu'")
            return Choice("cpu", text)
        except FOREIGN as error:
            text = str(error) if isinstance(error, P2PFRLError) else cause(error)
            return Choice("cpu", f"an update on {name!r} failed: {text}")
    times = " and ".join(f"{seconds[name]:.3g} s on {name!r}" for name in names[::-1])
    best: DeviceName = "cuda" if seconds["cuda"] < seconds["cpu"] else "cpu"
    return Choice(best, f"an update of {agents:,} agents takes {times}", seconds, agents)


def _without_choice(scenario: Scenario, agents: int) -> str:
    """Return why only the processor can compute, as far as it is known at once; "" if not."""
    if scenario.compute.engine == "native":
        return "engine 'native' computes on the processor"
    if not agents:
        return "no agent trains in this process"
    if why := lacking():
        return why
    sections = (make.environment for make in scenario.makes)
    if not all(section is None or section.rule.is_saved_whole for section in sections):
        return (
            "environments of this kind keep what no array holds, so that nothing is tried in them"
        )
    return ""


def measured(scenario: Scenario, agents: int) -> float:
    """Return the seconds of one update of `agents` with the device that a scenario names.

    One batch is computed, of as many agents as the learner takes at once, and more take
    proportionally longer. It is the median of three updates after a first one.

    Raises:
        P2PFRLError: there is no code for the device, or an update failed.
    """
    builder = BUILDERS[scenario.mode]()
    limits = allow_overflow(), threadpool_limits(1, "blas")
    with closing(learning(builder.plain(scenario))) as made, limits[0], limits[1]:
        stack = builder.trained(made.stack)
        members = stack.traits.members
        most = max(members, stack.traits.chunk - stack.traits.chunk % members)
        ids = range(min(most, -(-agents // members) * members))
        trainer, times = Trainer(stack, ids, same_start=scenario.learner.same_start), []
        for _ in range(1 + _TIMES):
            began = time.perf_counter()
            trainer.update(ids)
            times.append(time.perf_counter() - began)
        if trainer.transitions:
            raise _UnmeasuredError("agents of this mode collect experience and do not learn")
    return sorted(times[1:])[_TIMES // 2] * agents / len(ids)
