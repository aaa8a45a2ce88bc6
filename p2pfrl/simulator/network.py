"""The network model: interfaces with bandwidth, links with latency and loss.

Every node has one full-duplex interface, which is first-in first-out at both ends. A message of s
bytes on a link of rate r occupies the sender's interface for s / r, travels for the link's latency,
and occupies the receiver's interface for s / r. Both ends overlap where the receiver is idle. Many
messages to one coordinator therefore queue at its interface. Every message passes the codec before
it gets here; sizes are frame bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, TypeVar

from typing_extensions import override

from p2pfrl.core.errors import AgentError, WireError
from p2pfrl.core.rng import MessagePurpose, draw
from p2pfrl.core.state import State, Stateful, copied
from p2pfrl.core.traffic import Traffic
from p2pfrl.core.types import SKIP, Event, Frame, Missing, Received
from p2pfrl.core.units import SECOND
from p2pfrl.core.wire import Decoder
from p2pfrl.simulator.crowds import Arrivals, Line, Sent, packed, put_back
from p2pfrl.simulator.digest import DELIVER, DROP, SEND, Log
from p2pfrl.simulator.links import Latency
from p2pfrl.simulator.loop import VirtualTimeLoop
from p2pfrl.simulator.losses import LinkLosses

_FEW = 8
"""Number of receivers up to which each message of a multicast is posted by itself: it is faster."""


class Network(Stateful):
    """Carries frames between nodes 0..n-1 and, at -1, -2, ..., the coordinators.

    Attributes:
        traffic: totals so far.
        refused: sender -> how many of its messages receivers have refused.

    Args:
        loop: the clock.
        nodes: number of agents n.
        coordinators: how many there are.
        standbys: ids of the coordinator's standbys.
        decoder: checks every frame before it is delivered.
        log: of all events.
        latency, loss: of the links.
        bandwidth: of an interface, bytes per second.
        slower: nodes whose interface is slower than that -> bytes per second.
        edge_bandwidth: caps single edges.
        duplicate: probability that a message arrives twice.
        seed: of the draws for duplicates and for losses by faults.
        byzantine: agents whose messages may be refused. The messages of others never are.
    """

    STATE: ClassVar[tuple[str, ...]] = (
        "extra_loss",
        "group",
        "_sending_until",
        "_receiving_until",
        "_number",
    )

    def __init__(
        self,
        loop: VirtualTimeLoop,
        nodes: int,
        *,
        coordinators: int = 1,
        standbys: Sequence[int] = (),
        decoder: Decoder,
        log: Log,
        latency: Latency,
        loss: LinkLosses,
        bandwidth: float,
        edge_bandwidth: Mapping[tuple[int, int], float],
        duplicate: float,
        seed: int,
        slower: Mapping[int, float] | None = None,
        byzantine: Sequence[int] = (),
    ) -> None:
        self.traffic = Traffic()
        self.refused: dict[int, int] = {}
        self._byzantine = frozenset(byzantine)
        self.down: set[int] = set()
        self.left: set[int] = set()
        self.extra_loss = 0.0
        self.group: list[int] | dict[int, int] | None = None
        self._loop = loop
        self._decoder = decoder
        count = nodes + coordinators
        mailboxes: list[Callable[[Event], None]] = [_nowhere] * count
        self._mailboxes = _by_id(mailboxes, nodes, standbys)
        self._log = log
        self._note = log.append
        self._latency = latency.nanoseconds
        self._loss = loss
        self._is_lossless = loss.is_lossless
        self._per_byte = SECOND / bandwidth
        self._edge_per_byte = {
            edge: SECOND / min(rate, bandwidth) for edge, rate in edge_bandwidth.items()
        }
        self._slow = {node: SECOND / rate for node, rate in (slower or {}).items()}
        self._duplicate = duplicate
        self._seed = seed
        self._sending_until = _by_id([0] * count, nodes, standbys)
        self._receiving_until = _by_id([0] * count, nodes, standbys)
        self._number = _by_id([0] * count, nodes, standbys)
        self._lines: dict[int, Line] = {}

    @override
    def save(self) -> State:
        """Return the state of the network, with that of losses and of large multicasts."""
        traffic = {**self.traffic.counters(), "bytes_by": dict(self.traffic.bytes_by)}
        return {
            **super().save(),
            "traffic": traffic,
            "down": tuple(sorted(self.down)),
            "left": tuple(sorted(self.left)),
            "loss": self._loss.save(),
            "refused": dict(self.refused),
            "crowds": packed(self._loop.groups()),
        }

    @override
    def restore(self, state: State) -> None:
        """Take over a state, after the loop has resumed."""
        super().restore(state)
        for name, value in state["traffic"].items():
            setattr(self.traffic, name, copied(value))
        self.down = set(state["down"])
        self.left = set(state.get("left", ()))  # earlier versions have none
        self.refused = dict(state.get("refused", {}))  # earlier versions have none
        self._loss.restore(state["loss"])
        crowds = state.get("crowds", {})  # earlier versions have none
        self._lines = put_back(
            crowds, self._loop, self.arrive, self._arrive_in_line, self.hand_over
        )

    def connect(self, node: int, mailbox: Callable[[Event], None]) -> None:
        """Deliver the frames that arrive at `node` to `mailbox`."""
        self._mailboxes[node] = mailbox

    def send(self, sender: int, to: Sequence[int], frame: Frame) -> int:
        """Send one frame to each of `to`.

        The result is the time at which the last byte leaves the sender's interface.
        """
        now, size, sequence, crc = self._loop.now, frame.nbytes, frame.sequence, frame.crc32
        number = self._number[sender] = self._number[sender] + 1
        start = max(now, self._sending_until[sender])
        per_byte, edges = self._per_byte, self._edge_per_byte
        air = int(size * per_byte)
        slow = self._slow
        is_even = not edges and not slow
        if self._is_lossless and not self.extra_loss and not self._duplicate and is_even:
            self._log.extend([(now, SEND, sender, receiver, sequence, crc) for receiver in to])
            post, latency, arrive = self._loop.post, self._latency, self.arrive
            if len(to) > _FEW:
                times = [
                    start + place * air + latency(sender, receiver, number)
                    for place, receiver in enumerate(to, start=1)
                ]
                start += len(to) * air
                sent = Sent(sender, frame, air)
                Arrivals(self._loop, times, to, sent, arrive, self._arrive_in_line)
            else:
                for receiver in to:
                    start += air
                    arrival = start + latency(sender, receiver, number)
                    post(arrival, arrive, sender, receiver, frame, air)
        else:
            for receiver in to:
                self._log.add(now, SEND, sender, receiver, sequence, crc)
                rate = edges.get((sender, receiver), per_byte)
                if slow:  # the slower end of a link limits it
                    rate = max(rate, slow.get(sender, 0.0), slow.get(receiver, 0.0))
                air = int(size * rate)
                start += air
                self._launch(sender, receiver, frame, number, start, air)
        self.traffic.send(sender, size, len(to), is_empty=frame.kind == SKIP)
        self._sending_until[sender] = start
        return start

    def can_reach(self, sender: int, receiver: int) -> bool:
        """Whether the link between two nodes works in both directions."""
        if sender in self.down or receiver in self.down:
            return False
        return self.group is None or self.group[sender] == self.group[receiver]

    def _lets_through(self, sender: int, receiver: int) -> bool:
        """Whether a frame that is under way arrives."""
        if receiver in self.down or (sender in self.down and sender not in self.left):
            return False
        return self.group is None or self.group[sender] == self.group[receiver]

    def last_arrival(self, sender: int, receiver: int) -> int | None:
        """Return when the last frame that is under way on a link arrives; None if none is."""
        verbs = (self.arrive, self.hand_over, self.arrive_again, self.notice_gap)
        times = [
            when
            for when, _, callback, args in self._loop.scheduled()
            if callback in verbs and args[:2] == (sender, receiver)
        ]
        return max(times, default=None)

    def _launch(
        self, sender: int, receiver: int, frame: Frame, number: int, start: int, air: int
    ) -> None:
        """Send a frame on a link that may lose or duplicate it."""
        arrival = start + self._latency(sender, receiver, number)
        lost = self._loss.is_lost(sender, receiver, number, frame.round)
        if self.extra_loss and not lost:
            lost = (
                draw(self._seed, sender, receiver, number, MessagePurpose.FAULT_LOSS)[0]
                < self.extra_loss
            )
        if lost:
            self._drop(sender, receiver, frame)
            self._loop.post(arrival, self.notice_gap, sender, receiver, frame)
            return
        self._loop.post(arrival, self.arrive, sender, receiver, frame, air)
        if self._duplicate:
            again, later = draw(self._seed, sender, receiver, number, MessagePurpose.DUPLICATE)
            if again < self._duplicate:
                delay = round(later * (arrival - start + air)) + 1
                self._loop.post(arrival + delay, self.arrive_again, sender, receiver, frame)

    def arrive(self, sender: int, receiver: int, frame: Frame, air: int) -> None:
        """The last byte arrives now, unless the receiver's interface is busy."""
        now = self._loop.now
        if (self.down or self.group is not None) and not self._lets_through(sender, receiver):
            self._drop(sender, receiver, frame)
            return
        done = self._receiving_until[receiver] + air
        if done > now:
            self._receiving_until[receiver] = done
            self._loop.post(done, self.hand_over, sender, receiver, frame)
            return
        self._receiving_until[receiver] = now
        self.traffic.messages_delivered += 1
        self._note((now, DELIVER, sender, receiver, frame.sequence, frame.crc32))
        self._mailboxes[receiver](frame.received or self._taken(sender, frame))

    def _arrive_in_line(self, receiver: int, sent: Sent) -> None:
        """The last byte of a message of a large multicast arrives, as in `arrive`.

        If it has to wait for the interface, it waits in the receiver's line.
        """
        now, sender, frame = self._loop.now, sent.sender, sent.frame
        done = self._receiving_until[receiver] + sent.air
        if done <= now or self.down or self.group is not None:
            self.arrive(sender, receiver, frame, sent.air)
            self._log.extend(())  # many may arrive before anybody sends again
            return
        self._receiving_until[receiver] = done
        line = self._lines.get(receiver)
        if line is None:
            line = self._lines[receiver] = Line(self._loop, receiver, self.hand_over)
        line.join(done, sent)

    def hand_over(self, sender: int, receiver: int, frame: Frame) -> None:
        """Deliver a frame that waited for the interface."""
        if receiver in self.down:
            self._drop(sender, receiver, frame)
            return
        self.traffic.messages_delivered += 1
        sequence, crc = frame.sequence, frame.crc32
        self._log.add(self._loop.now, DELIVER, sender, receiver, sequence, crc)
        self._mailboxes[receiver](self._taken(sender, frame))

    def arrive_again(self, sender: int, receiver: int, frame: Frame) -> None:
        """Deliver a second copy."""
        if self._lets_through(sender, receiver):
            self.traffic.messages_duplicate += 1
            self._note((self._loop.now, DELIVER, sender, receiver, frame.sequence, frame.crc32))
            taken = self._taken(sender, frame)
            if isinstance(taken, Received):
                taken = Received(taken.message, again=True)
            self._mailboxes[receiver](taken)

    def _taken(self, sender: int, frame: Frame) -> Received | Missing:
        """Return what a receiver makes of a frame: one of a Byzantine agent may be refused.

        A refused message is counted, and is missing for its receiver.
        """
        if sender not in self._byzantine:
            return self._decode(sender, frame)
        try:
            return self._decoder.receive(frame)
        except WireError:
            self.refused[sender] = self.refused.get(sender, 0) + 1
            return self._missing(sender, frame)

    def _decode(self, sender: int, frame: Frame) -> Received:
        """Return what receivers make of a frame.

        Raises:
            AgentError: they would refuse it. In a simulation, that is a fault of the sender.
        """
        try:
            return self._decoder.receive(frame)
        except WireError as error:
            detail = f"what it sent would be refused by every receiver: {error}"
            raise AgentError(sender, detail, f"round {frame.round + 1}") from error

    def _drop(self, sender: int, receiver: int, frame: Frame) -> None:
        self.traffic.messages_dropped += 1
        self._note((self._loop.now, DROP, sender, receiver, frame.sequence, frame.crc32))

    def notice_gap(self, sender: int, receiver: int, frame: Frame) -> None:
        """The link numbers its messages, so its far end notices that one is missing."""
        if self._lets_through(sender, receiver):
            self._mailboxes[receiver](self._missing(sender, frame))

    def _missing(self, sender: int, frame: Frame) -> Missing:
        return Missing(sender, frame.round, self._decoder.epoch(frame))


T = TypeVar("T")


def _by_id(values: list[T], nodes: int, standbys: Sequence[int]) -> list[T] | dict[int, T]:
    """Return what is indexed by ids: a list, or, where standbys have ids of their own, a table."""
    if not standbys:
        return values
    ids = (*range(nodes), *range(-1, nodes - len(values) - 1, -1), *standbys)
    return dict.fromkeys(ids, values[0])


def _nowhere(event: Event) -> None:
    """Drop a frame that arrives at a node without a mailbox."""
