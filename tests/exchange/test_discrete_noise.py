"""Noise of whole numbers in secure sums: its distribution, its divergence, and what is refused."""

import numpy as np
import pytest

import p2pfrl
from p2pfrl.build.preview import preview
from p2pfrl.consensus.coordinator import Coordinator
from p2pfrl.core.errors import ScenarioError
from p2pfrl.deploy.ledgers import words_from_system
from p2pfrl.exchange.privacy.accountant import (
    epsilon_of_concentrated,
    epsilon_of_gaussian,
    epsilon_of_renyi,
    spent_of_concentrated,
)
from p2pfrl.exchange.privacy.discrete import discrete_gaussian, excess_of_sum
from p2pfrl.exchange.privacy.distributed import DistributedNoise
from p2pfrl.exchange.privacy.ledger import Ledger, simulated, simulated_words
from p2pfrl.exchange.secure.members import AggregationMember
from p2pfrl.exchange.secure.ring import FixedPoint
from p2pfrl.scenario import loads

BASE = """
name = "whole"
agents = 5
mode = "central"
stop = {rounds = 2}
exchange = {payload = "delta"}
learner = {kind = "quadratic", dimension = 300, noise = 0.1, initial_spread = 1.0, lr = 0.1}
secure = {kind = "secure_aggregation", minimum = 4, fraction_bits = 20}
privacy = {kind = "distributed_noise", clip = 1.0, noise_multiplier = 2.0, parts = 4, discrete = true}
"""


def ledger(seed=1, words=None):
    return Ledger(simulated(seed, 0), words=words or simulated_words(seed, 0))


def mass(scale, reach):
    z = np.arange(-reach, reach + 1)
    found = np.exp(-np.square(z) / (2.0 * scale**2))
    return found / found.sum()


@pytest.mark.parametrize("scale", [0.7, 1.0, 4.3])
@pytest.mark.parametrize("source", ["simulated", "system"])
def test_whole_numbers_have_the_distribution_of_the_discrete_gaussian(scale, source):
    draws = 200_000
    draw = words_from_system if source == "system" else simulated_words(3, 0)
    found = discrete_gaussian(scale, draws, lambda part, size: draw(0, part, size))
    expected = mass(scale, 40)
    counts = np.bincount(found + 40, minlength=81)
    off = np.abs(counts - draws * expected) / np.sqrt(draws * expected * (1 - expected) + 1)
    assert off.max() < 5.0
    assert found.dtype == np.int64


def test_numbers_of_a_fine_grid_have_the_scale_that_was_asked_for():
    draw = simulated_words(3, 0)
    found = discrete_gaussian(2.0**30, 200_000, lambda part, size: draw(0, part, size))
    assert found.std() == pytest.approx(2.0**30, rel=0.01)
    assert abs(found.mean()) < 5 * 2.0**30 / 200_000**0.5
    assert len(np.unique(found % 2)) == 2, "all digits are random"


def test_low_digits_are_random_at_the_largest_scale_that_a_sum_has_room_for():
    """Three agents in 64 bits: 3 (clip + 10 s) < 2^63, with clip far below s."""
    scale, draw = 0.999 * 2.0**63 / 30.0, simulated_words(3, 0)
    found = discrete_gaussian(scale, 40_000, lambda part, size: draw(0, part, size))
    for digits in range(1, 5):
        share = 2.0**-digits
        error = (share * (1.0 - share) / 40_000) ** 0.5
        assert (found % 2**digits == 0).mean() == pytest.approx(share, abs=4 * error)
    assert (found / scale).std() == pytest.approx(1.0, abs=4 / 80_000**0.5)
    assert np.abs(found / scale).max() < 10.0


@pytest.mark.parametrize(("scale", "count"), [(0.6, 3), (1.0, 5), (4.0, 4)])
def test_sums_of_parts_diverge_by_no_more_than_is_accounted_for(scale, count):
    """Renyi divergences of a sum of parts and of the same moved by 3, by convolution."""
    part = mass(scale, round(12 * scale) + 12)
    total = np.array([1.0])
    for _ in range(count):
        total = np.convolve(total, part)
    shift, sigma = 3, scale * count**0.5
    one, other = total[shift:], total[:-shift]
    for alpha in (1.5, 2.0, 4.0):
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            terms = np.where((one > 0) & (other > 0), one**alpha * other ** (1.0 - alpha), 0.0)
        divergence = np.log(terms[np.isfinite(terms)].sum()) / (alpha - 1.0)
        bound = alpha * shift**2 / (2.0 * sigma**2)
        assert divergence <= bound + excess_of_sum(scale, count) + 1e-9
        assert divergence > 0.7 * bound, "of half the noise it would be four times the bound"
    assert excess_of_sum(4.0, 10**4) < 1e-60


def test_what_leaves_is_whole_and_within_the_bound_before_the_noise():
    rule = DistributedNoise(clip=1.0, parts=4, noise_multiplier=2.0, discrete=True)
    ring = FixedPoint(1024.0, 20)
    owner, vector = ledger(), np.full(50, 3.0)
    assert np.linalg.norm(rule.protect(vector, owner, 0)) == pytest.approx(1.0)
    made = rule.of_ring(owner)(vector, ring).view(np.int64)
    noise = discrete_gaussian(rule.scale(ring), 50, owner.words)
    plain = made - noise
    assert np.sqrt(np.square(plain.astype(float)).sum()) <= 2.0**20
    assert np.sqrt(np.square(plain.astype(float)).sum()) > 0.999 * 2.0**20
    assert rule.scale(ring) == 2.0**20
    again = rule.of_ring(owner)(vector, ring).view(np.int64)
    assert again.tolist() == made.tolist(), "one release, one noise"
    rule.protect(vector, owner, 1)
    assert rule.of_ring(owner)(vector, ring).view(np.int64).tolist() != made.tolist()


def test_a_sum_of_noised_elements_is_exact_and_has_the_noise_of_all_parts(monkeypatch):
    seen, means = [], []
    submit, move = AggregationMember.submit, Coordinator._move
    monkeypatch.setattr(
        AggregationMember,
        "submit",
        lambda self, round, vector: (seen.append(vector), submit(self, round, vector))[1],
    )
    monkeypatch.setattr(
        Coordinator, "_move", lambda self, mean, f: (means.append(mean), move(self, mean, f))[1]
    )
    p2pfrl.run(loads(BASE.replace("rounds = 2", "rounds = 1")))
    total = FixedPoint(1024.0, 20).decode(np.sum(seen, axis=0, dtype=np.uint64))
    assert len(seen) == 5
    assert means[0].tolist() == (total / 5).tolist()
    assert total.std() == pytest.approx(2.0 * (5 / 4) ** 0.5, rel=0.12)


def test_epsilon_is_that_of_divergences_and_a_target_is_kept():
    summary = p2pfrl.run(loads(BASE)).summary["privacy"]
    assert summary["epsilon"] == epsilon_of_concentrated(2 * 0.25, 1e-5)
    assert summary["epsilon"] > epsilon_of_gaussian(0.5**0.5, 1e-5)
    target = BASE.replace("noise_multiplier = 2.0", "target_epsilon = 3.0")
    plan = preview(loads(target))["privacy"]
    assert plan["epsilon"] == pytest.approx(3.0, abs=1e-6)
    assert (
        plan["noise_multiplier"]
        > preview(loads(target.replace("true", "false")))["privacy"]["noise_multiplier"]
    )
    kept = p2pfrl.run(loads(target)).summary["privacy"]
    assert (kept["releases"], kept["releases_refused"]) == (2, 0)


@pytest.mark.parametrize("epsilon", [1e-4, 0.01, 0.3, 1.0, 8.0, 1e4])
@pytest.mark.parametrize("delta", [1e-12, 1e-5, 0.1])
def test_bounds_of_epsilon_are_least_over_all_orders_and_turn_into_noise(epsilon, delta):
    spent = spent_of_concentrated(epsilon, delta)
    assert epsilon * (1 - 1e-6) <= epsilon_of_concentrated(spent, delta) <= epsilon
    assert epsilon_of_concentrated(1.0001 * spent, delta) > epsilon
    assert epsilon_of_gaussian(spent**0.5, delta) < epsilon
    orders = 1.0 + np.geomspace(1e-4, 1e13, 20_000)
    least = epsilon_of_renyi(spent / 2.0 * orders, delta, orders)
    assert epsilon_of_concentrated(spent, delta) == pytest.approx(least, rel=1e-4)


def test_a_small_epsilon_has_its_noise_and_a_budget_of_no_release_is_refused():
    small = BASE.replace("noise_multiplier = 2.0", "target_epsilon = 0.01")
    plan = preview(loads(small))["privacy"]
    assert plan["noise_multiplier"] == pytest.approx(390.937, abs=0.001)
    assert (plan["releases"], plan["budget"]) == (2, 0.01)
    assert 0.0099999 < plan["epsilon"] <= 0.01
    for discrete in ("true", "false"):
        with pytest.raises(ScenarioError, match=r"one release costs epsilon .*, and 0\.01 is all"):
            loads(BASE.replace("discrete = true", f"discrete = {discrete}, budget = 0.01"))
    loads(BASE.replace("discrete = true", "discrete = true, budget = 2.17"))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("fraction_bits = 20", "fraction_bits = 1", r"is 2 multiples of 2\^-1: .*; use 2 or more"),
        ("discrete", 'norm = "entry", discrete', "expected 'vector' with discrete"),
        ("discrete", "decay = 0.9, discrete", "expected 1 with discrete"),
        (
            "fraction_bits = 20",
            "fraction_bits = 20, clip = 8.0, ring_bits = 24",
            "overflow 24 bits",
        ),
    ],
)
def test_grids_and_options_that_do_not_fit_are_refused(old, new, said):
    with pytest.raises(ScenarioError, match=said):
        loads(BASE.replace(old, new))
    loads(BASE.replace("fraction_bits = 20", "fraction_bits = 2"))


def test_numbers_that_are_multiplied_before_they_are_clipped_are_refused():
    some = BASE + 'compressor = {kind = "randk", common = true, unbiased = true}\n'
    with pytest.raises(ScenarioError, match=r"compressor\.unbiased: .* raise the server"):
        loads(some)
    loads(some.replace("unbiased = true", "unbiased = false"))
    loads(some.replace("discrete = true", "discrete = false"))
