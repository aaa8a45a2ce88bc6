"""Several discrete actions at once, masks of actions, and actions without bounds."""

import dataclasses

import numpy as np
import pytest
import torch
from learner_worlds import Corridor, Dials, Target, stack
from torch.distributions import Categorical as TorchCategorical

from p2pfrl.core.errors import ContractError, ScenarioError
from p2pfrl.core.rng import Streams
from p2pfrl.learning.environments.base import Spec
from p2pfrl.learning.environments.check import check_environment
from p2pfrl.learning.environments.random_actions import chosen, random_action
from p2pfrl.learning.environments.vector import ArrayVectorEnv
from p2pfrl.learning.learners.a2c import A2C
from p2pfrl.learning.learners.check import check_learner
from p2pfrl.learning.learners.deep_npg import DeepNPG
from p2pfrl.learning.learners.dqn import DQN
from p2pfrl.learning.learners.ppo import PPO
from p2pfrl.learning.learners.reinforce import REINFORCE
from p2pfrl.learning.policies import Categoricals
from p2pfrl.learning.rollout import play
from p2pfrl.learning.trainer import Trainer

RNG = np.random.default_rng(0)
ON_POLICY = (
    PPO(hidden=(16,), lr=1e-2, reward_scale=1.0, steps=16),
    A2C(hidden=(16,), lr=1e-2, reward_scale=1.0, steps=16),
    REINFORCE(hidden=(16,), lr=1e-2, reward_scale=1.0, steps=16),
)
Q = DQN(hidden=(16,), lr=5e-3, steps=16, learn_start=64, epsilon_steps=1500, capacity=2000)


def name(rule):
    return type(rule).__name__ if hasattr(rule, "lr") else str(rule)


def test_the_policy_of_several_choices_is_the_product_of_torchs():
    heads, policy = (3, 2, 4), Categoricals((3, 2, 4))
    head, other = (RNG.normal(size=(2, 9, 5)).astype(np.float32) for _ in range(2))
    action = np.stack([RNG.integers(n, size=(2, 5)) for n in heads], axis=1).astype(np.float32)
    nothing = np.zeros((2, 0), dtype=np.float32)

    def references(values):
        parts = torch.from_numpy(values).permute(0, 2, 1).split(heads, dim=2)
        return [TorchCategorical(logits=part) for part in parts]

    arrays = torch.from_numpy(head), torch.from_numpy(nothing)
    chosen_ = torch.from_numpy(action)
    expected = sum(r.log_prob(chosen_[:, h]) for h, r in enumerate(references(head)))
    np.testing.assert_allclose(policy.log_prob(*arrays, chosen_), expected, rtol=1e-5)
    expected = sum(r.entropy() for r in references(head))
    np.testing.assert_allclose(policy.entropy(*arrays), expected, rtol=1e-5)
    pairs = zip(references(head), references(other), strict=True)
    expected = sum(torch.distributions.kl_divergence(a, b) for a, b in pairs)
    kl = policy.divergence(head, nothing, other, nothing)
    np.testing.assert_allclose(kl, expected, rtol=1e-4, atol=1e-6)
    differentiable = policy.kl(*arrays, torch.from_numpy(other), torch.from_numpy(nothing))
    np.testing.assert_allclose(differentiable, expected, rtol=1e-4, atol=1e-6)
    assert policy.to_environment(policy.greedy(head)).shape == (2, 5, 3)


def test_samples_of_several_choices_are_independent_and_have_their_frequencies():
    policy, n = Categoricals((2, 3)), 40_000
    chances = np.log(np.array([0.3, 0.7, 0.2, 0.5, 0.3], dtype=np.float32))
    head = np.repeat(chances[None, :, None], n, axis=2)
    noise = policy.noise(Streams.of(1, [0], "action"), 1, n)[:, 0]
    action = policy.to_environment(policy.sample(head, head[:, :0, 0], noise))[0]
    joint = np.bincount(action[:, 0] * 3 + action[:, 1], minlength=6).reshape(2, 3) / n
    expected = np.outer([0.3, 0.7], [0.2, 0.5, 0.3])
    np.testing.assert_allclose(joint, expected, atol=0.01)


@pytest.mark.parametrize(
    "learner",
    [
        pytest.param(one, marks=() if isinstance(one, PPO) else pytest.mark.slow)
        for one in ON_POLICY
    ],
    ids=name,
)
@pytest.mark.parametrize("is_masked", [pytest.param(False, marks=pytest.mark.slow), True])
def test_several_choices_at_once_are_learned(learner, is_masked):
    bound = stack(learner, Dials(is_masked=is_masked), 2, instances=8)
    trainer = Trainer(bound, 2)
    for _ in range(20 if isinstance(learner, PPO) else 60):
        trainer.update(range(2))
    assert bound.evaluator.evaluate(range(2), trainer.parameters, 40, 0) == pytest.approx(2.0)


def after_training(learner, problem, updates):
    """Return the greedy returns, how often a forbidden action was taken, and the trainer."""
    bound = stack(learner, problem, 2, instances=8)
    trainer = Trainer(bound, 2)
    forbidden = 0.0
    for _ in range(updates):
        found = trainer.update(range(2))
        forbidden += sum(update.measures["forbidden"] for update in found.values())
    returns = bound.evaluator.evaluate(range(2), trainer.parameters, 20, 0)
    return returns, forbidden, trainer


@pytest.mark.parametrize(
    ("learner", "updates"),
    [
        pytest.param(one, updates, marks=() if isinstance(one, PPO | DQN) else pytest.mark.slow)
        for one, updates in [*zip(ON_POLICY, (12, 25, 25), strict=True), (Q, 40)]
    ],
    ids=name,
)
def test_with_masks_useless_actions_cost_nothing_and_are_never_taken(learner, updates):
    bare, _, _ = after_training(learner, Corridor(), updates)
    masked, forbidden, trainer = after_training(
        learner, Corridor(useless=12, is_masked=True), updates
    )
    assert forbidden == 0.0
    evaluator = Corridor().simulator({}, 2, 1)
    right = play(
        evaluator,
        lambda kept: lambda obs: np.ones(obs.shape[:2], dtype=np.int64),
        agents=[0, 1],
        episodes=20,
        index=0,
    )
    np.testing.assert_array_equal(masked, right)  # both walk straight to the goal
    assert (masked >= bare).all()
    obs = np.concatenate([np.eye(6)[None], np.zeros((1, 6, 14))], axis=-1)
    obs[0, :, 6 + 9] = 1.0
    rows = trainer.parameters[:1]
    found = trainer.stack.evaluator.act([0], rows, obs.astype(np.float32))
    assert found.tolist() == [[9] * 6]


@pytest.mark.parametrize("learner", [*ON_POLICY, Q, DeepNPG(hidden=(4,), lr=0.1)], ids=name)
def test_learners_keep_their_contract_with_masks_and_several_choices(learner):
    small = dataclasses.replace(learner, steps=8)
    check_learner(small, Corridor(useless=2, is_masked=True))
    if learner is not Q:
        check_learner(small, Dials(is_masked=True))


def test_environments_with_heads_and_masks_keep_the_contract():
    check_environment(Dials())
    check_environment(Dials(is_masked=True))
    check_environment(Corridor(useless=3, is_masked=True))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"heads": (3, 0)}, "every head needs an action"),
        ({"actions": 5}, "either discrete actions, or heads"),
        ({"image": (2, 2, 3)}, "an image"),
        ({"is_masked": True}, "a mask is the end of an observation"),
    ],
)
def test_specifications_that_make_no_sense_are_refused(monkeypatch, changes, complaint):
    spec = dataclasses.replace(Dials().spec, **changes)
    monkeypatch.setattr(Dials, "spec", property(lambda self: spec))
    with pytest.raises(ContractError, match=complaint):
        check_environment(Dials())


def test_a_mask_that_allows_nothing_is_refused(monkeypatch):
    observe = Corridor.observe
    monkeypatch.setattr(
        Corridor, "observe", lambda self, state, physics: observe(self, state, physics) * 0
    )
    with pytest.raises(ContractError, match="a mask allows no action"):
        check_environment(Corridor(is_masked=True))


def test_dqn_refuses_several_choices_in_words():
    with pytest.raises(ScenarioError, match=r"dqn needs one discrete action.*at once, \[3, 2\]"):
        stack(DQN(), Dials(), 2)


def test_random_actions_are_allowed_ones_with_equal_chances():
    mask = np.tile(np.array([0.0, 1.0, 1.0, 0.0, 1.0]), (30_000, 1))
    counts = np.bincount(chosen(mask, RNG.uniform(size=30_000)), minlength=5) / 30_000
    np.testing.assert_allclose(counts, [0, 1 / 3, 1 / 3, 0, 1 / 3], atol=0.01)
    assert chosen(mask[:1], np.array([np.nextafter(1.0, 0.0)])).tolist() == [4]
    spec = Spec(
        observation=1,
        state=1,
        action_low=(-np.inf, 2.0, -np.inf),
        action_high=(np.inf, np.inf, 5.0),
    )
    action = random_action(spec, np.zeros((1, 500, 1), np.float32), Streams.of(1, [0], "probe"))
    assert (np.abs(action[..., 0]) <= 1).all()
    assert ((action[..., 1] >= 2) & (action[..., 1] <= 3)).all()
    assert ((action[..., 2] >= 4) & (action[..., 2] <= 5)).all()


def test_actions_without_bounds_are_not_clipped(monkeypatch):
    spec = dataclasses.replace(Target().spec, action_low=(-np.inf,), action_high=(np.inf,))
    monkeypatch.setattr(Target, "spec", property(lambda self: spec))
    check_environment(Target())
    bound = stack(ON_POLICY[0], Target(), 1)
    action = np.full((1, 1, 3), 1e6, dtype=np.float32)
    assert (bound.policy.to_environment(action) == 1e6).all()


def test_the_vector_environment_of_several_choices_takes_them_at_once():
    problem = Dials()
    env = ArrayVectorEnv(problem.simulator({}, 2, 1), [0, 1])
    env.reset()
    _, reward, *_ = env.step(np.zeros((4, 2), dtype=np.int64))
    assert env.single_action_space.nvec.tolist() == [3, 2]
    assert reward.shape == (4,)
