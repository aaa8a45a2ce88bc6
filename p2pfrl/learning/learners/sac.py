"""SAC: soft actor-critic with a learned temperature."""

from __future__ import annotations

from pydantic import Field
from typing_extensions import override

from p2pfrl.core.rule import rule
from p2pfrl.learning.learners.base import Stack, Task
from p2pfrl.learning.learners.from_replay import FromReplay, coordinates


@rule
class SAC(FromReplay):
    """L = sum_k E[(Q_k(s,a) - y)^2] / 2 + E[alpha log pi(a|s) - min_k Q_k(s,a)].

    y = r + gamma (1 - terminated) (min_k Q_target,k(s',a') - alpha log pi(a'|s')), a' ~ pi(.|s').

    For continuous actions, k = 1, 2. pi is the distribution of tanh(u), u normal with mean and
    standard deviation of the actor's outputs, and the bounds of the environment's action are -1 and
    1. After every `train_every` steps the critics take one step on a batch from the replay buffer,
    then the actor, and alpha one towards E[-log pi(a|s)] = `target_entropy`, on the same
    observations; then targets move by `tau`. Parts of the parameters: `actor`, `critic` (both), and
    `temperature` (log alpha) where it is learned. Targets and the buffer stay with the agent.

    References: Haarnoja, Zhou, Abbeel, Levine, "Soft actor-critic: off-policy maximum entropy deep
    reinforcement learning with a stochastic actor", ICML 2018, arXiv 1801.01290; Haarnoja, Zhou,
    Hartikainen et al., "Soft actor-critic algorithms and applications", 2018, arXiv 1812.05905,
    Algorithm 1. Differs: standard deviations between exp(-5) and exp(2) by a tanh, and the start,
    as in CleanRL; `after_mixing`.

    Attributes:
        alpha: temperature; None: it is learned, from 1.
        target_entropy: of the policy, in nats; None: minus the number of an action's coordinates.
    """

    alpha: float | None = Field(default=None, ge=0)
    target_entropy: float | None = None

    @property
    @override
    def idle(self) -> tuple[str, ...]:
        """A fixed temperature has no entropy to reach."""
        return (*super().idle, *(() if self.alpha is None else ("target_entropy",)))

    @override
    def prepare(self, task: Task) -> Stack:
        """Bind the options to a task.

        Raises:
            ScenarioError: it has no environment, discrete actions, or options that exclude each
                other.
        """
        from p2pfrl.learning.learners.off_policy import OffPolicyStack
        from p2pfrl.learning.squashed import Squashed

        actions = coordinates(task)
        entropy = -float(actions) if self.target_entropy is None else self.target_entropy
        return OffPolicyStack("sac", self, Squashed(actions, self.alpha, entropy), task)
