"""Natural policy gradient of networks, by conjugate gradients."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field
from typing_extensions import override

from p2pfrl.core.rule import rule
from p2pfrl.learning.learners.base import Learner, Stack, Task

if TYPE_CHECKING:
    import torch

    from p2pfrl.learning.descent import Samples
    from p2pfrl.learning.policies import Policy


@rule
class DeepNPG(Learner):
    """theta <- theta - lr w, (F + damping) w = grad L, with the Fisher information F of the policy.

    L = E[-log pi(a|s) A + (V - R)^2 / 2 - ent_coef H]. There is one step per rollout, on which F is
    estimated. F is multiplied by passes through the network, and the system is solved by conjugate
    gradients. The actor's step is shortened until KL(old || new) <= max_kl, as in TRPO, whose line
    search also asks for an improvement. The critic, a network of its own, takes Gauss-Newton steps,
    shortened by critic_step. With payload "gradient" agents send w; corrections change w too.

    References: Kakade, "A natural policy gradient", NeurIPS 2001; Schulman, Levine, Abbeel, Jordan,
    Moritz, "Trust region policy optimization", ICML 2015, arXiv 1502.05477, appendix C; the critic
    as in Wu, Mansimov, Grosse, Liao, Ba, ACKTR, NeurIPS 2017, arXiv 1708.05144.

    Attributes:
        lr: of the step.
        steps: of each instance per update.
        gamma: discount.
        gae_lambda: lambda of the advantage estimate.
        ent_coef: weight of the entropy bonus.
        norm_adv: normalize advantages per update; a single one stays as it is.
        damping: added to the diagonal of F.
        iterations: of conjugate gradients.
        max_kl: trust region of a step; 0 for none.
        critic_step: weight of the critic's loss, and so of its step.
        reward_scale: multiplies rewards while learning (reported returns are not scaled).
        hidden: sizes of the hidden layers.
        activation: of the hidden layers.
    """

    steps_environment: ClassVar[bool] = True

    lr: float = Field(default=1.0, ge=0)
    steps: int = Field(default=128, ge=1)
    gamma: float = Field(default=0.99, ge=0, le=1)
    gae_lambda: float = Field(default=0.95, ge=0, le=1)
    ent_coef: float = 0.0
    norm_adv: bool = True
    damping: float = Field(default=0.1, gt=0)
    iterations: int = Field(default=10, ge=1)
    max_kl: float = Field(default=0.01, ge=0)
    critic_step: float = Field(default=0.5, ge=0)
    reward_scale: float = Field(default=0.1, gt=0)
    hidden: tuple[int, ...] = (64, 64)
    activation: Literal["tanh", "relu"] = "tanh"

    @property
    @override
    def gradient_steps(self) -> int:
        """One."""
        return 1

    @override
    def prepare(self, task: Task) -> Stack:
        from p2pfrl.learning.descent import Plan
        from p2pfrl.learning.learners.natural_stack import NaturalStack
        from p2pfrl.learning.learners.on_policy import build_network
        from p2pfrl.learning.natural import Trust
        from p2pfrl.learning.networks import ACTIVATIONS
        from p2pfrl.learning.rollout import GAE

        plan = Plan(
            steps=self.steps,
            epochs=1,
            minibatches=1,
            max_grad_norm=0.0,
            norm_adv=self.norm_adv,
            targets=GAE(self.gamma, self.gae_lambda, self.reward_scale),
            loss=self.loss,
        )
        build = partial(build_network, self.hidden, self.activation, False, True)
        trust = Trust(self.damping, self.iterations, self.max_kl, self.lr)
        return NaturalStack(task, build, plan, trust, ACTIVATIONS[self.activation])

    def loss(self, policy: Policy, samples: Samples) -> torch.Tensor:
        """Return the loss `(b,)` of an update."""
        assert samples.value is not None
        log_prob = policy.log_prob(samples.head, samples.log_std, samples.action)
        error = (samples.value - samples.target).square().mean(dim=1)
        loss = 0.5 * self.critic_step * error - (log_prob * samples.advantage).mean(dim=1)
        if self.ent_coef:
            loss = loss - self.ent_coef * policy.entropy(samples.head, samples.log_std).mean(dim=1)
        return loss
