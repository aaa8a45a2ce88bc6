"""Availability traces: when each agent takes part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from p2pfrl.core.errors import P2PFRLError
from p2pfrl.core.files import OversizeError, read_regular
from p2pfrl.core.text import EncodingError, decode
from p2pfrl.core.units import SECOND, seconds

_LIMIT = 2**20


@dataclass(frozen=True, slots=True)
class Presence:
    """For each agent in the trace, its available intervals (from, until) in seconds."""

    intervals: Mapping[int, Sequence[tuple[float, float]]]

    @classmethod
    def read(cls, path: str | Path, agents: int) -> Presence:
        """Read lines `agent,from,until`; durations have units or are seconds; `#` starts a comment.

        Raises:
            P2PFRLError: with the line that cannot be read.
        """
        file = Path(path)
        try:
            content = read_regular(file, _LIMIT)
            lines = decode(content).splitlines()
        except OversizeError as error:
            raise P2PFRLError(
                f"{path}: an availability trace has at most {_LIMIT} bytes"
            ) from error
        except EncodingError as error:
            raise P2PFRLError(f"{path}:{error.line}:{error.column}: {error}") from error
        except OSError as error:
            reason = error.strerror or error
            raise P2PFRLError(f"{path}: cannot read the availability trace: {reason}") from error
        intervals: dict[int, list[tuple[float, float]]] = {}
        for number, line in enumerate(lines, start=1):
            text = line.partition("#")[0].strip()
            if not text or text.replace(" ", "") == "agent,from,until":
                continue
            try:
                agent, start, end = (field.strip() for field in text.split(","))
                interval = seconds(_plain(start)), seconds(_plain(end))
                if not 0 <= int(agent) < agents or interval[1] <= interval[0]:
                    raise ValueError
            except ValueError as error:
                raise P2PFRLError(
                    f"{path}:{number}: expected `agent,from,until` with an agent below {agents} and until after from, "
                    f"such as `3,10s,20s`, got {text!r}"
                ) from error
            intervals.setdefault(int(agent), []).append(interval)
        if not intervals:
            raise P2PFRLError(f"{path}: expected lines such as `3,10s,20s`, got none")
        return cls(intervals)

    def has(self, agent: int) -> bool:
        """Whether the trace names `agent`; other agents are always available."""
        return agent in self.intervals

    def end(self, agents: int) -> float | None:
        """Return the second from which no agent is available; None if some always are."""
        if not all(self.has(agent) for agent in range(agents)):
            return None
        return max((until for there in self.intervals.values() for _, until in there), default=None)

    def next(self, agent: int, now: int) -> int | None:
        """Return the first nanosecond from `now` on at which `agent` is there; None for never."""
        if self.is_there(agent, now / SECOND):
            return now
        starts = [start for start, _ in self.intervals[agent] if start > now / SECOND]
        if not starts:
            return None
        first = ceil(min(starts) * SECOND)
        return first if first / SECOND >= min(starts) else first + 1

    def first(self, agents: int, now: int) -> int | None:
        """Return the first nanosecond from `now` on at which any agent is there."""
        if not all(self.has(agent) for agent in range(agents)):
            return now
        times = [self.next(agent, now) for agent in range(agents)]
        return min((time for time in times if time is not None), default=None)

    def is_there(self, agent: int, time: float) -> bool:
        """Whether `agent` is available at `time` seconds."""
        return any(start <= time < end for start, end in self.intervals[agent])


def _plain(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text
