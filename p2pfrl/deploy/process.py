"""One process of a deployment: it finds the others, runs its agents and writes a journal."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, closing, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from threadpoolctl import threadpool_limits

from p2pfrl.build.assembly import Assembly
from p2pfrl.build.devices import Choice, keep, kept, using
from p2pfrl.build.participants import everyone
from p2pfrl.build.privacy import REAL, spent
from p2pfrl.build.record import coordinated, talked
from p2pfrl.build.secure import Keyring
from p2pfrl.core.causes import FOREIGN, cause
from p2pfrl.core.errors import P2PFRLError, RecordError
from p2pfrl.core.floats import allow_overflow
from p2pfrl.core.interrupts import SIGNALS, restored
from p2pfrl.core.tables import leaves
from p2pfrl.core.types import OPTED_OUT, Counting, names_of
from p2pfrl.core.units import SECOND
from p2pfrl.core.writes import Writes
from p2pfrl.deploy.audit import AUDIT, Audit, audited
from p2pfrl.deploy.journal import Journal
from p2pfrl.deploy.ledgers import open_ledgers, path_of, read_charges
from p2pfrl.deploy.memory import Memory
from p2pfrl.deploy.status import PERIOD, Status, waiting_status, write_failure
from p2pfrl.deploy.thinning import thinning_of
from p2pfrl.deploy.workers import employed_here
from p2pfrl.learning.environments.gym import opened
from p2pfrl.learning.environments.specs import encode
from p2pfrl.learning.trainer import Trainer
from p2pfrl.net.acquaintances import Acquaintances
from p2pfrl.net.checkpoint import Checkpoints
from p2pfrl.net.departures import Departures, read_mark
from p2pfrl.net.discovery import announcing, discover
from p2pfrl.net.fleet import (
    Address,
    Fleet,
    refuse_split_hosts,
    refuse_split_worlds,
    who,
    who_have,
)
from p2pfrl.net.listener import Listener, host_of, listen
from p2pfrl.net.log import RunLog
from p2pfrl.net.mesh import Security, Timing
from p2pfrl.net.node import Node
from p2pfrl.net.records import ENGINE, Identity
from p2pfrl.net.rendezvous import Rendezvous, join
from p2pfrl.net.supervision import supervised, surfaced
from p2pfrl.net.timings import write_timings
from p2pfrl.results.directory import reserved_for_peer
from p2pfrl.results.files import encode_json, write_bytes
from p2pfrl.results.formats import graph_to_json
from p2pfrl.results.record import FAILURE
from p2pfrl.results.versions import versions
from p2pfrl.scenario import Scenario, hash8
from p2pfrl.scenario.checks.attacks import refuse_attacks
from p2pfrl.scenario.checks.faults import refuse_faults
from p2pfrl.scenario.checks.notes import without_effect
from p2pfrl.scenario.checks.resuming import refuse_resuming, refuse_unsaved
from p2pfrl.scenario.modes import MODES
from p2pfrl.scenario.render import resolved
from p2pfrl.scenario.sources import copy_files, sources

if TYPE_CHECKING:
    from p2pfrl.experiment.workforce import Count, Workforce
    from p2pfrl.net.credentials import Credentials

JOURNAL = "journal.bin"
SUMMARY = "peer.json"
TIMINGS = "timings.json"
_UNSIGNED = (
    "secure sums without --tls: keys are not signed, so the coordinator, or whoever else passes messages on, can "
    "replace them by its own and see every vector; it cannot if it only listens"
)
_UNPROTECTED = (
    "masks between neighbors without --tls: whoever passes on what two processes say to each other can replace their "
    "keys by its own and see vectors; it cannot if it only listens"
)
ENVIRONMENTS = "environments.json"


@dataclass(frozen=True)
class Place:
    """The place of a process in the deployment.

    Attributes:
        agents: ids that it wants; none for any `count` agents.
        count: number of agents if `agents` is empty.
        bind: address on which it listens for frames; port 0 takes a free port.
        advertise: host at which others reach it, where that is not the one of `bind`.
        lead: whether it assigns the ids; it listens for the others at `rendezvous`.
        rendezvous: where the lead listens; None with an explicit fleet, or to discover it.
        discover: whether the lead announces itself by multicast DNS and the others search for it.
        fleet: the table of processes; None to ask the lead.
    """

    agents: tuple[int, ...]
    count: int = 1
    bind: Address = ("127.0.0.1", 0)
    lead: bool = False
    rendezvous: Address | None = None
    discover: bool = False
    fleet: Fleet | None = None
    advertise: str = ""


def deploy(
    scenario: Scenario,
    place: Place,
    out: Path,
    *,
    security: Security,
    timing: Timing,
    quiet: bool = False,
    announce: Callable[[Address], None] = lambda address: None,
    workers: Count = 1,
) -> Mapping[str, Any]:
    """Run one process to its end; return its summary.

    Args:
        scenario: the scenario, the same in every process.
        place: the place of this process.
        out: its run directory. If it has checkpoints of this scenario, the run is resumed.
        security: security of the links.
        timing: timing of the links.
        quiet: whether to print nothing.
        announce: called in the lead with the address on which it listens for the others.
        workers: number of processes that train its agents, or "auto": one for each core, once
            training has taken a few seconds and if it pays. Results do not depend on it.

    Raises:
        P2PFRLError: some processes did not connect in time, or something was refused, or the
            coordinator did not come back.
    """
    refuse_faults(scenario.faults)
    refuse_attacks(scenario)
    with reserved_for_peer(out):
        return _deploy_in(scenario, place, out, security, timing, announce, workers, quiet=quiet)


def _deploy_in(
    scenario: Scenario,
    place: Place,
    out: Path,
    security: Security,
    timing: Timing,
    announce: Callable[[Address], None],
    workers: Count,
    *,
    quiet: bool,
) -> Mapping[str, Any]:
    """Run one process to its end in a directory that is reserved for it."""
    log = RunLog(
        out / "log.jsonl",
        quiet,
        scenario.schedule.patience,
        has_standbys=bool(scenario.standbys),
    )
    if (finished := _finished(scenario, out)) is not None:
        log.say(
            f"{out} holds this run to its end: nothing is left to do; to begin anew, give another --out"
        )
        return finished
    _refuse_departed(out)
    main = _deploy(scenario, place, out, security, timing, log, announce, workers)
    try:
        # One thread and no warnings of numpy, as in the simulator.
        numbers = allow_overflow()
        with restored(), threadpool_limits(1, "blas"), numbers:
            try:
                import uvloop
            except ImportError:
                return asyncio.run(main)
            return uvloop.run(main)
    except asyncio.CancelledError:
        raise KeyboardInterrupt("interrupted while waiting for the others") from None


def _refuse_departed(out: Path) -> None:
    """Refuse to start a process that has opted out.

    Raises:
        P2PFRLError: says when, and how it can come back.
    """
    mark = read_mark(out)
    if mark.is_out:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(mark.since))
        raise P2PFRLError(
            f"{out}: this process opted out of the run on {when} and takes part no more; "
            f"`p2pfrl leave {out} --undo` lets it take part again"
        )


def _finished(scenario: Scenario, out: Path) -> Mapping[str, Any] | None:
    """Return the summary of a process that has finished, or None."""
    path = out / SUMMARY
    if not Checkpoints(out / "checkpoints", hash8(scenario)).starts() or not path.exists():
        return None
    try:
        summary: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return summary if summary["stopped_by"] in ("rounds", "wall_time") else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


async def _deploy(
    scenario: Scenario,
    place: Place,
    out: Path,
    security: Security,
    timing: Timing,
    log: RunLog,
    announce: Callable[[Address], None],
    workers: Count,
) -> Mapping[str, Any]:
    began = time.perf_counter()
    _end_on_signals()
    _say_what_is_ignored(scenario, log)
    credentials = _credentials(security, place.agents, log)
    text = resolved(scenario)
    met = _acquaintances(scenario, out)
    checkpoints = Checkpoints(out / "checkpoints", hash8(scenario))
    device = kept(out / "checkpoints")
    with using(device):
        assembly = Assembly(scenario, _keyring(scenario, security, log, met), _trained(place))
    incarnation = checkpoints.incarnation()
    if device is None:
        _keep_device(assembly.device, out / "checkpoints", log)
    if place.fleet is None and (known := checkpoints.whereabouts()) is not None:
        port, ids, fleet = known
        place = replace(place, agents=ids, bind=(place.bind[0], port), fleet=fleet)
    for id in place.agents:
        if id in assembly.accounted:
            read_charges(path_of(out, id))  # one that is damaged is refused before anybody is met
    audit = Audit(out / AUDIT, log.say)  # as a damaged one is
    refuse_split_worlds(place.agents, scenario.members)
    if place.agents:
        refuse_split_hosts(place.agents, scenario.hosted)
    listener, address = await listen(place.bind, security.server)
    layout = assembly.learning.stack.layout
    async with AsyncExitStack() as block:
        block.enter_context(closing(listener.server))
        block.enter_context(closing(assembly))
        own = Identity(
            scenario.name,
            hash8(scenario),
            layout.signature,
            place.agents,
            incarnation,
            b"",
            (place.advertise or host_of(listener), address[1]),
            settings(text)
            | sources(scenario)
            | {ENGINE: assembly.learning.stack.traits.engine}
            | read_mark(out).settings
            | ({} if met is None else met.settings),
        )
        fleet, ids = await supervised(
            _find(scenario, place, out, own, assembly, security, timing, log, announce)
        )
        refuse_split_hosts(ids, scenario.hosted)
        checkpoints.keep_whereabouts(address[1], ids, fleet)
        if met is not None:
            met.live(ids)
        trainer = assembly.trainer([agent for agent in ids if agent >= 0])
        force = await block.enter_async_context(employed_here(workers, scenario, trainer, log))
        writes = _writes(scenario, log)
        log.kept = audit.note
        audit.add("begin", scenario=hash8(scenario), agents=names_of(ids), incarnation=incarnation)
        accounted = [id for id in ids if id in assembly.accounted]
        ledgers = open_ledgers(out, accounted, log.say, audited(audit, assembly.privacy.epsilon))
        departures = Departures(out, writes)
        memory = Memory(
            assembly, trainer, checkpoints, ids, incarnation, writes, ledgers, log.office
        )
        _say_what_was_saved(assembly, out, memory, checkpoints, log)
        node = Node(
            replace(own, agents=ids),
            fleet,
            neighbors=assembly.neighbors(),
            decoder=assembly.decoder,
            trainer=trainer,
            spawn=memory.start,
            save=memory.before,
            security=security,
            timing=timing,
            log=log,
            rounds=scenario.stop.rounds,
            patience=scenario.schedule.patience,
            grace=scenario.schedule.every,
            departures=departures,
            circles=assembly.circles(),
            acquaintances=met,
        )
        journal = Journal(
            out / JOURNAL,
            agents=ids,
            incarnation=incarnation,
            seed=scenario.seed,
            layout=layout,
            model=lambda agent: layout.pack(trainer.read(agent)),
            now=lambda: node.clock.now,
            every=scenario.checkpoint.rounds,
            save=memory.after,
            keeps=thinning_of(scenario, layout).keeps,
            writes=writes,
        )
        memory.journal, journal.traffic = journal, node.traffic
        journal.rounds |= {agent: rounds for agent, rounds in memory.first.items() if rounds}
        write_bytes(out / "scenario.toml", text.encode())
        copy_files(scenario, out)
        _write_network(assembly, fleet, out)
        _write_sizes(scenario, ids, out)
        if place.fleet is not None and (awaited := node.mesh.awaited()):
            log.say(f"waiting for {awaited}, at most {timing.start:g} s")
        watching = surfaced(
            node.loop.create_task(
                _watch(out, journal, node, ids, scenario.stop.rounds, writes, log, credentials)
            )
        )

        def summarize(reason: str, **more: str) -> Mapping[str, Any]:
            wall = time.perf_counter() - began
            audit.add("end", why=reason)
            summary = {
                **_summary(assembly, ids, node, trainer, journal, reason, incarnation, wall, force),
                "writes_failed": writes.failed,
                **spent(assembly.privacy, ledgers, REAL),
                **assembly.secured(),
                "audit": {"entries": audit.chain.entries, "hash": audit.chain.last},
                **more,
            }
            write_bytes(out / SUMMARY, json.dumps(summary, indent=2).encode())
            return summary

        try:
            seconds, resuming = scenario.stop.virtual_time, incarnation > 0
            # Who was dead when this process came back may stay dead: a majority goes on without.
            within = 2.0 * timing.timeout if scenario.standbys else None
            reason = await _run(node, listener, seconds, resuming=resuming, within=within)
            journal.close()
        except FOREIGN as error:
            problem = str(error) if isinstance(error, P2PFRLError) else cause(error)
            log.note("failed", agents=ids, detail=problem)
            for last in (journal.close, partial(summarize, FAILURE, failure=problem)):
                try:
                    last()
                except RecordError as second:  # the first error is the one to see
                    error.add_note(str(second))
                    write_failure(out, problem)
            raise
        finally:
            watching.cancel()
            _status(out, journal, node, ids, scenario.stop.rounds, writes).write(out)
            try:
                write_timings(out / TIMINGS, node.stopwatch.timings)
            except OSError as unwritten:  # only `calibrate` needs it
                log.say(f"{out / TIMINGS}: cannot be written: {unwritten.strerror}")
        summary = summarize(reason)
        if reason == OPTED_OUT:
            log.say(
                f"{who_have(ids)} left the run after {summary['rounds']} rounds, as `p2pfrl leave` "
                "asked; what others learned from them stays in the others' models"
            )
        if reason == "coordinator_gone":
            raise P2PFRLError(_gone(scenario, ids, summary))
        return summary


def _trained(place: Place) -> int:
    """Return how many agents train in a process."""
    return sum(agent >= 0 for agent in place.agents) if place.agents else place.count


def _keep_device(device: Choice, folder: Path, log: RunLog) -> None:
    """Write where this process takes minibatch steps, for its next start, and say it.

    Raises:
        RecordError: it cannot be written.
    """
    try:
        keep(device, folder)
    except OSError as error:
        raise RecordError(f"{folder}: cannot be written: {error.strerror}") from error
    if device.said:
        log.say(device.said)


def _acquaintances(scenario: Scenario, out: Path) -> Acquaintances | None:
    """Return the keys of masks between neighbors; None where there are none."""
    if not (scenario.secure.is_of_neighbors and MODES[scenario.mode].mixes):
        return None
    from p2pfrl.deploy.keyring import acquaintances

    return acquaintances(out)


def _keyring(
    scenario: Scenario, security: Security, log: RunLog, met: Acquaintances | None
) -> Keyring | None:
    """Return the keys of secure sums; None where vectors are not hidden.

    `met` has those of masks between neighbors.
    """
    if not scenario.secure.is_on:
        return None
    from p2pfrl.deploy.keyring import real_keyring

    if security.files is None:
        log.say(_UNSIGNED if met is None else _UNPROTECTED)
    return real_keyring(security, met)


def _credentials(security: Security, ids: Sequence[int], log: RunLog) -> Credentials | None:
    """Return what looks after a process's certificate; None where it has none."""
    if security.files is None:
        return None
    from p2pfrl.net.credentials import Credentials

    return Credentials(security, security.files, ids, log)


def _writes(scenario: Scenario, log: RunLog) -> Writes:
    """Return what tries the writes of a process, and says it if one fails."""

    def say(text: str) -> None:
        log.note("writes", detail=text)
        log.say(text)

    return Writes(
        say,
        goes_on=scenario.checkpoint.on_error == "continue",
        fix="free space and start this process again with the same command",
    )


def _gone(scenario: Scenario, ids: Sequence[int], summary: Mapping[str, Any]) -> str:
    """Return what to say where a process ends because its coordinator did not come back."""
    rounds = scenario.stop.rounds
    if scenario.standbys:
        return (
            f"{who(ids)} waited {scenario.schedule.patience:g} s for a majority of coordinator and "
            "standbys; start those that are down again with their commands and then this process with the same one, "
            "and the run goes on"
        )
    return (
        f"the coordinator is gone: {who(ids)} waited {scenario.schedule.patience:g} s for it after "
        f"round {summary['rounds']}{f' of {rounds}' if rounds else ''}; start it again with its command and then this "
        "process with the same one, and the run goes on"
    )


def _say_what_was_saved(
    assembly: Assembly, out: Path, memory: Memory, checkpoints: Checkpoints, log: RunLog
) -> None:
    """Print from where a process that was started before goes on.

    Raises:
        P2PFRLError: a rule of the scenario cannot go on without messages that are gone.
    """
    if any(memory.first.values()):
        refuse_resuming(assembly.scenario, out)
    if memory.was_behind:
        refuse_unsaved(assembly.scenario, out)
        log.say(
            f"{out}: before it ended, this process had gone on without checkpoints, and what it did after the last one "
            "is lost"
        )
    for found in memory.goes_on:
        log.say(f"{out} holds {found}: going on from there; to begin anew, give another --out")
    if any(memory.first.values()) and (forgets := assembly.forgets):
        log.say(f"{out}: {forgets}")
    for problem in checkpoints.problems:
        log.note("checkpoint", detail=problem)
        log.say(problem)


def _write_sizes(scenario: Scenario, ids: Sequence[int], out: Path) -> None:
    """Write the sizes of this process's environments, so that `collect` need not open them."""
    own = [make.environment for make in scenario.makes if {*ids}.intersection(make.agents)]
    found = opened(section.rule for section in own if section is not None)
    if found:
        write_bytes(out / ENVIRONMENTS, encode(found))


def _end_on_signals() -> None:
    """Cancel the task of this process when the system asks it to end.

    Signals reach the main thread alone, so that a deployment in another thread has no handlers.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None
    for number in SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, task.cancel)


def _say_what_is_ignored(scenario: Scenario, log: RunLog) -> None:
    """Print which keys have no effect in a process."""
    for name in ("target_return", "env_steps"):
        if getattr(scenario.stop, name) is not None:
            log.say(
                f"stop.{name} is the simulator's: no process sees all the others; stopping at rounds or virtual_time"
            )
    if idle := without_effect(scenario):
        log.say(idle)


async def _run(
    node: Node, listener: Listener, seconds: float | None, *, resuming: bool, within: float | None
) -> str:
    """Run the agents of this process to their end; return why they ended."""
    try:
        async with asyncio.timeout(seconds):
            await node.run(listener, resuming=resuming, within=within)
    except TimeoutError:
        return "wall_time"
    except asyncio.CancelledError:
        return "interrupt"
    return node.reason


async def _find(
    scenario: Scenario,
    place: Place,
    out: Path,
    own: Identity,
    assembly: Assembly,
    security: Security,
    timing: Timing,
    log: RunLog,
    announce: Callable[[Address], None],
) -> tuple[Fleet, tuple[int, ...]]:
    """Return the table of processes and the agents of this process."""
    if place.fleet is not None:
        return place.fleet, place.agents
    waiting = partial(waiting_status, out, own.agents, scenario.stop.rounds)
    if place.lead:
        assert place.rendezvous is not None
        meeting, where = await listen(place.rendezvous, security.server)
        announce(where)
        host = Rendezvous(
            own,
            own.address,
            everyone=everyone(scenario),
            decoder=assembly.decoder,
            security=security,
            timing=timing,
            progress=log.say,
            log=log,
            members=scenario.members,
        )
        try:
            async with (
                announcing(own, where) if place.discover else nullcontext(),
                waiting(lambda: f"{who(host.missing())} to join"),
            ):
                return await host.gather(meeting), own.agents
        finally:
            meeting.server.close()
    words = "a lead on this network"
    if place.rendezvous is not None:
        words = "the lead at {}:{}, and everyone to join it".format(*place.rendezvous)
    async with waiting(lambda: words):
        lead = place.rendezvous or await discover(own, place.bind[0], deadline=timing.start)
        return await join(
            replace(own, agents=()),
            lead,
            wanted=place.agents,
            count=place.count,
            decoder=assembly.decoder,
            security=security,
            timing=timing,
            progress=log.say,
        )


async def _watch(
    out: Path,
    journal: Journal,
    node: Node,
    ids: Sequence[int],
    rounds: int | None,
    writes: Writes,
    log: RunLog,
    credentials: Credentials | None,
) -> None:
    """Write the status of this process every second, and print a line every five.

    It looks every second whether certificates have changed, too, and whether the process opts out.
    """
    saved, is_leaving = dict(journal.rounds), False
    for second in count():
        if credentials is not None and credentials.look():
            node.mesh.expel_revoked()
        if (leaves := read_mark(out).is_out) or is_leaving:
            node.opt_out(leaves=leaves)
        is_leaving = leaves
        awaited = node.mesh.awaited() if journal.rounds == saved else ""
        status = _status(out, journal, node, ids, rounds, writes, awaited)
        status.write(out)
        if second and second % 5 == 0:
            log.say(progress(status))
        await asyncio.sleep(PERIOD)


def progress(status: Status) -> str:
    """Return the line of progress of a process."""
    line = f"{who(status.agents)}  round {status.round}/{status.rounds or '?'}"
    if status.waiting:
        return f"{line}  waiting for {status.waiting}"
    mean = "" if status.return_mean is None else f"  return {status.return_mean:.1f}"
    sent = f"sent {status.bytes_sent / 1e6:.1f} MB"
    return f"{line}{mean}  {sent}  deadlines expired {status.deadlines_expired}"


def _status(
    out: Path,
    journal: Journal,
    node: Node,
    ids: Sequence[int],
    rounds: int | None,
    writes: Writes,
    awaited: str = "",
) -> Status:
    returns = [r for values in journal.returns.values() for r in values]
    return Status(
        agents=tuple(ids),
        round=_rounds(journal, node, ids, rounds, min),
        rounds=rounds,
        return_mean=sum(returns) / len(returns) if returns else None,
        seconds=node.clock.now / SECOND,
        bytes_sent=node.traffic.bytes_sent,
        deadlines_expired=sum(schedule.deadlines_expired for schedule in node.schedules),
        journal_bytes=(out / JOURNAL).stat().st_size,
        writes_failed=writes.failed,
        time=time.time(),
        waiting=awaited,
        **_details(journal, node, ids),
    )


def _rounds(
    journal: Journal,
    node: Node,
    ids: Sequence[int],
    goal: int | None,
    of: Callable[[Sequence[int]], int],
) -> int:
    """Return the rounds that agents of a process have ended, the fewest or the most.

    Of a process without agents those that its coordinators know to have ended.
    """
    found = [journal.rounds.get(agent, 0) for agent in ids if agent >= 0]
    if not found:
        schedules = [node.actors[id].schedule for id in ids if id in node.actors]
        known = [one.rounds_ended() for one in schedules if isinstance(one, Counting)]
        found = known if goal is None else [min(one, goal) for one in known]
    return of(found) if found else 0


_MOST_SHOWN = 256
"""Number of agents of a process above which its status has only those that are behind."""


def _details(journal: Journal, node: Node, ids: Sequence[int]) -> dict[str, Any]:
    """Return what the status says of single agents, and of neighbors in other processes."""
    agents = sorted((id for id in ids if id >= 0), key=lambda id: (journal.rounds.get(id, 0), id))
    shown = agents[:_MOST_SHOWN]

    def numbers(agent: int) -> list[float | None]:
        returns = journal.returns.get(agent)
        mean = sum(returns) / len(returns) if returns else None
        sent = node.traffic.bytes_by.get(agent, 0)
        return [journal.rounds.get(agent, 0), mean, journal.staleness.get(agent), sent]

    waiting = {
        id: node.actors[id] for id in (*(i for i in ids if i < 0), *shown) if id in node.actors
    }
    return {
        "progress": {str(agent): numbers(agent) for agent in sorted(shown)},
        "updates": {str(agent): journal.ended[agent] for agent in sorted(shown)},
        "waits": {str(id): actor.schedule.waits_for() for id, actor in waiting.items()},
        "awaited": {
            str(id): list(whom)
            for id, actor in waiting.items()
            if (whom := actor.schedule.awaits())
        },
        "heard": {str(id): round for id, round in sorted(node.heard().items())},
        "down": node.mesh.down(),
        "opted_out": node.opted_out(),
        "suspicion": {str(agent): value for agent, value in journal.suspicion().items()},
        "refusals": dict(node.mesh.refusals),
        "latest": node.stopwatch.latest(),
    }


_MOST_PREDICTED = 1024
"""Number of agents above which a process does not compute the rate at its start."""
NETWORK = "network.json"
"""Who talks to whom, which processes there are, and the predicted rate: for who watches a run."""


def _write_network(assembly: Assembly, fleet: Fleet, out: Path) -> None:
    """Write the graph of a deployment, as `graph.json` of a record, and its processes."""
    rate = None
    if assembly.scenario.agents <= _MOST_PREDICTED:
        with suppress(P2PFRLError):  # composing the record will say it
            rate = None if assembly.prediction is None else assembly.prediction.lambda_2
    content = {
        **graph_to_json(talked(assembly), coordinated(assembly)),
        "lambda_2": rate,
        "dtype": assembly.learning.stack.layout.dtype,
        "processes": [
            {"agents": list(agents), "where": f"{host}:{port}"}
            for (host, port), agents in fleet.processes.items()
        ],
    }
    write_bytes(out / NETWORK, encode_json(content))


def settings(text: str) -> dict[str, str]:
    """Return the keys and values of a resolved scenario as flat text."""
    return {key: str(value)[:120] for key, value in leaves(tomllib.loads(text))}


def _summary(
    assembly: Assembly,
    ids: Sequence[int],
    node: Node,
    trainer: Trainer,
    journal: Journal,
    reason: str,
    incarnation: int,
    wall: float,
    force: Workforce | None,
) -> dict[str, Any]:
    scenario, traffic = assembly.scenario, node.traffic
    traffic.messages_late = sum(schedule.messages_late for schedule in node.schedules)
    traffic.messages_duplicate = node.mesh.refusals.get("replay", 0)
    traffic.deadlines_expired = sum(schedule.deadlines_expired for schedule in node.schedules)
    digest = blake2b(digest_size=16)
    for agent in trainer.agents:
        digest.update(trainer.stack.layout.pack(trainer.read(agent)).tobytes())
    return {
        "name": scenario.name,
        "mode": scenario.mode,
        "agents": names_of(ids),
        "incarnation": incarnation,
        "stopped_by": reason,
        "rounds": _rounds(journal, node, ids, scenario.stop.rounds, max),
        "parameters_digest": digest.hexdigest(),
        "wall_seconds": wall,
        "run_seconds": node.clock.now / SECOND,
        **traffic.counters(),
        "refusals": node.mesh.refusals,
        "links_lost": node.mesh.lost,
        "mean_batch": trainer.mean_batch,
        **({} if force is None else {"workers": force.count}),
        "versions": versions(trainer.stack.traits.engine),
        **({"device": found} if (found := assembly.device.record) else {}),
    }
