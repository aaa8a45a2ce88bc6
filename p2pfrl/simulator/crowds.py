"""Messages of large multicasts that are under way, and lines of messages at receivers' interfaces.

A complete graph of n agents has n (n - 1) messages under way at once. Each as an entry of the heap
would take over 200 bytes, and a heap of n^2 entries is slow. Here only the next message of every
multicast and of every line is in the heap; the others take 12 and 24 bytes.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from p2pfrl.core.state import State
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


@dataclass(frozen=True, slots=True)
class Calls:
    """Messages under way as columns of equal length.

    Attributes:
        times: `(m,)` when each arrives, or is handed over, nanoseconds.
        numbers: `(m,)` the sequences that were reserved for them.
        receivers: `(m,)` to whom.
    """

    times: NDArray[np.int64]
    numbers: NDArray[np.int64]
    receivers: NDArray[np.int32]


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

    @classmethod
    def again(
        cls,
        loop: VirtualTimeLoop,
        calls: Calls,
        sent: Sent,
        arrive: Callable[[int, int, Frame, int], None],
        in_line: Callable[[int, Sent], None],
    ) -> None:
        """Put back the messages of a multicast that had not arrived."""
        made = cls.__new__(cls)
        made._loop, made._sent, made._arrive, made._in_line = loop, sent, arrive, in_line
        made._number = int(calls.numbers.min())
        places = calls.numbers - made._number
        times, to = np.zeros(places.max() + 1, np.int64), np.zeros(places.max() + 1, np.int32)
        times[places], to[places] = calls.times, calls.receivers
        made._times, made._to = array("q", times.tobytes()), array("i", to.tobytes())
        order = places[np.lexsort((places, calls.times))][::-1].astype(np.int32)
        made._order = array("i", order.tobytes())
        made._post()

    def calls(self) -> Calls:
        """Return the messages that have not arrived, in any order."""
        places = np.array(self._order, np.int64)
        to = np.fromiter((self._to[place] for place in self._order), np.int32, len(places))
        return Calls(np.array(self._times, np.int64)[places], self._number + places, to)

    @property
    def sent(self) -> Sent:
        """The multicast."""
        return self._sent

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

    @classmethod
    def again(
        cls,
        loop: VirtualTimeLoop,
        calls: Calls,
        sent: Sequence[Sent],
        hand_over: Callable[[int, int, Frame], None],
    ) -> Line:
        """Return a line with the messages `sent` that had not been handed over, in order."""
        made = cls(loop, int(calls.receivers[0]), hand_over)
        made._messages.extend(sent)
        made._times = array("q", calls.times.tobytes())
        made._numbers = array("q", calls.numbers.tobytes())
        loop.post_as(made._times[0], made._numbers[0], made)
        return made

    def calls(self) -> Calls:
        """Return the messages that wait, in order."""
        count = len(self._messages)
        times, numbers = (
            np.array(values[len(values) - count :], np.int64)
            for values in (self._times, self._numbers)
        )
        return Calls(times, numbers, np.full(count, self._receiver, np.int32))

    @property
    def sent(self) -> Sequence[Sent]:
        """The multicasts of the messages that wait, in order."""
        return self._messages

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


def packed(groups: Sequence[Several]) -> State:
    """Return messages under way as columns, and each multicast once.

    So a message takes 25 bytes; as an entry of the heap it would take hundreds when it is saved.
    """
    multicasts: dict[int, int] = {}  # id of a `Sent`, which its group keeps alive -> its number
    table: list[tuple[int, Frame, int]] = []
    found: list[tuple[Calls, NDArray[np.int32], bool]] = []

    def number(sent: Sent) -> int:
        known = multicasts.get(id(sent))
        if known is None:
            known = multicasts[id(sent)] = len(table)
            table.append((sent.sender, sent.frame, sent.air))
        return known

    for group in groups:
        assert isinstance(group, Arrivals | Line), "the network posts no others"
        calls = group.calls()
        if isinstance(group, Line):
            sent = np.fromiter(map(number, group.sent), np.int32, len(calls.times))
        else:
            sent = np.full(len(calls.times), number(group.sent), np.int32)
        found.append((calls, sent, isinstance(group, Line)))
    if not found:
        return {}
    return {
        "multicasts": table,
        "times": np.concatenate([calls.times for calls, _, _ in found]),
        "numbers": np.concatenate([calls.numbers for calls, _, _ in found]),
        "receivers": np.concatenate([calls.receivers for calls, _, _ in found]),
        "sent": np.concatenate([sent for _, sent, _ in found]),
        "waits": np.concatenate([np.full(len(sent), waits) for _, sent, waits in found]),
    }


def last_number(state: State) -> int:
    """Return the last sequence reserved for the messages in what `packed` returned."""
    return int(state["numbers"].max()) if state else -1


def put_back(
    state: State,
    loop: VirtualTimeLoop,
    arrive: Callable[[int, int, Frame, int], None],
    in_line: Callable[[int, Sent], None],
    hand_over: Callable[[int, int, Frame], None],
) -> dict[int, Line]:
    """Put back what `packed` returned; the result has the lines by receiver.

    The other arguments are those of `Arrivals` and `Line`.
    """
    if not state:
        return {}
    multicasts = [Sent(*values) for values in state["multicasts"]]
    lines: dict[int, Line] = {}
    for sent, calls in _grouped(state, ~state["waits"], by=state["sent"]):
        Arrivals.again(loop, calls, multicasts[sent[0]], arrive, in_line)
    for sent, calls in _grouped(state, state["waits"], by=state["receivers"]):
        waiting = [multicasts[place] for place in sent]
        lines[int(calls.receivers[0])] = Line.again(loop, calls, waiting, hand_over)
    return lines


def _grouped(
    state: State, chosen: NDArray[np.bool_], by: NDArray[np.int32]
) -> Iterator[tuple[list[int], Calls]]:
    """Yield the multicasts and columns of chosen messages that are equal in `by`, by time."""
    times, numbers = state["times"][chosen], state["numbers"][chosen]
    receivers, sent, key = state["receivers"][chosen], state["sent"][chosen], by[chosen]
    order = np.lexsort((numbers, times, key))
    for place in np.split(order, np.flatnonzero(np.diff(key[order])) + 1):
        if place.size:
            yield sent[place].tolist(), Calls(times[place], numbers[place], receivers[place])
