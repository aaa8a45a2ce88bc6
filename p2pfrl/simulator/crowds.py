"""Messages of large multicasts that are under way, and lines of messages at receivers' interfaces.

A complete graph of n agents has n (n - 1) messages under way at once. Each as an entry of the heap
would take over 200 bytes, and a heap of n^2 entries is slow. Here only the next message of every
multicast and of every line is in the heap; the others take 12 and 24 bytes.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

from typing_extensions import override

from p2pfrl.core.types import Frame
from p2pfrl.simulator.loop import Entry, Several, VirtualTimeLoop

_LEFT = 64
"""Times of messages that have left a line, kept until there are so many: dropping them costs."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A multicast.

    Attributes:
        sender: who sent it.
        frame: what it sent.
        air: nanoseconds for which a message occupies an interface.
    """

    sender: int
    frame: Frame
    air: int


class Arrivals(Several):
    """The messages of one multicast that have not arrived.

    Args:
        loop: the clock.
        times: when each arrives, nanoseconds.
        to: the receivers, in the order in which the messages were sent.
        sent: the multicast.
        arrive: called at each of these times, as `Network.arrive`.
        in_line: called in its place, with the receiver and the multicast.
    """

    __slots__ = ("_arrive", "_in_line", "_loop", "_number", "_order", "_sent", "_times", "_to")

    def __init__(
        self,
        loop: VirtualTimeLoop,
        times: Sequence[int],
        to: Sequence[int],
        sent: Sent,
        arrive: Callable[[int, int, Frame, int], None],
        in_line: Callable[[int, Sent], None],
    ) -> None:
        self._loop, self._to, self._sent = loop, to, sent
        self._arrive, self._in_line = arrive, in_line
        self._times = array("q", times)
        self._order = array("i", sorted(range(len(times)), key=times.__getitem__))
        self._order.reverse()
        self._number = loop.reserve(len(times))
        self._post()

    def _post(self) -> None:
        place = self._order[-1]
        self._loop.post_as(self._times[place], self._number + place, self)

    @override
    def first(self) -> None:
        order = self._order
        receiver = self._to[order.pop()]
        if order:
            self._post()
        self._in_line(receiver, self._sent)

    @override
    def __len__(self) -> int:
        return len(self._order)

    @override
    def entries(self, most: int | None = None) -> list[Entry]:
        sent, arrive = self._sent, self._arrive
        return [
            (
                self._times[place],
                self._number + place,
                arrive,
                (sent.sender, self._to[place], sent.frame, sent.air),
            )
            for place in self._order[-most if most else 0 :]
        ]


class Line(Several):
    """The messages that wait for the interface of one receiver, first in, first out.

    Args:
        loop: the clock.
        receiver: whose interface.
        hand_over: called with sender, receiver and frame when the interface has received a message.
    """

    __slots__ = ("_hand_over", "_loop", "_messages", "_numbers", "_receiver", "_times")

    def __init__(
        self,
        loop: VirtualTimeLoop,
        receiver: int,
        hand_over: Callable[[int, int, Frame], None],
    ) -> None:
        self._loop, self._receiver, self._hand_over = loop, receiver, hand_over
        self._messages: deque[Sent] = deque()
        self._times, self._numbers = array("q"), array("q")  # and those of some that have left

    def join(self, when: int, sent: Sent) -> None:
        """Let a message wait that is handed over at `when`, after all others that wait."""
        number = self._loop.reserve(1)
        self._messages.append(sent)
        self._times.append(when)
        self._numbers.append(number)
        if len(self._messages) == 1:
            self._loop.post_as(when, number, self)

    @override
    def first(self) -> None:
        sent = self._messages.popleft()
        waiting, times, numbers = len(self._messages), self._times, self._numbers
        if len(times) > 2 * waiting + _LEFT:
            del times[: -waiting or len(times)], numbers[: -waiting or len(numbers)]
        if waiting:
            self._loop.post_as(times[-waiting], numbers[-waiting], self)
        self._hand_over(sent.sender, self._receiver, sent.frame)

    @override
    def __len__(self) -> int:
        return len(self._messages)

    @override
    def entries(self, most: int | None = None) -> list[Entry]:
        count = len(self._messages)
        ahead = zip(self._times[-count:], self._numbers[-count:], self._messages, strict=True)
        return [
            (when, number, self._hand_over, (sent.sender, self._receiver, sent.frame))
            for when, number, sent in islice(ahead, most)
        ]
