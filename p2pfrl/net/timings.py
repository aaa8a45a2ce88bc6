"""Times of frames and updates in one process, for `p2pfrl calibrate` and whoever watches it.

Messages between agents of one process are left out, because they pass no network.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from p2pfrl.core.errors import RecordError
from p2pfrl.core.files import read_regular, unreadable, write_atomically
from p2pfrl.core.units import SECOND

LIMIT = 50_000
LATEST = 64
"""Number of frames and updates that the status of a process has; of arrivals four times as many."""
_FILE_LIMIT = 2**28


@dataclass(frozen=True, slots=True)
class Sent:
    """A frame was sent to agents of other processes.

    Times are nanoseconds of the process's clock.
    """

    sender: int
    to: tuple[int, ...]
    sequence: int
    round: int
    nbytes: int
    time: int


@dataclass(frozen=True, slots=True)
class Arrived:
    """A frame of another process's agent was received completely and checked."""

    receiver: int
    sender: int
    sequence: int
    round: int
    time: int


@dataclass(frozen=True, slots=True)
class Worked:
    """A local update of an agent, from start to end."""

    agent: int
    start: int
    end: int
    env_steps: int


@dataclass(slots=True)
class Timings:
    """The first `LIMIT` events of each kind in one process.

    Attributes:
        scenario: hash of the scenario.
        agents: ids of the process's agents.
        round_trips: an agent of a neighboring process -> smallest round trip to it in seconds that
            the kernel measured.
    """

    scenario: str
    agents: tuple[int, ...]
    sent: list[Sent] = field(default_factory=list)
    arrived: list[Arrived] = field(default_factory=list)
    worked: list[Worked] = field(default_factory=list)
    round_trips: dict[int, float] = field(default_factory=dict)


class Stopwatch:
    """Records times while a process runs.

    Attributes:
        timings: the first times.

    Args:
        timings: object to fill.
        now: nanoseconds of the process's clock.
    """

    def __init__(self, timings: Timings, now: Callable[[], int]) -> None:
        self.timings = timings
        self._now = now
        self._starts: dict[int, int] = {}
        self._sent: deque[Sent] = deque(maxlen=LATEST)
        self._arrived: deque[Arrived] = deque(maxlen=4 * LATEST)
        self._worked: deque[Worked] = deque(maxlen=LATEST)

    def sends(self, sender: int, to: Sequence[int], sequence: int, round: int, nbytes: int) -> None:
        """Record that a frame is given to the links."""
        if to:
            sent = Sent(sender, tuple(to), sequence, round, nbytes, self._now())
            self._sent.append(sent)
            if len(self.timings.sent) < LIMIT:
                self.timings.sent.append(sent)

    def arrives(self, receiver: int, sender: int, sequence: int, round: int) -> None:
        """Record that a frame arrived."""
        arrived = Arrived(receiver, sender, sequence, round, self._now())
        self._arrived.append(arrived)
        if len(self.timings.arrived) < LIMIT:
            self.timings.arrived.append(arrived)

    def starts(self, agent: int) -> None:
        """Record the start of a local update."""
        self._starts[agent] = self._now()

    def ends(self, agent: int, env_steps: int) -> None:
        """Record the end of a local update."""
        worked = Worked(agent, self._starts[agent], self._now(), env_steps)
        self._worked.append(worked)
        if len(self.timings.worked) < LIMIT:
            self.timings.worked.append(worked)

    def latest(self) -> dict[str, list[list[Any]]]:
        """Return the last times, in seconds.

        `sent` has [sender, receivers, sequence, time], `arrived` [receiver, sender, sequence, time]
        and `worked` [agent, start, end].
        """
        return {
            "sent": [[s.sender, list(s.to), s.sequence, s.time / SECOND] for s in self._sent],
            "arrived": [[a.receiver, a.sender, a.sequence, a.time / SECOND] for a in self._arrived],
            "worked": [[w.agent, w.start / SECOND, w.end / SECOND] for w in self._worked],
        }


def write_timings(path: Path, timings: Timings) -> None:
    """Write the file atomically."""
    rows = {
        name: [list(asdict(row).values()) for row in getattr(timings, name)]
        for name in ("sent", "arrived", "worked")
    }
    text = json.dumps(
        {
            "scenario": timings.scenario,
            "agents": list(timings.agents),
            **rows,
            "round_trips": [[agent, seconds] for agent, seconds in timings.round_trips.items()],
        }
    )
    write_atomically(path, text.encode())


def read_timings(path: Path) -> Timings:
    """Return the timings in a file.

    Raises:
        RecordError: it is missing, or not such a file.
    """
    try:
        found = json.loads(read_regular(path, _FILE_LIMIT))
        return Timings(
            str(found["scenario"]),
            tuple(map(int, found["agents"])),
            [Sent(int(s), tuple(map(int, to)), *map(int, rest)) for s, to, *rest in found["sent"]],
            [Arrived(*map(int, row)) for row in found["arrived"]],
            [Worked(*map(int, row)) for row in found["worked"]],
            {int(agent): float(seconds) for agent, seconds in found["round_trips"]},
        )
    except OSError as error:
        raise RecordError(
            f"{path}: cannot be read: {error.strerror}; is it a peer's directory?"
        ) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RecordError(f"{path}: not the times of a peer: {unreadable(error)}") from error
