"""Options of `p2pfrl peer` for its place and its security."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from p2pfrl.core.errors import P2PFRLError, ScenarioError
from p2pfrl.core.files import read_regular
from p2pfrl.core.text import MARK

if TYPE_CHECKING:
    from p2pfrl.deploy.process import Place
    from p2pfrl.net.fleet import Address, Fleet
    from p2pfrl.net.mesh import Security
    from p2pfrl.scenario import Scenario


@contextmanager
def named(option: str = "") -> Iterator[None]:
    """Add the name of the option to an error about its value, unless the message has it."""
    try:
        yield
    except ScenarioError:
        raise
    except P2PFRLError as error:
        raise ScenarioError([f"{option}: {error}" if option else str(error)]) from error


_HOST = re.compile(r"[0-9A-Za-z._-]{1,255}|[0-9A-Fa-f:.]+:[0-9A-Fa-f:.]*(%[0-9A-Za-z._-]+)?")
"""A name or an IPv4 address, or an IPv6 address."""
_MOST_SECRET = 4096
"""Most bytes of a file with a secret."""


def place_of(
    lead: bool,
    rendezvous: str,
    agents: str,
    count: int,
    peers: str,
    bind: str,
    *,
    discover: bool,
    advertise: str = "",
) -> Place:
    """Return the place of this process in the deployment.

    Raises:
        ScenarioError: the options contradict each other.
    """
    from p2pfrl.deploy.process import Place
    from p2pfrl.net.fleet import parse_address, parse_agents

    with named("--agents"):
        ids = parse_agents(agents) if agents else ()
    if count < 1:
        raise ScenarioError([f"--count: expected at least 1 agent, got {count}"])
    if peers:
        if lead or rendezvous or discover or advertise:
            raise ScenarioError(
                [
                    "--peers: an explicit table needs none of --lead, --rendezvous, --discover and --advertise"
                ]
            )
        fleet = _fleet(peers, agents, ids)
        return Place(ids, bind=fleet.address(ids[0]), fleet=fleet)
    if not lead and bool(rendezvous) == discover:
        raise ScenarioError(
            [
                "--rendezvous HOST:PORT: expected the address of the lead, or --discover to find it (not both), or "
                "--lead, or --peers"
            ]
        )
    if lead and not ids:
        raise ScenarioError(
            ["--agents: the lead says which agents live with it, such as --agents 0-3"]
        )
    with named("--bind"):
        here = parse_address(bind)
    if advertise and not _HOST.fullmatch(advertise):
        raise ScenarioError(
            [
                f"--advertise: expected the host at which others reach this process, without a port, such as 10.0.0.7, "
                f"got {advertise!r}"
            ]
        )
    with named("--rendezvous"):
        meeting = parse_address(rendezvous) if rendezvous else (here[0], 0) if lead else None
    if meeting is not None:
        _refuse_out_of_reach(here, meeting)
    return Place(ids, count, here, lead, meeting, discover, advertise=advertise)


def _fleet(peers: str, agents: str, ids: tuple[int, ...]) -> Fleet:
    """Return the table of all processes.

    Raises:
        ScenarioError: it is malformed, or no process in it has exactly these agents.
    """
    from p2pfrl.net.fleet import Fleet, show_agents

    if not ids:
        raise ScenarioError(["--agents: with --peers, say which agents live here"])
    with named():
        fleet = Fleet.parse(peers)
    if tuple(sorted(ids)) not in [tuple(sorted(there)) for there in fleet.processes.values()]:
        raise ScenarioError(
            [
                f"--agents {agents}: no process in --peers has these agents, but "
                + ", ".join(show_agents(there) for there in fleet.processes.values())
            ]
        )
    return fleet


def _refuse_out_of_reach(here: Address, meeting: Address) -> None:
    """Refuse an address that others who meet there cannot reach.

    Raises:
        ScenarioError: it is one of this machine alone, and the meeting is elsewhere.
    """
    if not is_local(here) or (is_local(meeting) and (":" in here[0]) == (":" in meeting[0])):
        return
    if why := _unresolved(meeting[0]):
        raise ScenarioError(
            [f"--rendezvous {shown(meeting)}: expected a host that this machine finds, got: {why}"]
        )
    raise ScenarioError(
        [
            f"--bind {here[0]}: whoever meets at {shown(meeting)} cannot reach this process; give "
            "--bind ADDRESS:0 with the address that this machine has in that network"
        ]
    )


def security_of(place: Place, secret: Path | None, tls: Path | None, insecure: bool) -> Security:
    """Return how this process authenticates others.

    Raises:
        ScenarioError: others can reach an address that nothing protects.
    """
    from p2pfrl.net.mesh import Security

    word = b""
    if secret is not None:
        try:
            word = read_regular(secret, _MOST_SECRET).removeprefix(MARK).strip()
        except OSError as error:
            raise ScenarioError(
                [f"--secret {secret}: expected a file with a secret, got: {error.strerror}"]
            ) from error
        if len(word) < 16:
            raise ScenarioError(
                [f"--secret {secret}: expected a secret of at least 16 bytes, got {len(word)}"]
            )
    listening = {"--bind": place.bind, **({"--rendezvous": place.rendezvous} if place.lead else {})}
    for option, address in listening.items():
        if tls is None and not insecure and address is not None and not is_local(address):
            raise ScenarioError(
                [
                    f"{option} {address[0]}: others can reach this address; give --tls CERTIFICATE (see p2pfrl pki), "
                    "or --insecure for a network that you trust"
                ]
            )
    if tls is None:
        return Security(word)
    if not place.agents:
        raise ScenarioError(
            ["--agents: with --tls, say which agents live here: the certificate names them"]
        )
    from p2pfrl.net.options import Files, Relay
    from p2pfrl.net.tls import agents_of, contexts, own_agents

    relay = Relay()
    files = Files(tls.with_name("ca.crt"), tls, tls.with_suffix(".key"))
    with named("--tls"):
        server, client = contexts(files.authority, files.certificate, files.key, on_refused=relay)
    there = own_agents((server, client))
    if strangers := [agent for agent in place.agents if agent not in there]:
        from p2pfrl.net.fleet import show_agents

        raise ScenarioError(
            [
                f"--tls {tls}: the certificate names agents {show_agents(there)}, not {show_agents(strangers)}, "
                "which --agents puts here"
            ]
        )
    return Security(word, server, client, agents_of, relay, files)


def refuse_strangers(place: Place, scenario: Scenario) -> None:
    """Raise an error for agents that the scenario lacks, or that a table of peers lacks.

    Raises:
        ScenarioError: there are some.
    """
    from p2pfrl.build.participants import everyone
    from p2pfrl.net.fleet import refuse_split_worlds, show_agents

    ids = everyone(scenario)
    if unknown := set(place.agents).difference(ids):
        raise ScenarioError(
            [
                f"--agents: there is no agent {show_agents(unknown)}; the scenario has {show_agents(ids)}"
            ]
        )
    processes = {} if place.fleet is None else place.fleet.processes
    with named():
        for there in (place.agents, *processes.values()):
            refuse_split_worlds(there, scenario.members)
    if place.fleet is None:
        return
    if absent := place.fleet.missing(ids):
        raise ScenarioError(
            [
                f"--peers: expected all agents of the scenario, got no address for {show_agents(absent)}"
            ]
        )


def is_local(address: Sequence[object]) -> bool:
    """Whether only this machine can reach a host: all addresses that it has are of loopback."""
    import socket

    try:
        found = {str(item[4][0]) for item in socket.getaddrinfo(str(address[0]), None)}
    except (OSError, UnicodeError):
        return False  # listening on it will say why
    return bool(found) and all(_is_loopback(host) for host in found)


def _unresolved(host: str) -> str:
    """Return why a host has no address; "" if it has one."""
    import socket

    try:
        socket.getaddrinfo(host, None)
    except OSError as error:
        return error.strerror or str(error)
    except UnicodeError as error:
        return str(error)
    return ""


def _is_loopback(host: str) -> bool:
    address = ip_address(host.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def shown(address: Address) -> str:
    """Return an address as `--rendezvous` reads it."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def its_own(place: Place, secret: Path | None, tls: Path | None, insecure: bool) -> str:
    """Return the options for the other processes: in capitals those that differ, and security."""
    words = "" if is_local(place.bind) else " --bind ITS_ADDRESS:0"
    if tls is not None:
        words += f" --agents AGENTS --tls {shlex.quote(str(tls.parent))}/CERTIFICATE.crt"
    if secret is not None:
        words += f" --secret {shlex.quote(str(secret))}"
    return words + (" --insecure" if insecure else "")
