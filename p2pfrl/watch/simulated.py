"""What a page shows of a simulated run, or of a record: read from the files of its directory."""

from __future__ import annotations

import json
import math
import time
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from p2pfrl.consensus.schedules import RULES
from p2pfrl.core.errors import P2PFRLError, RecordError
from p2pfrl.core.files import read_regular, read_table
from p2pfrl.core.types import id_of, name_of
from p2pfrl.core.units import seconds
from p2pfrl.deploy.status import MISSING, statuses
from p2pfrl.results.directory import FORMAT, LIVE, SUMMARY
from p2pfrl.results.formats import graph_from_json
from p2pfrl.results.record import load_summary
from p2pfrl.results.suspects import ALARM
from p2pfrl.watch.absences import Absences
from p2pfrl.watch.agents import ROUND, UPDATES, Agents, table
from p2pfrl.watch.drawing import Picture, picture
from p2pfrl.watch.progress import Progress
from p2pfrl.watch.tails import Curves, Tail, rounded

METRICS = (
    "round",
    "virtual_seconds",
    "env_steps",
    "return_mean",
    "return_min",
    "return_max",
    "consensus_distance",
    "error",
    "bytes_sent",
    "staleness_mean",
    "evaluation_own",
)
_SHOWN = ("metrics.csv", "agents.csv", "graph.json", "timeline.csv")
"""Files of a record that the page shows."""
_MOST_JSON = 2**26
_LOG = 200
"""Number of lines of the log that are kept."""
_STATE = 2.0
"""Seconds between two looks at the process of a run."""
_TIMELINE = 384


class Simulated:
    """Reader of one run directory.

    Args:
        folder: the run directory.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._scenario: dict[str, Any] = {}
        self._progress = Progress({})
        self._metrics = Tail(folder / "metrics.csv")
        self._curves = Curves(METRICS)
        self._agents = Agents(folder / "agents.csv")
        self._picture: Picture | None = None
        self._n = 0
        self._summary: dict[str, Any] | None = None
        self._state: dict[str, Any] = {}
        self._live: dict[str, Any] = {}
        self._looked = -math.inf
        self._problem = ""
        self._log: list[dict[str, Any]] = []
        self._counts: dict[str, int] = {}
        self._first_distance: float | None = None

    def read(self) -> dict[str, Any]:
        """Return all sections as they are now."""
        self._read_state()
        self._read_scenario()
        self._read_graph()
        live = self._view()
        rows = self._metrics.read()
        if self._metrics.is_new:
            self._curves = Curves(METRICS)
        self._curves.add(self._metrics.columns, rows)
        self._agents.read(self._n)
        self._note(live)
        rounds: list[int | None] = [int(r) for r in live.get("rounds", ())]
        states, absences = str(live.get("states", "")), self._absences(live)
        if self._summary is not None:
            rounds = rounds or self._agents.ended(self._n)
            states = states or absences.states(self._n)
        unit = unit_of(self._scenario)
        lambda_2 = (self._summary or live).get("lambda_2")
        found = {
            "run": self._run(live),
            "curves": self._curve_section(lambda_2),
            "agents": table(
                self._agents, rounds, states, self._coming(live), unit, absences.seconds
            ),
            "faults": self._faults(live),
            "log": self._log[-_LOG:][::-1],
            "waits": live.get("waits", {}),
            "processes": {"columns": [], "rows": []},
            "waiting": {},
            "messages": {
                "shown": live.get("messages", []) if self._n and self._is_single() else [],
                "counted": live.get("messages_counted", 0),
                "window": live.get("window"),
                "in_flight": live.get("in_flight"),
            },
            "timeline": self._timeline(live),
        }
        if self._picture is not None:
            found["graph"] = self._picture.section
            found["colors"] = self._colors(rounds, states)
        found["notes"] = self._notes()
        found["problem"] = self._problem
        return found

    def _view(self) -> dict[str, Any]:
        """Return the last view of a run that goes on, also while it saves its record."""
        found = read_table(self._folder / LIVE, _MOST_JSON)
        if found is not None or self._summary is not None:
            self._live = found or {}
        return self._live

    def _is_single(self) -> bool:
        return self._picture is not None and self._picture.cells is None

    def _read_state(self) -> None:
        now = time.monotonic()
        has_summary = (self._folder / SUMMARY).is_file()
        is_known = has_summary == (self._summary is not None)
        is_ending = has_summary and self._state.get("state") == "running"
        if now - self._looked < _STATE and is_known and not is_ending:
            return
        self._looked = now
        self._state = statuses(self._folder)[0]
        self._summary, self._problem = self._read_summary()

    def _read_summary(self) -> tuple[dict[str, Any] | None, str]:
        """Return the summary, if there is one, and what is wrong with it.

        Of one of another version, the page has what it can read; of a damaged one, nothing.
        """
        path = self._folder / SUMMARY
        if not path.is_file():
            return None, ""
        try:
            return load_summary(self._folder), ""
        except RecordError as error:
            found = read_table(path, _MOST_JSON) or {}
            is_foreign = found.get("format") != FORMAT
            return (found if is_foreign else {}), f"{error}; what is shown may be wrong"

    def _read_scenario(self) -> None:
        if self._scenario:
            return
        with suppress(OSError, ValueError):
            text = read_regular(self._folder / "scenario.toml", 2**20).decode()
            self._scenario = tomllib.loads(text)
            self._progress = Progress(self._scenario.get("stop", {}))

    def _read_graph(self) -> None:
        if self._picture is not None:
            return
        with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            value = json.loads(read_regular(self._folder / "graph.json", _MOST_JSON))
            graph, coordinators = graph_from_json(value)
            kind = str(self._scenario.get("topology", {}).get("kind", ""))
            self._picture = picture(graph, coordinators, kind)
            self._n = graph.n

    def _run(self, live: Mapping[str, Any]) -> dict[str, Any]:
        summary = self._summary or {}
        n = self._scenario.get("agents")
        state = str(self._state.get("state", ""))
        if self._problem and state == MISSING:
            state = "damaged"
        is_running = state == "running"
        wall = _now(live) if is_running else summary.get("wall_seconds")
        round = live.get("round")
        now = {
            "rounds": self._curves.last("round") if round is None else float(round),
            "env_steps": live.get("env_steps", self._curves.last("env_steps")),
            "virtual_seconds": live.get("virtual_seconds", self._curves.last("virtual_seconds")),
        }
        share = self._progress.share(now)
        return {
            "kind": "simulation",
            "name": self._scenario.get("name", self._folder.name),
            "mode": self._scenario.get("mode", ""),
            "seed": self._scenario.get("seed"),
            "agents": n,
            "schedule": self._scenario.get("schedule", {}).get("kind", ""),
            "topology": self._scenario.get("topology", {}).get("kind", ""),
            "directory": str(self._folder),
            "state": state,
            "running": is_running,
            "process": self._state.get("process"),
            "unit": unit_of(self._scenario),
            "goals": self._progress.goals,
            "now": {name: rounded(value) for name, value in now.items()},
            "share": share if is_running or not summary else 1.0,
            "left": self._progress.left(share, wall) if is_running else None,
            "wall_seconds": rounded(wall),
            "bytes": live.get("bytes_sent", summary.get("bytes_sent")),
            "dropped": live.get("dropped", summary.get("messages_dropped")),
            "late": live.get("late", summary.get("messages_late")),
            "expired": live.get("expired", summary.get("deadlines_expired")),
            "down": [name_of(int(id)) for id in live.get("down", ())],
            "target": self._scenario.get("stop", {}).get("target_return"),
        }

    def _curve_section(self, lambda_2: object) -> dict[str, Any]:
        columns = self._curves.columns()
        rate = float(lambda_2) if isinstance(lambda_2, int | float) else None
        return {
            "columns": columns,
            "predicted": predicted(columns, rate),
            "lambda_2": rounded(rate),
            "rows": self._curves.rows,
            "faults": [fault["at"] for fault in self._planned()],
        }

    def _colors(self, rounds: Sequence[int | None], states: str) -> dict[str, Any]:
        assert self._picture is not None
        values = self._picture.values
        found: dict[str, Any] = {
            name: values(self._agents.column(name, self._n)) for name in ("return", "disagreement")
        }
        if rounds:
            own = [None if round is None else float(round) for round in rounds]
            found[unit_of(self._scenario)] = values(own)
        found["states"] = states if self._is_single() else ""
        found["byzantine"] = self._agents.marked("byzantine", 0.5) if self._is_single() else []
        found["suspects"] = self._agents.marked("suspicion", ALARM) if self._is_single() else []
        return found

    def _planned(self) -> list[dict[str, Any]]:
        """Return the faults of the scenario in order of time."""
        found = []
        for fault in self._scenario.get("faults", ()):
            with suppress(KeyError, TypeError, ValueError, P2PFRLError):
                agents = [a if isinstance(a, int) else id_of(a) for a in fault.get("agents", ())]
                found.append(
                    {
                        "at": seconds(fault["at"]),
                        "kind": str(fault["kind"]),
                        "agents": agents,
                        "groups": fault.get("groups", []) if fault["kind"] == "partition" else [],
                        "more": {
                            key: value
                            for key, value in fault.items()
                            if key not in ("at", "kind", "agents", "groups")
                            and isinstance(value, int | float | str)
                        },
                    }
                )
        return sorted(found, key=lambda fault: fault["at"])

    def _virtual_now(self, live: Mapping[str, Any]) -> float | None:
        now = live.get("virtual_seconds", self._curves.last("virtual_seconds"))
        if self._summary is not None:
            now = self._summary.get("virtual_seconds", now)
        return None if now is None else float(now)

    def _absences(self, live: Mapping[str, Any]) -> Absences:
        """Return who the faults of the scenario have taken from the run so far."""
        return Absences(self._planned(), self._virtual_now(live))

    def _faults(self, live: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the faults of the scenario, and whether each has struck."""
        now = self._virtual_now(live)
        return [
            {**fault, "struck": now is not None and fault["at"] <= now} for fault in self._planned()
        ]

    def _coming(self, live: Mapping[str, Any]) -> Mapping[str, str]:
        found = live.get("waits", {})
        return found if isinstance(found, dict) else {}

    def _note(self, live: Mapping[str, Any]) -> None:
        """Add a line to the log for what is counted and has grown."""
        now = rounded(live.get("virtual_seconds", self._curves.last("virtual_seconds")))
        for key, (count, one, many) in self._counted(live).items():
            before = self._counts.get(key, 0)
            self._counts[key] = count
            if count <= before:
                continue
            last = self._log[-1] if self._log else {}
            if last.get("key") == key:  # one line for what goes on
                self._log.pop()
            text = f"1 {one}" if count == 1 else f"{count:,} {many}"
            self._log.append({"at": now, "what": key.split(":")[0], "text": text, "key": key})
        del self._log[: -2 * _LOG]

    def _counted(self, live: Mapping[str, Any]) -> dict[str, tuple[int, str, str]]:
        """Return what is counted: the number, and the words for one and for several."""
        summary = self._summary or {}
        byzantine = summary.get("byzantine")
        refused = live.get("refused") or (
            byzantine.get("refused", {}) if isinstance(byzantine, dict) else {}
        )
        found = {
            f"refused:{agent}": (
                int(count),
                f"message of agent {agent} refused",
                f"messages of agent {agent} refused so far",
            )
            for agent, count in refused.items()
        }
        for key, other, one, many in (
            ("late", "messages_late", "message came late", "messages came late so far"),
            (
                "expired",
                "deadlines_expired",
                "wait ended by a deadline",
                "waits ended by a deadline so far",
            ),
            ("dropped", "messages_dropped", "message was lost", "messages were lost so far"),
        ):
            count = live.get(key, summary.get(other))
            if isinstance(count, int):
                found[key] = (count, one, many)
        return found

    def _timeline(self, live: Mapping[str, Any]) -> dict[str, Any]:
        """Return the last activities: [agent, kind, start, end]."""
        rows = live.get("timeline")
        if rows is None:
            rows = self._last_intervals()
        return {"intervals": rows}

    def _last_intervals(self) -> list[list[Any]]:
        with suppress(OSError, ValueError):
            text = read_regular(self._folder / "timeline.csv", _MOST_JSON).decode()
            found = []
            for line in text.splitlines()[1:][-_TIMELINE:]:
                agent, kind, start, end = line.split(",")
                if kind != "wait":
                    found.append([int(agent), kind, float(start), float(end)])
            return found
        return []

    def _notes(self) -> list[str]:
        """Return what is thinned or aggregated on the page."""
        notes = []
        if self._picture is not None and self._picture.note:
            notes.append(f"Graph: {self._picture.note}.")
        shown = len(self._curves.columns()["round"])
        if shown < self._curves.rows:
            notes.append(f"Curves: {shown:,} of {self._curves.rows:,} rows are drawn.")
        if self._summary is not None:
            missing = [name for name in _SHOWN if not (self._folder / name).is_file()]
            if missing:
                notes.append(f"Missing in the directory: {', '.join(missing)}.")
        if self._agents.note:
            notes.append(f"Table: {self._agents.note}.")
        return notes


def unit_of(scenario: Mapping[str, Any]) -> str:
    """Return what agents count in a parsed scenario: rounds, or each its own updates."""
    kind = str(scenario.get("schedule", {}).get("kind", ""))
    return UPDATES if kind in RULES and RULES[kind].is_asynchronous else ROUND


def _now(live: Mapping[str, Any]) -> float | None:
    """Return the wall time of a run that goes on since it wrote its last view."""
    written, wall = live.get("time"), live.get("wall_seconds")
    if not isinstance(written, int | float) or not isinstance(wall, int | float):
        return None
    return wall + max(0.0, time.time() - written)


def predicted(columns: Mapping[str, list[float | None]], rate: float | None) -> list[float | None]:
    """Return d_0 rate^(t - t_0) for every round t of the curves, from the first distance d_0 on.

    Empty without a rate below 1, or a distance.
    """
    distances, rounds = columns["consensus_distance"], columns["round"]
    if rate is None or rate >= 1.0 or not any(distances):
        return []
    place = next(i for i, distance in enumerate(distances) if distance)
    start, first = distances[place], rounds[place]
    if start is None or first is None:
        return []
    return [
        None if r is None or r < first else rounded(start * rate ** (r - first)) for r in rounds
    ]
