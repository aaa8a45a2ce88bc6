"""The record of a run, in memory and as a run directory. Figures, reports and checks read it.

A record is complete: figures and reports need nothing else, and agents never read it. `save` writes
the data files first and `summary.json` last, with the checksum of every other file. A directory
without a readable `summary.json` is an unfinished run. If a checksum differs, `load` raises an
error that names the file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from p2pfrl.core.arguments import checked_call
from p2pfrl.core.errors import RecordError
from p2pfrl.core.files import checksum
from p2pfrl.core.graph import Graph
from p2pfrl.core.lazy import LazyModule
from p2pfrl.core.tables import walk
from p2pfrl.core.tensors import (
    Shapes,
    decode_parameters,
    decode_tensors,
    encode_tensors,
    split,
)
from p2pfrl.core.wording import show
from p2pfrl.results.directory import (
    FILES,
    FORMAT,
    SUMMARY,
    Content,
    clear_results,
    content_of,
    going_on,
    is_process,
    runs_in,
    user_of,
)
from p2pfrl.results.faults import faults
from p2pfrl.results.files import (
    Table,
    decode_csv,
    encode_csv,
    encode_json,
    plain,
    read_bytes,
    refusing,
    write_bytes,
)
from p2pfrl.results.formats import encode_graph, graph_from_json
from p2pfrl.results.trace import Event, decode_events, encode_events, encode_trace

if TYPE_CHECKING:
    import torch
else:
    torch = LazyModule("torch")

DRAWN = "drawn"
"""`evaluation.actions` in the summary if actions were drawn from the policies, not greedy."""
INTERRUPT = "interrupt"
"""`stopped_by` in the summary of a run that was interrupted."""
FAILURE = "failure"
"""`stopped_by` in the summary of a run that an error ended; the key `failure` says which."""


def is_index(agent: object, n: int) -> bool:
    """Return whether `agent` is the number of one of n agents."""
    is_number = isinstance(agent, int | np.integer) and not isinstance(agent, bool)
    return is_number and 0 <= int(agent) < n  # type: ignore[call-overload]  # a number


NO_RETURN = "no_episode_ended"
"""Key of the summary if there is no final return because no episode of training has ended."""
EVALUATION = "evaluation_"  # prefix of agents.csv columns with returns of an evaluation
LEARNED, SCRATCH = "learned", "scratch"
"""Columns of newcomers.csv with returns from the learned model, and from scratch."""
PHYSICS = "physics_"  # prefix of agents.csv columns with values that `[environment.vary]` set
METRICS = (
    "round",
    "virtual_seconds",
    "env_steps",
    "return_mean",
    "return_min",
    "return_max",
    "objective",
    "error",
    "consensus_distance",
    "consensus_actor",
    "consensus_critic",
    "policy_kl",
    "mean_drift",
    "bytes_sent",
    "messages_dropped",
    "staleness_mean",
    "active",
    "evaluation_own",
    "evaluation_mean_parameters",
)
AGENTS = (
    "round",
    "agent",
    "virtual_seconds",
    "return",
    "episodes",
    "loss",
    "disagreement",
    "bytes_sent",
    "staleness",
)
STEPS, JOULES, SHARE = "env_steps", "joules", "share"
RESOURCES = (STEPS, JOULES, SHARE)
"""Columns of agents.csv that only some runs have: environment steps so far, where energy is counted
or work assigned; the energy used so far, which metrics.csv has too; the share of an allocation."""
SUSPICION = ("suspicion", "suspicion_cosine")
"""Columns of agents.csv where robust rules judge what agents send; other runs have none."""
UPDATES = "updates"
"""Column of agents.csv of asynchronous runs: rounds that the agent itself has ended. `round` counts
those of all agents."""
BYZANTINE = "byzantine"
"""Column of agents.csv, and key of the summary, of a run with attacks: 1 for a Byzantine agent."""
EPSILON = "epsilon"
"""Column of agents.csv with what has left an agent cost so far, and of metrics.csv with the most of
all, where `[privacy]` accounts for it."""
OWN_COLUMNS = (*AGENTS, UPDATES, *RESOURCES, *SUSPICION, BYZANTINE, EPSILON)
"""Columns of agents.csv that are no measures of a learner or environment; those of physics and
evaluations have prefixes."""
COUNTS = ("round", "env_steps", "bytes_sent", "messages_dropped", "active")
"""Columns of metrics.csv with whole numbers."""
AGENT_COUNTS = ("round", "agent", "episodes", "bytes_sent", UPDATES, "env_steps", BYZANTINE)
"""Columns of agents.csv with whole numbers."""
_KINDS: tuple[Literal["train", "send", "wait"], ...] = ("train", "send", "wait")


class Policy(Protocol):
    """What acts: the policy of a record."""

    def act(self, obs: ArrayLike) -> NDArray[np.generic]:
        """Return the most likely action at an observation `(o,)`, or those of a batch `(m, o)`."""

    def table(self) -> NDArray[np.float64]:
        """Return the probability of each action in each state, `(S, A)`, of a tabular environment.

        Raises:
            RecordError: the environment has no states that could be listed.
        """


class Interval(NamedTuple):
    """One activity of an agent, from `start` to `end`, in virtual seconds."""

    agent: int
    kind: Literal["train", "send", "wait"]
    start: float
    end: float


@dataclass(frozen=True, repr=False)
class Record:
    """The record of a run.

    Attributes:
        scenario: the resolved scenario as TOML. A run of it gives the same digest.
        summary: the keys of `summary.json`.
        metrics: column -> `(rows,)` float64, nan if undefined. The columns are `METRICS` and more.
            Counts (`env_steps`, `bytes_sent`, `messages_dropped`) are cumulative.
        agents: column -> `(rows,)` in long format, one row per (round, agent). The columns are
            `AGENTS`, then `physics_<name>` for all physics in which the agents differ, then the
            environment's own measures. A run with attacks has a column `byzantine`. The last row of
            an agent also has the returns of the last evaluation, `evaluation_<name>`, if the
            environment has baselines or a known optimum.
        newcomers: column -> `(rows,)`, one row per (update, newcomer): `update`, `agent`, the mean
            returns `learned` and `scratch` of evaluation episodes after so many updates, then
            `physics_<name>`, `baseline_<name>` and `optimum`. Empty without newcomers.
        parameters: the final parameters, `(n, d)`, without padding.
        layout: names and shapes of the tensors within the `d` numbers, in order.
        problem: named arrays of the problem instance; empty if there are none.
        graph: the communication graph of the agents; the union over rounds if it varies. It has no
            edges in a mode whose agents do not send to each other.
        lambda_2: the predicted contraction of the consensus distance per round, or None if there is
            no prediction.
        staleness: `(k,)` int64, the number of messages applied at staleness 0, 1, ..., k-1.
        timeline: the activities of agents; only the beginning of a long run.
        heterogeneity: measures of how different the agents are, by name.
        events: every send, delivery, drop, train and mix of a run with a trace; else None.
        coordinators: the agents and edges below each coordinator, by id: -1 is the coordinator or
            cloud, -2, -3, ... are the edges. Empty in modes without a coordinator.
        directory: the folder where the record was saved or loaded.
    """

    scenario: str
    summary: dict[str, Any]
    metrics: dict[str, NDArray[np.float64]]
    agents: dict[str, NDArray[Any]]
    parameters: NDArray[np.floating]
    layout: Shapes
    problem: dict[str, NDArray[Any]]
    graph: Graph
    lambda_2: float | None
    staleness: NDArray[np.int64]
    timeline: tuple[Interval, ...]
    heterogeneity: dict[str, float]
    events: tuple[Event, ...] | None = None
    coordinators: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    newcomers: dict[str, NDArray[Any]] = field(default_factory=dict)
    directory: Path | None = None

    def __repr__(self) -> str:
        """Return one line that says which run this is; the arrays are large."""
        where = "not saved" if self.directory is None else f"directory={str(self.directory)!r}"
        return (
            f"<Record {self.name!r}: mode={self.mode}, seed={self.seed}, "
            f"rounds={self.summary.get('rounds', '-')}, agents={len(self.parameters)}, "
            f"digest={self.summary.get('digest', '-')}, {where}>"
        )

    @property
    def name(self) -> str:
        """Name of the scenario."""
        return str(self.summary.get("name", "run"))

    @property
    def mode(self) -> str:
        """Mode of the scenario: gossip, central, hierarchical, independent, pooled."""
        return str(self.summary.get("mode", "gossip"))

    @property
    def seed(self) -> int:
        """Seed of the run."""
        return int(self.summary.get("seed", 0))

    def policy(self, agent: int) -> Policy:
        """Return the greedy policy of an agent's final parameters: `act(obs)`, and `table()`.

        Raises:
            RecordError: there is no such agent, or its learner has no policy.
        """
        # A record is data and knows no learner, so what makes the policy is imported here.
        found: Policy = import_module("p2pfrl.build.policy").RecordedPolicy(self, agent)
        return found

    def state_dict(self, agent: int) -> dict[str, torch.Tensor]:
        """Return an agent's final parameters as a torch state dict, by the names of `layout`.

        Raises:
            RecordError: there is no such agent.
        """
        if not is_index(agent, len(self.parameters)):
            raise RecordError(
                f"state_dict: expected an agent from 0 to {len(self.parameters) - 1}, got {agent!r}"
            )
        tensors = split(np.array(self.parameters[agent : agent + 1]), self.layout)
        return {name: torch.from_numpy(values[0]) for name, values in tensors.items()}

    def has(self, column: str) -> bool:
        """Whether `metrics` has a number in `column`."""
        return column in self.metrics and bool(np.isfinite(self.metrics[column]).any())


def save(record: Record, directory: Path | str) -> Record:
    """Write the run directory and return the record with its `directory` set.

    It replaces an existing record in the directory, including its figures and report.

    Raises:
        RecordError: it cannot be written, or it has files that are not of a run.
    """
    folder = Path(directory)
    if content_of(folder) is Content.OTHER:
        raise RecordError(f"{folder}: has files that are not of a run; give another directory")
    clear_results(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecordError(f"{folder}: cannot hold a run: {error.strerror}") from error
    written = {
        name: write_bytes(folder / name, content) for name, content in contents(record).items()
    }
    summary = {
        **record.summary,
        "lambda_2": record.lambda_2,
        "heterogeneity": record.heterogeneity,
        "format": FORMAT,
        "files": written,
    }
    write_bytes(folder / "summary.json", encode_json(summary))
    return replace(record, directory=folder)


def contents(record: Record) -> dict[str, bytes]:
    """Return the files of a record by name, without its summary."""
    timeline: Table = {
        "agent": np.array([i.agent for i in record.timeline], dtype=np.int64),
        "kind": np.array([i.kind for i in record.timeline], dtype=str),
        "start": np.array([i.start for i in record.timeline], dtype=np.float64),
        "end": np.array([i.end for i in record.timeline], dtype=np.float64),
    }
    files = {
        "scenario.toml": record.scenario.encode(),
        "metrics.csv": encode_csv(record.metrics, COUNTS),
        "agents.csv": encode_csv(record.agents),
        "parameters.safetensors": encode_tensors({"parameters": record.parameters}, record.layout),
        "graph.json": encode_graph(record.graph, record.coordinators),
        "staleness.csv": encode_csv(
            {
                "staleness": np.arange(len(record.staleness)),
                "messages": np.asarray(record.staleness, dtype=np.int64),
            }
        ),
        "timeline.csv": encode_csv(timeline),
    }
    if record.newcomers:
        files["newcomers.csv"] = encode_csv(record.newcomers)
    if record.problem:
        files["problem.safetensors"] = encode_tensors(record.problem)
    if record.events is not None:
        files["events.jsonl"] = encode_events(record.events)
        files["trace.json"] = encode_trace(
            record.events,
            record.timeline,
            record.graph.n,
            faults(record),
            f"{record.summary.get('name', 'p2pfrl')}, seed {record.summary.get('seed')}",
        )
    return files


def load_summary(directory: Path | str) -> dict[str, Any]:
    """Return `summary.json` of a complete run directory.

    Raises:
        RecordError: it is missing or damaged.
    """
    path = Path(directory) / SUMMARY
    if not path.exists() and content_of(path.parent) is Content.UNFINISHED:
        is_running = user_of(path.parent) is not None
        what = "still runs" if is_running else "was killed or interrupted"
        fix = "wait for its end" if is_running else f"to go on: {going_on(path.parent)}"
        raise RecordError(f"{path.parent}: this run {what}, and has no record yet; {fix}")
    if not path.exists() and is_process(path.parent):
        raise RecordError(
            f"{path.parent}: expected the directory of a run, got that of one process; `p2pfrl collect` makes a record "
            f"of the directories of all processes, `p2pfrl status {path.parent}` says how far it is"
        )
    if not path.exists() and (inner := [*chain(*runs_in(path.parent))]):
        raise RecordError(
            f"{path.parent}: expected the directory of one run, got one of {len(inner)}, such as {inner[0].name}; name "
            f"one, or `p2pfrl report {path.parent}` shows all"
        )
    content = read_bytes(path)
    with refusing(path):
        summary = json.loads(content)
        if not isinstance(summary, dict):
            raise ValueError(f"expected a table, got a {type(summary).__name__}")
        if (found := summary.get("format")) != FORMAT:
            if found is None or not str(found).startswith(FORMAT.rpartition("-")[0]):
                raise ValueError(f"its format is {found!r}, expected {FORMAT!r}")
            raise RecordError(
                f"{path}: written by another version of p2pfrl, in the format {found!r}; this one reads {FORMAT!r}"
            )
        for path_in_file, value in walk(summary):
            is_large = isinstance(value, int) and abs(value) >= _MOST
            if is_large or (isinstance(value, float) and not math.isfinite(value)):
                where = ".".join(map(str, path_in_file))
                raise ValueError(f"{where}: a number that is not finite or too large")
        _check_types(summary, _TYPES, "")
        return dict(summary)


_MOST = 2**63
_NUMBER = (int, float)
_OR_NONE = (int, float, type(None))
_TYPES: Mapping[str, Any] = {
    "name": str,
    "mode": str,
    "seed": int,
    "agents": int,
    "stopped_by": str,
    "rounds": int,
    "env_steps": int,
    "virtual_seconds": _NUMBER,
    "wall_seconds": _NUMBER,
    "bytes_sent": int,
    "messages_sent": int,
    "messages_dropped": int,
    "messages_late": int,
    "deadlines_expired": int,
    "digest": str,
    "parameters_digest": str,
    "final_return": {"mean": _OR_NONE, "min": _OR_NONE, "max": _OR_NONE, "iqm": _OR_NONE},
    "evaluation": {
        "own": _OR_NONE,
        "mean_parameters": _OR_NONE,
        "baselines": dict,
        "optimum": _OR_NONE,
    },
    "fairness": dict,
    "newcomers": {
        "agents": int,
        "updates": int,
        **{
            name: dict.fromkeys(("before", "after", "worst"), _OR_NONE)
            for name in (LEARNED, SCRATCH)
        },
    },
    "target_reached": (bool, type(None)),
    "time_to_target": (dict, type(None)),
    "consensus_distance": _OR_NONE,
    "staleness": {"mean": _NUMBER, "p95": _NUMBER, "max": _NUMBER},
    "lambda_2": _OR_NONE,
    "heterogeneity": dict,
    "bound": dict,
    "versions": dict,
    "files": dict,
}
"""Keys of a summary that are read -> their types."""
_WORDS = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    dict: "a table",
    type(None): "null",
}
"""Type -> what it is called in JSON."""


def _check_types(table: Mapping[str, Any], types: Mapping[str, Any], prefix: str) -> None:
    """Raise a `ValueError` if a value is of another type."""
    for name, expected in types.items():
        if name not in table:  # of an earlier version
            continue
        value = table[name]
        if isinstance(expected, Mapping):
            if value is None:
                continue
            if not isinstance(value, dict):
                raise ValueError(f"{prefix}{name}: expected a table, got {show(value)}")
            _check_types(value, expected, f"{prefix}{name}.")
            continue
        is_number = isinstance(value, bool) and expected in (int, _NUMBER, _OR_NONE)
        if is_number or not isinstance(value, expected):
            kinds = expected if isinstance(expected, tuple) else (expected,)
            wanted = " or ".join(
                words
                for kind, words in _WORDS.items()
                if kind in kinds and not (kind is int and float in kinds)
            )
            raise ValueError(f"{prefix}{name}: expected {wanted}, got {show(value)}")


@checked_call
def load(directory: Path | str) -> Record:
    """Return the record in a run directory.

    Raises:
        RecordError: a file is missing, damaged or foreign; the message names it.
    """
    folder = Path(directory)
    summary = load_summary(folder)
    with refusing(folder / "summary.json"):
        checksums = {str(k): str(v) for k, v in summary.pop("files").items()}
        heterogeneity = {
            str(k): float("nan" if v is None else v) for k, v in summary["heterogeneity"].items()
        }
        lambda_2 = None if summary["lambda_2"] is None else float(summary["lambda_2"])
    summary.pop("format")
    found = {name: _checked(folder, name, expected) for name, expected in checksums.items()}

    def content(name: str) -> bytes:
        return found[name] if name in found else read_bytes(folder / name)

    with refusing(folder / "scenario.toml"):
        scenario = content("scenario.toml").decode()
    with refusing(folder / "metrics.csv"):
        metrics = {
            name: values.astype(np.float64)
            for name, values in decode_csv(content("metrics.csv")).items()
        }
    with refusing(folder / "agents.csv"):
        agents = decode_csv(content("agents.csv"))
    newcomers: dict[str, NDArray[Any]] = {}
    if "newcomers.csv" in found:
        with refusing(folder / "newcomers.csv"):
            newcomers = decode_csv(found["newcomers.csv"])
            _check_newcomers(newcomers)
    with refusing(folder / "parameters.safetensors"):
        parameters, layout = decode_parameters(content("parameters.safetensors"))
    problem: dict[str, NDArray[Any]] = {}
    if "problem.safetensors" in found:
        with refusing(folder / "problem.safetensors"):
            problem = decode_tensors(found["problem.safetensors"])
    with refusing(folder / "graph.json"):
        graph, coordinators = graph_from_json(json.loads(content("graph.json")))
    with refusing(folder / "staleness.csv"):
        staleness = decode_csv(content("staleness.csv"))["messages"].astype(np.int64)
    with refusing(folder / "timeline.csv"):
        rows = decode_csv(content("timeline.csv"), words=("kind",))
        columns = (rows[c].tolist() for c in ("agent", "kind", "start", "end"))
        timeline = tuple(
            Interval(int(a), _KINDS[_KINDS.index(k)], s, e)
            for a, k, s, e in zip(*columns, strict=True)
        )
    events = None
    if "events.jsonl" in found:
        with refusing(folder / "events.jsonl"):
            events = decode_events(found["events.jsonl"])
    with refusing(folder):
        _check_shapes(metrics, agents, parameters, graph)
    return Record(
        scenario=scenario,
        summary=summary,
        metrics=metrics,
        agents=agents,
        parameters=parameters,
        layout=layout,
        problem=problem,
        graph=graph,
        lambda_2=lambda_2,
        staleness=staleness,
        timeline=timeline,
        heterogeneity=heterogeneity,
        events=events,
        coordinators=coordinators,
        newcomers=newcomers,
        directory=folder,
    )


def _check_shapes(
    metrics: Mapping[str, NDArray[np.float64]],
    agents: Mapping[str, NDArray[Any]],
    parameters: NDArray[Any],
    graph: Graph,
) -> None:
    """Raise a `ValueError` if the parts of a record do not belong together."""
    n = graph.n
    if missing := [
        name for name in ("round", "virtual_seconds", "return_mean") if name not in metrics
    ]:
        raise ValueError(f"metrics.csv: no column {missing[0]}")
    if missing := [name for name in ("round", "agent", "return") if name not in agents]:
        raise ValueError(f"agents.csv: no column {missing[0]}")
    ids = agents["agent"]
    if ids.dtype.kind != "i" and len(ids):
        raise ValueError("agents.csv: agents are not numbers")
    if len(ids) and not (ids.min() >= 0 and ids.max() < n):
        raise ValueError(f"agents.csv: an agent beyond the {n} of graph.json")
    if parameters.ndim != 2 or len(parameters) != n or parameters.dtype.kind != "f":
        raise ValueError(f"parameters.safetensors: expected a row of numbers for {n} agents")
    if len(graph.labels) not in (0, n) or len(graph.positions) not in (0, n):
        raise ValueError(f"graph.json: expected labels and positions of {n} agents or none")


def _check_newcomers(table: Mapping[str, NDArray[Any]]) -> None:
    """Raise a `ValueError` if a table of newcomers lacks columns or numbers."""
    for name in ("update", "agent", LEARNED, SCRATCH):
        if name not in table:
            raise ValueError(f"newcomers.csv: no column {name}")
    for name in ("update", "agent"):
        if table[name].dtype.kind != "i" or not len(table[name]):
            raise ValueError(f"newcomers.csv: column {name} has no whole numbers")


def checked_file(folder: Path, name: str, summary: Mapping[str, Any]) -> bytes:
    """Return the content of a file of a run directory.

    Raises:
        RecordError: it is missing, or not what `summary` says.
    """
    with refusing(folder / "summary.json"):
        expected = str(summary["files"][name])
    return _checked(folder, name, expected)


def _checked(folder: Path, name: str, expected: str) -> bytes:
    path = folder / name
    if name not in FILES:
        raise RecordError(f"{path}: not a file of a run directory")
    content = read_bytes(path)
    if checksum(content) != expected:
        raise RecordError(
            f"{path}: changed since the run wrote it (its checksum differs from the one in summary.json)"
        )
    return content


__all__ = [
    "AGENTS",
    "METRICS",
    "PHYSICS",
    "Event",
    "Interval",
    "Record",
    "checked_file",
    "contents",
    "load",
    "load_summary",
    "plain",
    "save",
]
