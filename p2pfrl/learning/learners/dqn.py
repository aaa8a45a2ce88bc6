"""DQN: Q-learning with a network, a replay buffer and a target network."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from p2pfrl.core.options import Slot
from p2pfrl.core.rule import rule
from p2pfrl.learning.learners.base import Learner, Stack, Task
from p2pfrl.learning.learners.distill import Distill


@rule
class Share:
    """What payload "transitions" sends of an agent's experience.

    Attributes:
        count: transitions per exchange, of those of the last local update.
        select: the newest; or td_error, those with the largest |TD error|.
    """

    count: int = Field(default=32, ge=1)
    select: Literal["newest", "td_error"] = "newest"


@rule
class DQN(Learner):
    """L = E[huber(Q(s,a) - y)], y = r + gamma (1 - terminated) max_a' Q_target(s',a'), on transitions of a buffer.

    With `double` the target's action is that of Q: y = r + gamma (1 - terminated) Q_target(s',
    argmax_a' Q(s',a')). Where the time limit cut an episode the successor still has a value. The
    agent acts epsilon-greedily. Its part of the parameters is `actor`. An update takes `steps`
    steps of every instance, and one gradient step after every `train_every` of them once the buffer
    holds `learn_start` transitions; the target network and the buffer stay with the agent.

    References: Mnih, Kavukcuoglu, Silver et al., "Human-level control through deep reinforcement
    learning", Nature 518, 2015; van Hasselt, Guez, Silver, "Deep reinforcement learning with double
    Q-learning", AAAI 2016, arXiv 1509.06461. Differs: Adam with eps 1e-5 by default, no stacked
    frames, gradients bounded by their norm; and `after_mixing`, since others' parameters would
    otherwise be measured against a target that knows nothing of them.

    Attributes:
        steps: of each instance per update.
        gamma: discount.
        train_every: steps of each instance between gradient steps; divides `steps`.
        batch_size: transitions of one gradient step, drawn uniformly with replacement.
        capacity: transitions that the buffer keeps: 4 (2 o + 3) bytes each for observations of o
            numbers.
        learn_start: transitions in the buffer before the first gradient step.
        epsilon_start: probability of a uniformly random action at first.
        epsilon_end: that probability in the end.
        epsilon_steps: environment steps of the agent over which it falls, linearly.
        target_every: gradient steps between copies of Q to the target network.
        double: the target's action is the online network's.
        after_mixing: what becomes of the target network once the exchange has changed Q: sync
            copies Q, shift moves it as far as Q was moved, keep leaves it.
        max_grad_norm: bound on the norm of an agent's gradient; 0 for none.
        optimizer: adam, rmsprop or sgd.
        reward_scale: multiplies rewards while learning (reported returns are not scaled); the Huber
            loss is quadratic up to a TD error of 1, so scale them such that most errors are below.
        hidden: sizes of the hidden layers.
        activation: of the hidden layers.
        share: with payload "transitions", what is sent.
        distill: with payload "logits", how one learns from what comes back.
    """

    lr: float = Field(default=5e-4, ge=0)
    steps: int = Field(default=64, ge=1)
    gamma: float = Field(default=0.99, ge=0, le=1)
    train_every: int = Field(default=2, ge=1)
    batch_size: int = Field(default=64, ge=1)
    capacity: int = Field(default=10_000, ge=1)
    learn_start: int = Field(default=500, ge=1)
    epsilon_start: float = Field(default=1.0, ge=0, le=1)
    epsilon_end: float = Field(default=0.05, ge=0, le=1)
    epsilon_steps: int = Field(default=5_000, ge=1)
    target_every: int = Field(default=100, ge=1)
    double: bool = True
    after_mixing: Literal["sync", "shift", "keep"] = "shift"
    max_grad_norm: float = Field(default=10.0, ge=0)
    optimizer: Literal["adam", "rmsprop", "sgd"] = "adam"
    reward_scale: float = Field(default=0.1, gt=0)
    hidden: tuple[int, ...] = (64, 64)
    activation: Literal["tanh", "relu"] = "relu"
    share: Annotated[Share, Slot(Share)] = Field(default_factory=Share)
    distill: Annotated[Distill, Slot(Distill)] = Field(default_factory=Distill)

    def prepare(self, task: Task) -> Stack:
        """Bind the options to a task.

        Raises:
            ScenarioError: it has no environment, continuous actions, or options that exclude each
                other.
        """
        from p2pfrl.learning.learners.dqn_stack import DQNStack

        return DQNStack(self, task)
