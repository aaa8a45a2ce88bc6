"""Commands that run agents as processes over TCP."""

from __future__ import annotations

import json as encoder
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from p2pfrl.commands.arguments import (
    DONE,
    FAILED,
    INTERRUPTED,
    Json,
    Out,
    Overrides,
    Quiet,
    Replace,
    Seed,
    Set,
    seconds,
    text,
    whole,
    workers,
)
from p2pfrl.commands.place import its_own, named, place_of, refuse_strangers, security_of, shown
from p2pfrl.commands.streams import results
from p2pfrl.core.children import end_with
from p2pfrl.core.errors import P2PFRLError, ScenarioError
from p2pfrl.core.wording import printable

if TYPE_CHECKING:
    from p2pfrl.net.certificates import Paths
    from p2pfrl.net.fleet import Address

Lead = Annotated[
    bool, Parameter(negative=(), help="Assign ids and send the table of peers to the others.")
]
Rendezvous = Annotated[
    str, Parameter(help="HOST:PORT of the lead; for the lead, where it listens for the others.")
]
Discover = Annotated[
    bool,
    Parameter(
        negative=(),
        help="Find the lead by multicast DNS on the network of --bind; a lead announces itself.",
    ),
]
Agents = Annotated[
    str,
    Parameter(
        help="Agents of this process, such as 0-3, 5, 0-3+coordinator or 0-3+edge0; none: any --count."
    ),
]
Count = Annotated[
    int,
    Parameter(converter=whole, help="Number of agents of this process, if --agents is not given."),
]
Peers = Annotated[
    str, Parameter(help="Table of peers, without a lead: 0-3=10.0.0.1:7000,4-7=10.0.0.2:7000.")
]
Bind = Annotated[
    str, Parameter(help="HOST:PORT to listen on for neighbors; port 0: any free port.")
]
Advertise = Annotated[
    str,
    Parameter(
        help="Host at which others reach this process, if not the one of --bind: behind NAT or in a container."
    ),
]
Secret = Annotated[
    Path | None,
    Parameter(
        help="A file with a secret that all peers share: it authenticates peers and encrypts nothing."
    ),
]
Tls = Annotated[
    Path | None,
    Parameter(
        help="Certificate of this process, from pki issue; its key and ca.crt are in the same folder."
    ),
]
Insecure = Annotated[
    bool, Parameter(negative=(), help="Allow plain TCP on an address that others can reach.")
]
Attached = Annotated[
    bool,
    Parameter(negative=(), show=False, help="End when standard input ends: that of a parent."),
]
StatusPort = Annotated[
    str | None,
    Parameter(
        help="HOST:PORT of a read-only page of this process, for browsers and `watch --url`; needs the extra `live`."
    ),
]
StatusToken = Annotated[
    Path | None,
    Parameter(help="A file with the token of that page; one is made if other hosts can reach it."),
]
Evaluate = Annotated[
    bool,
    Parameter(
        negative=(),
        help="Open the environments of all agents on this host and evaluate; else none is opened.",
    ),
]
Trainers = Annotated[
    int | Literal["auto"],
    Parameter(
        name="--workers",
        converter=workers,
        help="Processes that train the agents of this one; 1 by default, as other peers may run on this machine; "
        "auto: one per core once training has taken 3 s of CPU. They pay where the updates of all agents together take "
        "0.1 s or more. Results do not depend on it.",
    ),
]
Start = Annotated[
    float, Parameter(converter=seconds, help="Seconds to wait for everyone at the start.")
]
_SHOWN = (
    "agents",
    "stopped_by",
    "rounds",
    "run_seconds",
    "messages_sent",
    "messages_dropped",
    "messages_late",
    "deadlines_expired",
    "refusals",
    "parameters_digest",
)
"""Keys of the summary that are printed."""


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
    advertise: Advertise = "",
    secret: Secret = None,
    tls: Tls = None,
    insecure: Insecure = False,
    start_timeout: Start = 120.0,
    workers: Trainers = 1,
    set: Set = (),
    seed: Seed = None,
    out: Out = None,
    json: Json = False,
    quiet: Quiet = False,
    attached: Attached = False,
    status: StatusPort = None,
    status_token: StatusToken = None,
) -> int:
    """Run the agents of one host as a process over TCP, with the same scenario file on every host.

    Parameters
    ----------
    file
        A scenario file or name.
    """
    from p2pfrl.deploy.process import deploy
    from p2pfrl.learning.environments.specs import borrowing
    from p2pfrl.net.fleet import show_agents
    from p2pfrl.net.mesh import Timing

    if attached:
        end_with(sys.stdin.read)
    place = place_of(
        lead, rendezvous, agents, count, peers, bind, discover=discover, advertise=advertise
    )
    # Only the environments of its own agents: those of others may be machines.
    with borrowing():
        chosen = Overrides(set, seed).load(file, place.agents)
        refuse_strangers(place, chosen)
        if workers != 1 and place.agents and max(place.agents) < 0:
            raise ScenarioError(
                [f"--workers {workers}: no agent trains in this process, only --agents {agents}"]
            )
        security = security_of(place, secret, tls, insecure)
        name = show_agents(place.agents) if place.agents else f"{count}-more"
        directory = out or Path("runs") / chosen.name / f"peer-{name}"

        def announce(address: Address) -> None:
            meeting = shown(address)
            if not quiet:
                where = ("--discover",) if discover else ("--rendezvous", meeting)
                line = _line(file, where, set, seed) + its_own(place, secret, tls, insecure)
                target = sys.stderr if json else sys.stdout
                print(f"Run on each of the others:\n\n  {line}\n", file=target, flush=True)
            elif json:
                print(encoder.dumps({"rendezvous": meeting}), file=results(), flush=True)

        with _status_page(directory, status, status_token):
            summary = deploy(
                chosen,
                place,
                directory,
                security=security,
                timing=Timing(start=start_timeout),
                quiet=quiet,
                announce=announce,
                workers=workers,
            )
    if json:
        print(encoder.dumps(dict(summary), indent=None if quiet else 2), file=results())
    else:
        _print(summary, directory)
    if not quiet:
        print(
            f"p2pfrl collect makes one record of all peers' directories, this one is {directory}",
            file=sys.stderr,
        )
    return INTERRUPTED if summary["stopped_by"] == "interrupt" else DONE


@contextmanager
def _status_page(directory: Path, bind: str | None, token: Path | None) -> Iterator[None]:
    """Serve a read-only page of this process in the block, if an address for it is given.

    Raises:
        P2PFRLError: packages are missing, the port is in use, or the token is not valid.
    """
    if bind is None:
        if token is not None:
            raise ScenarioError([f"--status-token {token}: expected --status HOST:PORT too"])
        yield
        return
    from p2pfrl.commands.watching import token_of
    from p2pfrl.watch.beside import page_beside
    from p2pfrl.watch.serve import require_live

    require_live()
    options = ["--bind", bind, "--no-open"]
    if token is not None:
        token_of(token)
        options += ["--token", str(token)]
    with ExitStack() as page:
        try:
            page.enter_context(
                page_beside(
                    [directory], lambda line: print(line, file=sys.stderr, flush=True), options
                )
            )
        except P2PFRLError as error:
            raise P2PFRLError(str(error).replace("--bind", "--status")) from error
        yield


def _line(file: str, where: Sequence[str], settings: Sequence[str], seed: int | None) -> str:
    """Return the command for another process of the same run, without its own options."""
    words = ["p2pfrl", "peer", file, *where]
    words += [word for key in settings for word in ("--set", key)]
    return shlex.join([*words, *(() if seed is None else ("--seed", str(seed)))])


def _print(summary: Mapping[str, Any], directory: Path) -> None:
    """Print the summary of a process."""
    for key in _SHOWN:
        print(f"{key:20}  {text(summary[key])}")
    if summary.get("incarnation"):
        print(f"{'counts':20}  since the last start, which is number {summary['incarnation'] + 1}")
    print(f"{'directory':20}  {directory}")


def _require(runs: tuple[Path, ...]) -> None:
    """Refuse a command without a run directory."""
    if not runs:
        raise ScenarioError(["RUN: expected at least one run directory"])


def status(*runs: Path, json: Json = False) -> int:
    """Show how far runs and processes are: state, round, and when they last wrote it.

    The exit code is 1 if there is no run in one of the directories.

    Parameters
    ----------
    runs
        Run directories of peers or of a whole run.
    """
    from p2pfrl.deploy.status import MISSING, statuses

    _require(runs)
    found = [status for run in runs for status in statuses(run)]
    _show(found, map(_progress, found), json)
    return FAILED if any(status["state"] == MISSING for status in found) else DONE


def _progress(status: Mapping[str, Any]) -> str:
    """Return the line of a process or run."""
    from p2pfrl.deploy.status import RUNNING

    rounds = "" if status["rounds"] is None else f"/{status['rounds']}"
    waiting = status.get("waiting") if status["state"] == RUNNING else ""
    more = f", waiting for {waiting}" if waiting else ""
    parts = [f"{status['directory']}: {status['state']}{more}"]
    if status["round"] is not None:
        parts.append(f"round {status['round']}{rounds}")
    if status.get("return_mean") is not None:
        parts.append(f"return {status['return_mean']:.1f}")
    if "bytes_sent" in status:
        parts.append(f"sent {status['bytes_sent'] / 1e6:.1f} MB")
        parts.append(f"journal {status['journal_bytes'] / 1e6:.1f} MB")
    parts += [f"{n} {kind} not written" for kind, n in status.get("writes_failed", {}).items()]
    if status["age"] is not None and status["state"] in ("running", "killed"):
        parts.append(f"{status['age']:.0f} s ago")
    if status["process"] is not None:
        parts.append(status["process"])
    return printable("  ".join(parts))


def _show(found: Any, lines: Iterable[str], as_json: bool) -> None:
    """Print what a command has found: as JSON, or as lines."""
    if as_json:
        print(encoder.dumps(found, indent=2), file=results())
    else:
        for line in lines:
            print(line)


def stop(*runs: Path, json: Json = False) -> int:
    """Interrupt running processes on this host, as Ctrl-C does: they save and end.

    The exit code is 1 if one of them still runs, or if there is no such directory.

    Parameters
    ----------
    runs
        Run directories of peers or of a whole run.
    """
    from p2pfrl.deploy.status import STOPPED
    from p2pfrl.deploy.status import stop as interrupt

    _require(runs)
    found = {str(run): interrupt(run) for run in runs}
    _show(found, (f"{run}: {outcome}" for run, outcome in found.items()), json)
    return DONE if all(outcome in STOPPED for outcome in found.values()) else FAILED


def leave(
    run: Path,
    *,
    undo: Annotated[
        bool, Parameter(negative=(), help="Let a process that has left take part again.")
    ] = False,
    patience: Annotated[
        float, Parameter(converter=seconds, help="Seconds to wait for the end of its round.")
    ] = 60.0,
    json: Json = False,
) -> int:
    """Let a process leave its run for good: at the end of its round it says goodbye and ends.

    It does not start again, and its neighbors refuse it, until --undo. The exit code is 1 if it has
    not left in time.

    Parameters
    ----------
    run
        Run directory of the process.
    """
    from p2pfrl.deploy import leaving

    has_left, said = (False, leaving.undo(run)) if undo else leaving.leave(run, patience)
    _show({"directory": str(run), "has_left": has_left, "said": said}, [f"{run}: {said}"], json)
    return DONE if has_left or undo else FAILED


def collect(
    *directories: Path,
    out: Out = None,
    overwrite: Replace = False,
    evaluate: Evaluate = False,
    json: Json = False,
) -> int:
    """Make one record from the directories of all peers, for figures, report and compare.

    Parameters
    ----------
    directories
        The peers' run directories, copied to one host.
    """
    from p2pfrl.commands.summaries import conclude
    from p2pfrl.deploy.collect import collect as gather
    from p2pfrl.results.directory import reserved
    from p2pfrl.results.report import report

    if not directories:
        raise ScenarioError(["RUN: expected the run directories of all peers"])
    target = out or directories[0].parent / "collected"
    with reserved(target, overwrite=overwrite):
        record = gather(directories, target, evaluating=evaluate)
    conclude(record, target, report([target]), as_json=json)
    return DONE


def audit(*runs: Path, json: Json = False) -> int:
    """Check the audit logs of processes: name the first entry that was changed, lost or added.

    The exit code is 1 if one is bad.

    Parameters
    ----------
    runs
        Run directories of peers or of a whole run.
    """
    from p2pfrl.deploy.audit import verdicts

    _require(runs)
    found = [verdict for run in runs for verdict in verdicts(run)]
    _show(found, map(_verdict, found), json)
    return FAILED if any(verdict["problem"] for verdict in found) else DONE


def _verdict(verdict: Mapping[str, Any]) -> str:
    """Return the line of an audit log."""
    if verdict["problem"]:
        return printable(f"{verdict['file']}:{verdict['entry']}: {verdict['problem']}")
    more = "" if verdict["ended"] else ", and the process has not noted its end"
    return f"{verdict['file']}: {verdict['entries']} entries, intact, hash {verdict['hash']}{more}"


def pki_init(directory: Path, *, json: Json = False) -> int:
    """Make a private certificate authority for one fleet.

    Parameters
    ----------
    directory
        Folder for its certificate and key; the key stays there.
    """
    from p2pfrl.net.certificates import init

    _tell(init(directory), json)
    return DONE


def pki_issue(
    agents: str,
    *,
    authority: Annotated[Path, Parameter(help="Directory of the authority, as pki init made it.")],
    days: Annotated[int, Parameter(converter=whole, help="Days the certificate is valid.")] = 365,
    json: Json = False,
) -> int:
    """Issue the certificate of a process. It names the agents that the process may run.

    Parameters
    ----------
    agents
        Ids such as 0-3, 5, coordinator or 0-3+edge0.
    """
    from p2pfrl.net.certificates import issue

    ids = _ids(agents)
    with named():
        made = issue(authority, ids, days=days)
    _tell(made, json)
    return DONE


def pki_renew(
    agents: str,
    *,
    authority: Annotated[Path, Parameter(help="Directory of the authority, as pki init made it.")],
    days: Annotated[
        int, Parameter(converter=whole, help="Days the certificate is valid, from now on.")
    ] = 365,
    json: Json = False,
) -> int:
    """Make the certificate of a process valid for longer. Its key and its agents stay.

    Parameters
    ----------
    agents
        Ids as they were given to pki issue.
    """
    from p2pfrl.net.certificates import renew

    ids = _ids(agents)
    with named():
        made = renew(authority, ids, days=days)
    _tell(made, json)
    return DONE


def pki_revoke(
    agents: str,
    *,
    authority: Annotated[Path, Parameter(help="Directory of the authority, as pki init made it.")],
    json: Json = False,
) -> int:
    """Revoke all certificates that were issued for a process: other processes refuse them.

    Parameters
    ----------
    agents
        Ids as they were given to pki issue.
    """
    from p2pfrl.net.certificates import revoke
    from p2pfrl.net.revoked import REVOKED

    ids = _ids(agents)
    with named():
        made = revoke(authority, ids)
    _show({"revoked": str(made.authority.with_name(REVOKED))}, [made.said], json)
    return DONE


def _ids(agents: str) -> tuple[int, ...]:
    """Return the ids of the argument AGENTS."""
    from p2pfrl.net.fleet import parse_agents

    with named("AGENTS"):
        return parse_agents(agents)


def _tell(made: Paths, as_json: bool) -> None:
    files = {"authority": made.authority, "certificate": made.certificate, "key": made.key}
    _show({name: str(path) for name, path in files.items()}, [made.said], as_json)


pki = App(name="pki", help="Make certificates for peers.", help_format="plaintext")
pki.command(pki_init, name="init")
pki.command(pki_issue, name="issue")
pki.command(pki_renew, name="renew")
pki.command(pki_revoke, name="revoke")
