"""Losses are the formulas of the papers, written the long way.

The norm of a gradient is bounded per agent.
"""

import numpy as np
import pytest
import torch
from learner_worlds import DISCRETE, stack

from p2pfrl.learning.descent import Samples
from p2pfrl.learning.learners.a2c import A2C
from p2pfrl.learning.learners.base import Batch
from p2pfrl.learning.learners.deep_npg import DeepNPG
from p2pfrl.learning.learners.ppo import PPO
from p2pfrl.learning.learners.reinforce import REINFORCE
from p2pfrl.learning.policies import Categorical, Gaussian


def draw(*, is_discrete):
    """Return a policy and random samples.

    They are far enough from the old policy that clipping matters on both sides.
    """
    torch.manual_seed(0)
    b, k, size = 3, 2, 50
    policy = Categorical(k) if is_discrete else Gaussian((-1.0,) * k, (1.0,) * k)
    head = torch.randn(b, k, size, requires_grad=True)
    log_std = torch.randn(b, 0 if is_discrete else k, requires_grad=True)
    action = torch.randint(0, k, (b, 1, size)).float() if is_discrete else torch.randn(b, k, size)
    value = torch.randn(b, size, requires_grad=True)
    old = policy.log_prob(head, log_std, action).detach() + 0.3 * torch.randn(b, size)
    return policy, Samples(
        head, log_std, value, action, old, torch.randn(b, size), torch.randn(b, size)
    )


def gradients(loss, samples):
    leaves = [samples.head, samples.log_std, samples.value]
    return torch.autograd.grad(loss.sum(), leaves, allow_unused=True, retain_graph=True)


def assert_same(got, want, samples):
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)
    for a, b in zip(gradients(got, samples), gradients(want, samples), strict=True):
        if b is not None and b.numel():
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("is_discrete", [True, False])
@pytest.mark.parametrize("ent_coef", [0.0, 0.01])
def test_ppo_is_equation_9_of_its_paper(is_discrete, ent_coef):
    policy, s = draw(is_discrete=is_discrete)
    got = PPO(clip_coef=0.2, vf_coef=0.7, ent_coef=ent_coef).loss(policy, s)
    ratio = torch.exp(policy.log_prob(s.head, s.log_std, s.action) - s.log_prob)
    clipped = torch.minimum(ratio * s.advantage, torch.clamp(ratio, 0.8, 1.2) * s.advantage)
    assert 0.1 < (clipped != ratio * s.advantage).float().mean() < 0.8
    entropy = policy.entropy(s.head, s.log_std)
    want = (-clipped + 0.7 * 0.5 * (s.value - s.target) ** 2 - ent_coef * entropy).mean(dim=1)
    assert_same(got, want, s)


@pytest.mark.parametrize("is_discrete", [True, False])
def test_a2c_and_reinforce_are_the_policy_gradient(is_discrete):
    policy, s = draw(is_discrete=is_discrete)
    log_prob = policy.log_prob(s.head, s.log_std, s.action)
    gain, error = log_prob * s.advantage, 0.5 * (s.value - s.target) ** 2
    entropy = policy.entropy(s.head, s.log_std)
    assert_same(
        A2C(vf_coef=0.7, ent_coef=0.01).loss(policy, s),
        (0.7 * error - gain - 0.01 * entropy).mean(dim=1),
        s,
    )
    assert_same(
        REINFORCE(ent_coef=0.01).loss(policy, s), (error - gain - 0.01 * entropy).mean(dim=1), s
    )


@pytest.mark.parametrize("is_discrete", [True, False])
def test_the_natural_learner_descends_the_policy_gradient_and_critic_step_of_the_values_error(
    is_discrete,
):
    policy, s = draw(is_discrete=is_discrete)
    gain = policy.log_prob(s.head, s.log_std, s.action) * s.advantage
    error, entropy = 0.5 * (s.value - s.target) ** 2, policy.entropy(s.head, s.log_std)
    got = DeepNPG(critic_step=0.7, ent_coef=0.01).loss(policy, s)
    assert_same(got, (0.7 * error - gain - 0.01 * entropy).mean(dim=1), s)


@pytest.mark.parametrize("bound", [0.0, 0.01, 1e6])
def test_each_gradient_is_scaled_to_the_bound_on_its_own_norm(bound):
    learner = REINFORCE(
        hidden=(16,), optimizer="sgd", lr=1.0, reward_scale=1.0, max_grad_norm=bound
    )
    made = stack(learner, DISCRETE, 4)
    start = made.start(range(4), same=True)
    rows = made.update(Batch(range(4), [0] * 4, start.copy(), made.init(range(4)))).parameters
    norms = np.linalg.norm(rows - start, axis=1)
    if bound == 0.01:
        np.testing.assert_allclose(norms, bound, rtol=1e-2)
    else:
        assert (norms > 1.0).all()
