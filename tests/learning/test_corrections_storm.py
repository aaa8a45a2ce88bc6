"""Gradients elsewhere on the same samples, and STORM, which is made of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from learner_worlds import DISCRETE, task

from p2pfrl.learning.corrections.base import Correction, Uncorrected
from p2pfrl.learning.corrections.variance import Storm
from p2pfrl.learning.learners import RULES as LEARNERS
from p2pfrl.learning.learners.base import Task
from p2pfrl.learning.trainer import Trainer


def cartpole(learner, correction, agents=3, instances=2):
    return learner.prepare(
        replace(task(DISCRETE, agents, instances=instances), correction=correction)
    )


class Probe(Correction):
    """Writes down the gradient, and the gradients that `again` returns.

    They are those at the same rows and a little beside them.
    """

    arrays = ("probe",)

    def __init__(self, shift=0.0):
        self.shift = shift
        self.seen = []

    def adjust(self, rows, gradient, state, again):
        self.seen.append((gradient.copy(), again(rows), again(rows + np.float32(self.shift))))


@pytest.mark.parametrize("kind", ["reinforce", "a2c", "ppo"])
def test_the_gradient_elsewhere_is_the_gradient_where_nothing_moved(kind):
    probe = Probe(0.01)
    Trainer(cartpole(LEARNERS[kind](steps=16, hidden=(8,)), probe), 3).update(range(3))
    gradient, same, beside = probe.seen[0]
    assert np.array_equal(gradient, same)
    assert not np.allclose(gradient, beside, rtol=1e-3)


class Decay(Correction):
    """Draws parameters toward 0; it keeps no vector beside them."""

    def adjust(self, rows, gradient, state, again):
        gradient += np.float32(10.0) * rows


@pytest.mark.parametrize("kind", ["ppo", "a2c", "reinforce", "dqn"])
def test_a_correction_that_keeps_no_vector_changes_gradients_too(kind):
    more = {"learn_start": 16} if kind == "dqn" else {"steps": 16}
    norms = []
    for correction in (Uncorrected(), Decay()):
        trainer = Trainer(cartpole(LEARNERS[kind](hidden=(8,), **more), correction), 3)
        for _ in range(4):
            trainer.update(range(3))
        norms.append(np.linalg.norm(trainer.parameters))
    assert norms[1] < norms[0]


def test_elsewhere_an_episode_counts_by_the_product_of_its_probability_ratios():
    stack = cartpole(
        LEARNERS["reinforce"](steps=12, hidden=(4,), baseline="none"),
        Probe(),
        agents=1,
        instances=1,
    )
    descent, rng = stack._descent, np.random.default_rng(3)
    o, size = 4, 10
    rows, other = stack.start([0], same=True), stack.start([0], same=False) * np.float32(8)
    sample = rng.standard_normal((1, o + 4, size)).astype(np.float32)
    sample[0, o] = rng.integers(0, 2, size)
    obs = np.ascontiguousarray(sample[:, :o])

    def log_prob(at):
        out = np.zeros((1, stack.network.outputs, size), dtype=np.float32)
        stack.network.forward(at, obs, out)
        heads = torch.log_softmax(torch.from_numpy(out[:, :2].copy()), dim=1).numpy()[0]
        return heads[sample[0, o].astype(int), np.arange(size)]

    sample[0, o + 1] = log_prob(rows)
    episodes = np.array([[0, 0, 0, 1, 1, 1, 1, 2, 2, 2]])
    ratio = log_prob(other) - log_prob(rows)
    weight = np.array([np.exp(sum(ratio[episodes[0] == e])) for e in (0, 1, 2)])[episodes[0]]
    by_hand = sample.copy()
    by_hand[0, o + 2] *= np.minimum(weight, 10.0).astype(np.float32)
    expected = stack.layout.zeros(1)
    descent._gradient(
        other, by_hand, np.zeros((1, stack.network.outputs, size), dtype=np.float32), expected
    )
    assert weight.max() / weight.min() > 1.05
    assert np.allclose(descent._again(sample, episodes, other), expected, rtol=1e-4, atol=1e-7)


def test_storm_follows_its_recursion_on_noisy_quadratics():
    beta, lr = 0.3, 0.05
    learner = LEARNERS["quadratic"](dimension=5, noise=0.4, lr=lr, steps=1)
    plain, storm = (
        learner.prepare(replace(Task(2, 3), correction=c)) for c in (Correction(), Storm(beta=beta))
    )
    trainer, twin = Trainer(storm, 3), Trainer(plain, 3)
    x, A, star = trainer.parameters[:, :5].copy(), plain.A, plain.x_star
    u = before = None
    for k in range(6):
        twin.parameters[:, :5], twin.index[:] = x, k
        twin.update(range(3))
        g = (x - twin.parameters[:, :5]) / lr  # with the noise of step k
        noise = g - np.einsum("nij,nj->ni", A, x - star)
        u = (
            g
            if u is None
            else g + (1 - beta) * (u - np.einsum("nij,nj->ni", A, before - star) - noise)
        )
        before, x = x, x - lr * u
        trainer.update(range(3))
        assert np.allclose(trainer.parameters[:, :5], x, atol=1e-12)


def test_storm_with_beta_1_changes_no_bit():
    learner = LEARNERS["a2c"](steps=8, hidden=(8,))
    runs = [Trainer(cartpole(learner, c), 3) for c in (Correction(), Storm(beta=1.0))]
    for _ in range(3):
        for run in runs:
            run.update(range(3))
    assert np.array_equal(runs[0].parameters, runs[1].parameters)
