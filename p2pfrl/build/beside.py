"""Returns without learning beside those of agents: baselines, and the optimum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from p2pfrl.learning.meetings import whole_worlds
from p2pfrl.learning.rollout import play_baselines
from p2pfrl.results.recorder import Evaluation
from p2pfrl.scenario.bind import Learning, simulator_of, table_at

Column = NDArray[np.float64]


@dataclass(frozen=True)
class Beside:
    """The last evaluation of the agents, and what stands beside it.

    Attributes:
        own: `(n,)` mean return of every agent's own parameters; nan if it was not evaluated.
        baselines: by name `(n,)` mean return of a policy without learning on the same episodes; nan
            where the agent's environment has no such policy.
        optimum: `(n,)` expected return of the best policy; nan where it is not known.
    """

    own: Column
    baselines: Mapping[str, Column]
    optimum: Column

    @property
    def columns(self) -> dict[str, Column]:
        """The columns with a number, by name: "own", the baselines, "optimum"."""
        found = {"own": self.own, **self.baselines, "optimum": self.optimum}
        return {name: values for name, values in found.items() if np.isfinite(values).any()}


def beside(
    learning: Learning, evaluation: Evaluation | None, n: int, *, episodes: int, seed: int
) -> Beside | None:
    """Return what stands beside an evaluation of n agents; None if nothing does.

    Baselines play the episodes that the agents' own parameters have played.

    Args:
        learning: the environments of all agents.
        evaluation: the last one of the run; None: nothing was evaluated.
        n: number of agents.
        episodes: of the evaluation, per agent.
        seed: the run's seed.
    """
    if evaluation is None:
        return None

    def nothing() -> Column:
        return np.full(n, np.nan)

    own, optimum, baselines = nothing(), nothing(), dict[str, Column]()
    own[list(evaluation.agents)] = evaluation.own
    for agents, section, table in learning.worlds:
        at = whole_worlds(set(agents) & set(evaluation.agents), section.rule.spec.members)
        if not at:
            continue
        best = section.rule.optimum(table_at(section, table, seed, at, evaluation.index))
        if best is not None:
            optimum[at] = best
        if section.rule.spec.baselines:
            found = play_baselines(
                simulator_of(section, table, episodes, seed),
                agents=at,
                episodes=episodes,
                index=evaluation.index,
            )
            for name, values in found.items():
                baselines.setdefault(name, nothing())[at] = values
    if not baselines and not np.isfinite(optimum).any():
        return None
    return Beside(own, baselines, optimum)
