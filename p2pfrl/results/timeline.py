"""Timeline of a run: training, sending and waiting of coordinators and the first agents."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from p2pfrl.core.state import State
from p2pfrl.core.units import SECOND
from p2pfrl.results.record import Interval

_MAX_INTERVALS = 20_000
_AGENTS = 32
_LATEST = 384


class Timeline:
    """Activities of agents, in order.

    Attributes:
        intervals: intervals of the first agents and coordinators, up to a maximum number.
        latest: their last intervals of training and sending, also after that number.

    Args:
        now: the clock, nanoseconds.
    """

    def __init__(self, now: Callable[[], int]) -> None:
        self.intervals: list[Interval] = []
        self.latest: deque[tuple[int, str, int, int]] = deque(maxlen=_LATEST)
        self._now = now
        self._free_since: dict[int, int] = {}

    def interval(self, agent: int, kind: str, start: int, end: int) -> None:
        """Add an interval of training or sending. The time between intervals is waiting."""
        if not -_AGENTS <= agent < _AGENTS:
            return
        self.latest.append((agent, kind, start, end))
        if len(self.intervals) >= _MAX_INTERVALS:
            return
        free = self._free_since.get(agent, 0)
        if start > free:
            self.intervals.append(Interval(agent, "wait", free / SECOND, start / SECOND))
        self.intervals.append(Interval(agent, kind, start / SECOND, end / SECOND))  # type: ignore[arg-type]
        self._free_since[agent] = max(free, end)

    def came(self, agent: int) -> None:
        """Record that an agent or coordinator is there again: it waits from now on."""
        self._free_since[agent] = self._now()

    def save(self) -> State:
        """Return the state."""
        return {
            "intervals": [tuple(interval) for interval in self.intervals],
            "free_since": dict(self._free_since),
        }

    def restore(self, state: State) -> None:
        """Restore a state that `save` returned."""
        self.intervals = [Interval(*interval) for interval in state["intervals"]]
        self._free_since = dict(state["free_since"])
