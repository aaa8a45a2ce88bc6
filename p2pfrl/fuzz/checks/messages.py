"""Invariants of messages: numbered, counted, delivered to their receiver, and applied once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from typing_extensions import override

from p2pfrl.agent import Agent
from p2pfrl.build.world import World
from p2pfrl.catalog import kind_of
from p2pfrl.core.actor import Body
from p2pfrl.core.types import (
    REPLY,
    SKIP,
    UPDATE,
    Action,
    Adopt,
    Answer,
    Event,
    Frame,
    Message,
    Mix,
    Received,
    Send,
)
from p2pfrl.fuzz.checks.facts import is_honest, is_plain, mixes_rounds
from p2pfrl.fuzz.checks.mixing import MATRICES
from p2pfrl.fuzz.watch import Check
from p2pfrl.results.record import Record

_EVERY = 32
"""Events between two looks at what is under way."""
_UNDER_WAY = ("arrive", "hand_over")


class Counted(Check):
    """Bytes and messages are counted as they are sent."""

    says = "sent = delivered + dropped + under way, and bytes counted are bytes sent"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._messages = self._bytes = self._events = 0
        self._by: Counter[int] = Counter()

    @override
    def sent(self, sender: int, to: Sequence[int], frame: Frame) -> None:
        size = len(frame.head) + len(bytes(frame.payload))
        self._messages += len(to)
        self._bytes += size * len(to)
        self._by[sender] += size * len(to)
        traffic = self.world.network.traffic
        if traffic.messages_sent != self._messages:
            self.fail(f"{traffic.messages_sent} messages counted, {self._messages} sent")
        if traffic.bytes_sent != self._bytes or traffic.bytes_by.get(sender) != self._by[sender]:
            self.fail(f"{traffic.bytes_sent} bytes counted, {self._bytes} sent")

    @override
    def event(self, body: Body, event: Event) -> None:
        self._events += 1
        if self._events % _EVERY == 0:
            self._look()

    def _look(self) -> None:
        traffic = self.world.network.traffic
        under_way = sum(
            getattr(callback, "__name__", "") in _UNDER_WAY
            for _, _, callback, _ in self.world.loop.scheduled()
        )
        known = traffic.messages_delivered + traffic.messages_dropped + under_way
        if known != traffic.messages_sent:
            self.fail(
                f"{traffic.messages_sent} sent, {traffic.messages_delivered} delivered, "
                f"{traffic.messages_dropped} dropped, {under_way} under way"
            )

    @override
    def ended(self, record: Record) -> None:
        self._look()
        assert record.events is not None
        kinds = Counter(event.kind for event in record.events)
        summary = record.summary
        expected = {"send": "messages_sent", "drop": "messages_dropped"}
        if not self.scenario.network.duplicate:
            expected["deliver"] = "messages_delivered"
        for kind, name in expected.items():
            if kinds[kind] != summary[name]:
                self.fail(f"{name} is {summary[name]}, and the trace has {kinds[kind]}")
        if summary["bytes_sent"] != self._bytes:
            self.fail(f"bytes_sent is {summary['bytes_sent']}, and {self._bytes} were sent")


class Numbered(Check):
    """Frames of one life of a sender are numbered one after the other."""

    says = "sequence and incarnation never go back"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._last: dict[tuple[int, int], tuple[int, int]] = {}

    @override
    def sent(self, sender: int, to: Sequence[int], frame: Frame) -> None:
        if frame.kind == REPLY:
            return  # an answer that was lost is sent again as it was
        life, now = (sender, self.lives[sender]), (frame.sequence, frame.crc32)
        last = self._last.get(life, (0, 0))
        if frame.sequence <= last[0] and now != last:  # the last one may be sent again, as it was
            self.fail(f"{sender} sent frame {frame.sequence} after frame {last[0]}")
        self._last[life] = now

    @override
    def event(self, body: Body, event: Event) -> None:
        if isinstance(event, Received):
            message = event.message
            if message.incarnation > self.lives[message.sender]:
                self.fail(f"a message of life {message.incarnation} of {message.sender}, too early")


class Once(Check):
    """Every message is applied at most once, as it was sent, by somebody to whom it was sent."""

    says = "a message is applied at most once, by its receiver, with the content that was sent"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._sent: dict[tuple[int, int, int], tuple[str, int, int, set[int]]] = {}
        self._applied: set[tuple[int, int, int, int, int]] = set()

    @override
    def applies(self) -> bool:
        return not self.scenario.coordinator.standbys  # whose messages come in another's name

    @override
    def sent(self, sender: int, to: Sequence[int], frame: Frame) -> None:
        place = sender, self.lives[sender], frame.sequence
        found = frame.kind, frame.round, frame.crc32, set(to)
        before = self._sent.setdefault(place, found)
        if before[:3] != found[:3]:
            self.fail(f"{sender} sent two frames {frame.sequence}")
        before[3].update(to)

    @override
    def before(self, body: Body, action: Action) -> None:
        if isinstance(action, Mix):
            for message in action.received:
                self._apply(body.id, message)
        elif isinstance(action, Adopt) or (isinstance(action, Answer) and not action.again):
            self._apply(body.id, action.message)

    def _apply(self, receiver: int, message: Message) -> None:
        place = message.sender, message.incarnation, message.sequence
        own = (receiver, self.lives[receiver], *place)
        if own in self._applied:
            self.fail(f"{receiver} applied message {place[1:]} of {message.sender} twice")
        self._applied.add(own)
        found = self._sent.get(place)
        if found is None:
            self.fail(f"{receiver} applied a message of {message.sender} that was not sent")
            return
        kind, round, crc, to = found
        if (kind, round, crc) != (message.kind, message.round, message.crc32):
            self.fail(f"{receiver} applied another message of {message.sender} than was sent")
        if receiver not in to:
            self.fail(f"{receiver} applied a message of {message.sender} to {sorted(to)}")


class Faithful(Check):
    """An honest agent that sends its parameters sends those that it has."""

    says = "an honest message holds the vector of its sender"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._expected: tuple[int, int, np.ndarray] | None = None

    @override
    def applies(self) -> bool:
        scenario = self.scenario
        return (
            is_plain(self.world)
            and mixes_rounds(scenario)
            and kind_of("mixing", scenario.mixing) in MATRICES
            and kind_of("payloads", self.world.assembly.plan.payload) == "parameters"
            and kind_of("compressors", scenario.compressor) == "none"
            and not self.world.assembly.privacy.is_accounted
        )

    @override
    def before(self, body: Body, action: Action) -> None:
        self._expected = None
        if not isinstance(action, Send) or not isinstance(body, Agent):
            return
        if is_honest(self.world, body.id) and action.round == body.round:
            self._expected = body.id, action.round, body.outgoing().copy()

    @override
    def sent(self, sender: int, to: Sequence[int], frame: Frame) -> None:
        if frame.kind == SKIP and len(frame.payload):
            self.fail(f"{sender} sent a payload in a skip")
        if self._expected is None or frame.kind != UPDATE:
            return
        agent, round, expected = self._expected
        if (agent, round) != (sender, frame.round):
            return
        got = np.frombuffer(frame.payload, expected.dtype)
        if got.shape != expected.shape or not np.array_equal(got, expected):
            self.fail(f"agent {sender} sent another vector than its own in round {round}")


class Members(Check):
    """Only those that are there send, to whom they know, and no message crosses a cut link."""

    says = "who is gone sends nothing, and no message crosses a partition"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._cut: dict[tuple[int, int], int] = {}
        self._group: list[int] | None = None
        self._since = 0
        self._sent: dict[tuple[int, int, int], int] = {}
        self._faults = [
            fault
            for fault in sorted(self.scenario.faults, key=lambda fault: float(fault.at))
            if kind_of("faults", fault)
            in ("partition", "heal", "leave", "opt_out", "crash", "restart")
        ]
        self._gone: set[int] = set()
        self._leaving: set[int] = set()
        self._left: set[int] = set()
        self._next = 0
        known, nodes = world.assembly.neighbors(), range(self.scenario.agents)
        self._known = {id: set(known[id]) for id in (*nodes, *world.assembly.coordinators)}

    def _advance(self) -> None:
        """Follow the timeline of faults up to now. What happens right now is not known yet."""
        now = self.world.loop.now
        while self._next < len(self._faults):
            fault = self._faults[self._next]
            at = round(float(fault.at) * 1e9)
            kind = kind_of("faults", fault)
            if at > now or (at == now and kind not in ("heal", "restart")):
                return
            self._next += 1
            if kind == "partition":
                groups = [set(group) for group in fault.groups]  # type: ignore[attr-defined]
                n = self.scenario.agents
                self._group = [
                    next((g for g, members in enumerate(groups) if i in members), len(groups))
                    for i in range(n)
                ]
                self._since = at
            elif kind == "heal":
                self._group = None
            elif kind == "restart":
                self._gone -= set(fault.returning())
            elif kind == "opt_out":
                self._leaving |= set(fault.agents)  # type: ignore[attr-defined]
            else:
                # Nothing happens to who has done all its rounds, and still gives its last model, or
                # to a coordinator that the mode does not have.
                agents: Sequence[int] = fault.agents  # type: ignore[attr-defined]
                there = [i for i in agents if i in self._known]
                self._gone |= {i for i in there if not self.world.simulation.has_ended(i)}

    @override
    def sent(self, sender: int, to: Sequence[int], frame: Frame) -> None:
        self._advance()
        if sender in self._gone or sender in self._left:
            self.fail(f"{sender} sent a message after it was gone")
        if strangers := [i for i in to if i not in self._known[sender] or i == sender]:
            self.fail(f"{sender} sent to {strangers}, which are no neighbors")
        # An answer may be sent again as it was: a copy of the first may arrive after the second.
        place = sender, self.lives[sender], frame.sequence
        self._sent.setdefault(place, self.world.loop.now)

    @override
    def after(self, body: Body, action: Action) -> None:
        if isinstance(action, Mix | Adopt):  # the end of a round: who opts out leaves at the first
            self._advance()
            self._left |= {body.id} & self._leaving

    @override
    def event(self, body: Body, event: Event) -> None:
        if not isinstance(event, Received):
            return
        self._advance()
        message, receiver = event.message, body.id
        at = self._sent.get((message.sender, message.incarnation, message.sequence))
        if at is None:
            return
        now, group = self.world.loop.now, self._group
        are_agents = min(receiver, message.sender) >= 0
        if group is not None and are_agents and at > self._since:
            is_cut = group[receiver] != group[message.sender]
            if is_cut:
                self.fail(f"{receiver} got a message of {message.sender} across a partition")
        latency = self.scenario.network.latency
        least = latency.bounds[0] if hasattr(latency, "bounds") else 0.0
        if not self.scenario.network.links and now - at < int(least * 1e9):
            self.fail(f"{receiver} got a message of {message.sender} before it could arrive")


class Refused(Check):
    """Numbers that are not finite are refused, and every refusal is counted for its sender."""

    says = "what is not finite is refused and counted, and nothing else is"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._bad: set[tuple[int, int, int]] = set()

    @override
    def sent(self, sender: int, to: Sequence[int], frame: Frame) -> None:
        if frame.kind == SKIP or is_honest(self.world, sender):
            return
        itemsize = np.dtype(self.world.trainer.stack.layout.dtype).itemsize
        if len(frame.payload) % itemsize == 0:
            values = np.frombuffer(frame.payload, self.world.trainer.stack.layout.dtype)
            if not np.isfinite(values).all() and "raw" in str(frame.head):
                self._bad.add((sender, frame.sequence, frame.crc32))

    @override
    def event(self, body: Body, event: Event) -> None:
        if isinstance(event, Received) and not np.isfinite(event.message.payload).all():
            self.fail(f"{body.id} got numbers of {event.message.sender} that are not finite")

    @override
    def ended(self, record: Record) -> None:
        refused = self.world.network.refused
        if wrong := [i for i in refused if is_honest(self.world, i)]:
            self.fail(f"messages of honest agents {wrong} were refused")
        assert record.events is not None
        arrived = Counter(
            event.sender
            for event in record.events
            if event.kind == "deliver" and (event.sender, event.sequence, event.crc) in self._bad
        )
        for sender, count in arrived.items():
            if refused.get(sender, 0) < count:
                self.fail(f"{refused.get(sender, 0)} of {count} bad messages of {sender} counted")
