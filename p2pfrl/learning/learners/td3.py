"""TD3: twin delayed deep deterministic policy gradient."""

from __future__ import annotations

from pydantic import Field
from typing_extensions import override

from p2pfrl.core.rule import rule
from p2pfrl.learning.learners.base import Stack, Task
from p2pfrl.learning.learners.from_replay import FromReplay, coordinates


@rule
class TD3(FromReplay):
    """L = sum_k E[(Q_k(s,a) - y)^2] / 2 - E[Q_1(s,pi(s))].

    y = r + gamma (1 - terminated) min_k Q_target,k(s',a'), a' = clip(pi_target(s') + e, -1, 1), e =
    clip(policy_noise N, -noise_clip, noise_clip).

    For continuous actions, k = 1, 2. pi is the tanh of the actor's outputs, and the bounds of the
    environment's action are -1 and 1. After every `train_every` steps the critics take one step on
    a batch from the replay buffer; after every `policy_every` of these the actor takes one, and
    targets move by `tau`. Parts of the parameters: `actor` and `critic` (both). Targets and the
    buffer stay with the agent.

    Reference: Fujimoto, van Hoof, Meger, "Addressing function approximation error in actor-critic
    methods", ICML 2018, arXiv 1802.09477, Algorithm 1. Differs: the start, as in CleanRL;
    `after_mixing`.

    Attributes:
        policy_every: critics' steps to one step of the actor and of the targets.
        exploration_noise: standard deviation of the noise on actions of training.
        policy_noise: standard deviation of the noise on the target actor's actions.
        noise_clip: bound on that noise.
    """

    policy_every: int = Field(default=2, ge=1)
    exploration_noise: float = Field(default=0.1, ge=0)
    policy_noise: float = Field(default=0.2, ge=0)
    noise_clip: float = Field(default=0.5, ge=0)

    @override
    def prepare(self, task: Task) -> Stack:
        """Bind the options to a task.

        Raises:
            ScenarioError: it has no environment, discrete actions, or options that exclude each
                other.
        """
        from p2pfrl.learning.learners.off_policy import OffPolicyStack
        from p2pfrl.learning.squashed import Bounded

        actions = coordinates(task)
        method = Bounded(
            actions,
            policy_every=self.policy_every,
            exploration_noise=self.exploration_noise,
            policy_noise=self.policy_noise,
            noise_clip=self.noise_clip,
        )
        return OffPolicyStack("td3", self, method, task)
