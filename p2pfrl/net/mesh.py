"""Links of one process to the processes of its neighbors: connecting, heartbeats, liveness.

A connection (`Link`) carries one `Session`. It has joined once both greetings are checked
(`Opened`). Of each process the newest connection that has joined is current. An older one is
superseded and closes without a report. A process is up while its current connection is open.

Both sides see a takeover, or both see a loss. Where one side has reported a loss of a connection
that the other still saw open, it says so on the next one, and the other reports the process up,
too. Otherwise one would have dropped what it sent meanwhile, and the other would never ask for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, cast

from p2pfrl.core.errors import P2PFRLError
from p2pfrl.core.types import OPTED_OUT, Frame
from p2pfrl.core.wire import Decoder
from p2pfrl.net.acquaintances import Acquaintances
from p2pfrl.net.admission import of_greetings
from p2pfrl.net.departures import Departures
from p2pfrl.net.dialing import keep_dialing
from p2pfrl.net.fleet import Address, show_agents, who, who_have
from p2pfrl.net.log import Throttle
from p2pfrl.net.options import Log, Security, Timing
from p2pfrl.net.records import ENGINE, Identity
from p2pfrl.net.resend import ResendBuffer
from p2pfrl.net.session import Closed, Control, Delivered, Event, Opened, Refused, Session
from p2pfrl.net.supervision import surfaced
from p2pfrl.net.tcp import Link
from p2pfrl.net.tls import refusal

__all__ = ["TICK", "USUAL", "Log", "Mesh", "Security", "Timing"]

TICK = 0.25
"""Seconds between two looks at the clock, for heartbeats and deadlines of connections."""
_UNREADING = ("silent", "slow_reader", "too_slow", "greeting_timeout")
"""Reasons after which nothing is sent, because a peer that does not read would block."""
_LOSSES = "losses"
"""Says on a new connection how often its sender has reported the other side lost."""
USUAL = ("closed", "bye", "done", OPTED_OUT)
"""Reasons of a connection's end that are no refusal.

- closed: the stream ended without a goodbye, or another connection has taken over.
- bye: the other process left early, and said so.
- done: the other process left after all its agents had finished.
- opted_out: the other process left for good, of its own will.
"""


class Mesh:
    """The links of one process.

    Attributes:
        refusals: count by reason.
        is_done: set by the owner once all agents of this process have finished. Our goodbye then
            says so, and a link that closes is logged as left, not as lost.
        why: set by the owner where this process leaves early: our goodbye says it.
        opted_out: set by the owner where this process leaves for good, of its own will: the rounds
            that its agents have ended. Our goodbye says it.
        lost: number of times that another process was lost: a connection that broke, a process
            that left early, or one that was not there when this process came back.

    Args:
        own: identity of this process.
        others: address of each linked process -> its agents.
        decoder: checks frames.
        security: security of the links.
        timing: timing of the links.
        receive: called with every received frame.
        report: called with (agents, up) when the link to a process that joined before is up again,
            or is gone, for whatever reason.
        log: receives events.
        departures: who opted out, which is noted there; None: nobody is remembered.
        acquaintances: the keys of other processes, which are noted there; None: nobody has any.
    """

    def __init__(
        self,
        own: Identity,
        others: Mapping[Address, tuple[int, ...]],
        *,
        decoder: Decoder,
        security: Security,
        timing: Timing,
        receive: Callable[[Delivered], None],
        report: Callable[[tuple[int, ...], bool], None],
        log: Log,
        departures: Departures | None = None,
        acquaintances: Acquaintances | None = None,
    ) -> None:
        self.refusals: dict[str, int] = {}
        self.is_done = False
        self.why = ""
        self.opted_out: int | None = None
        self.lost = 0
        self._loop = asyncio.get_running_loop()
        self._own = own
        self._others = dict(others)
        self._decoder = decoder
        self._security = security
        security.relay.to = partial(self.refuse, agents=())
        self._timing = timing
        self._receive = receive
        self._report = report
        self._log = log
        self._departures = departures
        self._acquaintances = acquaintances
        # The newest connection to each process that has joined, even after it has closed.
        self._current: dict[Address, Link] = {}
        self._resend = ResendBuffer()
        # Every connection that is open or greeting, superseded ones too.
        self._connections: list[Link] = []
        self._admission = of_greetings(self._handle)
        self._throttle = Throttle()
        # No entry: it has not joined yet. True: up. False: lost, or given up while resuming; when
        # it joins, its agents are reported up.
        self._up: dict[Address, bool] = {}
        self._tasks: list[asyncio.Task[None]] = []
        # How often we reported it lost, and (its incarnation, how often it reported us lost).
        self._losses: dict[Address, int] = {}
        self._told: dict[Address, tuple[int, int]] = {}
        self._seamless: set[Address] = set()
        self._changed = asyncio.Event()
        self._events: dict[type, Callable[..., None]] = {
            Opened: self._opened,
            Delivered: self._delivered,
            Refused: self._refused,
            Closed: self._closed,
            Control: self._control_message,
        }

    async def open(self, *, resuming: bool = False, within: float | None = None) -> None:
        """Connect to all neighbors and wait until every link is open.

        Args:
            within: seconds to wait for them while resuming; None for as long as at the first start.
            resuming: whether processes that do not connect in time count as lost instead of
                missing: they may have finished, or be down themselves.

        Raises:
            P2PFRLError: some did not connect in time; the message names them.
        """
        self._start(self._tick_connections())
        self._expect_no_more()
        for address in self._others:
            if self._dials(address):
                self._dial(address)
        try:
            seconds = self._timing.start
            async with asyncio.timeout(within if resuming and within is not None else seconds):
                while self._awaited():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            if not resuming:
                raise P2PFRLError(
                    f"not there within {self._timing.start:g} s: {self.awaited()}"
                ) from None
            for address in self._awaited():
                self._note_end(address, "lost", "not there when we came back")

    def _awaited(self) -> list[Address]:
        """Return the processes without a link that have not opted out."""
        return [
            address
            for address, agents in self._others.items()
            if not self._up.get(address) and not self._has_left(agents)
        ]

    def _has_left(self, agents: tuple[int, ...]) -> bool:
        """Whether the process with these agents has opted out."""
        return self._departures is not None and agents in self._departures

    def _expect_no_more(self) -> None:
        """Report the agents as gone that opted out before this process was started again."""
        for address, agents in self._others.items():
            if self._has_left(agents):
                self._up[address] = False
                self._report(agents, False)

    def awaited(self) -> str:
        """Return the agents and addresses without a link, as text."""
        return "; ".join(f"{who(self._others[h, p])} at {h}:{p}" for h, p in self._awaited())

    def down(self) -> tuple[int, ...]:
        """Return the agents of linked processes whose link is not up now, or not up yet."""
        gone = [self._others[address] for address in self._awaited()]
        return tuple(sorted(agent for agents in gone for agent in agents))

    async def drain(self) -> None:
        """Wait until the queues of open links are sent, at most one timeout."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timing.timeout):
                # Looked for anew after every wait: a link may have been replaced meanwhile.
                while unsent := [link for link in self._current.values() if link.is_sending]:
                    await unsent[0].sent()

    async def close(self) -> None:
        """Say goodbye on every link and close it."""
        for task in self._tasks:
            task.cancel()
        links = list(self._connections)
        left = {} if self.opted_out is None else {OPTED_OUT: self.opted_out}
        for link in links:
            link.close("bye", done=self.is_done, why=self.why, **left)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timing.timeout):
                for link in links:
                    await link.closed.wait()

    def send(self, address: Address, to: Sequence[int], frame: Frame, sender: int) -> bool:
        """Send a frame to agents at `address`; return whether the link is open."""
        link = self._current.get(address)
        if link is None or not link.session.is_open:
            return False
        self._resend.add(address, to, frame, sender)
        link.send(to, frame, sender)
        return True

    def expel_revoked(self) -> None:
        """Close the connections of certificates that are revoked by now, and say why."""
        for link in list(self._connections):
            if refusal := self._security.current.refusal(link.transport):
                self._handle(link, link.session.expel(*refusal))

    def round_trips(self) -> dict[int, float]:
        """Return the smallest round trip in seconds to each linked process.

        The keys are the lowest agent ids of the processes.
        """
        for link in self._connections:
            link.measure()
        found = {
            min(agents): self._current[address].round_trip
            for address, agents in self._others.items()
            if address in self._current
        }
        return {agent: seconds for agent, seconds in found.items() if seconds is not None}

    def accept(self) -> Link:
        """Return the protocol of an incoming connection."""
        return self._link(dialer=False)

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(surfaced(self._loop.create_task(coroutine)))

    async def _tick_connections(self) -> None:
        """Let every connection look at the clock, for ever."""
        before = self._loop.time()
        while True:
            await asyncio.sleep(TICK)
            now = self._loop.time()
            late, before = now - before - TICK, now
            for link in list(self._connections):
                # More than half a timeout late: the machine slept, or the loop was blocked. It is
                # we who were silent, so all deadlines move.
                if late > self._timing.timeout / 2:
                    link.excuse(late)
                link.tick()

    def _dials(self, address: Address) -> bool:
        """Whether this process connects to the other one, rather than the reverse.

        Both sides compute this, so there is one connection per pair of processes. The one with the
        lowest id dials, so a coordinator, whose id is below 0, dials all others.
        """
        return min(self._own.agents) < min(self._others[address])

    def _dial(self, address: Address) -> None:
        def failed(error: Exception) -> None:
            if isinstance(error, ssl.SSLError):
                self.refuse(*refusal(error), (), f"{address[0]}:{address[1]}")
            elif count := self._throttle("unreachable", self._others[address]):
                self._log.note("unreachable", address=address, error=str(error), count=count)

        timing = self._timing
        self._start(
            keep_dialing(
                address,
                partial(self._link, dialer=True),
                client=self._security.client,
                timeout=timing.timeout,
                patience=timing.heartbeat + 2 * TICK,
                failed=failed,
            )
        )

    def _link(self, *, dialer: bool) -> Link:
        """Return the protocol of a connection that is still to be made."""

        def connected(link: Link, transport: asyncio.Transport) -> Session:
            """Note the connection that was made, and return its session."""
            if not dialer:
                self._admission.admit(link, link.peer_host(), len(self._others))
            self._connections.append(link)
            return Session(
                self._own.fresh(),
                self._decoder,
                secret=self._security.secret,
                dialer=dialer,
                now=self._loop.time(),
                heartbeat=self._timing.heartbeat,
                timeout=self._timing.timeout,
                allowed=self._allowed(transport),
                check=lambda peer: self._security.current.refusal(transport) or self._check(peer),
            )

        return Link(connected, self._handle, self._loop.time, self._timing.timeout)

    def _allowed(self, transport: asyncio.Transport) -> tuple[int, ...] | None:
        """Return the agents that the certificate at the other end names.

        None: there are no certificates, so any agent may be claimed.
        """
        tls, names = transport.get_extra_info("ssl_object"), self._security.names
        return None if tls is None or names is None else names(cast(ssl.SSLObject, tls))

    def _address_of(self, agents: tuple[int, ...]) -> Address | None:
        """Return the address of the linked process that has these agents; None if none has."""
        return next((where for where, those in self._others.items() if those == agents), None)

    def _check(self, peer: Identity) -> tuple[str, str] | None:
        """Return why a process is refused, or None."""
        if set(peer.agents) & set(self._own.agents):
            return (
                "self_connection",
                f"{who_have(peer.agents, 'lives', 'live')} in this process: is it started twice?",
            )
        address = self._address_of(peer.agents)
        if address is None:
            return (
                "unknown_peer",
                f"no neighbor of ours has agents {show_agents(peer.agents) or 'none'}",
            )
        if self._departures is not None and (gone := self._departures.refusal(peer)):
            return gone
        if self._acquaintances is not None and (other := self._acquaintances.refusal(peer)):
            return other
        link = self._current.get(address)
        newest = link.session.peer.incarnation if link is not None and link.session.peer else -1
        if peer.incarnation < newest:
            return (
                "stale_incarnation",
                f"{who_have(peer.agents)} joined as incarnation {newest} already",
            )
        return None

    def _handle(self, link: Link, events: list[Event]) -> None:
        for event in events:
            self._events[type(event)](link, event)

    def _opened(self, link: Link, event: Opened) -> None:
        self._admission.leave(link)
        address = self._address_of(event.peer.agents)
        assert address is not None, "`_check` refuses strangers"
        previous = self._current.get(address)
        # Another connection may have joined between the hello, which `_check` saw, and now.
        if (
            previous is not None
            and cast(Identity, previous.session.peer).incarnation > event.peer.incarnation
        ):
            self._handle(
                link, link.session.give_up("stale_incarnation", "a newer one has joined meanwhile")
            )
            return
        if self._acquaintances is not None:
            if other := self._acquaintances.refusal(event.peer):
                self._handle(link, link.session.give_up(*other))
                return
            self._acquaintances.note(event.peer)
        # Set first: dropping the old connection calls `_closed`, which must find a newer current
        # one and report nothing.
        self._current[address] = link
        if losses := self._losses.get(address):
            link.session.say(_LOSSES, count=losses)
            link.flush()
        self._seamless.discard(address)
        if previous is not None and self._replace(previous, link, address):
            self._seamless.add(address)
            return  # to the agents nothing happened, unless the other side says `_LOSSES`
        self._log.note("joined", agents=event.peer.agents, incarnation=event.peer.incarnation)
        if self._departures is not None:
            self._departures.forget(event.peer.agents)
        self._compare_engines(event.peer)
        known = address in self._up
        self._up[address] = True
        self._changed.set()
        if known:
            self._log.note("up", agents=event.peer.agents)
            self._report(event.peer.agents, True)

    def _compare_engines(self, peer: Identity) -> None:
        """Say, once for a process, that its networks are computed by another engine than ours."""
        ours, theirs = (one.settings.get(ENGINE, "") for one in (self._own, peer))
        if theirs != ours and self._throttle("engine", peer.agents) == 1:
            on_device = " on " in f"{ours}{theirs}"
            fix = "compute.device = 'cpu'" if on_device else "compute.engine = 'torch'"
            detail = (
                f"{theirs or 'unknown'} there, {ours or 'unknown'} here: this run equals no simulated one, bit for "
                f"bit; for equal bits set {fix} in all processes"
            )
            self._log.note("engine", agents=peer.agents, detail=detail)

    def _replace(self, previous: Link, link: Link, address: Address) -> bool:
        """Supersede `previous` by `link`; return whether the takeover is seamless.

        It is if the incarnation is the same and the old connection was still open. Recent frames
        are then sent again, because a silent connection may have lost them. The old connection is
        kept for one timeout: frames may still be in transit, and the other side must not see its
        end before it sees the new one open.
        """
        old, new = cast(Identity, previous.session.peer), cast(Identity, link.session.peer)
        if not previous.session.is_open or old.incarnation != new.incarnation:
            self._drop(previous)
            return False
        self._loop.call_later(self._timing.timeout, self._drop, previous)
        self._log.note("reconnected", agents=new.agents)
        self._resend.repeat(address, link.send)
        return True

    def _drop(self, link: Link) -> None:
        self._handle(link, link.session.give_up("closed", "another connection has taken over"))
        link.abort()

    def _delivered(self, link: Link, event: Delivered) -> None:
        self._receive(event)

    def refuse(self, reason: str, detail: str, agents: tuple[int, ...], where: str = "") -> None:
        """Count a refusal; log the first eight of each sender and reason, then powers of two."""
        self.refusals[reason] = self.refusals.get(reason, 0) + 1
        if count := self._throttle(reason, agents):
            self._log.note(
                "refused", reason=reason, detail=detail, agents=agents, where=where, count=count
            )

    def _refused(self, link: Link, event: Refused) -> None:
        self.refuse(event.reason, event.detail, event.agents, link.where())

    def _control_message(self, link: Link, event: Control) -> None:
        """Note how often the other side lost us; refuse any other control message."""
        peer, count = cast(Identity, link.session.peer), event.body.get("count")
        if event.say != _LOSSES or type(count) is not int:
            what = f"a control message {event.say!r}"
            self._refused(link, Refused("unexpected", what, ()))
            return
        address = self._address_of(peer.agents)
        assert address is not None, "`_check` refuses strangers"
        incarnation, before = self._told.get(address, (peer.incarnation, 0))
        if count <= before and incarnation == peer.incarnation:
            return
        self._told[address] = peer.incarnation, count
        if address in self._seamless and self._current[address] is link:
            self._seamless.discard(address)
            self._log.note("up", agents=peer.agents, detail="it had lost us")
            self._report(peer.agents, True)

    def _note_end(self, address: Address, what: str, detail: str) -> None:
        """Note that a process is lost or has left, and report its agents as down."""
        self._up[address] = False
        self.lost += what == "lost"
        self._losses[address] = self._losses.get(address, 0) + 1
        self._log.note(what, agents=self._others[address], detail=detail)
        self._report(self._others[address], False)

    def _closed(self, link: Link, event: Closed) -> None:
        """Note the end of a connection.

        Only the current connection of a process reports its loss.
        """
        self._admission.leave(link)
        if link in self._connections:
            self._connections.remove(link)
        # Before both sides have joined, the identity is only claimed.
        peer = link.session.peer if link.session.was_open else None
        if event.reason not in USUAL:
            whose = peer.agents if peer else link.session.certified
            self.refuse(event.reason, event.detail, whose, link.where())
        address = None if peer is None else self._address_of(peer.agents)
        if address is not None and self._current.get(address) is link and self._up.get(address):
            self._resend.forget(address)
            what = "left" if self.is_done or event.reason == "done" else "lost"
            if event.reason == OPTED_OUT:
                what = OPTED_OUT
                if self._departures is not None:
                    self._departures.note(cast(Identity, peer), event.rounds)
            self._note_end(address, what, event.detail)
        if event.reason in _UNREADING:
            link.abort()
        else:
            link.flush()
            link.shut()
