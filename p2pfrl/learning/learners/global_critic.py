"""Critics that see the whole world in training, beside actors that see their own part."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from p2pfrl.core.errors import ScenarioError
from p2pfrl.learning.learners.base import Task

CriticSees = Literal["own", "world"]


def seeing(task: Task, critic_sees: CriticSees, *, shared_trunk: bool, is_plain: bool) -> Task:
    """Return the task with the observations that critics are to see.

    With "world" the observation of an agent in training goes on with those of the other members of
    its world, from the next one on and around. The actor's network takes the own part alone, so
    that it acts on that alone; evaluation has no other part. Yu, Velu, Vinitsky, Gao, Wang, Bayen,
    Wu, The surprising effectiveness of PPO in cooperative multi-agent games, NeurIPS 2022, arXiv
    2103.01955, call this input the concatenation of local observations.

    Args:
        task: with the agents' own observations.
        critic_sees: "own" or "world".
        shared_trunk: whether actor and critic share layers.
        is_plain: whether networks see one observation as it is.

    Raises:
        ScenarioError: actor and critic see the same; agents have no world in common, or cannot tell
            their own part from it.
    """
    if critic_sees == "own" or task.simulator is None:
        return task
    if shared_trunk:
        reason = "actor and critic that share layers see the same; set shared_trunk = false"
        raise ScenarioError([f"learner.critic_sees: {reason}"])
    if not is_plain:
        reason = "'world' needs encoder = \"none\" and frame_stack = 1; use 'own'"
        raise ScenarioError([f"learner.critic_sees: {reason}"])
    seen = task.simulator.with_world()
    if seen is None:
        reason = "'world' needs a shared world, such as spectrum or junction; use 'own'"
        raise ScenarioError([f"learner.critic_sees: {reason}"])
    if seen.spec.is_masked:
        reason = "observations with masks of actions have no other part; use 'own'"
        raise ScenarioError([f"learner.critic_sees: {reason}"])
    return replace(task, simulator=seen)
