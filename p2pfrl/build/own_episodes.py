"""Episodes that a coordinator plays itself, in an environment like that of agent 0."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from p2pfrl.build.modes.base import Plan
from p2pfrl.core.rng import Purpose, generator
from p2pfrl.learning.learners.base import Task
from p2pfrl.learning.own_episodes import Elsewhere, StackEpisodes
from p2pfrl.scenario.bind import beside


def own_episodes(plan: Plan, episodes: int) -> StackEpisodes:
    """Return what plays so many episodes at a time for the coordinator of a run.

    Its random numbers are those of no agent: they follow from (seed, "trajectories").
    """
    scenario, elsewhere = plan.scenario, Elsewhere()
    make = next(make for make in scenario.makes if 0 in make.agents)
    learner: Any = make.learner
    own = replace(make, learner=replace(learner, episodes=episodes))
    seed = int(generator(scenario.seed, Purpose.TRAJECTORIES).integers(2**31))
    task = Task(seed, 1, correction=elsewhere, gradient_only=True, engine=scenario.compute.engine)
    stack = beside(scenario, own, task)
    return StackEpisodes(stack, elsewhere, plan.parts, stack.common_start(), seed)
