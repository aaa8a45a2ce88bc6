"""Commands that run agents as processes over TCP."""

from __future__ import annotations

import json as encoder
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from p2pfrl.commands.arguments import DONE, INTERRUPTED, Json, Out, Quiet, Seed, Set, Told
from p2pfrl.core.errors import ScenarioError

if TYPE_CHECKING:
    from p2pfrl.deploy import Place
    from p2pfrl.scenario import Scenario
    from p2pfrl.world.fleet import Address
    from p2pfrl.world.mesh import Security

Lead = Annotated[bool, Parameter(negative=(), help="Hand out ids and the table of peers to the others.")]
Rendezvous = Annotated[str, Parameter(help="HOST:PORT of the lead; for the lead, where it listens for the others.")]
Discover = Annotated[
    bool,
    Parameter(negative=(), help="Find the lead by multicast DNS on the network of --bind; a lead says where it is."),
]
Agents = Annotated[str, Parameter(help="Agents that live here, as 0-3, 5 or 0-3+coordinator; none: any --count.")]
Count = Annotated[int, Parameter(help="Number of agents that live here, where --agents does not say which.")]
Peers = Annotated[str, Parameter(help="Who lives where, without a lead: 0-3=10.0.0.1:7000,4-7=10.0.0.2:7000.")]
Bind = Annotated[str, Parameter(help="HOST:PORT to listen on for neighbors; port 0: any that is free.")]
Secret = Annotated[
    Path | None,
    Parameter(help="A file with a secret that all peers share: it proves who belongs, it encrypts nothing."),
]
Tls = Annotated[
    Path | None, Parameter(help="Certificate of this process, from pki issue; its key and ca.crt stand beside it.")
]
Insecure = Annotated[bool, Parameter(negative=(), help="Allow plain TCP on an address that others can reach.")]
Start = Annotated[float, Parameter(help="Seconds to wait for everyone at the start.")]

LOOPBACK = ("127.", "::1", "localhost")


def peer(
    file: str,
    *,
    lead: Lead = False,
    rendezvous: Rendezvous = "",
    discover: Discover = False,
    agents: Agents = "",
    count: Count = 1,
    peers: Peers = "",
    bind: Bind = "127.0.0.1:0",
    secret: Secret = None,
    tls: Tls = None,
    insecure: Insecure = False,
    start_timeout: Start = 120.0,
    set: Set = (),
    seed: Seed = None,
    out: Out = None,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Run the agents of one host as a process over TCP; the same scenario file on every host.

    Parameters
    ----------
    file
        A scenario file or name.
    """
    from p2pfrl.deploy import deploy
    from p2pfrl.show import run_directory
    from p2pfrl.world.fleet import show_agents
    from p2pfrl.world.mesh import Timing

    chosen = Told(set, seed).load(file)
    place = _place(lead, rendezvous, agents, count, peers, bind, discover=discover)
    _refuse_strangers(place, chosen)
    security = _security(place, secret, tls, insecure)
    name = show_agents(place.agents) if place.agents else f"{count}-more"
    directory = out or run_directory(chosen).parent / f"peer-{name}"

    def announce(address: Address) -> None:
        meeting = _shown(address)
        if not quiet:
            words = ["p2pfrl", "peer", file, *(["--discover"] if discover else ["--rendezvous", meeting])]
            words += [word for key in set for word in ("--set", key)] + ([] if seed is None else ["--seed", str(seed)])
            line = shlex.join(words) + _its_own(place, secret, tls, insecure)
            print(f"Run on each of the others:\n\n  {line}\n", file=sys.stderr if json else sys.stdout, flush=True)
        elif json:
            print(encoder.dumps({"rendezvous": meeting}), flush=True)

    summary = deploy(
        chosen, place, directory, security=security, timing=Timing(start=start_timeout), quiet=quiet, announce=announce
    )
    if json:
        print(encoder.dumps(dict(summary), indent=None if quiet else 2))
    else:
        for key in ("agents", "stopped_by", "rounds", "run_seconds", "messages_sent", "messages_dropped",
                    "messages_late", "deadlines_expired", "refusals", "parameters_digest"):  # fmt: skip
            print(f"{key:20}  {summary[key]}")
        print(f"{'directory':20}  {directory}")
    if not quiet:
        print(f"p2pfrl collect makes one record of all peers' directories, this one is {directory}", file=sys.stderr)
    return INTERRUPTED if summary["stopped_by"] == "interrupt" else DONE


def collect(*directories: Path, out: Out = None, json: Json = False) -> int:
    """Make one record of what all peers of a run wrote: the same figures, report and compare work on it.

    Parameters
    ----------
    directories
        The peers' run directories, brought to one host.
    """
    from p2pfrl.collect import collect as gather
    from p2pfrl.results.report import report
    from p2pfrl.show import conclude

    if not directories:
        raise ScenarioError(["RUN: expected the run directories of all peers"])
    target = out or directories[0].parent / "collected"
    record = gather(directories, target)
    conclude(record.summary, target, report([target]), as_json=json)
    return DONE


def pki_init(directory: Path) -> int:
    """Make a private certificate authority for one fleet.

    Parameters
    ----------
    directory
        Where its certificate and key go; the key stays there.
    """
    from p2pfrl.pki import init

    print(init(directory).said)
    return DONE


def pki_issue(
    agents: str,
    *,
    authority: Annotated[Path, Parameter(help="Directory of the authority, as pki init made it.")],
    days: Annotated[int, Parameter(help="Days the certificate is valid.")] = 365,
) -> int:
    """Issue the certificate of a process: it names the agents that may live there.

    Parameters
    ----------
    agents
        As 0-3, 5 or coordinator.
    """
    from p2pfrl.pki import issue
    from p2pfrl.world.fleet import parse_agents

    print(issue(authority, parse_agents(agents), days=days).said)
    return DONE


def _place(
    lead: bool, rendezvous: str, agents: str, count: int, peers: str, bind: str, *, discover: bool
) -> Place:  # fmt: skip
    """Return where this process stands.

    Raises:
        ScenarioError: the options contradict each other.
    """
    from p2pfrl.deploy import Place
    from p2pfrl.world.fleet import Fleet, parse_address, parse_agents, show_agents

    ids = parse_agents(agents) if agents else ()
    if peers:
        if lead or rendezvous or discover:
            raise ScenarioError(["--peers: an explicit table needs none of --lead, --rendezvous and --discover"])
        if not ids:
            raise ScenarioError(["--agents: with --peers, say which agents live here"])
        fleet = Fleet.parse(peers)
        if tuple(sorted(ids)) not in [tuple(sorted(there)) for there in fleet.processes.values()]:
            raise ScenarioError([
                f"--agents {agents}: no process in --peers has these agents, but "
                + ", ".join(show_agents(there) for there in fleet.processes.values())
            ])  # fmt: skip
        return Place(ids, bind=fleet.address(ids[0]), fleet=fleet)
    if not lead and bool(rendezvous) == discover:
        raise ScenarioError([
            "--rendezvous HOST:PORT: expected the address of the lead, or --discover to find it (not both), or --lead, "
            "or --peers"
        ])  # fmt: skip
    if lead and not ids:
        raise ScenarioError(["--agents: the lead says which agents live with it, such as --agents 0-3"])
    here = parse_address(bind)
    meeting = parse_address(rendezvous) if rendezvous else (here[0], 0) if lead else None
    if meeting is not None and _is_local(here) and (not _is_local(meeting) or (":" in here[0]) != (":" in meeting[0])):
        raise ScenarioError([
            f"--bind {here[0]}: whoever meets at {_shown(meeting)} cannot reach this process: give "
            "--bind ADDRESS:0 with the address that this machine has in that network"
        ])  # fmt: skip
    return Place(ids, count, here, lead, meeting, discover)


def _security(place: Place, secret: Path | None, tls: Path | None, insecure: bool) -> Security:
    """Return how this process knows who it talks to.

    Raises:
        ScenarioError: an address that others can reach, and nothing to protect it.
    """
    from p2pfrl.world.mesh import Security

    word = b""
    if secret is not None:
        word = secret.read_bytes().strip()
        if len(word) < 16:
            raise ScenarioError([f"{secret}: expected a secret of at least 16 bytes, got {len(word)}"])
    listening = {"--bind": place.bind, **({"--rendezvous": place.rendezvous} if place.lead else {})}
    for option, address in listening.items():
        if tls is None and not insecure and address is not None and not _is_local(address):
            raise ScenarioError([
                f"{option} {address[0]}: others can reach this address: give --tls CERTIFICATE (see p2pfrl pki), "
                "or --insecure for a network that you trust"
            ])  # fmt: skip
    if tls is None:
        return Security(word)
    if not place.agents:
        raise ScenarioError(["--agents: with --tls, say which agents live here: the certificate names them"])
    from p2pfrl.world.terms import Relay
    from p2pfrl.world.tls import agents_of, contexts, own_agents

    relay = Relay()
    server, client = contexts(tls.with_name("ca.crt"), tls, tls.with_suffix(".key"), on_refused=relay)
    named = own_agents((server, client))
    if strangers := [agent for agent in place.agents if agent not in named]:
        from p2pfrl.world.fleet import show_agents

        raise ScenarioError([
            f"--tls {tls}: the certificate names agents {show_agents(named)}, not {show_agents(strangers)}, "
            "which --agents puts here"
        ])  # fmt: skip
    return Security(word, server, client, agents_of, relay)


def _refuse_strangers(place: Place, scenario: Scenario) -> None:
    """Refuse agents that the scenario does not have.

    Raises:
        ScenarioError: there are some.
    """
    from p2pfrl.world.fleet import show_agents

    if unknown := [agent for agent in place.agents if agent >= scenario.agents]:
        raise ScenarioError([
            f"--agents: there is no agent {show_agents(unknown)}; the scenario has 0-{scenario.agents - 1}"
        ])  # fmt: skip


def _is_local(address: Sequence[object]) -> bool:
    return str(address[0]).startswith(LOOPBACK)


def _shown(address: Address) -> str:
    """Return an address as `--rendezvous` reads it."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _its_own(place: Place, secret: Path | None, tls: Path | None, insecure: bool) -> str:
    """Return the options that differ from process to process, in capitals, and those that say how it is protected."""
    words = "" if _is_local(place.bind) else " --bind ITS_ADDRESS:0"
    if tls is not None:
        words += f" --agents AGENTS --tls {shlex.quote(str(tls.parent))}/agents-AGENTS.crt"
    if secret is not None:
        words += f" --secret {shlex.quote(str(secret))}"
    return words + (" --insecure" if insecure else "")
