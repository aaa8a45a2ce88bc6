"""Links of one process to the processes of its neighbors: connecting, heartbeats, liveness."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, cast

from p2pfrl.core.errors import P2PFRLError
from p2pfrl.core.types import Frame
from p2pfrl.core.wire import Decoder
from p2pfrl.net.admission import of_greetings
from p2pfrl.net.dialing import keep_dialing
from p2pfrl.net.fleet import Address, show_agents
from p2pfrl.net.log import Throttle
from p2pfrl.net.options import Log, Security, Timing
from p2pfrl.net.records import Identity
from p2pfrl.net.resend import ResendBuffer
from p2pfrl.net.session import Closed, Control, Delivered, Event, Opened, Refused, Session
from p2pfrl.net.supervision import surfaced
from p2pfrl.net.tcp import Link
from p2pfrl.net.tls import refusal

__all__ = ["TICK", "USUAL", "Log", "Mesh", "Security", "Timing"]

TICK = 0.25
_DEAD = ("silent", "slow_reader", "too_slow", "greeting_timeout")
"""Reasons after which nothing is sent, because a peer that does not read would block."""
USUAL = ("closed", "bye", "done")
"""Reasons of a connection's end that are no refusal."""


class Mesh:
    """The links of one process.

    Attributes:
        refusals: count by reason.
        is_done: set by the owner once all agents of this process have finished. Our goodbye then
            says so, and a link that closes is logged as left, not as lost.
        why: set by the owner where this process leaves early: our goodbye says it.
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
    ) -> None:
        self.refusals: dict[str, int] = {}
        self.is_done = False
        self.why = ""
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
        # The newest joined link to each process, even after it has closed.
        self._links: dict[Address, Link] = {}
        self._resend = ResendBuffer()
        # Every connection that is open or greeting, superseded ones too.
        self._all: list[Link] = []
        self._admission = of_greetings(self._handle)
        self._throttle = Throttle()
        # No entry: the process never joined. False: it is lost.
        self._up: dict[Address, bool] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._changed = asyncio.Event()
        self._events: dict[type, Callable[..., None]] = {
            Opened: self._opened,
            Delivered: self._delivered,
            Refused: self._refused,
            Closed: self._closed,
            Control: self._control_message,
        }

    async def open(self, *, resuming: bool = False) -> None:
        """Connect to all neighbors and wait until every link is open.

        Args:
            resuming: whether processes that do not connect in time count as lost instead of
                missing: they may have finished, or be down themselves.

        Raises:
            P2PFRLError: some did not connect in time; the message names them.
        """
        self._start(self._keep_time())
        for address in self._others:
            if self._dials(address):
                self._dial(address)
        try:
            async with asyncio.timeout(self._timing.start):
                while not all(self._up.get(address) for address in self._others):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            if not resuming:
                raise P2PFRLError(
                    f"not there within {self._timing.start:g} s: {self.awaited()}"
                ) from None
            for address in self._others:
                if not self._up.get(address):
                    self._note_end(address, "lost", "not there when we came back")

    def awaited(self) -> str:
        """Return the agents and addresses without a link, as text."""
        missing = [address for address in self._others if not self._up.get(address)]
        return "; ".join(f"agents {show_agents(self._others[h, p])} at {h}:{p}" for h, p in missing)

    async def drain(self) -> None:
        """Wait until the queues of open links are sent, at most one timeout."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timing.timeout):
                # Looked for anew after every wait: a link may have been replaced meanwhile.
                while unsent := [link for link in self._links.values() if link.is_sending]:
                    await unsent[0].sent()

    async def close(self) -> None:
        """Say goodbye on every link and close it."""
        for task in self._tasks:
            task.cancel()
        links = list(self._all)
        for link in links:
            link.close("bye", done=self.is_done, why=self.why)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timing.timeout):
                for link in links:
                    await link.closed.wait()

    def send(self, address: Address, to: Sequence[int], frame: Frame, sender: int) -> bool:
        """Send a frame to agents at `address`; return whether the link is open."""
        link = self._links.get(address)
        if link is None or not link.session.is_open:
            return False
        self._resend.add(address, to, frame, sender)
        link.send(to, frame, sender)
        return True

    def round_trips(self) -> dict[int, float]:
        """Return the smallest round trip in seconds to each linked process, by its first agent."""
        for link in self._all:
            link.measure()
        found = {
            agents[0]: self._links[a].round_trip
            for a, agents in self._others.items()
            if a in self._links
        }
        return {agent: seconds for agent, seconds in found.items() if seconds is not None}

    def accept(self) -> Link:
        """Return the protocol of an incoming connection."""
        return self._link(dialer=False)

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(surfaced(self._loop.create_task(coroutine)))

    async def _keep_time(self) -> None:
        before = self._loop.time()
        while True:
            await asyncio.sleep(TICK)
            now = self._loop.time()
            away, before = now - before - TICK, now
            for link in list(self._all):
                # This process was suspended. Its peers are not silent: it did not listen.
                if away > self._timing.timeout / 2:
                    link.excuse(away)
                link.tick()

    def _dials(self, address: Address) -> bool:
        """Whether this process connects to the other one, rather than the reverse."""
        # Both sides compute this, so there is one connection per pair of processes.
        return min(self._own.agents) < min(self._others[address])

    def _dial(self, address: Address) -> None:
        def failed(error: Exception) -> None:
            if isinstance(error, ssl.SSLError):
                self.refuse(*refusal(error), (), f"{address[0]}:{address[1]}")
            elif self._throttle("unreachable", self._others[address]):
                self._log.note("unreachable", address=address, error=str(error))

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
            self._all.append(link)
            tls, names = transport.get_extra_info("ssl_object"), self._security.names
            return Session(
                self._own.fresh(),
                self._decoder,
                secret=self._security.secret,
                dialer=dialer,
                now=self._loop.time(),
                heartbeat=self._timing.heartbeat,
                timeout=self._timing.timeout,
                allowed=names(cast(ssl.SSLObject, tls))
                if tls is not None and names is not None
                else None,
                check=self._check,
            )

        return Link(connected, self._handle, self._loop.time, self._timing.timeout)

    def _check(self, peer: Identity) -> tuple[str, str] | None:
        """Return why a process is refused, or None."""
        if set(peer.agents) & set(self._own.agents):
            return (
                "self_connection",
                f"agents {show_agents(peer.agents)} live in this process: is it started twice?",
            )
        for address, agents in self._others.items():
            if agents == peer.agents:
                link = self._links.get(address)
                newest = (
                    link.session.peer.incarnation if link is not None and link.session.peer else -1
                )
                if peer.incarnation < newest:
                    return (
                        "stale_incarnation",
                        f"agents {agents} have joined as incarnation {newest} already",
                    )
                return None
        return (
            "unknown_peer",
            f"no neighbor of ours has agents {show_agents(peer.agents) or 'none'}",
        )

    def _handle(self, link: Link, events: list[Event]) -> None:
        for event in events:
            self._events[type(event)](link, event)

    def _opened(self, link: Link, event: Opened) -> None:
        self._admission.leave(link)
        address = next(a for a, agents in self._others.items() if agents == event.peer.agents)
        previous = self._links.get(address)
        # Another connection may have joined between the hello, which `_check` saw, and now.
        if (
            previous is not None
            and cast(Identity, previous.session.peer).incarnation > event.peer.incarnation
        ):
            self._handle(
                link, link.session.give_up("stale_incarnation", "a newer one has joined meanwhile")
            )
            return
        # Before the previous link is dropped: `_closed` reports the loss of a current link only.
        self._links[address] = link
        if previous is not None and previous is not link:
            is_same = self._replace(previous, link, address)
            if is_same:  # to the agents nothing happened
                return
        self._log.note("joined", agents=event.peer.agents, incarnation=event.peer.incarnation)
        known = address in self._up
        self._up[address] = True
        self._changed.set()
        if known:
            self._log.note("up", agents=event.peer.agents)
            self._report(event.peer.agents, True)

    def _replace(self, previous: Link, link: Link, address: Address) -> bool:
        """Close a connection in favor of another one of the same process.

        The result says whether the other process is the same incarnation.

        Recent frames are then sent again, because they may not have arrived on a silent connection.
        The side that accepted the connection leaves the old one to the dialer. The dialer closes it
        once it knows that this side has joined too.
        """
        old, new = cast(Identity, previous.session.peer), cast(Identity, link.session.peer)
        is_same = previous.session.is_open and old.incarnation == new.incarnation
        if is_same and not self._dials(address):
            # Frames may still be in transit on the old connection, so it stays open for a while.
            self._loop.call_later(self._timing.timeout, self._drop, previous)
        else:
            self._drop(previous)
        if is_same:
            self._log.note("reconnected", agents=new.agents)
            self._resend.repeat(address, link.send)
        return is_same

    def _drop(self, link: Link) -> None:
        self._handle(link, link.session.give_up("closed", "another connection has taken over"))
        link.abort()

    def _delivered(self, link: Link, event: Delivered) -> None:
        self._receive(event)

    def refuse(self, reason: str, detail: str, agents: tuple[int, ...], where: str = "") -> None:
        """Count a refusal; log the first few of each sender and reason, then the powers of two."""
        self.refusals[reason] = self.refusals.get(reason, 0) + 1
        if count := self._throttle(reason, agents):
            self._log.note(
                "refused", reason=reason, detail=detail, agents=agents, where=where, count=count
            )

    def _refused(self, link: Link, event: Refused) -> None:
        self.refuse(event.reason, event.detail, event.agents, link.where())

    def _control_message(self, link: Link, event: Control) -> None:
        """Refuse a control message, because neighbors exchange frames only."""
        self._refused(link, Refused("unexpected", f"a control message {event.say!r}", ()))

    def _note_end(self, address: Address, what: str, detail: str) -> None:
        """Note that a process is lost or has left, and report its agents as down."""
        self._up[address] = False
        self.lost += what == "lost"
        self._log.note(what, agents=self._others[address], detail=detail)
        self._report(self._others[address], False)

    def _closed(self, link: Link, event: Closed) -> None:
        self._admission.leave(link)
        if link in self._all:
            self._all.remove(link)
        # Before both sides have joined, the identity is only claimed.
        peer = link.session.peer if link.session.was_open else None
        if event.reason not in USUAL:
            self.refuse(event.reason, event.detail, peer.agents if peer else (), link.where())
        for address, current in self._links.items():
            # A link that was superseded takes nobody with it.
            if current is link and self._up.get(address):
                self._resend.forget(address)
                what = "left" if self.is_done or event.reason == "done" else "lost"
                self._note_end(address, what, event.detail)
        if event.reason in _DEAD:
            link.abort()
        else:
            link.flush()
            link.shut()
