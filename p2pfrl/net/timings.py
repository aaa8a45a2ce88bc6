"""Times of frames and updates in one process, for `p2pfrl calibrate`.

Messages between agents of one process are not in it: they take no time that a network could be
blamed for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from p2pfrl.core.errors import RecordError
from p2pfrl.core.files import write_atomically

LIMIT = 50_000
_FILE_LIMIT = 2**28


@dataclass(frozen=True, slots=True)
class Sent:
    """A frame left for agents of other processes; times in nanoseconds of the process's clock."""

    sender: int
    to: tuple[int, ...]
    sequence: int
    round: int
    nbytes: int
    time: int


@dataclass(frozen=True, slots=True)
class Arrived:
    """A frame of an agent of another process arrived whole and was checked."""

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
        agents: ids that live there.
        round_trips: smallest round trip in seconds that the kernel measured to a neighbor's
            process, by an agent there.
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
        timings: what was noted.

    Args:
        timings: to be filled.
        now: nanoseconds of the process's clock.
    """

    def __init__(self, timings: Timings, now: Callable[[], int]) -> None:
        self.timings = timings
        self._now = now
        self._starts: dict[int, int] = {}

    def sends(self, sender: int, to: Sequence[int], sequence: int, round: int, nbytes: int) -> None:
        """A frame is handed to the links."""
        if to and len(self.timings.sent) < LIMIT:
            self.timings.sent.append(Sent(sender, tuple(to), sequence, round, nbytes, self._now()))

    def arrives(self, receiver: int, sender: int, sequence: int, round: int) -> None:
        """A frame arrived."""
        if len(self.timings.arrived) < LIMIT:
            self.timings.arrived.append(Arrived(receiver, sender, sequence, round, self._now()))

    def starts(self, agent: int) -> None:
        """A local update starts."""
        self._starts[agent] = self._now()

    def ends(self, agent: int, env_steps: int) -> None:
        """A local update ends."""
        if len(self.timings.worked) < LIMIT:
            self.timings.worked.append(Worked(agent, self._starts[agent], self._now(), env_steps))


def write_timings(path: Path, timings: Timings) -> None:
    """Write a file that appears whole or not at all."""
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
    """Return the content of a file of timings.

    Raises:
        RecordError: it is missing, or not such a file.
    """
    try:
        if path.stat().st_size > _FILE_LIMIT:
            raise RecordError(f"{path}: more than {_FILE_LIMIT} bytes")
        found = json.loads(path.read_text(encoding="utf-8"))
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
        raise RecordError(f"{path}: not the times of a peer: {error}") from error
