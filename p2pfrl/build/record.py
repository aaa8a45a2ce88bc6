"""The record of a run, composed from what its recorder saw.

It is the same for the simulator and for processes on a LAN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pfrl.build.assembly import Assembly
from p2pfrl.build.beside import Beside, beside
from p2pfrl.build.bounds import bounds
from p2pfrl.build.newcomers import Newcomers, newcomers
from p2pfrl.core.graph import Graph
from p2pfrl.core.parameters import Vector
from p2pfrl.core.resources import Resources
from p2pfrl.core.traffic import Traffic
from p2pfrl.core.types import LOWEST_ID, MOST_STANDBYS, OPTED_OUT, is_standby, name_of
from p2pfrl.core.units import SECOND
from p2pfrl.results.agent_table import AgentTable
from p2pfrl.results.fairness import fairness
from p2pfrl.results.groups import final
from p2pfrl.results.record import (
    AGENTS,
    BYZANTINE,
    DRAWN,
    EVALUATION,
    FAILURE,
    INTERRUPT,
    JOULES,
    METRICS,
    NO_RETURN,
    OWN_COLUMNS,
    PHYSICS,
    SHARE,
    SUSPICION,
    Record,
)
from p2pfrl.results.recorder import Recorder, Row
from p2pfrl.results.suspects import suspects
from p2pfrl.results.trace import Event
from p2pfrl.results.versions import versions
from p2pfrl.scenario import Scenario
from p2pfrl.scenario.render import resolved
from p2pfrl.scenario.resources import shares
from p2pfrl.scenario.sources import sources


@dataclass(frozen=True)
class Totals:
    """Totals of a world that a recorder does not see.

    Attributes:
        stopped_by: why the run ended.
        virtual_seconds: of the world's clock.
        wall_seconds: that it took.
        traffic: of all agents and schedules.
        mean_batch: mean number of updates that were computed together.
        more: further keys of the summary.
        refused: messages of Byzantine agents that receivers refused, by sender.
    """

    stopped_by: str
    virtual_seconds: float
    wall_seconds: float
    traffic: Traffic
    mean_batch: float
    more: Mapping[str, Any] = field(default_factory=dict)
    refused: Mapping[int, int] = field(default_factory=dict)


def opted_out(departed: Sequence[tuple[int, int, int]]) -> dict[str, Any]:
    """Return the key of the summary that says who left of its own will; none if nobody did.

    Args:
        departed: (agent, rounds that it had ended, nanoseconds).
    """
    found = [
        {"agent": agent, "rounds": rounds, "virtual_seconds": now / SECOND}
        for agent, rounds, now in departed
    ]
    return {OPTED_OUT: found} if found else {}


def parameters_digest(parameters: Vector) -> str:
    """Return the blake2b hash of the parameters `(n, d)`, as 32 hexadecimal digits.

    Two hashes are equal if the parameters are equal bit for bit.
    """
    return blake2b(np.ascontiguousarray(parameters).tobytes(), digest_size=16).hexdigest()


def compose(
    scenario: Scenario,
    assembly: Assembly,
    recorder: Recorder,
    parameters: Vector,
    *,
    digest: str,
    totals: Totals,
    events: tuple[Event, ...] | None = None,
    engine: str | None = None,
) -> Record:
    """Return the record of a run.

    Args:
        scenario: as it was given.
        assembly: of what was run.
        recorder: what watched it, finished.
        parameters: `(n, d)`, the final ones.
        digest: of the run.
        totals: what the world counted.
        events: every one, where they were kept.
        engine: what computed; None: that of the assembly.
    """
    stack, prediction = assembly.learning.stack, assembly.prediction
    facts = {
        **_facts(scenario, assembly, recorder),
        "digest": digest,
        "parameters_digest": parameters_digest(parameters),
    }
    others = beside(
        assembly.learning,
        recorder.evaluation,
        scenario.agents,
        episodes=scenario.evaluation.episodes,
        seed=scenario.seed,
        parameters=parameters if all(make.learner.frames == 1 for make in scenario.makes) else None,
    )
    agents = _agents(scenario, assembly, recorder)
    is_whole = totals.stopped_by not in (FAILURE, INTERRUPT)
    new = newcomers(
        assembly.device.applied(scenario),
        stack,
        parameters,
        recorder.evaluation if is_whole else None,
    )
    measured = _measured(scenario, assembly, recorder, totals, agents, others, new)
    return Record(
        scenario=resolved(scenario),
        summary=_summary(
            scenario, recorder, totals, facts, measured, engine or stack.traits.engine
        ),
        metrics=_columns(recorder.rows),
        agents=agents if others is None else agents | _on_last_rows(agents, others),
        newcomers={} if new is None else new.table,
        parameters=parameters,
        layout=tuple((tensor.name, tensor.shape) for tensor in stack.layout.tensors),
        problem=assembly.learning.instance,
        graph=talked(assembly),
        coordinators=coordinated(assembly),
        lambda_2=None if prediction is None else prediction.lambda_2,
        staleness=np.array(recorder.staleness, dtype=np.int64),
        timeline=tuple(recorder.intervals),
        heterogeneity=assembly.learning.heterogeneity,
        events=events,
    )


def _facts(scenario: Scenario, assembly: Assembly, recorder: Recorder) -> dict[str, Any]:
    """Return the keys of the summary that say what was run."""
    stack = assembly.learning.stack
    return {
        "parameters": stack.layout.size,
        **({"sources": found} if (found := sources(scenario)) else {}),
        **({"start": start.record} if (start := assembly.learning.start) else {}),
        **({"device": found} if (found := assembly.device.record) else {}),
        **({"error_is": stack.objective.error_is} if _has_error(recorder) else {}),
    }


def _agents(scenario: Scenario, assembly: Assembly, recorder: Recorder) -> dict[str, NDArray[Any]]:
    """Return the columns of the agents, with the physics in which they differ and their shares."""
    physics = {
        PHYSICS + name: values.astype(np.float64)
        for name, values in assembly.learning.physics.items()
        if values.ndim == 1 and np.ptp(values.astype(np.float64)) > 0
    }
    agents = _agent_columns(recorder.agent_rows, physics)
    if scenario.allocation.exponent is not None:
        agents[SHARE] = shares(scenario)[agents["agent"]]
    return agents


def _measured(
    scenario: Scenario,
    assembly: Assembly,
    recorder: Recorder,
    totals: Totals,
    agents: Mapping[str, NDArray[Any]],
    others: Beside | None,
    new: Newcomers | None,
) -> dict[str, Any]:
    """Return the keys of the summary that say what came out."""
    plan = assembly.plan
    view = plan.view if assembly.mode.mixes else None
    terms = bounds(scenario, plan.stack, view, plan.mixing, assembly.prediction)
    is_greedy = assembly.learning.stack.evaluator.is_greedy
    return {
        "evaluation": {
            **_evaluation(recorder, others, is_greedy=is_greedy),
            **({"episodes_without_end": count} if (count := _without_end(assembly)) else {}),
        },
        **({NO_RETURN: True} if _has_no_return(assembly, recorder) else {}),
        "fairness": _fairness(agents),
        **({"energy": _energy(scenario, agents, assembly.resources)} if JOULES in agents else {}),
        **({} if new is None else {"newcomers": new.summary}),
        **({BYZANTINE: _byzantine(recorder, totals)} if recorder.byzantine else {}),
        **({"bound": terms} if terms else {}),
        **({"terms": _terms(recorder)} if recorder.terms else {}),
        **({"suspicion": suspects(agents)} if SUSPICION[0] in agents else {}),
    }


def talked(assembly: Assembly) -> Graph:
    """Return the graph of the agents. It has no edges in a mode without messages between agents."""
    graph, neighbors = assembly.plan.view.union, assembly.neighbors()
    if any(peer >= 0 for agent in range(graph.n) for peer in neighbors[agent]):
        return graph
    return Graph(((),) * graph.n, positions=graph.positions, labels=graph.labels)


def _has_error(recorder: Recorder) -> bool:
    """Whether the distance to something known was measured."""
    return any(np.isfinite(row["error"]) for row in recorder.rows)


def _terms(recorder: Recorder) -> list[dict[str, Any]]:
    """Return who took office when, where a coordinator has standbys."""
    return [
        {"epoch": epoch, "coordinator": str(name_of(id)), "virtual_seconds": now / SECOND}
        for now, id, epoch in recorder.terms
    ]


def coordinated(assembly: Assembly) -> dict[int, tuple[int, ...]]:
    """Return whom every coordinator sends models to: agents, and the edges of a hierarchy."""
    neighbors, first = assembly.neighbors(), LOWEST_ID + MOST_STANDBYS
    return {
        id: tuple(sorted(peer for peer in neighbors[id] if peer >= 0 or first <= peer < id))
        for id in assembly.coordinators
        if not is_standby(id)
    }


def _columns(rows: Sequence[Row]) -> dict[str, NDArray[np.float64]]:
    names = rows[0] if rows else METRICS
    return {name: np.array([row[name] for row in rows], dtype=np.float64) for name in names}


def _agent_columns(
    rows: AgentTable, physics: dict[str, NDArray[np.float64]]
) -> dict[str, NDArray[Any]]:
    table = rows.columns()
    own = {name: values[table["agent"]] for name, values in physics.items()} if rows else {}
    return (
        {name: table[name] for name in AGENTS}
        | own
        | {n: c for n, c in table.items() if n not in AGENTS}
    )


def _summary(
    scenario: Scenario,
    recorder: Recorder,
    totals: Totals,
    facts: Mapping[str, Any],
    measured: Mapping[str, Any],
    engine: str,
) -> dict[str, Any]:
    last = recorder.rows[-1] if recorder.rows else {}
    returns = recorder.last_returns(recorder.honest)
    target = scenario.stop.target_return
    reached = next(
        (row for row in recorder.rows if target is not None and row["return_mean"] >= target), None
    )
    lags = np.repeat(np.arange(len(recorder.staleness)), recorder.staleness)
    return {
        "name": scenario.name,
        "mode": scenario.mode,
        "seed": scenario.seed,
        "agents": scenario.agents,
        **facts,
        "stopped_by": totals.stopped_by,
        "rounds": int(last.get("round", 0)),
        "virtual_seconds": totals.virtual_seconds,
        "wall_seconds": totals.wall_seconds,
        "env_steps": recorder.env_steps,
        **totals.traffic.counters(),
        "final_return": {
            "mean": _finite(returns.mean()) if returns.size else None,
            "min": _finite(returns.min()) if returns.size else None,
            "max": _finite(returns.max()) if returns.size else None,
            "iqm": _interquartile_mean(returns) if returns.size else None,
        },
        **measured,
        "target_reached": None if target is None else reached is not None,
        "time_to_target": None
        if reached is None
        else {
            "rounds": int(reached["round"]),
            "env_steps": int(reached["env_steps"]),
            "virtual_seconds": reached["virtual_seconds"],
            "bytes": int(reached["bytes_sent"]),
        },
        "final_error": _finite(last.get("error")),
        "initial_consensus_distance": recorder.initial_distance,
        "consensus_distance": _finite(last.get("consensus_distance")),
        "mean_drift": _finite(last.get("mean_drift")),
        "staleness": {
            "mean": float(lags.mean()) if lags.size else 0.0,
            "p95": float(np.percentile(lags, 95)) if lags.size else 0.0,
            "max": int(lags.max()) if lags.size else 0,
        },
        "mean_batch": totals.mean_batch,
        "versions": versions(engine),
        **totals.more,
    }


def _evaluation(recorder: Recorder, others: Beside | None, *, is_greedy: bool) -> dict[str, Any]:
    """Return the last evaluation, with means over agents of what stands beside it."""
    last = recorder.rows[-1] if recorder.rows else {}
    found: dict[str, Any] = {
        "own": _finite(last.get("evaluation_own")),
        "mean_parameters": _finite(last.get("evaluation_mean_parameters")),
    }
    if others is not None:
        found["baselines"] = {
            name: _finite(np.nanmean(values)) for name, values in others.baselines.items()
        }
        if others.measures:
            found["measures"] = dict(others.measures)
        is_known = np.isfinite(others.optimum)
        found["optimum"] = _finite(others.optimum[is_known].mean()) if is_known.any() else None
    return found if is_greedy else {**found, "actions": DRAWN}


def _without_end(assembly: Assembly) -> int:
    """Return how many episodes of the last evaluation were cut, of agents and of their mean."""
    return sum(simulator.open_episodes[1] for simulator in assembly.learning.simulators)


def _has_no_return(assembly: Assembly, recorder: Recorder) -> bool:
    """Return whether no episode of training has ended, although the learner counts returns."""
    is_expected = (
        bool(assembly.learning.simulators) and assembly.learning.stack.traits.gives_returns
    )
    return (
        is_expected and recorder.env_steps > 0 and not recorder.last_returns(recorder.honest).size
    )


def _on_last_rows(agents: Mapping[str, NDArray[Any]], others: Beside) -> dict[str, NDArray[Any]]:
    """Return columns of agents.csv with the last evaluation, in the last row of every agent."""
    rows, ids = final(agents), agents["agent"]
    table = {}
    for name, values in others.columns.items():
        table[EVALUATION + name] = column = np.full(len(ids), np.nan)
        column[rows] = values[ids[rows]]
    return table


def _fairness(agents: Mapping[str, NDArray[Any]]) -> dict[str, dict[str, float | None]]:
    """Return how even the last returns and measures of the honest agents are."""
    rows = final(agents)
    if BYZANTINE in agents:
        rows = rows[agents[BYZANTINE][rows] == 0]
    names = [n for n in agents if n not in OWN_COLUMNS and not n.startswith((PHYSICS, EVALUATION))]
    found = {name: agents[name][rows].astype(np.float64) for name in ("return", *names)}
    return {name: fairness(column) for name, column in found.items() if np.isfinite(column).any()}


def _energy(
    scenario: Scenario, agents: Mapping[str, NDArray[Any]], resources: Resources
) -> dict[str, float]:
    """Return the joules of all agents at the end, of which for steps and for bytes, per agent."""
    rows = final(agents)
    ids, used = agents["agent"][rows], agents[JOULES][rows]
    training = float((resources.per_step[ids] * agents["env_steps"][rows]).sum())
    total = float(used.sum())
    return {
        "joules": total,
        "training": training,
        "sending": float((resources.per_byte[ids] * agents["bytes_sent"][rows]).sum()),
        "mean": total / scenario.agents,
        "min": float(used.min()),
        "max": float(used.max()),
    }


def _byzantine(recorder: Recorder, totals: Totals) -> dict[str, Any]:
    """Return who was Byzantine, and beside the numbers of the honest those of the others."""
    returns, last = recorder.last_returns(recorder.byzantine), recorder.of_all()
    return {
        "agents": list(recorder.byzantine),
        "refused": {str(agent): count for agent, count in sorted(totals.refused.items())},
        "final_return": _finite(returns.mean()) if returns.size else None,
        "consensus_distance_of_all": _finite(last[0]),
        "mean_drift_of_all": _finite(last[1]),
    }


def _finite(value: float | np.floating | None) -> float | None:
    return float(value) if value is not None and np.isfinite(value) else None


def _interquartile_mean(values: NDArray[np.float64]) -> float:
    """Return the mean without the lowest and highest quarter: scipy's `trim_mean(values, 0.25)`."""
    cut = int(0.25 * len(values))
    return float(np.sort(values)[cut : len(values) - cut].mean())
