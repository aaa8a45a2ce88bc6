"""A2C: synchronous advantage actor-critic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field
from typing_extensions import override

from p2pfrl.core.options import Slot
from p2pfrl.core.rule import rule
from p2pfrl.learning.learners.base import Stack, Task
from p2pfrl.learning.learners.distill import Distill
from p2pfrl.learning.learners.episodes import rollout_steps
from p2pfrl.learning.learners.global_critic import CriticSees, seeing
from p2pfrl.learning.learners.networked import Encoded, sequences

if TYPE_CHECKING:
    import torch

    from p2pfrl.learning.descent import Samples
    from p2pfrl.learning.policies import Policy


@rule
class A2C(Encoded):
    """L = E[-log pi(a|s) A + vf_coef (V - R)^2 / 2 - ent_coef H], one step per rollout.

    A and R are constants in the gradient.

    Mnih, Badia, Mirza, Graves, Lillicrap, Harley, Silver, Kavukcuoglu, Asynchronous methods for
    deep reinforcement learning, ICML 2016, arXiv 1602.01783, section 4, run synchronously. With
    gae_lambda = 1 the advantages are its n-step ones. Differs: Adam (eps 1e-5) by default, RMSprop
    (their optimizer; decay 0.99) on request; scaled rewards; and bootstraps at truncation.

    Attributes:
        steps: of each instance per update; not with `episodes`.
        episodes: whole episodes per update; needs environment.instances = 1 and an environment with
            a time limit.
        gamma: discount.
        gae_lambda: lambda of the advantage estimate.
        ent_coef: weight of the entropy bonus.
        vf_coef: weight of the value loss.
        max_grad_norm: bound on the norm of an agent's gradient; 0 for none.
        norm_adv: normalize advantages per update; a single one stays as it is.
        optimizer: adam, rmsprop or sgd.
        reward_scale: multiplies rewards while learning (reported returns are not scaled).
        hidden: sizes of the hidden layers.
        activation: of the hidden layers.
        shared_trunk: actor and critic share the hidden layers; then scale rewards, or the value
            loss swamps the other.
        critic_sees: own: what the agent observes; world: in a shared world, what all its members
            observe, its own observation first. Actors see their own alone, in training too, and
            critics have no part in acting.
        memory: gru: a gated recurrent unit after the hidden layers, of as many numbers as the last
            one has, forgets when an episode begins. It is trained through the steps of a rollout;
            minibatches are of whole instances. Needs shared_trunk, and no encoder.
        policy: a network of one's own in place of the hidden layers, "module:Class" of a
            `torch.nn.Module` (learning/modules.py). It is run agent by agent.
        stacked: run such a network for 16 agents at a time, by `torch.func.vmap`. It is tried
            first, and refused where an agent's numbers depend on those beside it.
        distill: with payload "logits", how one learns from what comes back.
    """

    lr: float = Field(default=1.5e-3, ge=0)
    steps: int = Field(default=16, ge=1)
    episodes: int | None = Field(default=None, ge=1)
    gamma: float = Field(default=0.99, ge=0, le=1)
    gae_lambda: float = Field(default=0.95, ge=0, le=1)
    ent_coef: float = 0.0
    vf_coef: float = Field(default=0.5, ge=0)
    max_grad_norm: float = Field(default=0.5, ge=0)
    norm_adv: bool = False
    optimizer: Literal["adam", "rmsprop", "sgd"] = "adam"
    reward_scale: float = Field(default=0.1, gt=0)
    hidden: tuple[int, ...] = (64, 64)
    activation: Literal["tanh", "relu"] = "tanh"
    shared_trunk: bool = False
    critic_sees: CriticSees = "own"
    memory: Literal["none", "gru"] = "none"
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
        from p2pfrl.learning.rollout import GAE

        task = seeing(
            self.seen(task),
            self.critic_sees,
            shared_trunk=self.shared_trunk,
            is_plain=self.is_plain,
        )
        plan = Plan(
            steps=rollout_steps(task, self.steps, self.episodes),
            epochs=1,
            minibatches=1,
            max_grad_norm=self.max_grad_norm,
            norm_adv=self.norm_adv,
            targets=GAE(self.gamma, self.gae_lambda, self.reward_scale),
            loss=self.loss,
            formula=Formula(None, self.vf_coef, self.ent_coef),
            episodes=self.episodes,
            lr_schedule=self.lr_schedule,
            normalizer=self.normalizer(task),
            reward_norm=self.reward_norm(self.gamma),
            image=self.image(task),
            actor_inputs=task.simulator.spec.acts_on if task.simulator else 0,
            sequences=sequences(
                task,
                memory=self.memory,
                shared_trunk=self.shared_trunk,
                encoder=self.encoder,
                hidden=self.hidden,
            ),
        )
        build = builder(self, critic=True)
        return OnPolicyStack(task, build, OPTIMIZERS[self.optimizer](self.lr), plan, self.distill)

    def loss(self, policy: Policy, samples: Samples) -> torch.Tensor:
        """Return the loss `(b,)` of a minibatch."""
        assert samples.value is not None
        log_prob = policy.log_prob(samples.head, samples.log_std, samples.action)
        error = (samples.value - samples.target).square().mean(dim=1)
        loss = 0.5 * self.vf_coef * error - (log_prob * samples.advantage).mean(dim=1)
        if self.ent_coef:
            loss = loss - self.ent_coef * policy.entropy(samples.head, samples.log_std).mean(dim=1)
        return loss
