"""Timeline of a run: training, sending and waiting of coordinators and the first agents."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from p2pfrl.core.state import State
from p2pfrl.core.units import SECOND
from p2pfrl.results.record import Interval

_MAX_INTERVALS = 20_000
_AGENTS = 32
_LATEST = 384


class Timeline:
    """Activities of agents, in order.

    Attributes:
        latest: the last intervals of training and sending of the first agents and coordinators.

    Args:
        now: the clock, nanoseconds.
    """

    def __init__(self, now: Callable[[], int]) -> None:
        self.latest: deque[tuple[int, str, int, int]] = deque(maxlen=_LATEST)
        self._now = now
        self._noted: list[Interval] = []
        self._free_since: dict[int, int] = {}

    @property
    def intervals(self) -> list[Interval]:
        """Intervals of the first agents and coordinators, in order, from the beginning of the run.

        An agent that sends while it trains, as it does to answer, does not wait before it sends.
        """
        trained: dict[int, list[Interval]] = {}
        for interval in self._noted:
            if interval.kind == "train":
                trained.setdefault(interval.agent, []).append(interval)
        found: list[Interval] = []
        for interval in self._noted:
            if interval.kind == "wait":
                found += _without(interval, trained.get(interval.agent, ()))
            else:
                found.append(interval)
        return found

    def interval(self, agent: int, kind: str, start: int, end: int) -> None:
        """Add an interval of training or sending. The time between intervals is waiting.

        After a maximum number of intervals, only training is added that began before.
        """
        if not -_AGENTS <= agent < _AGENTS:
            return
        self.latest.append((agent, kind, start, end))
        if (
            len(self._noted) >= _MAX_INTERVALS
            and start / SECOND >= self._noted[_MAX_INTERVALS - 1].start
        ):
            return
        free = self._free_since.get(agent, 0)
        if start > free:
            self._noted.append(Interval(agent, "wait", free / SECOND, start / SECOND))
        self._noted.append(Interval(agent, kind, start / SECOND, end / SECOND))  # type: ignore[arg-type]
        self._free_since[agent] = max(free, end)

    def came(self, agent: int) -> None:
        """Record that an agent or coordinator is there again: it waits from now on."""
        self._free_since[agent] = self._now()

    def save(self) -> State:
        """Return the state."""
        return {
            "intervals": [tuple(interval) for interval in self._noted],
            "free_since": dict(self._free_since),
        }

    def restore(self, state: State) -> None:
        """Restore a state that `save` returned."""
        self._noted = [Interval(*interval) for interval in state["intervals"]]
        self._free_since = dict(state["free_since"])


def _without(wait: Interval, trained: Sequence[Interval]) -> Iterator[Interval]:
    """Yield the parts of a wait in which its agent did not train.

    Args:
        wait: an interval.
        trained: those of the agent's training, in order and apart from each other.
    """
    start = wait.start
    for training in trained[bisect_right(trained, start, key=lambda one: one.end) :]:
        if training.start >= wait.end:
            break
        if start < training.start:
            yield wait._replace(start=start, end=training.start)
        start = training.end
    if start < wait.end:
        yield wait._replace(start=start)
