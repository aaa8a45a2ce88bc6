"""An on-policy learner that descends along natural gradients."""

from __future__ import annotations

from collections.abc import Callable

from p2pfrl.learning.descent import Plan
from p2pfrl.learning.learners.base import Task
from p2pfrl.learning.learners.on_policy import OnPolicyStack
from p2pfrl.learning.natural import NaturalDescent, Trust
from p2pfrl.learning.networks import Activation, Network
from p2pfrl.learning.optimizers import SGD


class NaturalStack(OnPolicyStack):
    """Natural policy gradients of a population.

    It distills nothing: distributions would be learned along plain gradients, with steps for
    natural ones.

    Args:
        task: with a simulator.
        build: makes the network from (inputs, policy outputs, has log std, plan).
        plan: how an update uses its rollout.
        trust: how far a step goes.
        activation: of the network's hidden layers.
    """

    def __init__(
        self,
        task: Task,
        build: Callable[[int, int, bool, Plan], Network],
        plan: Plan,
        trust: Trust,
        activation: Activation,
    ) -> None:
        super().__init__(task, build, SGD(trust.lr), plan, distill=None)
        self._descent = NaturalDescent(
            self.network,
            self.policy,
            self.optimizer,
            plan,
            task,
            trust=trust,
            activation=activation,
        )
