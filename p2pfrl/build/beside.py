"""Returns without learning beside those of agents: baselines, and the optimum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.parameters import Vector
from p2pfrl.learning.environments.base import Simulator
from p2pfrl.learning.learners.base import Stack
from p2pfrl.learning.meetings import whole_worlds
from p2pfrl.learning.rollout import Act, Kept, Played, play_baselines, play_measured
from p2pfrl.results.recorder import Evaluation
from p2pfrl.scenario.bind import Learning, simulator_of, table_at

Column = NDArray[np.float64]
OWN = "own"
"""The agents' own parameters, beside names of baselines."""


@dataclass(frozen=True)
class Beside:
    """The last evaluation of the agents, and what stands beside it.

    Attributes:
        own: `(n,)` mean return of every agent's own parameters; nan if it was not evaluated.
        baselines: by name `(n,)` mean return of a policy without learning on the same episodes; nan
            where the agent's environment has no such policy.
        measures: "own" or name of a baseline -> the environment's measures, means over agents, on
            the same episodes.
        optimum: `(n,)` expected return of the best policy; nan where it is not known.
    """

    own: Column
    baselines: Mapping[str, Column]
    measures: Mapping[str, Mapping[str, float]]
    optimum: Column

    @property
    def columns(self) -> dict[str, Column]:
        """The columns with a number, by name: "own", the baselines, "optimum"."""
        found = {OWN: self.own, **self.baselines, "optimum": self.optimum}
        return {name: values for name, values in found.items() if np.isfinite(values).any()}


def beside(
    learning: Learning,
    evaluation: Evaluation | None,
    n: int,
    *,
    episodes: int,
    seed: int,
    parameters: Vector | None = None,
) -> Beside | None:
    """Return what stands beside an evaluation of n agents; None if nothing does.

    Baselines play the episodes that the agents' own parameters have played.

    Args:
        learning: the environments of all agents.
        evaluation: the last one of the run; None: nothing was evaluated.
        n: number of agents.
        parameters: `(n, d)` that were evaluated, whose measures are wanted; None: they are not.
        episodes: of the evaluation, per agent.
        seed: the run's seed.
    """
    if evaluation is None:
        return None

    def nothing() -> Column:
        return np.full(n, np.nan)

    own, optimum, baselines = nothing(), nothing(), dict[str, Column]()
    measures: dict[str, dict[str, Column]] = {}
    own[list(evaluation.agents)] = evaluation.own
    for agents, section, table in learning.worlds:
        at = whole_worlds(set(agents) & set(evaluation.agents), section.rule.spec.members)
        if not at:
            continue
        best = section.rule.optimum(table_at(section, table, seed, at, evaluation.index))
        if best is not None:
            optimum[at] = best
        if section.rule.spec.baselines:
            simulator = simulator_of(section, table, episodes, seed)
            found = play_baselines(simulator, agents=at, episodes=episodes, index=evaluation.index)
            for name, played in found.items():
                baselines.setdefault(name, nothing())[at] = played.returns
            if parameters is not None:
                learned = _learned(learning.stack, simulator, at, parameters, evaluation.index)
                found = found if learned is None else {OWN: learned, **found}
            for name, played in found.items():
                for measure, values in played.measures.items():
                    measures.setdefault(name, {}).setdefault(measure, nothing())[at] = values
    if not baselines and not np.isfinite(optimum).any():
        return None
    return Beside(own, baselines, {name: _means(of) for name, of in measures.items()}, optimum)


def _learned(
    stack: Stack, simulator: Simulator, agents: list[int], parameters: Vector, index: int
) -> Played | None:
    """Return what the agents' own parameters reach once more, with measures.

    None where evaluation draws actions, or networks see more than single observations.
    """
    evaluator, rows = stack.evaluator, stack.layout.zeros(len(agents))
    stack.layout.unpack(np.asarray(parameters[agents], dtype=rows.dtype), rows)

    def acts(kept: Kept) -> Act:
        nonlocal agents, rows
        agents, rows = np.array(agents)[kept].tolist(), rows[kept]
        ids, own = agents, rows

        def act(obs: NDArray[np.float32]) -> NDArray[np.generic]:
            action = evaluator.act(ids, own, obs)
            assert action is not None
            return action

        return act

    blank = np.zeros((len(agents), 1, simulator.spec.observation), dtype=np.float32)
    if not evaluator.is_greedy or evaluator.act(agents, rows, blank) is None:
        return None
    return play_measured(
        simulator, acts, agents=list(agents), episodes=simulator.instances, index=index
    )


def _means(measures: Mapping[str, Column]) -> dict[str, float]:
    """Return the means over agents of the measures that somebody has."""
    return {
        name: float(np.nanmean(values))
        for name, values in measures.items()
        if np.isfinite(values).any()
    }
