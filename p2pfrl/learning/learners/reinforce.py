"""REINFORCE: policy gradients from whole returns, as GPOMDP computes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field
from typing_extensions import override

from p2pfrl.core.options import Slot
from p2pfrl.core.rule import rule
from p2pfrl.learning.learners.base import Stack, Task
from p2pfrl.learning.learners.distill import Distill
from p2pfrl.learning.learners.episodes import rollout_steps
from p2pfrl.learning.learners.networked import Encoded

if TYPE_CHECKING:
    import torch

    from p2pfrl.learning.descent import Samples
    from p2pfrl.learning.policies import Policy


@rule
class REINFORCE(Encoded):
    """L = -E[sum_t log pi(a_t|s_t) w_t (G_t - b(s_t))], G_t = sum_(h>=t) gamma^(h-t) r_h.

    There is one step per rollout.

    Williams, Simple statistical gradient-following algorithms for connectionist reinforcement
    learning, Machine Learning 8, 1992; Baxter, Bartlett, Infinite-horizon policy-gradient
    estimation, JAIR 15, 2001. w_t = gamma^t (t from the start of the episode) gives the unbiased
    gradient of the discounted return, w_t = 1 the usual variant. With `steps` an episode cut by the
    end of the rollout or by the time limit is continued by the baseline's value there, if it has
    one, and E is the mean over steps; with `episodes` rollouts are whole episodes and E is the mean
    over episodes. Actor and critic are separate networks; the critic's loss is (V - G)^2 / 2, mean
    over steps.

    Attributes:
        steps: of each instance per update; not with `episodes`.
        episodes: per update; needs environment.instances = 1 and an environment with a time limit.
        gamma: discount.
        discounted: w_t = gamma^t (True) or 1 (False).
        baseline: b: none, or the learned value of the state.
        ent_coef: weight of the entropy bonus, mean over steps.
        max_grad_norm: bound on the norm of an agent's gradient; 0 for none.
        norm_adv: normalize G - b per update; a single one stays as it is.
        optimizer: adam, rmsprop or sgd.
        reward_scale: multiplies rewards while learning (reported returns are not scaled).
        hidden: sizes of the hidden layers.
        activation: of the hidden layers.
        policy: a network of one's own in place of the hidden layers, "module:Class" of a
            `torch.nn.Module` (learning/modules.py). It is run agent by agent.
        stacked: run such a network for 16 agents at a time, by `torch.func.vmap`. It is tried
            first, and refused where an agent's numbers depend on those beside it.
        distill: with payload "logits", how one learns from what comes back.
    """

    lr: float = Field(default=3e-3, ge=0)
    steps: int = Field(default=64, ge=1)
    episodes: int | None = Field(default=None, ge=1)
    gamma: float = Field(default=0.99, ge=0, le=1)
    discounted: bool = False
    baseline: Literal["none", "value"] = "value"
    ent_coef: float = 0.0
    max_grad_norm: float = Field(default=0.5, ge=0)
    norm_adv: bool = False
    optimizer: Literal["adam", "rmsprop", "sgd"] = "adam"
    reward_scale: float = Field(default=0.1, gt=0)
    hidden: tuple[int, ...] = (64, 64)
    activation: Literal["tanh", "relu"] = "tanh"
    policy: str = ""
    stacked: bool = False
    distill: Annotated[Distill, Slot(Distill)] = Field(default_factory=Distill)

    @property
    @override
    def gradient_steps(self) -> int:
        """One."""
        return 1

    @override
    def prepare(self, task: Task) -> Stack:
        from p2pfrl.learning.descent import Formula, Plan
        from p2pfrl.learning.learners.on_policy import OnPolicyStack, builder
        from p2pfrl.learning.optimizers import OPTIMIZERS
        from p2pfrl.learning.rollout import Returns

        task = self.seen(task)
        plan = Plan(
            steps=rollout_steps(task, self.steps, self.episodes),
            epochs=1,
            minibatches=1,
            max_grad_norm=self.max_grad_norm,
            norm_adv=self.norm_adv,
            targets=Returns(
                self.gamma, 1.0, self.reward_scale, self.discounted, self.episodes is not None
            ),
            loss=self.loss,
            formula=Formula(None, 1.0, self.ent_coef),
            episodes=self.episodes,
            lr_schedule=self.lr_schedule,
            normalizer=self.normalizer(task),
            reward_norm=self.reward_norm(self.gamma),
            image=self.image(task),
        )
        build = builder(self, critic=self.baseline == "value")
        return OnPolicyStack(task, build, OPTIMIZERS[self.optimizer](self.lr), plan, self.distill)

    def loss(self, policy: Policy, samples: Samples) -> torch.Tensor:
        """Return the loss `(b,)` of an update."""
        log_prob = policy.log_prob(samples.head, samples.log_std, samples.action)
        loss = -(log_prob * samples.advantage).mean(dim=1)
        if samples.value is not None:
            loss = loss + 0.5 * (samples.value - samples.target).square().mean(dim=1)
        if self.ent_coef:
            loss = loss - self.ent_coef * policy.entropy(samples.head, samples.log_std).mean(dim=1)
        return loss
