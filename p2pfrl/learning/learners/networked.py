"""Options of learners whose policies are networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from typing_extensions import override

from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.options import Rule
from p2pfrl.core.rule import rule
from p2pfrl.learning.environments.frames import FrameStack
from p2pfrl.learning.learners.base import Learner, Task
from p2pfrl.learning.lr_schedules import RULES, Constant, LRSchedule
from p2pfrl.learning.normalization import Normalizer, RewardScale, Statistics


@rule
class Networked(Learner):
    """A learner whose policy is a network, in an environment.

    Attributes:
        lr_schedule: factor of the learning rate in the agent's own update number 0, 1, ...
        normalize_observations: networks see (observation - mean) / std, within +-10, of the
            observations that were learned from in earlier updates. Number, mean and variance are
            the part `normalization` of the parameters, which gradients do not change; evaluation
            uses those of the agent.
        statistics: of observations. personal: they stay with the agent; averaged: their mean and
            variance travel and are averaged as parameters are; merged: their sums travel, so that
            averaging gives mean and variance of all agents' observations together.
        normalize_rewards: rewards are divided by the standard deviation of the discounted sum of an
            episode's rewards so far, within +-10, before `reward_scale`. The statistics stay with
            the agent.
    """

    steps_environment: ClassVar[bool] = True
    of_mixing: ClassVar[tuple[str, ...]] = ("statistics",)

    lr_schedule: Annotated[LRSchedule, Rule("learning-rate schedules", lambda: RULES)] = Field(
        default_factory=Constant
    )
    normalize_observations: bool = False
    statistics: Statistics = "personal"
    normalize_rewards: bool = False

    @property
    @override
    def idle(self) -> tuple[str, ...]:
        """Without normalization there are no statistics, and layers of ours are always stacked."""
        unscaled = () if self.normalize_observations else ("statistics",)
        has_own = getattr(self, "policy", "") or not hasattr(self, "stacked")
        return unscaled if has_own else (*unscaled, "stacked")

    def normalizer(self, task: Task) -> Normalizer | None:
        """Return what scales observations; None: nothing does.

        Raises:
            ScenarioError: statistics would travel with parameters, and these do not travel.
        """
        if not self.normalize_observations or task.simulator is None:
            return None
        if self.statistics != "personal" and (task.gradient_only or task.offer is not None):
            reason = f"{self.statistics!r} needs parameters that travel; use 'personal'"
            raise ScenarioError([f"learner.statistics: {reason}"])
        spec = task.simulator.spec
        return Normalizer(spec.observation - spec.mask, self.statistics)

    def reward_norm(self, gamma: float) -> RewardScale | None:
        """Return what scales rewards; None: nothing does."""
        return RewardScale(gamma) if self.normalize_rewards else None


@rule
class Encoded(Networked):
    """A learner whose networks can encode images, and see several observations at once.

    Attributes:
        encoder: what observations pass before the hidden layers. nature_cnn: three layers of
            convolutions, for environments whose observations are images of at least 36 x 36 pixels;
            with hidden = [512] and frame_stack = 4 it is the network of Mnih et al., Nature 518,
            2015.
        frame_stack: networks see so many of the episode's last observations together. A replay
            buffer keeps them all.
    """

    encoder: Literal["none", "nature_cnn"] = "none"
    frame_stack: int = Field(default=1, ge=1)

    @property
    def is_plain(self) -> bool:
        """Whether networks see single observations, as they are."""
        return self.encoder == "none" and self.frame_stack == 1

    @property
    @override
    def frames(self) -> int:
        """Observations that networks see together."""
        return self.frame_stack

    @property
    @override
    def encodes_images(self) -> bool:
        """Whether images pass convolutions first."""
        return self.encoder != "none"

    def seen(self, task: Task) -> Task:
        """Return the task with as many observations at once as the networks see."""
        if self.frame_stack == 1 or task.simulator is None:
            return task
        evaluator = task.evaluator
        if evaluator is not None:
            evaluator = FrameStack(evaluator, self.frame_stack)
        return replace(
            task, simulator=FrameStack(task.simulator, self.frame_stack), evaluator=evaluator
        )

    def image(self, task: Task) -> tuple[int, ...] | None:
        """Return the shape of the images that are encoded; None: observations are not."""
        if self.encoder == "none" or task.simulator is None:
            return None
        return task.simulator.spec.image


def sequences(
    task: Task, *, memory: str, shared_trunk: bool, encoder: str, hidden: Sequence[int]
) -> int:
    """Return how many instances have steps that stay together; 0 without a memory.

    Raises:
        ScenarioError: options that a memory excludes.
    """
    if memory == "none" or task.simulator is None:
        return 0
    if not (shared_trunk and encoder == "none" and hidden):
        needed = 'shared_trunk = true, encoder = "none" and a hidden layer'
        raise ScenarioError([f"learner.memory: 'gru' needs learner.{needed}"])
    return task.simulator.instances
