"""What a page shows of processes over TCP: who is behind, who is down, who waits for whom.

The files of each process are read where they are (`Processes`), or fetched from pages of other
hosts (remote.py). Both give the same plain JSON: `Parts`.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any, Protocol

from p2pfrl.core.errors import P2PFRLError
from p2pfrl.core.files import open_regular, read_regular, read_table
from p2pfrl.core.types import member_id, name_of
from p2pfrl.deploy.status import RUNNING, by_id, statuses
from p2pfrl.net.fleet import parse_agents, show_agents
from p2pfrl.results.formats import graph_from_json
from p2pfrl.results.suspects import ALARM
from p2pfrl.watch.agents import UPDATES, Agents, table
from p2pfrl.watch.drawing import Picture, picture
from p2pfrl.watch.journals import COLUMNS, Journals
from p2pfrl.watch.messages import traffic
from p2pfrl.watch.progress import Progress
from p2pfrl.watch.shares import SIZE
from p2pfrl.watch.simulated import METRICS, predicted, unit_of
from p2pfrl.watch.tails import Curves, rounded

_TAIL = 2**16
_LOG = 200
_LATE = 10.0
"""Seconds without a sign of life after which a process that should run counts as silent."""
UNREACHABLE = "unreachable"
"""State of a process whose page does not answer: nobody knows whether it is down."""
_ENDED = ("ended by rounds", "ended by wall_time")
"""States of a process that has done what it should."""
_ROWS = (
    "agents",
    "state",
    "round",
    "behind",
    "return",
    "waits for",
    "not reached by",
    "sent",
    "deadlines expired",
    "refusals",
    "last sign",
    "where",
)


@dataclass(frozen=True)
class Parts:
    """What is known of a deployment, as plain JSON.

    Attributes:
        processes: the status of each process whose directory or page is known.
        network: the graph, the table of processes and the rate; empty before they have met.
        scenario: the parsed scenario; empty if it is not known.
        log: lines of the logs of processes.
        columns: curves over rounds, by name; empty if there are none.
        disagreement: agent -> distance from the mean.
        rows: number of rows of the curves.
        of: agents that the curves are of.
        is_projected: whether distances are estimates, from projections.
        shares: rounds of these agents, for pages of several hosts (`Share.to_json`).
        problem: why there are no more rows; "" if there may be.
    """

    processes: Sequence[Mapping[str, Any]]
    network: Mapping[str, Any] = field(default_factory=dict)
    scenario: Mapping[str, Any] = field(default_factory=dict)
    log: Sequence[Mapping[str, Any]] = ()
    columns: Mapping[str, list[float | None]] = field(default_factory=dict)
    disagreement: Mapping[str, float] = field(default_factory=dict)
    rows: int = 0
    of: Sequence[int] = ()
    is_projected: bool = False
    shares: Sequence[Sequence[Any]] = ()
    problem: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {
            "processes": list(self.processes),
            "network": dict(self.network),
            "scenario": dict(self.scenario),
            "log": list(self.log),
            "columns": dict(self.columns),
            "disagreement": dict(self.disagreement),
            "rows": self.rows,
            "of": list(self.of),
            "is_projected": self.is_projected,
            "shares": list(self.shares),
            "problem": self.problem,
        }


class Origin(Protocol):
    """Where the parts of a deployment come from."""

    def parts(self) -> Parts:
        """Return them as they are now."""


class Processes:
    """The directories of processes on this machine.

    Args:
        folders: their directories.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = tuple(folders)
        self._journals: Journals | None = None
        self._curves = Curves(METRICS)

    def parts(self) -> Parts:
        """Return what their files say now."""
        found = [_newest(folder) for folder in self._folders]
        network = self._first("network.json")
        rows = self._rows(network, found)
        self._curves.add(COLUMNS, rows)
        journals = self._journals
        log = [line for folder in self._folders for line in _log_of(folder)]
        known = Parts(found, network, self._scenario(), log)
        if journals is None:
            return known
        return replace(
            known,
            columns=self._curves.columns() if self._curves.rows else {},
            disagreement={str(agent): value for agent, value in journals.disagreement.items()},
            rows=self._curves.rows,
            of=sorted(journals.agents),
            shares=journals.shares.to_json(),
            problem=journals.problem,
        )

    def _first(self, name: str) -> dict[str, Any]:
        tables = (read_table(folder / name, 2**26) for folder in self._folders)
        return next((found for found in tables if found), {})

    def _scenario(self) -> dict[str, Any]:
        for folder in self._folders:
            with suppress(OSError, ValueError):
                return tomllib.loads(read_regular(folder / "scenario.toml", 2**20).decode())
        return {}

    def _rows(
        self, network: Mapping[str, Any], processes: Sequence[Mapping[str, Any]]
    ) -> list[list[float]]:
        """Return new rows of curves, of the agents whose journals are here."""
        if self._journals is None:
            dtype = network.get("dtype")
            here = {id for folder in self._folders for id in _agents_of(folder) if id >= 0}
            if not isinstance(dtype, str) or not here:
                return []
            paths = [folder / "journal.bin" for folder in self._folders]
            self._journals = Journals(paths, here, dtype)
        gone = [p for p in processes if p.get("state") != RUNNING]
        return self._journals.read({agent for p in gone for agent in p.get("agents") or ()})


class Deployed:
    """Reader of a deployment.

    Args:
        origin: where its parts come from.
        name: of the directory or address, for the head of the page.
    """

    def __init__(self, origin: Origin, name: str) -> None:
        self._origin, self._name = origin, name
        self._picture: Picture | None = None
        self._graph: Mapping[str, Any] = {}
        self._progress = Progress({})
        self._goals: Mapping[str, Any] = {}

    def read(self) -> dict[str, Any]:
        """Return all sections as they are now, and the parts themselves for other hosts."""
        parts = self._origin.parts()
        stop = parts.scenario.get("stop", {})
        if stop != self._goals:
            self._goals, self._progress = stop, Progress(_in_seconds(stop))
        self._draw(parts)
        known = _Known.of(parts)
        seen = traffic(parts.processes)
        found: dict[str, Any] = {
            "run": self._run(parts, known),
            "processes": {"columns": _ROWS, "rows": _rows(parts, known)},
            "agents": _table(known, parts.scenario),
            "waiting": {str(agent): ids for agent, ids in known.awaited.items()},
            "faults": [],
            "log": _lines(parts.log, parts.network),
            "messages": {
                "shown": seen.messages,
                "counted": seen.counted,
                "window": seen.window,
                "in_flight": seen.flying,
            },
            "timeline": {"intervals": seen.intervals},
            "notes": self._notes(parts, known),
            "curves": _curves(parts),
            "parts": parts.to_json(),
        }
        if self._picture is not None:
            n = int(self._picture.section["agents"])
            values, single = self._picture.values, self._picture.cells is None
            found["graph"] = self._picture.section
            found["colors"] = {
                "return": values([known.returns.get(a) for a in range(n)]),
                "disagreement": values([parts.disagreement.get(str(a)) for a in range(n)]),
                "round": values([_float(known.rounds.get(a)) for a in range(n)]),
                "states": known.states(n) if single else "",
                "byzantine": [],
                "suspects": sorted(a for a, v in known.suspicion.items() if v > ALARM),
            }
        return found

    def _draw(self, parts: Parts) -> None:
        if self._picture is None or parts.network.get("successors") != self._graph:
            with suppress(ValueError, KeyError, TypeError):
                graph, coordinators = graph_from_json(parts.network)
                kind = str(parts.scenario.get("topology", {}).get("kind", ""))
                self._picture = picture(graph, coordinators, kind)
                self._graph = parts.network["successors"]

    def _run(self, parts: Parts, known: _Known) -> dict[str, Any]:
        scenario, states = parts.scenario, [str(p.get("state", "")) for p in parts.processes]
        running = sum(state == RUNNING for state in states)
        wall = max((p.get("seconds") or 0.0 for p in parts.processes), default=0.0)
        own = [a for a in known.rounds if a >= 0 and a not in known.unknown]
        there = [a for a in own if a not in known.down] or own
        rounds = [known.rounds[a] for a in there]
        now = {
            "rounds": float(min(rounds)) if rounds else None,
            "env_steps": None,
            "virtual_seconds": wall or None,
        }
        share = self._progress.share(now)
        count = len(parts.processes)
        waiting = [words for p in parts.processes if (words := _waiting(p))]
        state = f"{running} of {count} processes running"
        if running == count:
            state = RUNNING
            if len(waiting) == count:
                state = f"waiting for {waiting[0]}" if count == 1 else "waiting for the others"
        elif not running:
            ways = Counter(states)
            one = next(iter(ways), "")
            state = one if len(ways) < 2 else ", ".join(f"{n} {s}" for s, n in ways.items())
        return {
            "kind": "peers",
            "name": scenario.get("name", self._name),
            "mode": scenario.get("mode", ""),
            "seed": scenario.get("seed"),
            "agents": scenario.get("agents"),
            "schedule": scenario.get("schedule", {}).get("kind", ""),
            "topology": scenario.get("topology", {}).get("kind", ""),
            "directory": self._name,
            "state": state,
            "running": bool(running),
            "process": None,
            "goals": self._progress.goals,
            "now": {name: rounded(value) for name, value in now.items()},
            "share": share,
            "left": self._progress.left(share, wall) if running else None,
            "wall_seconds": rounded(wall),
            "bytes": sum(int(p.get("bytes_sent") or 0) for p in parts.processes),
            "expired": sum(int(p.get("deadlines_expired") or 0) for p in parts.processes),
            "down": [name_of(id) for id in sorted(known.down)],
            "target": scenario.get("stop", {}).get("target_return"),
        }

    def _notes(self, parts: Parts, known: _Known) -> list[str]:
        notes = []
        if self._picture is not None and self._picture.note:
            notes.append(f"Graph: {self._picture.note}.")
        if unit_of(parts.scenario) == UPDATES:
            notes.append(
                "The round of an asynchronous agent is at least that of the newest message it has used; its updates "
                "are its own, since the last start of its process."
            )
        if known.unknown:
            notes.append(
                f"Of agents {show_agents(sorted(known.unknown))} neither a directory nor a page is given: their "
                "rounds are those of the newest messages from them."
            )
        if parts.problem:
            notes.append(f"Curves end: {parts.problem}.")
        if parts.columns and not _has_all(parts):
            notes.append(f"Curves are of agents {show_agents(sorted(parts.of))} only.")
        if parts.is_projected:
            notes.append(
                f"Distances are estimated from {SIZE} random sums of the parameters, and off by 6% or so."
            )
        return notes


@dataclass
class _Known:
    """What the statuses of processes say of all agents.

    Attributes:
        rounds, returns, staleness, sent: by agent.
        updates: agent -> rounds that it has ended itself.
        waits: agent -> words.
        awaited: agent -> the agents and coordinators that it waits for, if any.
        down: agents whose process has ended early, or to which others have lost the link.
        ended: agents whose process has ended well.
        suspicion: agent -> how far what it sent last was from what robust rules chose, the median
            over processes.
        lost_by: agent -> agents of the processes whose link to it is down.
        unknown: agents of which only others know.
    """

    rounds: dict[int, int] = field(default_factory=dict)
    returns: dict[int, float | None] = field(default_factory=dict)
    staleness: dict[int, float | None] = field(default_factory=dict)
    sent: dict[int, float | None] = field(default_factory=dict)
    updates: dict[int, int] = field(default_factory=dict)
    waits: dict[str, str] = field(default_factory=dict)
    awaited: dict[int, list[int]] = field(default_factory=dict)
    down: set[int] = field(default_factory=set)
    ended: set[int] = field(default_factory=set)
    suspicion: dict[int, float] = field(default_factory=dict)
    lost_by: dict[int, list[int]] = field(default_factory=dict)
    unknown: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, parts: Parts) -> _Known:
        """Return what is known."""
        known = cls()
        own = {id for process in parts.processes for id in process.get("agents") or ()}
        for process in parts.processes:
            known._add(process)
        for process in parts.processes:
            known._add_others(process, own)
        judged: dict[int, list[float]] = {}
        for process in parts.processes:
            for agent, value in (process.get("suspicion") or {}).items():
                judged.setdefault(int(agent), []).append(float(value))
        known.suspicion = {agent: median(values) for agent, values in judged.items()}
        return known

    def _add(self, process: Mapping[str, Any]) -> None:
        """Add what a process says of its own agents."""
        state, agents = str(process.get("state", "")), process.get("agents") or ()
        for agent, numbers in (process.get("progress") or {}).items():
            round, returns, staleness, sent = numbers
            id = int(agent)
            self.rounds[id] = int(round)
            self.returns[id], self.staleness[id], self.sent[id] = returns, staleness, sent
        self.updates |= {int(a): int(n) for a, n in (process.get("updates") or {}).items()}
        for agent in agents:
            if agent >= 0:  # a process with many agents tells of those that are behind
                self.rounds.setdefault(agent, int(process.get("round") or 0))
        if state == "no run":
            return
        if state == RUNNING:
            self.waits |= {str(a): str(words) for a, words in (process.get("waits") or {}).items()}
            awaited = process.get("awaited") or {}
            self.awaited |= {int(a): [int(id) for id in ids] for a, ids in awaited.items()}
        elif state in _ENDED:
            self.ended.update(agents)
        elif state != UNREACHABLE:
            self.down.update(agents)

    def _add_others(self, process: Mapping[str, Any], own: set[int]) -> None:
        """Add what a process says of agents of other processes."""
        for agent, round in (process.get("heard") or {}).items():
            if (id := int(agent)) not in own and id >= 0:
                self.unknown.add(id)
                self.rounds[id] = max(self.rounds.get(id, 0), int(round))
        self.down |= {int(id) for id in process.get("opted_out") or ()} - own
        if process.get("state") != RUNNING:
            return
        for id in process.get("down") or ():
            if id in self.ended:
                continue
            self.lost_by.setdefault(id, []).extend(process.get("agents") or ())
            if id not in own:
                self.down.add(id)

    def states(self, n: int) -> str:
        """Return a letter for each of n agents, as of `agents.STATES`."""
        return "".join(
            "d"
            if agent in self.down
            else "e"
            if agent in self.ended
            else "w"
            if agent in self.awaited
            else "t"
            if str(agent) in self.waits
            else "?"
            for agent in range(n)
        )


def _newest(folder: Path) -> dict[str, Any]:
    """Return the status of one process; a silent one is said to be so."""
    found = statuses(folder)[0]
    with suppress(ValueError, TypeError, KeyError, AttributeError):
        found = by_id(found)
    age = found.get("age")
    if found.get("state") == RUNNING and age is not None and age > _LATE:
        found["state"] = f"silent for {age:.0f} s"
    found.setdefault("agents", _agents_of(folder))
    return found


def _agents_of(folder: Path) -> list[int]:
    """Return the agents of a process, also before it has a status if its directory names them."""
    found = read_table(folder / "status.json", 2**20)
    if found is not None:
        with suppress(ValueError):
            return [member_id(agent) for agent in found.get("agents", ())]
    with suppress(P2PFRLError):
        return list(parse_agents(folder.name))  # as `scenario --transport tcp` names it
    return []


def _log_of(folder: Path) -> list[dict[str, Any]]:
    """Return the last lines of the log of a process."""
    agents = _agents_of(folder)
    lines: list[dict[str, Any]] = []
    with suppress(OSError), open_regular(folder / "log.jsonl") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _TAIL))
        for line in file.read(_TAIL).split(b"\n")[size > _TAIL : -1]:
            with suppress(ValueError):
                lines.append({**json.loads(line), "by": agents})
    return lines[-_LOG:]


def _lines(log: Sequence[Mapping[str, Any]], network: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the lines of all logs for the page, newest first.

    Equal lines of a process are one, with their number, up to another line about the same agents.
    """
    at = {one["where"]: one["agents"] for one in network.get("processes", ())}
    groups: list[_Group] = []
    last: dict[tuple[str, str], _Group] = {}
    for line in sorted(log, key=lambda line: float(line.get("time", 0.0))):
        by, who, what, detail = _words(line, at)
        about = who.partition(" at ")[0] or who
        group = last.get((by, about))
        if group is None or (group.who, group.what, group.detail) != (who, what, detail):
            group = last[by, about] = _Group(by, who, what, detail, float(line.get("time", 0.0)))
        else:
            groups.remove(group)
        group.add(line)
        groups.append(group)
    return [group.to_json() for group in groups[-_LOG:][::-1]]


def _words(line: Mapping[str, Any], at: Mapping[str, Sequence[int]]) -> tuple[str, str, str, str]:
    """Return what a line of a log says: by whom, about whom, what, and the details.

    Args:
        line: the line.
        at: address -> agents of the process there.
    """
    agents, address, place = line.get("agents"), line.get("address"), ""
    if isinstance(address, list):
        place = ":".join(map(str, address))
        agents = agents or at.get(place)
    who = ""
    if isinstance(agents, list) and agents:
        who = f" agents {show_agents(map(member_id, agents))}"
    if place:
        who += f" at {place}"
    said = line.get("detail") or line.get("error")
    by = f"{show_agents(line['by'])}: " if line.get("by") else ""
    return by, who, str(line.get("what", "")), f": {said}" if said else ""


@dataclass
class _Group:
    """Equal lines of the log of one process.

    Attributes:
        by: who wrote them.
        who: about whom.
        what: the kind of event.
        detail: more of it.
        first: when the first was written, seconds since 1970; `at` is that of the last.
        lines: their number.
        count: the number of events that the last one says; lines of many events are left out.
    """

    by: str
    who: str
    what: str
    detail: str
    first: float
    at: float = 0.0
    lines: int = 0
    count: int = 0

    def add(self, line: Mapping[str, Any]) -> None:
        """Add a line, the newest."""
        self.at, self.lines = float(line.get("time", 0.0)), self.lines + 1
        self.count = int(line.get("count") or 0)

    def to_json(self) -> dict[str, Any]:
        """Return the line of the page."""
        number = max(self.lines, self.count)
        since = f" since {_clock(self.first)}" if self.lines > 1 else ""
        many = f" ({number:,} times{since})" if number > 1 else ""
        return {
            "at": self.at,
            "clock": _clock(self.at),
            "what": self.what,
            "text": f"{self.by}{self.what}{self.who}{self.detail}{many}",
        }


def _clock(time: float) -> str:
    return f"{datetime.fromtimestamp(time):%H:%M:%S}"


def _rows(parts: Parts, known: _Known) -> list[list[Any]]:
    """Return the table of processes, those without directory or page last."""
    front = max((r for a, r in known.rounds.items() if a >= 0), default=0)
    where = {tuple(one["agents"]): one["where"] for one in parts.network.get("processes", ())}
    rows = [_row(process, known, front, where) for process in parts.processes]
    given = {tuple(process.get("agents") or ()) for process in parts.processes}
    for agents, address in where.items():
        if agents in given:
            continue
        own = [known.rounds[a] for a in agents if a in known.rounds]
        done = min(own) if own else None
        lost = sorted({by for a in agents for by in known.lost_by.get(a, ())})
        behind = None if done is None else front - done
        state = "link lost" if lost else "not watched"
        row = [
            show_agents(agents),
            state,
            done,
            behind,
            None,
            "",
            _named(lost),
            *[None] * 4,
            address,
        ]
        rows.append(row)
    return rows


def _row(
    process: Mapping[str, Any], known: _Known, front: int, where: Mapping[tuple[int, ...], str]
) -> list[Any]:
    agents = tuple(process.get("agents") or ())
    done, refusals, words = process.get("round"), process.get("refusals") or {}, _waiting(process)
    has_agents = any(agent >= 0 for agent in agents)
    awaited = sorted({id for a in agents for id in known.awaited.get(a, ())} - set(agents))
    lost = sorted({by for a in agents for by in known.lost_by.get(a, ())})
    return [
        show_agents(agents) if agents else str(process.get("directory", "")),
        str(process.get("state", "")) + (f", waiting for {words}" if words else ""),
        done,
        front - done if has_agents and isinstance(done, int) else None,
        rounded(process.get("return_mean")),
        _named(awaited),
        _named(lost),
        process.get("bytes_sent"),
        process.get("deadlines_expired"),
        ", ".join(f"{reason} {count}" for reason, count in sorted(refusals.items())),
        rounded(process.get("age")),
        where.get(agents, ""),
    ]


def _waiting(process: Mapping[str, Any]) -> str:
    """Return what a process that runs waits for before its first round; "" if it waits no more."""
    return str(process.get("waiting") or "") if process.get("state") == RUNNING else ""


def _named(ids: Sequence[int]) -> str:
    return show_agents(ids) if ids else ""


def _table(known: _Known, scenario: Mapping[str, Any]) -> dict[str, Any]:
    """Return the table of agents. Asynchronous ones have their own updates beside their rounds."""
    agents, is_asynchronous = Agents(Path()), unit_of(scenario) == UPDATES
    for agent, round in known.rounds.items():
        numbers = {
            "round": round,
            "return": known.returns.get(agent),
            "staleness": known.staleness.get(agent),
            "bytes_sent": known.sent.get(agent),
            **({UPDATES: known.updates.get(agent)} if is_asynchronous else {}),
            **({"suspicion": known.suspicion.get(agent)} if known.suspicion else {}),
        }
        agents.last[agent] = {
            name: math.nan if value is None else float(value) for name, value in numbers.items()
        }
    n = max((*known.rounds, *known.down, *known.ended), default=-1) + 1
    rounds = [known.rounds.get(agent) for agent in range(n)]
    return table(agents, rounds, known.states(n), known.waits)


def _curves(parts: Parts) -> dict[str, Any]:
    rate = parts.network.get("lambda_2") if _has_all(parts) else None
    columns = {name: list(parts.columns.get(name, [])) for name in METRICS}
    return {
        "columns": columns,
        "predicted": predicted(columns, rate if isinstance(rate, int | float) else None),
        "lambda_2": rounded(rate if isinstance(rate, int | float) else None),
        "rows": parts.rows,
        "faults": [],
    }


def _has_all(parts: Parts) -> bool:
    """Whether curves are of all agents."""
    return len(parts.of) == parts.network.get("agents")


def _in_seconds(stop: Mapping[str, Any]) -> dict[str, Any]:
    """Return the goals that processes have: rounds, and virtual time as real time."""
    return {key: stop[key] for key in ("rounds", "virtual_time") if key in stop}


def _float(value: int | None) -> float | None:
    return None if value is None else float(value)
