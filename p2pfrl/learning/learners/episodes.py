"""Updates of whole episodes: how long the rollout of an update may be."""

from __future__ import annotations

from p2pfrl.core.errors import ScenarioError
from p2pfrl.learning.learners.base import Task


def rollout_steps(task: Task, steps: int, episodes: int | None) -> int:
    """Return the steps of each instance in one update, or the most that its episodes can take.

    Args:
        task: with the environments.
        steps: of each instance per update, where the update is not of whole episodes.
        episodes: per update; None: it has a number of steps.

    Raises:
        ScenarioError: the environment has no time limit, or more than one instance.
    """
    if episodes is None or task.simulator is None:
        return steps
    limit, instances = task.simulator.spec.max_steps, task.simulator.instances
    if limit is None:
        reason = "needs an environment with a time limit, set max_steps"
        raise ScenarioError([f"learner.episodes: {reason}"])
    if instances != 1:
        reason = f"or short episodes would count more; got {instances}"
        raise ScenarioError([f"learner.episodes: needs environment.instances = 1, {reason}"])
    return max(task.correction.batches(episodes)) * limit
