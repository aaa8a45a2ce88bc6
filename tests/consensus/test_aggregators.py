import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from p2pfrl.consensus.aggregators import RULES
from p2pfrl.consensus.aggregators.base import Arrived
from p2pfrl.consensus.aggregators.mean import Mean
from p2pfrl.consensus.staleness import RULES as STALENESS
from p2pfrl.consensus.staleness import Constant, Hinge, Polynomial

stacks = st.integers(1, 6).flatmap(
    lambda k: arrays(np.float64, (k, 5), elements=st.floats(-1e6, 1e6))
)
AVERAGES = ("mean", "preferred", "latest")


def aggregate(rule, rows, samples=None):
    samples = [1.0] * len(rows) if samples is None else samples
    received = [
        Arrived(i, row, weight) for i, (row, weight) in enumerate(zip(rows, samples, strict=True))
    ]
    model = np.zeros_like(rows[0])
    return rule.aggregate(received, model, rule.init(model))[0]


@pytest.mark.parametrize("kind", AVERAGES)
@given(rows=stacks, data=st.data())
def test_every_aggregate_lies_between_its_inputs_follows_shifts_and_changes_nothing(
    kind, rows, data
):
    samples = data.draw(
        st.lists(st.integers(0, 9).map(float), min_size=len(rows), max_size=len(rows))
    )
    rule, before = RULES[kind](), rows.copy()
    rows.setflags(write=False)
    out = aggregate(rule, list(rows), samples)
    assert out.dtype == rows.dtype
    assert not np.shares_memory(out, rows)
    assert np.array_equal(rows, before)
    assert (out >= rows.min(axis=0) - 1e-6).all()
    assert (out <= rows.max(axis=0) + 1e-6).all()
    assert np.allclose(aggregate(rule, list(rows + 3.0), samples), out + 3.0, atol=1e-6)


def test_the_mean_weighs_alike_or_by_samples():
    rows = [np.array([1.0]), np.array([4.0]), np.array([10.0])]
    assert aggregate(Mean(), rows, [1.0, 1.0, 8.0]) == pytest.approx(5.0)
    assert aggregate(Mean(weights="samples"), rows, [1.0, 1.0, 8.0]) == pytest.approx(8.5)
    assert aggregate(Mean(weights="samples"), rows, [0.0, 0.0, 5.0]) == pytest.approx(10.0)
    assert aggregate(Mean(weights="samples"), rows, [0.0, 0.0, 0.0]) == pytest.approx(5.0)


def test_float32_stays_float32_and_the_sum_runs_in_order_bit_for_bit():
    rows = list(np.random.default_rng(0).standard_normal((7, 9)).astype(np.float32))
    expected = rows[0] * (1 / 7)
    for row in rows[1:]:
        expected = expected + row * (1 / 7)
    out = aggregate(Mean(), rows)
    assert out.dtype == np.float32
    assert np.array_equal(out, expected)


@given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=5),
    random=st.integers(0, 2**32 - 1),
)
def test_a_tree_of_means_by_samples_is_the_mean_by_samples(sizes, random):
    rng, rule = np.random.default_rng(random), Mean(weights="samples")
    groups = [
        (rng.standard_normal((size, 6)), rng.integers(1, 100, size).astype(float)) for size in sizes
    ]
    edges = [aggregate(rule, list(rows), list(samples)) for rows, samples in groups]
    tree = aggregate(rule, edges, [samples.sum() for _, samples in groups])
    flat = aggregate(
        rule,
        [row for rows, _ in groups for row in rows],
        [n for _, samples in groups for n in samples],
    )
    assert np.abs(tree - flat).max() <= 1e-12


@pytest.mark.parametrize("kind", STALENESS)
@given(tau=st.integers(0, 10**6))
def test_staleness_factors_are_one_for_fresh_payloads_and_never_grow(kind, tau):
    rule = STALENESS[kind]()
    assert rule.factor(0) == 1.0
    assert 0.0 < rule.factor(tau + 1) <= rule.factor(tau) <= 1.0


def test_staleness_factors_are_those_of_fedasync():
    assert Constant().factor(50) == 1.0
    assert Polynomial(power=0.5).factor(8) == pytest.approx(1 / 3)
    assert Polynomial(power=1.0).factor(3) == pytest.approx(0.25)
    assert Hinge(slope=10.0, grace=4).factor(4) == 1.0
    assert Hinge(slope=10.0, grace=4).factor(6) == pytest.approx(1 / 21)
