"""Discovery of the lead on the local network by multicast DNS.

S. Cheshire, M. Krochmal, RFC 6762 and RFC 6763, 2013. The service is `_p2pfrl._tcp.local.`. Its
text has the name of the run and the hash of the scenario. Anyone on the network can announce a
lead, so the result is only an address to try: the process there must authenticate itself as in
every connection.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from p2pfrl.core.errors import P2PFRLError
from p2pfrl.core.finder import install
from p2pfrl.net.fleet import Address
from p2pfrl.net.records import Identity, printable

if TYPE_CHECKING:
    from zeroconf import ServiceStateChange, Zeroconf
    from zeroconf.asyncio import AsyncZeroconf

SERVICE = "_p2pfrl._tcp.local."
SETTLE = 1.5
"""Seconds to wait for a second lead after the first.

Leads answer within 0.12 s, or within 1 s if asked twice."""

_ANSWER = 1000
_HEARD = 32


@dataclass(frozen=True, slots=True)
class Lead:
    """A lead that answered.

    Attributes:
        address: where it listens, as announced.
        run: name of its run.
        scenario: hash of its scenario.
    """

    address: Address
    run: str
    scenario: str

    def __str__(self) -> str:
        """Return one line for a message."""
        host, port = self.address
        return f"{self.run} {self.scenario} at {f'[{host}]' if ':' in host else host}:{port}"


@asynccontextmanager
async def announcing(own: Identity, address: Address) -> AsyncIterator[None]:
    """Announce on the network of `address` that the lead listens there, until the context ends.

    Raises:
        P2PFRLError: the package is missing, or others cannot reach `address`.
    """
    net, host = _network(address[0])
    from zeroconf.asyncio import AsyncServiceInfo

    name = f"{own.scenario}-{os.urandom(4).hex()}.{SERVICE}"
    about = AsyncServiceInfo(
        SERVICE,
        name,
        port=address[1],
        parsed_addresses=[host],
        server=f"{name.partition('.')[0]}.local.",
        properties={"run": own.run.encode()[:200], "scenario": own.scenario},
    )
    try:
        await net.async_register_service(about)
        yield
    finally:
        await net.async_unregister_all_services()
        await net.async_close()


async def discover(own: Identity, host: str, *, deadline: float) -> Address:
    """Return the address of the lead of this scenario.

    Args:
        own: identity of this process.
        host: one of our addresses, on the network to search.
        deadline: seconds to wait for a first answer.

    Raises:
        P2PFRLError: the package is missing; no lead of this scenario answered in time; or two did.
            The message names the leads that answered.
    """
    net, host = _network(host)
    from zeroconf.asyncio import AsyncServiceBrowser

    heard: dict[str, Lead] = {}
    changed = asyncio.Event()
    asking: dict[str, asyncio.Task[None]] = {}

    def handle(
        zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange
    ) -> None:
        if state_change.name == "Removed":
            heard.pop(name, None)
        elif len(asking) < _HEARD and (name not in asking or asking[name].done()):
            asking[name] = asyncio.ensure_future(_ask(net, name, heard, changed))

    browser = AsyncServiceBrowser(net.zeroconf, SERVICE, handlers=[handle])
    ours: list[Lead] = []
    try:
        async with asyncio.timeout(deadline):
            while not ours:
                await changed.wait()
                changed.clear()
                ours = _ours(heard, own)
            await asyncio.sleep(SETTLE)
    except TimeoutError:
        if not ours:
            others = "; ".join(sorted(map(str, heard.values()))) or "nobody"
            raise P2PFRLError(
                f"--discover: no lead of {own.run} {own.scenario} announced itself on the network of {host} within "
                f"{deadline:g} s; heard: {others}; is the lead started with --discover, and --bind on that network?"
            ) from None
    finally:
        for task in asking.values():
            task.cancel()
        await browser.async_cancel()
        await net.async_close()
    ours = _ours(heard, own) or ours
    if len(ours) > 1:
        raise P2PFRLError(
            f"--discover: {len(ours)} leads of one scenario: {'; '.join(map(str, ours))}; "
            "end all but one, or say which with --rendezvous"
        )
    return ours[0].address


async def _ask(
    net: AsyncZeroconf, name: str, heard: dict[str, Lead], changed: asyncio.Event
) -> None:
    """Add a service to `heard` if its record is that of a lead."""
    about = await net.async_get_service_info(SERVICE, name, _ANSWER)
    if about is None or not about.port:
        return
    addresses = about.parsed_addresses()
    texts = [about.properties.get(key) or b"" for key in (b"run", b"scenario")]
    if addresses:
        run, scenario = (printable(text.decode("utf-8", "replace"), 100) for text in texts)
        heard[name] = Lead((addresses[0], about.port), run, scenario)
        changed.set()


def _ours(heard: dict[str, Lead], own: Identity) -> list[Lead]:
    found = {
        lead for lead in heard.values() if (lead.run, lead.scenario) == (own.run, own.scenario)
    }
    return sorted(found, key=lambda lead: lead.address)


def _network(host: str) -> tuple[AsyncZeroconf, str]:
    """Return a multicast DNS client on one interface, and the interface's numeric address.

    Raises:
        P2PFRLError: the package is missing, `host` is not one IPv4 address, or its interface has no
            multicast.
    """
    try:
        from zeroconf import IPVersion
        from zeroconf.asyncio import AsyncZeroconf
    except ImportError as error:
        raise P2PFRLError(
            f"--discover: the package zeroconf is missing: {install('lan')}"
        ) from error
    host = "127.0.0.1" if host == "localhost" else host
    try:
        found = ipaddress.IPv4Address(host)
    except ValueError:
        found = ipaddress.IPv4Address(0)
    if found.is_unspecified:
        raise P2PFRLError(
            f"--discover: expected one IPv4 address of ours in --bind, such as 10.0.0.1:0, got {host}"
        )
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0))
        return AsyncZeroconf(interfaces=[host], ip_version=IPVersion.V4Only), host
    except OSError as error:
        raise P2PFRLError(
            f"--discover: no multicast on the interface of {host}: {error.strerror or error}"
        ) from error
