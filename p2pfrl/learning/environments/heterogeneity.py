"""Heterogeneity of the agents' environments, in a few numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.errors import AgentError, ContractError
from p2pfrl.core.rng import Purpose, Streams
from p2pfrl.learning.environments.base import Array, Environment, Problem, Spec, checked
from p2pfrl.learning.environments.random_actions import random_action

if TYPE_CHECKING:
    from p2pfrl.learning.environments.own_arrays import Functions

_PROBES = 64
_MOST_AGENTS = 32


def heterogeneity(problem: Problem, physics: Mapping[str, NDArray[np.generic]]) -> dict[str, float]:
    """Return how much the agents' environments differ; distances are 0 where they are alike.

    Entries:
        `variation_NAME`: for each column that varies, its coefficient of variation: standard
            deviation over |mean| (over 1 where the mean is 0).
        `epsilon_p_max`, `epsilon_p_mean`: tabular; total variation distance 1/2 sum_s' |P_i - P_j|,
            largest over (s, a), and of that the maximum and mean over pairs of agents.
        `epsilon_r_max`, `epsilon_r_mean`: tabular; largest |R_i - R_j| over (s, a), likewise.
        `step_distance_max`, `step_distance_mean`: otherwise; how far apart two agents' next states
            are after the same action in the same state with the same noise, root mean square over
            coordinates, each divided by its spread over the probes, on 64 seeded probes: states on
            random walks of up to 15 steps in one agent's environment.

    Pairs are taken among the first 32 agents. A Gymnasium environment has only its columns.

    Reference: the pair (epsilon_p, epsilon_r) after Wang, Mitra, Hassani, Pappas, Anderson,
    "Federated temporal difference learning with linear function approximation under environmental
    heterogeneity", 2023, arXiv 2302.02212; here as absolute distances.

    Args:
        problem: whose agents.
        physics: `(n, ...)` rows as `Problem.physics` returned them.
    """
    found = _variation(problem, physics)
    if "P" in physics:
        for name, table in (("epsilon_p", physics["P"]), ("epsilon_r", physics["R"])):
            rows = np.asarray(table, dtype=np.float64)[:_MOST_AGENTS]
            found |= _pairs(name, _table_distances(rows, halved=name == "epsilon_p"))
    elif isinstance(problem, Environment):
        found |= _pairs("step_distance", _step_distances(problem, physics))
    return found


def _variation(problem: Problem, physics: Mapping[str, NDArray[np.generic]]) -> dict[str, float]:
    found = {}
    for name in problem.spec.physics:
        column = np.asarray(physics[name], dtype=np.float64)
        if column.min() != column.max():
            found[f"variation_{name}"] = float(column.std() / (abs(column.mean()) or 1.0))
    return found


def _pairs(name: str, distances: list[float]) -> dict[str, float]:
    if not distances:
        return {}
    return {f"{name}_max": max(distances), f"{name}_mean": float(np.mean(distances))}


def _table_distances(rows: Array, *, halved: bool) -> list[float]:
    distances = []
    for i, row in enumerate(rows):
        for other in rows[i + 1 :]:
            apart = np.abs(row - other)
            distances.append(float((apart.sum(axis=-1) / 2 if halved else apart).max()))
    return distances


def _step_distances(
    environment: Environment, physics: Mapping[str, NDArray[np.generic]]
) -> list[float]:
    """Return the distances of all pairs of agents after one step from common probe states."""
    spec = environment.spec
    rows = {name: np.asarray(values)[:_MOST_AGENTS, None] for name, values in physics.items()}
    count = len(next(iter(rows.values()))) if rows else 0
    if count < 2:
        return []
    functions, agent, moved = checked(environment), 0, []
    try:
        states, action, noise = _probes(
            functions, spec, {name: values[:1] for name, values in rows.items()}
        )
        for agent in range(count):
            own = {name: values[agent : agent + 1] for name, values in rows.items()}
            moved.append(functions.step(states, action, own, noise)[0])
    except ContractError as error:
        raise AgentError(
            agent, f"probe of the physics before the run, {error}"
        ) from error.__cause__
    after = np.concatenate(moved)
    scale = after.std(axis=(0, 1))
    after /= np.where(scale > 0, scale, 1.0)
    assert after.shape[-1] == spec.state
    return [
        float(np.sqrt(np.square(after[i] - after[j]).mean()))
        for i in range(count)
        for j in range(i + 1, count)
    ]


def _probes(
    environment: Functions, spec: Spec, first: Mapping[str, NDArray[np.generic]]
) -> tuple[Array, NDArray[np.generic], Array]:
    """Return states, actions and noise of a row of probes, after 0 to 15 random steps."""
    streams = Streams.of(0, [0], Purpose.PROBE)
    states = environment.reset(first, streams.uniform(_PROBES, spec.reset_noise))
    for step in range(16):
        action = random_action(spec, environment.observe(states, first), streams)
        noise = streams.uniform(_PROBES, spec.step_noise)
        after, _, terminated, _ = environment.step(states, action, first, noise)
        moves = (np.arange(_PROBES) % 16 > step) & ~terminated
        states = np.where(moves[..., None], after, states)
    action = random_action(spec, environment.observe(states, first), streams)
    return states, action, streams.uniform(_PROBES, spec.step_noise)
