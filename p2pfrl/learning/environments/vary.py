"""`[environment.vary]`: one column of physics per name, a value per agent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches

import numpy as np

from p2pfrl.core.distributions.base import Distribution
from p2pfrl.core.errors import P2PFRLError
from p2pfrl.learning.environments.base import Array, Problem


def columns(
    problem: Problem, vary: Mapping[str, Distribution], seed: int, agents: Sequence[int], total: int
) -> dict[str, Array]:
    """Return `{name: (b,)}` for every name in `problem.spec.physics`.

    A name takes the scenario's distribution, else the problem's own (`Problem.vary`), else the
    spec's default. Agent i's drawn value depends on (seed, i, name) alone.

    Args:
        problem: whose physics.
        vary: the scenario's distributions.
        seed: the run's seed.
        agents: ids of the rows.
        total: number of agents n of the run.

    Raises:
        P2PFRLError: a name that the problem does not have, or a list that has not one value per
            agent.
    """
    defaults = problem.spec.physics
    check_names(vary, defaults)
    chosen = dict(problem.vary) | dict(vary)
    return {
        name: chosen[name].values(seed, agents, total, f"vary-{name}")
        if name in chosen
        else np.full(len(agents), default, dtype=np.float64)
        for name, default in defaults.items()
    }


def check_names(vary: Mapping[str, Distribution], physics: Mapping[str, float]) -> None:
    """Refuse names that `physics` does not have.

    Raises:
        P2PFRLError: with every unknown name, what was probably meant, and all that can be varied.
    """
    problems = []
    for name in vary:
        if name not in physics:
            close = get_close_matches(name, physics, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            known = ", ".join(physics) if physics else "nothing"
            problems.append(f"environment.vary.{name}: this environment can vary {known}{hint}")
    if problems:
        raise P2PFRLError("\n".join(problems))
