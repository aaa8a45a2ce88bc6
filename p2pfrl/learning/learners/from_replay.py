"""Options of actor-critics that learn continuous actions from replay."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field
from typing_extensions import override

from p2pfrl.core.rule import rule
from p2pfrl.learning.learners.base import Task
from p2pfrl.learning.learners.networked import Networked
from p2pfrl.learning.learners.targets import AfterMixing


@rule
class FromReplay(Networked):
    """An actor and two critics that learn from a replay buffer, with target networks.

    Attributes:
        critic_lr: learning rate of the critics, and of SAC's temperature as in CleanRL; None: lr.
        steps: of each instance per update.
        gamma: discount.
        tau: part of the way that targets go towards their networks when they move.
        train_every: steps of each instance between gradient steps of the critics; divides `steps`.
        batch_size: transitions of one gradient step, drawn uniformly with replacement.
        capacity: transitions that the buffer keeps: 4 (2 o + a + 2) bytes each for observations of
            o and actions of a numbers.
        learn_start: transitions in the buffer before the first gradient step; until then actions
            are uniformly random.
        after_mixing: what becomes of the targets once the exchange has changed the networks: sync
            copies them, shift moves targets as far as they were moved, keep leaves targets.
        reward_scale: multiplies rewards while learning (reported returns are not scaled).
        hidden: sizes of the hidden layers.
        activation: of the hidden layers.
        policy: an actor of one's own, "module:Class" of a `torch.nn.Module` (learning/modules.py);
            critics have the hidden layers. It is run agent by agent.
        stacked: run such an actor for 16 agents at a time, by `torch.func.vmap`. It is tried first,
            and refused where an agent's numbers depend on those beside it.
    """

    of_mixing: ClassVar[tuple[str, ...]] = ("after_mixing", "statistics")

    lr: float = Field(default=3e-4, ge=0)
    critic_lr: float | None = Field(default=None, ge=0)
    steps: int = Field(default=64, ge=1)
    gamma: float = Field(default=0.99, ge=0, le=1)
    tau: float = Field(default=0.005, ge=0, le=1)
    train_every: int = Field(default=1, ge=1)
    batch_size: int = Field(default=256, ge=1)
    capacity: int = Field(default=100_000, ge=1)
    learn_start: int = Field(default=1_000, ge=1)
    after_mixing: AfterMixing = "shift"
    reward_scale: float = Field(default=1.0, gt=0)
    hidden: tuple[int, ...] = (256, 256)
    activation: Literal["tanh", "relu"] = "relu"
    policy: str = ""
    stacked: bool = False

    @property
    @override
    def gradient_steps(self) -> int:
        """Those of the critics, once learning has begun."""
        return self.steps // self.train_every


def coordinates(task: Task) -> int:
    """Return the number of coordinates of a continuous action; 0 where there is none."""
    return 0 if task.simulator is None else len(task.simulator.spec.action_low)
