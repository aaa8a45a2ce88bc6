"""Robust aggregators: equal to slow ones, and what each of them promises."""

import re

import numpy as np
import pytest
import slow_rules
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfrl import ScenarioError, check_aggregator
from p2pfrl.consensus.aggregators import ROBUST
from p2pfrl.consensus.aggregators.base import Arrived
from p2pfrl.consensus.aggregators.clipping import CenteredClipping, CosineTrust, NormClipping
from p2pfrl.consensus.aggregators.concentration import Concentration
from p2pfrl.consensus.aggregators.coordinates import Median, TrimmedMean
from p2pfrl.consensus.aggregators.distances import sorted_rows, squared_distances
from p2pfrl.consensus.aggregators.geometric import GeometricMedian
from p2pfrl.consensus.aggregators.krum import MDA, Bulyan, Krum, MultiKrum
from p2pfrl.consensus.aggregators.robust import bucketing, nearest_neighbors
from p2pfrl.consensus.aggregators.suspects import SuspectScore
from p2pfrl.scenario import loads
from p2pfrl.scenario.checks.notes import notes

WHERE = {
    "concentration": {"sigma": 3.0, "batch": 4},
    "centered_clipping": {"radius": 4.0},
    "norm_clipping": {"radius": 4.0},
}
"""Options with which a rule has an effect on numbers of about 1."""
EQUIVARIANT = [kind for kind in ROBUST if kind not in ("norm_clipping", "cosine_trust")]
INSIDE = ["median", "trimmed_mean"]
PLAIN = ["trimmed_mean", "multi_krum", "bulyan", "mda"]
"""Rules that are the mean where f is 0."""


def aggregate(rule, rows):
    received = [Arrived(i, row, 1.0) for i, row in enumerate(rows)]
    return rule.aggregate(received, np.zeros_like(rows[0]), rule.init(rows[0]))[0]


def rule_of(kind, f=None, **options):
    given = {} if f is None else {"byzantine": f}
    return ROBUST[kind](**given, **WHERE.get(kind, {}), **options)


def most(kind, k):
    return ROBUST[kind]().tolerated(k)


@st.composite
def stacks(draw, least=3, most=40):
    """Draw `(k, d)` vectors: honest ones and up to k / 3 that are far away, in any order."""
    k, d = draw(st.integers(least, most)), draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows = rng.standard_normal((k, d)) + draw(st.sampled_from([0.0, 5.0]))
    far = draw(st.integers(0, k // 3))
    rows[:far] *= draw(st.sampled_from([-2.5, 0.0, 30.0]))
    return rows[rng.permutation(k)]


SLOW = {
    "median": lambda x, f: slow_rules.coordinate_median(x),
    "trimmed_mean": slow_rules.trimmed_mean,
    "geometric_median": lambda x, f: slow_rules.geometric_median(x),
    "krum": slow_rules.krum,
    "multi_krum": slow_rules.multi_krum,
    "bulyan": slow_rules.bulyan,
    "centered_clipping": lambda x, f: slow_rules.centered_clipping(x, 4.0),
    "norm_clipping": lambda x, f: slow_rules.norm_clipping(x, 4.0),
    "cosine_trust": lambda x, f: slow_rules.cosine_trust(x),
    "concentration": lambda x, f: slow_rules.concentration(x, f, 3.0, 0.6, 4),
    "suspect_score": lambda x, f: slow_rules.suspect_score(x),
}


@pytest.mark.parametrize("kind", SLOW)
@settings(max_examples=25)
@given(rows=stacks(), data=st.data())
def test_every_rule_equals_a_slow_one(kind, rows, data):
    if kind == "cosine_trust" and np.abs(rows).sum(axis=1).min() == 0.0:
        rows = rows + 1.0
    f = data.draw(st.integers(0, most(kind, len(rows))))
    expected = SLOW[kind](rows.tolist(), f)
    np.testing.assert_allclose(
        aggregate(rule_of(kind, f), rows), expected, rtol=0, atol=1e-12 * np.abs(rows).max()
    )


@settings(max_examples=25)
@given(rows=stacks(most=10), f=st.integers(0, 4))
def test_mda_is_the_mean_of_a_subset_of_smallest_diameter(rows, f):
    f = min(f, most("mda", len(rows)))
    out = aggregate(rule_of("mda", f), rows)
    means = slow_rules.mda(rows.tolist(), f)
    assert min(np.abs(out - other).max() for other in means) < 1e-12 * max(1.0, np.abs(rows).max())


@given(rows=stacks(), f=st.integers(0, 10))
@settings(max_examples=25)
def test_nearest_neighbors_equal_slow_ones(rows, f):
    f = min(f, len(rows) - 1)
    expected = slow_rules.nearest_neighbors(rows.tolist(), f)
    if len({*map(tuple, rows.tolist())}) == len(rows):
        np.testing.assert_allclose(nearest_neighbors(rows, f), expected, rtol=0, atol=1e-11)


def test_default_radii_are_the_median_length():
    rows = np.random.default_rng(3).standard_normal((9, 4))
    for rule, slow in (
        (CenteredClipping(), slow_rules.centered_clipping),
        (NormClipping(), slow_rules.norm_clipping),
    ):
        np.testing.assert_allclose(aggregate(rule, rows), slow(rows.tolist()), atol=1e-13)
    after = slow_rules.centered_clipping(rows.tolist(), steps=3)
    np.testing.assert_allclose(aggregate(CenteredClipping(steps=3), rows), after, atol=1e-13)


@pytest.mark.parametrize("kind", ROBUST)
def test_every_robust_rule_keeps_the_contract(kind):
    check_aggregator(rule_of(kind), averages=kind in EQUIVARIANT and kind != "concentration")


@pytest.mark.parametrize("kind", ROBUST)
@settings(max_examples=15)
@given(rows=stacks(least=7), random=st.integers(0, 2**32 - 1))
def test_the_order_of_vectors_does_not_matter(kind, rows, random):
    if kind == "cosine_trust":
        return  # it trusts one agent
    rule, order = rule_of(kind, 1), np.random.default_rng(random).permutation(len(rows))
    slack = 1e-11 * np.abs(rows).max()
    if len({*map(tuple, rows.tolist())}) == len(rows):
        np.testing.assert_allclose(aggregate(rule, rows[order]), aggregate(rule, rows), atol=slack)


@pytest.mark.parametrize("kind", EQUIVARIANT)
@settings(max_examples=15)
@given(rows=stacks(least=7), shift=st.floats(-100, 100))
def test_a_common_shift_moves_the_aggregate(kind, rows, shift):
    rule = rule_of(kind, 1)
    moved = aggregate(rule, rows + shift) - aggregate(rule, rows)
    np.testing.assert_allclose(
        moved, shift, rtol=0, atol=2e-7 if kind == "geometric_median" else 1e-10
    )


@pytest.mark.parametrize("kind", ROBUST)
@given(value=st.floats(-1e6, 1e6), k=st.integers(1, 12))
@settings(max_examples=15)
def test_equal_vectors_give_that_vector(kind, value, k):
    row = np.array([value, 1.0, -2.0])
    rule = ROBUST[kind](**({"radius": 1e9} if kind == "norm_clipping" else {}))
    np.testing.assert_allclose(aggregate(rule, np.tile(row, (k, 1))), row, rtol=1e-14, atol=1e-300)


@pytest.mark.parametrize("kind", PLAIN)
@given(rows=stacks())
@settings(max_examples=15)
def test_without_attackers_the_aggregate_is_the_mean(kind, rows):
    np.testing.assert_allclose(aggregate(rule_of(kind, 0), rows), rows.mean(axis=0), atol=1e-13)


@pytest.mark.parametrize("kind", INSIDE)
@given(rows=stacks(), data=st.data(), value=st.sampled_from([-1e300, -3.0, 0.0, 1e300]))
@settings(max_examples=30)
def test_median_and_trimmed_mean_stay_inside_the_honest_hull(kind, rows, data, value):
    f = data.draw(st.integers(0, most(kind, len(rows))))
    honest = rows[f:].copy()
    rows[:f] = value
    out = aggregate(rule_of(kind, f), rows)
    assert (out >= honest.min(axis=0) - 1e-12).all()
    assert (out <= honest.max(axis=0) + 1e-12).all()


@pytest.mark.parametrize("kind", ROBUST)
@pytest.mark.parametrize("pre", [(), ("nearest_neighbors",), ("bucketing", "nearest_neighbors")])
@pytest.mark.parametrize("value", [1e30, 1e300, -3e38])
def test_unbounded_attackers_move_the_aggregate_a_bounded_way(kind, pre, value):
    rng = np.random.default_rng(7)
    for dtype in ("float32", "float64") if abs(value) < 3.4e38 else ("float64",):
        honest = rng.standard_normal((16, 8)).astype(dtype)
        attackers = np.full((3, 8), value, dtype=dtype)
        attackers[1] *= -1
        rows = np.concatenate([honest, attackers])
        out = aggregate(rule_of(kind, 3, pre=pre), rows)
        assert out.dtype == rows.dtype
        assert np.abs(out).max() < 10.0, (kind, pre)


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_a_suspect_pulls_no_more_the_farther_it_is(power):
    """Seven vectors at distance 1 in a ring, and one far away."""
    angles = np.arange(7) * 2 * np.pi / 7
    ring = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    rule = rule_of("suspect_score", power=power)
    near, far = (aggregate(rule, np.concatenate([ring, [[x, 0.0]]])) for x in (1e4, 1e8))
    assert np.linalg.norm(far - near) < 1e-3
    assert np.linalg.norm(far) < 0.3, "its pull is that of a vector at the median distance, or less"


def test_the_mean_of_the_same_vectors_is_not_bounded():
    rows = np.concatenate([np.zeros((10, 2)), np.full((3, 2), 1e30)])
    assert aggregate(rule_of("trimmed_mean", 0), rows).max() > 1e29


def test_nearest_neighbors_and_bucketing_compose_with_any_rule():
    rows = np.random.default_rng(5).standard_normal((11, 4))
    rows[:2] = 50.0
    mixed = nearest_neighbors(rows, 2)
    for kind in ROBUST:
        plain, pre = rule_of(kind, 2), rule_of(kind, 2, pre=("nearest_neighbors",))
        if kind != "cosine_trust":  # its trusted vector stays what it was
            np.testing.assert_allclose(aggregate(pre, rows), aggregate(plain, mixed), atol=1e-14)
        paired = rule_of(kind, 0, pre=("bucketing",))
        if kind != "cosine_trust":
            expected = aggregate(rule_of(kind, 0), bucketing(rows))
            np.testing.assert_allclose(aggregate(paired, rows), expected, atol=1e-14)


def test_buckets_are_pairs_that_depend_on_the_vectors_and_not_on_their_order():
    rows = np.random.default_rng(6).standard_normal((7, 3))
    found = bucketing(rows)
    assert found.shape == (4, 3)
    np.testing.assert_allclose(found[:3].sum(axis=0) * 2 + found[3], rows.sum(axis=0))
    assert np.array_equal(bucketing(rows[::-1]), found)
    assert not np.array_equal(bucketing(rows + 1.0), found + 1.0)


@given(k=st.integers(1, 24), random=st.integers(0, 99))
@settings(max_examples=30)
def test_the_sorting_network_sorts(k, random):
    rows = np.random.default_rng(random).standard_normal((k, 512)).astype(np.float32)
    before = rows.copy()
    assert np.array_equal(sorted_rows(rows), np.sort(rows, axis=0))
    assert np.array_equal(rows, before)


def test_distances_keep_their_digits_beside_a_large_common_part():
    rows = np.random.default_rng(8).standard_normal((5, 6))
    apart = squared_distances(rows)
    np.testing.assert_allclose(squared_distances(rows + 2.0**20), apart, rtol=1e-8)
    assert np.array_equal(apart, apart.T)


def test_krum_counts_squared_distances_to_the_k_minus_f_minus_2_nearest():
    """Squares of squares, or one neighbor more, choose another vector here."""
    x = np.array([[0.0], [1.05], [1.9], [3.2], [3.9], [9.0], [20.0]])
    squares = squared_distances(x)
    by = {
        name: int(np.argmin(np.sort(matrix, axis=1)[:, 1 : 1 + count].sum(axis=1)))
        for name, matrix, count in (
            ("right", squares, 4),
            ("one more", squares, 5),
            ("distances", np.sqrt(squares), 4),
        )
    }
    assert aggregate(Krum(byzantine=1), x)[0] == x[by["right"], 0]


def test_a_trusted_agent_outvotes_a_majority():
    honest, rest = np.array([1.0, 2.0]), np.tile([-5.0, -9.0], (6, 1))
    rows = np.concatenate([honest[None], rest])
    np.testing.assert_allclose(aggregate(CosineTrust(), rows), honest)
    elsewhere = [Arrived(i + 1, row, 1.0) for i, row in enumerate(rows)]
    out = CosineTrust().aggregate(elsewhere, honest, {})[0]
    assert (out < 0).all(), "without agent 0 the median is trusted"


def test_centered_clipping_begins_where_it_ended():
    rows = np.array([[0.0], [1.0], [10.0]])
    received = [Arrived(i, row, 1.0) for i, row in enumerate(rows)]
    rule = CenteredClipping(radius=0.5)
    first, memory = rule.aggregate(received, np.zeros(1), {})
    second, _ = rule.aggregate(received, np.zeros(1), memory)
    assert first == pytest.approx(1.0 + (-0.5 + 0.0 + 0.5) / 3)
    assert second == pytest.approx(first + (-0.5 + 0.0 + 0.5) / 3)
    far, _ = rule.aggregate(received, np.zeros(1), {"last": np.array([100.0])})
    assert far == pytest.approx(99.5)


def test_a_sigma_that_is_too_small_gives_the_median():
    rows = np.array([[0.0], [1.0], [3.0]])
    assert aggregate(Concentration(sigma=1e-6), rows) == pytest.approx(1.0)


BEARS = {
    "median": (7, "2 f + 1"),
    "trimmed_mean": (7, "2 f + 1"),
    "geometric_median": (7, "2 f + 1"),
    "suspect_score": (7, "2 f + 1"),
    "centered_clipping": (7, "2 f + 1"),
    "mda": (7, "2 f + 1"),
    "concentration": (7, "2 f + 1"),
    "krum": (9, "2 f + 3"),
    "multi_krum": (9, "2 f + 3"),
    "bulyan": (15, "4 f + 3"),
}


@pytest.mark.parametrize("kind", BEARS)
def test_each_rule_says_how_many_vectors_it_needs(kind):
    least, formula = BEARS[kind]
    rule = ROBUST[kind](byzantine=3)
    assert rule.shortage(least) is None
    assert f"{formula} = {least} vectors for byzantine = 3" in rule.shortage(least - 1)
    assert (rule.tolerated(least), rule.tolerated(least - 1)) == (3, 2)
    paired = ROBUST[kind](byzantine=3, pre=("bucketing",))
    assert paired.shortage(2 * least - 1) is None
    assert f"2 ({formula}) - 1 = {2 * least - 1}" in paired.shortage(2 * least - 2)


SCENARIO = """
name = "few"
agents = {agents}
mode = "{mode}"
stop = {{rounds = 2}}
learner = {{kind = "quadratic", dimension = 3}}
coordinator = {{aggregator = {{kind = "krum", byzantine = 1}}, participation = {{kind = "{who}"}}}}
{more}
"""


@pytest.mark.parametrize(
    ("agents", "mode", "who", "more", "got"),
    [
        (4, "central", "all", "", 4),
        (8, "central", "uniform", "", 4),
        (8, "central", "all", "schedule = {kind = 'buffered', size = 4}", 4),
        (8, "central", "all", "schedule = {kind = 'asynchronous'}", 1),
        (9, "hierarchical", "all", "hierarchy = {groups = [[0,1,2,3,4], [5,6,7,8]]}", 4),
    ],
)
def test_a_coordinator_with_too_few_vectors_is_refused(agents, mode, who, more, got):
    expected = (
        rf"coordinator.aggregator.*'krum' needs at least 2 f \+ 3 = 5 vectors .* {got} take part"
    )
    with pytest.raises(ScenarioError, match=expected):
        loads(SCENARIO.format(agents=agents, mode=mode, who=who, more=more))


TRUSTING = """
name = "trusting"
agents = 6
mode = "{mode}"
stop = {{rounds = 2}}
exchange = {{payload = "delta"}}
learner = {{kind = "quadratic", dimension = 3}}
coordinator = {{aggregator = {{kind = "cosine_trust", trusted = {trusted}}}}}
{more}
"""


@pytest.mark.parametrize(
    ("mode", "trusted", "more", "said"),
    [
        ("central", 1, "", ""),
        ("central", 2, "attacks = [{kind = 'noise', agents = [2]}]", "make agent 2 Byzantine"),
        ("central", 1, "attacks = [{kind = 'noise', agents = [2]}]", ""),
        ("hierarchical", 1, "hierarchy = {edges = 3}", "2 edges do not hear agent 1"),
    ],
)
def test_an_agent_that_deserves_no_trust_is_noted(mode, trusted, more, said):
    found = notes(loads(TRUSTING.format(mode=mode, trusted=trusted, more=more)))
    lines = [line for line in found if line.startswith("coordinator.aggregator.trusted")]
    assert (said in lines[0]) if said else not lines


def test_an_agent_that_there_is_not_cannot_be_trusted():
    with pytest.raises(ScenarioError, match=r"trusted: there is no agent 6: agents are 0 to 5"):
        loads(TRUSTING.format(mode="central", trusted=6, more=""))


def test_enough_vectors_are_accepted():
    for agents, who, more in (
        (5, "all", ""),
        (10, "uniform", ""),
        (8, "all", "schedule = {kind='buffered', size=5}"),
    ):
        loads(SCENARIO.format(agents=agents, mode="central", who=who, more=more))


def test_options_that_contradict_each_other_are_refused():
    with pytest.raises(ScenarioError, match="set byzantine"):
        Median(pre=("nearest_neighbors",))
    with pytest.raises(ScenarioError, match="twice"):
        Krum(pre=("bucketing", "bucketing"))
    with pytest.raises(ScenarioError, match="12"):
        MDA(byzantine=13)


def test_the_smallest_names_are_those_of_the_table():
    assert {type(ROBUST[kind]()).__name__ for kind in ROBUST} == {
        cls.__name__
        for cls in (
            *(Median, TrimmedMean, GeometricMedian, Krum, MultiKrum, Bulyan, MDA),
            *(CenteredClipping, NormClipping, CosineTrust, Concentration, SuspectScore),
        )
    }
    assert re.fullmatch(r"[a-z_ ]+", " ".join(ROBUST))
