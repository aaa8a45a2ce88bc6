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
        P2PFRLError: a name that the problem does not have, a list that has not one value per agent,
            or a value outside of `problem.spec.ranges`.
    """
    spec = problem.spec
    defaults = spec.physics
    check_names(vary, defaults)
    chosen = dict(problem.vary) | dict(vary)
    found = {
        name: chosen[name].values(seed, agents, total, f"vary-{name}")
        if name in chosen
        else np.full(len(agents), default, dtype=np.float64)
        for name, default in defaults.items()
    }
    for name, values in found.items():
        if (row := outside(values, spec.ranges.get(name))) is not None:
            why = misfit(values[row], spec.ranges[name])
            raise P2PFRLError(f"environment.vary.{name}: agent {agents[row]}: {why}")
    return found


def outside(values: Array, range: tuple[float, float] | None) -> int | None:
    """Return the first row whose value lies outside of a range, or is nan; None if none does."""
    if range is None:
        return None
    low, high = range
    rows = np.flatnonzero(~((values >= low) & (values <= high)))
    return int(rows[0]) if rows.size else None


def misfit(value: float, range: tuple[float, float]) -> str:
    """Return that a value lies outside of a range.

    >>> misfit(-3.0, (0.001, 1000.0))
    'expected a number from 0.001 to 1000, got -3'
    """
    low, high = range
    return f"expected a number from {low:g} to {high:g}, got {value:g}"


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
