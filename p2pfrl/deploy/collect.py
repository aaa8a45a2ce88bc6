"""Collection of one record from the journals of all processes of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from p2pfrl.build.assembly import Assembly
from p2pfrl.build.devices import Choice, using
from p2pfrl.build.privacy import REAL, among, spent
from p2pfrl.build.record import Totals, compose, opted_out, parameters_digest
from p2pfrl.core.errors import RecordError
from p2pfrl.core.parameters import Vector
from p2pfrl.core.types import COORDINATOR, OPTED_OUT, names_of
from p2pfrl.core.units import SECOND
from p2pfrl.deploy.journals import Peer, read_peers
from p2pfrl.deploy.ledgers import resumed
from p2pfrl.deploy.process import ENVIRONMENTS
from p2pfrl.deploy.projection import DIMENSION, Projection
from p2pfrl.deploy.replay import Replay, charges, totals_of
from p2pfrl.deploy.thinning import thinning_of
from p2pfrl.learning.environments.specs import Opened, borrowing, decode
from p2pfrl.results.files import read_bytes, refusing
from p2pfrl.results.record import Record, save
from p2pfrl.results.recorder import Evaluation, Recorder
from p2pfrl.scenario import Scenario
from p2pfrl.scenario.sources import copy_files

_AT_THE_END = ("messages_late", "messages_empty", "messages_duplicate", "deadlines_expired")
"""Counters that are not in journals. A process reports them in its summary."""
_LEFT_OUT = {
    "policy_kl": "the policies are compared on what each agent observes at that moment: peers log their parameters, "
    "and no observations",
}
"""Columns of a simulated run that peers cannot compute -> the reason."""
_UNASKED = dict.fromkeys(
    ("evaluation_own", "evaluation_mean_parameters"),
    "an evaluation opens and drives every agent's environment: p2pfrl collect --evaluate does that",
)
"""Columns that are left out where environments are programs or machines -> the reason."""


def collect(directories: Sequence[Path], out: Path, *, evaluating: bool = False) -> Record:
    """Build one record from all journals, save it in `out`, and return it.

    Rows have the columns of a simulated run. For a synchronous run without expired deadlines they
    have the same numbers, except times (here seconds since the processes began) and bytes in
    transit. Quantities that no process can observe have no column, and the summary has the reason
    under `left_out`. If peers logged projections, distances are estimates, and the summary reports
    this under `projection`.

    Args:
        directories: directories of all peers.
        out: directory of the record.
        evaluating: whether to evaluate in environments that have to be opened, such as those of
            Gymnasium. Without it none is opened. Environments of arrays are evaluated in any case.

    Raises:
        RecordError: a directory is not a peer's, is damaged, or belongs to another run; or agents
            are missing.
    """
    if not directories:
        raise RecordError("expected the run directories of all peers")
    with borrowing(_sizes(directories)):
        scenario, peers = read_peers(directories)
        with using(Choice("cpu")), closing(Assembly(scenario)) as assembly:
            return _collect(scenario, peers, assembly, out, evaluating=evaluating)


def _sizes(directories: Sequence[Path]) -> list[Opened]:
    """Return the sizes of the environments that the processes have opened."""
    paths = [folder / ENVIRONMENTS for folder in directories]
    found: list[Opened] = []
    for path in paths:
        if path.is_file():
            with refusing(path):
                found += decode(read_bytes(path))
    return found


def _collect(
    scenario: Scenario, peers: Sequence[Peer], assembly: Assembly, out: Path, *, evaluating: bool
) -> Record:
    layout = assembly.learning.stack.layout
    kinds = {life.begin.is_projected for peer in peers for life in peer.lives}
    if len(kinds) > 1:
        raise RecordError(
            "some journals hold parameters and some projections: give one run's peers"
        )
    projection = Projection(scenario.seed, layout) if kinds.pop() else None
    sections = [make.environment for make in scenario.makes if make.environment is not None]
    evaluates = evaluating or not any(section.rule.is_external for section in sections)
    left_out = _LEFT_OUT if evaluates or not scenario.evaluation.episodes else _LEFT_OUT | _UNASKED
    last = max(
        (step.round for peer in peers for life in peer.lives for step in life.steps), default=0
    )
    stride = thinning_of(scenario, layout).stride(last)
    replay = Replay(assembly, peers, projection, is_thin=stride > 1, evaluating=evaluates)
    replay.run()
    parameters = _final(assembly, peers, is_thin=stride > 1)
    if projection is not None and replay.recorder.rows and evaluates:
        _evaluate(assembly, parameters, replay.recorder)
    record = compose(
        scenario,
        assembly,
        replay.recorder,
        parameters,
        digest=parameters_digest(parameters),
        totals=_totals(
            peers,
            replay.now / SECOND,
            projection,
            left_out,
            stride,
            {**_began_anew(assembly, peers), **_trust(assembly, peers)},
            may_die=bool(scenario.standbys),
        ),
        engine=" and ".join(sorted({peer.engine for peer in peers if peer.engine})) or None,
    )
    metrics = {name: values for name, values in record.metrics.items() if name not in left_out}
    saved = save(replace(record, metrics=metrics), out)
    copy_files(scenario, Path(out))
    return saved


def _final(assembly: Assembly, peers: Sequence[Peer], *, is_thin: bool) -> Vector:
    """Return the final parameters `(n, d)`, or the start parameters if no round was finished."""
    scenario, stack = assembly.scenario, assembly.learning.stack
    parameters = stack.layout.pack(
        stack.start(range(scenario.agents), same=scenario.learner.same_start)
    )
    for peer in peers:
        for agent in peer.agents:
            found = None if agent < 0 else peer.final(agent, stack.layout, is_thin=is_thin)
            if found is not None:
                parameters[agent] = found
    return parameters


def _evaluate(assembly: Assembly, parameters: Vector, recorder: Recorder) -> None:
    """Add the final evaluation of full parameters, with the random streams of a recorder."""
    scenario, stack, rows = assembly.scenario, assembly.learning.stack, recorder.rows
    index = len(rows) - (rows[-1]["round"] % scenario.evaluation.every == 0)
    episodes = scenario.evaluation.episodes if scenario.environment else 0
    if not episodes:
        return
    own_rows = stack.layout.zeros(scenario.agents)
    stack.layout.unpack(parameters, own_rows)
    evaluator = stack.evaluator
    own = evaluator.evaluate(range(scenario.agents), own_rows, episodes, index)
    mean_rows = evaluator.average(range(scenario.agents), own_rows)
    common = evaluator.evaluate(range(scenario.agents), mean_rows, episodes, index)
    if own is None or common is None:
        return
    rows[-1] |= {
        "evaluation_own": float(own.mean()),
        "evaluation_mean_parameters": float(common.mean()),
    }
    recorder.evaluation = Evaluation(index, tuple(range(scenario.agents)), own)


def _began_anew(assembly: Assembly, peers: Sequence[Peer]) -> dict[str, Any]:
    """Return whether episodes began anew, or what learners forgot, when a process was restarted."""
    restarted = any(len(peer.lives) > 1 for peer in peers if max(peer.agents) >= 0)
    return {"episodes_began_anew": True} if restarted and assembly.forgets else {}


def _trust(assembly: Assembly, peers: Sequence[Peer]) -> Mapping[str, Any]:
    """Return what the ledgers of all agents say, and what came of secure sums."""
    ledgers = {agent: resumed(found) for agent, found in charges(assembly, peers).items()}
    sum_up = [peer for peer in peers if COORDINATOR in peer.agents] or peers[:1]
    own = [peer.summary.get("secure") for peer in sum_up]
    sums = {"secure": found} if own and isinstance(found := own[0], dict) else {}
    return {**spent(assembly.privacy, ledgers, REAL, among(assembly)), **sums}


def _totals(
    peers: Sequence[Peer],
    seconds: float,
    projection: Projection | None,
    left_out: Mapping[str, str],
    stride: int,
    of_agents: Mapping[str, Any],
    *,
    may_die: bool,
) -> Totals:
    traffic = totals_of([life for peer in peers for life in peer.lives])
    for name in _AT_THE_END:
        setattr(traffic, name, int(sum(peer.number(name) for peer in peers)))
    reasons = [
        peer.stopped_by
        for peer in peers
        if not (may_die and max(peer.agents) < 0) and peer.stopped_by != OPTED_OUT
    ]
    batches = [peer.number("mean_batch") for peer in peers if max(peer.agents) >= 0]
    estimated = (
        None
        if projection is None
        else {
            "dimension": DIMENSION,
            "estimates": [
                "consensus_distance",
                "consensus_actor",
                "consensus_critic",
                "mean_drift",
                "disagreement",
            ],
        }
    )
    return Totals(
        stopped_by=next((reason for reason in reasons if reason != "rounds"), "rounds"),
        virtual_seconds=seconds,
        wall_seconds=max(peer.number("wall_seconds") for peer in peers),
        traffic=traffic,
        mean_batch=float(np.mean(batches)) if batches else 0.0,
        more={
            "transport": "tcp",
            "left_out": dict(left_out),
            "projection": estimated,
            **({"journal": {"every": stride}} if stride > 1 else {}),
            **of_agents,
            **opted_out(_departed(peers)),
            "peers": [_describe(peer) for peer in peers],
        },
    )


def _departed(peers: Sequence[Peer]) -> list[tuple[int, int, int]]:
    """Return (agent, rounds that it had ended, nanoseconds) of those that opted out."""
    gone = [peer for peer in peers if peer.stopped_by == OPTED_OUT]
    steps = [step for peer in gone for life in peer.lives for step in life.steps]
    found = []
    for peer in gone:
        for agent in (id for id in peer.agents if id >= 0):
            own = [step.round + 1 for step in steps if step.agent == agent]
            found.append((agent, max(own, default=0), peer.lives[-1].last))
    return sorted(found)


def _describe(peer: Peer) -> dict[str, Any]:
    totals = totals_of(peer.lives)
    return {
        "directory": peer.directory.name,
        "agents": names_of(peer.agents),
        "incarnation": peer.lives[-1].begin.incarnation,
        "stopped_by": peer.stopped_by,
        "rounds": max(
            (step.round + 1 for life in peer.lives for step in life.steps),
            default=int(peer.number("rounds")),
        ),
        "seconds": peer.lives[-1].last / SECOND,
        "messages_sent": totals.messages_sent,
        "messages_delivered": totals.messages_delivered,
        "messages_dropped": totals.messages_dropped,
        "bytes_sent": totals.bytes_sent,
        "deadlines_expired": peer.summary.get("deadlines_expired"),
        "refusals": peer.summary.get("refusals"),
        **({"device": found} if (found := peer.summary.get("device")) else {}),
    }
