"""Rendezvous: all processes ask the lead, which assigns ids and sends the table of processes."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable, Sequence

from p2pfrl.core.errors import P2PFRLError
from p2pfrl.core.wire import Decoder
from p2pfrl.net.admission import of_greetings
from p2pfrl.net.fleet import ANYWHERE, Address, Fleet, assign, show_agents, who, who_have
from p2pfrl.net.listener import Listener
from p2pfrl.net.log import Throttle
from p2pfrl.net.mesh import TICK, USUAL, Log, Security, Timing
from p2pfrl.net.records import Identity
from p2pfrl.net.session import Closed, Control, Event, Opened, Session
from p2pfrl.net.supervision import surfaced
from p2pfrl.net.tcp import Link
from p2pfrl.net.tls import refusal

Progress = Callable[[str], None]
_HOST = re.compile(r"[0-9A-Za-z.:%_-]{0,255}")


class Rendezvous:
    """The lead's side of the rendezvous.

    Args:
        own: identity of the lead.
        address: where the lead listens for frames, as others reach it. If it listens on all of its
            addresses, others get the one at which they have reached it.
        everyone: ids of all agents and coordinators of the run.
        decoder, security, timing: options of the links.
        progress: receives one line per process that joins.
        log: receives refusals.
        members: agents that share a world, which live in one process.
    """

    def __init__(
        self,
        own: Identity,
        address: Address,
        *,
        everyone: Sequence[int],
        decoder: Decoder,
        security: Security,
        timing: Timing,
        progress: Progress,
        log: Log,
        members: int = 1,
    ) -> None:
        self._log = log
        self._throttle = Throttle()
        self._own = own
        self._everyone = everyone
        self._together = members
        self._decoder = decoder
        self._security = security
        self._timing = timing
        self._progress = progress
        self._address = address
        self._table: dict[Address, tuple[int, ...]] = {address: own.agents}
        self._members: dict[Link, Address | None] = {}
        self._admission = of_greetings(self._handle)
        self._complete = asyncio.Event()

    async def gather(self, listener: Listener) -> Fleet:
        """Wait until every agent has a process, then send the table to all.

        Raises:
            P2PFRLError: some agents had no process in time.
        """
        listener.welcome(self._accept, self._refused, len(self._everyone))
        self._security.relay.to = lambda reason, detail: self._refused(reason, detail, (), "")
        ticking = surfaced(asyncio.get_running_loop().create_task(self._keep_time()))
        self._look()
        try:
            async with asyncio.timeout(self._timing.start):
                await self._complete.wait()
        except TimeoutError:
            missing = show_agents(self.missing())
            raise P2PFRLError(
                f"no process took agents {missing} within {self._timing.start:g} s"
            ) from None
        finally:
            ticking.cancel()
        fleet = Fleet(dict(self._table))
        for link, address in self._members.items():
            if address is not None and link.session.is_open:
                rows = self._as_seen_by(link).rows()
                link.session.say("table", rows=rows, yours=list(self._table[address]))
                link.close()
        return fleet

    def _as_seen_by(self, link: Link) -> Fleet:
        """Return the table with the address of the lead that this link has reached."""
        host, port = self._address
        if host not in ANYWHERE:
            return Fleet(self._table)
        others = {a: agents for a, agents in self._table.items() if a != self._address}
        return Fleet({(link.local_host(), port): self._own.agents, **others})

    def _accept(self) -> Link:
        def session(link: Link, transport: asyncio.Transport) -> Session:
            self._admission.admit(link, link.peer_host(), len(self._everyone))
            return _session(
                self._own, self._decoder, self._security, self._timing, transport, dialer=False
            )

        return Link(session, self._handle, asyncio.get_running_loop().time, self._timing.timeout)

    def _refused(self, reason: str, detail: str, agents: tuple[int, ...], where: str) -> None:
        if count := self._throttle(reason, agents):
            self._log.note(
                "refused", reason=reason, detail=detail, agents=agents, where=where, count=count
            )

    def _handle(self, link: Link, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Opened):
                self._admission.leave(link)
                self._members[link] = None
            elif isinstance(event, Control) and event.say == "join":
                self._admit(link, event)
            elif isinstance(event, Closed):
                self._admission.leave(link)
                address = self._members.pop(link, None)
                if address is not None and not self._complete.is_set():
                    self._progress(f"{who_have(self._table.pop(address), 'is', 'are')} gone again")
                if event.reason not in USUAL:
                    self._refused(event.reason, event.detail, link.session.certified, link.where())
                link.flush()
                link.shut()

    def _admit(self, link: Link, event: Control) -> None:
        taken = [agent for members in self._table.values() for agent in members]
        try:
            if self._members.get(link) is not None:
                raise P2PFRLError("a process joins once")
            wanted, count, host, port = _join(event)
            address = host or link.peer_host(), port
            if address in self._table:
                raise P2PFRLError(
                    f"{who_have(self._table[address], 'is', 'are')} at {address[0]}:{port} already; give --advertise "
                    "or --bind with an address and port that no other process has"
                )
            ids = assign(wanted, count, taken, self._everyone, self._together)
            tls, names = link.tls(), self._security.names
            if tls is not None and names is not None and not set(ids) <= set(names(tls)):
                raise P2PFRLError(
                    f"the certificate names {who(names(tls))}, not {show_agents(ids)}"
                )
        except P2PFRLError as error:
            link.session.say("sorry", detail=str(error))
            link.close()
            return
        self._table[address] = ids
        self._members[link] = address
        self._progress(f"{who(ids)} joined from {address[0]}:{address[1]}")
        self._look()

    def missing(self) -> Sequence[int]:
        """Return the agents that no process has taken yet."""
        return Fleet(self._table).missing(self._everyone)

    def _look(self) -> None:
        if not self.missing():
            self._complete.set()

    async def _keep_time(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            for link in [*self._admission, *self._members]:
                link.tick()


async def join(
    own: Identity,
    lead: Address,
    *,
    wanted: Sequence[int],
    count: int,
    decoder: Decoder,
    security: Security,
    timing: Timing,
    progress: Progress,
) -> tuple[Fleet, tuple[int, ...]]:
    """Ask the lead for ids and for the table of processes.

    Args:
        own: identity of this process; its address is where it listens for frames.
        lead: where the lead listens.
        wanted: ids, or none for any `count`.
        count: number of agents if `wanted` is empty.
        decoder: checks frames.
        security: security of the links.
        timing: timing of the links.
        progress: receives one line per event.

    Returns:
        the table of processes, and the ids of this process.

    Raises:
        P2PFRLError: the lead refused, or could not be reached in time.
    """
    request = _Request(own, lead, decoder, security, timing, progress)
    link = await request.send(list(wanted), count)
    try:
        return await request.answer(link)
    finally:
        link.shut()


class _Request:
    """A process's side of the rendezvous: its request to the lead, and the lead's answer.

    Args:
        own: identity of this process.
        lead: where the lead listens.
        decoder: checks frames.
        security: security of the link.
        timing: timing of the link.
        progress: receives one line per event.
    """

    def __init__(
        self,
        own: Identity,
        lead: Address,
        decoder: Decoder,
        security: Security,
        timing: Timing,
        progress: Progress,
    ) -> None:
        self._own = own
        self._lead = lead
        self._decoder = decoder
        self._security = security
        self._timing = timing
        self._progress = progress
        self._loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[tuple[Fleet, tuple[int, ...]]] = self._loop.create_future()
        self._body: dict[str, object] = {}

    async def send(self, wanted: list[int], count: int) -> Link:
        """Connect to the lead and ask for ids; return the link.

        It repeats failed connections until the start timeout.

        Raises:
            P2PFRLError: the lead could not be reached in time, or its certificate is invalid.
        """
        host, port = self._own.address
        self._body = {"agents": wanted, "count": count, "host": host, "port": port}
        deadline, host, port = self._loop.time() + self._timing.start, *self._lead
        has_told = False
        while True:
            try:
                return await self._connect()
            except ssl.SSLError as error:  # the certificates will be the same at every attempt
                raise P2PFRLError(
                    f"the lead at {host}:{port}: {', '.join(refusal(error))}"
                ) from error
            except OSError as error:
                if self._loop.time() > deadline:
                    raise P2PFRLError(f"cannot reach the lead at {host}:{port}: {error}") from error
                if not has_told:
                    seconds = f"{self._timing.start:g} s"
                    self._progress(f"nobody at {host}:{port} yet ({error}); trying for {seconds}")
                has_told = True
                await asyncio.sleep(0.2)

    async def answer(self, link: Link) -> tuple[Fleet, tuple[int, ...]]:
        """Return the lead's answer: the table of processes, and the ids of this process.

        Raises:
            P2PFRLError: the lead refused, or did not answer in time.
        """
        try:
            async with asyncio.timeout(self._timing.start):
                while not self._answer.done():
                    await asyncio.wait([self._answer], timeout=TICK)
                    link.tick()
            return self._answer.result()
        except TimeoutError:
            raise P2PFRLError(
                f"the lead did not hand out the table within {self._timing.start:g} s"
            ) from None

    async def _connect(self) -> Link:
        client = self._security.client
        name = "" if client else None
        _, link = await self._loop.create_connection(
            self._protocol, *self._lead, ssl=client, server_hostname=name
        )
        return link

    def _protocol(self) -> Link:
        def session(link: Link, transport: asyncio.Transport) -> Session:
            return _session(
                self._own, self._decoder, self._security, self._timing, transport, dialer=True
            )

        return Link(session, self._handle, self._loop.time, self._timing.timeout)

    def _handle(self, link: Link, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Opened):
                self._progress("connected to the lead; waiting until everyone is there")
                if self._body["host"] in ANYWHERE:
                    self._body["host"] = link.local_host()  # the lead can reach it, so others can
                link.session.say("join", **self._body)
                link.flush()
            elif self._answer.done():
                continue
            elif isinstance(event, Control) and event.say == "table":
                try:
                    self._answer.set_result(_table(event))
                except P2PFRLError as error:
                    self._answer.set_exception(error)
            elif isinstance(event, Control) and event.say == "sorry":
                reason = f"the lead refused: {event.body.get('detail')}"
                self._answer.set_exception(P2PFRLError(reason))
            elif isinstance(event, Closed):
                is_plain = self._security.client is None
                reason = _why_closed(link, event, self._lead, is_plain=is_plain)
                self._answer.set_exception(P2PFRLError(reason))


def _why_closed(link: Link, event: Closed, lead: Address, *, is_plain: bool) -> str:
    """Return the likely reason why the lead closed the connection, for the user."""
    if (
        is_plain
        and link.session.peer is None
        and event.reason in ("closed", "truncated", "bad_magic")
    ):
        return (
            f"--tls: the lead at {lead[0]}:{lead[1]} closed the connection without a hello: it expects TLS, got plain "
            "TCP; give --tls CERTIFICATE (see p2pfrl pki)"
        )
    return f"the lead closed the connection: {event.reason}: {event.detail}"


def _session(
    own: Identity,
    decoder: Decoder,
    security: Security,
    timing: Timing,
    transport: asyncio.Transport,
    *,
    dialer: bool,
) -> Session:
    session = Session(
        own.fresh(),
        decoder,
        secret=security.secret,
        dialer=dialer,
        now=asyncio.get_running_loop().time(),
        heartbeat=timing.heartbeat,
        timeout=timing.timeout,
        check=lambda peer: security.current.refusal(transport),
    )
    tls = transport.get_extra_info("ssl_object")
    if tls is not None and security.names is not None:
        session.certified = tuple(security.names(tls))
    return session


def _table(event: Control) -> tuple[Fleet, tuple[int, ...]]:
    yours = event.body.get("yours")
    if not isinstance(yours, list) or not all(type(agent) is int for agent in yours):
        raise P2PFRLError("the lead's table is malformed")
    return Fleet.of(event.body.get("rows")), tuple(yours)


def _join(event: Control) -> tuple[list[int], int, str, int]:
    """Return who wants to join where.

    Raises:
        P2PFRLError: the request is malformed.
    """
    names = ("agents", "count", "host", "port")
    agents, count, host, port = (event.body.get(name) for name in names)
    if (
        not isinstance(agents, list)
        or not all(type(agent) is int for agent in agents)
        or type(count) is not int
        or type(host) is not str
        or not _HOST.fullmatch(host)
        or type(port) is not int
        or not 0 < port < 65536
    ):
        raise P2PFRLError("the request to join is malformed")
    return sorted(agents), count, host, port
