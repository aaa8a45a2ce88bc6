"""Policies sample as they say; their numbers are torch's.

These are log-probabilities, entropies and divergences.
"""

import numpy as np
import pytest
import torch
from torch.distributions import Categorical as TorchCategorical
from torch.distributions import Independent, Normal, kl_divergence

from p2pfrl.core.rng import Streams
from p2pfrl.learning.policies import Categorical, Gaussian

RNG = np.random.default_rng(0)
HEAD = RNG.normal(size=(2, 3, 5)).astype(np.float32) * 2
OTHER = RNG.normal(size=(2, 3, 5)).astype(np.float32)
LOG_STD = RNG.normal(size=(2, 3)).astype(np.float32)
OTHER_STD = RNG.normal(size=(2, 3)).astype(np.float32)


def categorical(head):
    return TorchCategorical(logits=torch.from_numpy(head).permute(0, 2, 1))


def gaussian(head, log_std):
    mean = torch.from_numpy(head).permute(0, 2, 1)
    return Independent(Normal(mean, torch.from_numpy(log_std).exp()[:, None].expand_as(mean)), 1)


def test_categorical_agrees_with_torch():
    policy, reference = Categorical(3), categorical(HEAD)
    action = RNG.integers(0, 3, size=(2, 1, 5)).astype(np.float32)
    arrays = torch.from_numpy(HEAD), torch.empty(2, 0)
    got = policy.log_prob(*arrays, torch.from_numpy(action)).numpy()
    np.testing.assert_allclose(got, reference.log_prob(torch.from_numpy(action[:, 0])), rtol=1e-5)
    np.testing.assert_allclose(policy.entropy(*arrays).numpy(), reference.entropy(), rtol=1e-5)
    nothing = LOG_STD[:, :0]
    kl = policy.divergence(HEAD, nothing, OTHER, nothing)
    np.testing.assert_allclose(
        kl, kl_divergence(reference, categorical(OTHER)), rtol=1e-4, atol=1e-6
    )
    assert np.array_equal(policy.greedy(HEAD)[:, 0], HEAD.argmax(axis=1))


def test_gaussian_agrees_with_torch():
    policy, reference = Gaussian((-1.0,) * 3, (1.0,) * 3), gaussian(HEAD, LOG_STD)
    action = RNG.normal(size=(2, 3, 5)).astype(np.float32)
    arrays = torch.from_numpy(HEAD), torch.from_numpy(LOG_STD)
    got = policy.log_prob(*arrays, torch.from_numpy(action)).numpy()
    np.testing.assert_allclose(
        got, reference.log_prob(torch.from_numpy(action).permute(0, 2, 1)), rtol=1e-4
    )
    np.testing.assert_allclose(policy.entropy(*arrays).numpy(), reference.entropy(), rtol=1e-5)
    kl = policy.divergence(HEAD, LOG_STD, OTHER, OTHER_STD)
    np.testing.assert_allclose(kl, kl_divergence(reference, gaussian(OTHER, OTHER_STD)), rtol=1e-4)


def test_categorical_samples_have_the_frequencies_of_the_softmax():
    policy, n = Categorical(3), 60_000
    head = np.repeat(np.log(np.array([0.2, 0.5, 0.3], dtype=np.float32))[None, :, None], n, axis=2)
    noise = policy.noise(Streams.of(1, [0], "action"), 1, n)[:, 0]
    action = policy.to_environment(policy.sample(head, LOG_STD[:1, :0], noise))
    assert np.bincount(action[0]) / n == pytest.approx([0.2, 0.5, 0.3], abs=0.01)


def test_the_extremes_of_the_uniform_numbers_give_possible_actions():
    policy = Categorical(3)
    head = np.zeros((1, 3, 2), dtype=np.float32)
    head[:, 0] = -200.0  # never
    noise = np.array([[[0.0, np.nextafter(np.float32(1), np.float32(0))]]], dtype=np.float32)
    assert policy.sample(head, LOG_STD[:1, :0], noise).ravel().tolist() == [1.0, 2.0]


def test_gaussian_samples_have_mean_and_standard_deviation_and_are_clipped_only_for_the_environment():
    policy, n = Gaussian((-1.0,), (1.0,)), 60_000
    head, log_std = (
        np.full((1, 1, n), 0.5, dtype=np.float32),
        np.log(np.array([[2.0]], dtype=np.float32)),
    )
    noise = policy.noise(Streams.of(1, [0], "action"), 1, n)[:, 0]
    action = policy.sample(head, log_std, noise)
    assert (action.mean(), action.std()) == pytest.approx((0.5, 2.0), abs=0.03)
    clipped = policy.to_environment(action)
    assert clipped.shape == (1, n, 1)
    assert (clipped.min(), clipped.max()) == (-1.0, 1.0)
