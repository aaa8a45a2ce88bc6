"""Robust mixing: equal to slow rules in every neighborhood, bounded, refused where it fails."""

import numpy as np
import pytest
import slow_rules
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfrl import ScenarioError, check_mixing
from p2pfrl.consensus import topologies
from p2pfrl.consensus.aggregators import ROBUST
from p2pfrl.consensus.aggregators.base import Arrived
from p2pfrl.consensus.aggregators.clipping import CosineTrust
from p2pfrl.consensus.mixing import RULES
from p2pfrl.consensus.mixing.robust import Bridge, ClippedGossip, Neighborhood
from p2pfrl.core.contract import turn_of
from p2pfrl.core.errors import TopologyError
from p2pfrl.core.graph import Graph, undirected
from p2pfrl.scenario import loads

KINDS = ("neighborhood", "bridge", "clipped_gossip")


def complete(n: int) -> Graph:
    return undirected(n, [(i, j) for i in range(n) for j in range(i)])


def mix(rule, vectors, me=0, start=None, factors=None):
    """Return agent `me`'s vector after mixing with all others."""
    graph = complete(len(vectors))
    row = rule.weights(graph)[me]
    others = {j: vectors[j] for j in range(len(vectors)) if j != me}
    if factors is not None:
        row = rule.effective(row, me, factors)
        others = {j: vectors[j] for j in factors}
    own = vectors[me]
    return rule.mix(turn_of(me, own, own if start is None else start), others, row, ())[0]


@st.composite
def neighborhoods(draw):
    k, d = draw(st.integers(4, 14)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows = rng.standard_normal((k, d))
    rows[1 : 1 + draw(st.integers(0, k // 3))] *= 20.0
    return rows


@pytest.mark.parametrize("kind", KINDS)
def test_robust_mixing_keeps_the_contract(kind):
    check_mixing(RULES[kind](), complete(5), keeps_mean=False)


@pytest.mark.parametrize("kind", [kind for kind in ROBUST if kind not in ("cosine_trust",)])
@given(rows=neighborhoods())
@settings(max_examples=10)
def test_a_neighborhood_aggregates_as_a_coordinator_does(kind, rows):
    rule = ROBUST[kind]()
    out = mix(Neighborhood(aggregator=rule), rows)
    received = [Arrived(i, row, 1.0) for i, row in enumerate(rows)]
    if kind == "norm_clipping":  # it clips around the agent's own vector
        expected = (
            rows[0]
            + rule.aggregate(
                [Arrived(i, row - rows[0], 1.0) for i, row in enumerate(rows)], rows[0], {}
            )[0]
        )
    else:
        memory = {"last": rows[0]} if kind == "centered_clipping" else {}
        expected = rule.aggregate(received, rows[0], memory)[0]
    np.testing.assert_allclose(out, expected, rtol=0, atol=1e-12 * np.abs(rows).max())


def test_a_neighbor_that_goes_the_other_way_is_not_trusted():
    start = np.array([10.0, 10.0])
    rows = start + np.array([[1.0, 0.0], [-50.0, 0.0], [3.0, 0.0]])
    out = mix(Neighborhood(aggregator=CosineTrust()), rows, start=start)
    np.testing.assert_allclose(out, start + np.array([1.0, 0.0]))


@given(rows=neighborhoods(), b=st.integers(0, 6))
@settings(max_examples=25)
def test_bridge_equals_a_slow_one(rows, b):
    k, b = len(rows) - 1, min(b, (len(rows) - 2) // 2)
    out = mix(Bridge(byzantine=b), rows)
    kept = k - 2 * b
    screened = slow_rules.trimmed_mean(rows[1:].tolist(), b)
    expected = [(kept * s + own) / (kept + 1) for s, own in zip(screened, rows[0], strict=True)]
    np.testing.assert_allclose(out, expected, rtol=0, atol=1e-12 * np.abs(rows).max())
    median = mix(Bridge(byzantine=b, screen="median"), rows)
    expected = slow_rules.coordinate_median(rows.tolist())
    np.testing.assert_allclose(median, expected, rtol=0, atol=1e-12)


@given(rows=neighborhoods(), b=st.integers(0, 12))
@settings(max_examples=25)
def test_clipped_gossip_equals_a_slow_one(rows, b):
    own, others, w = rows[0].tolist(), rows[1:].tolist(), 1.0 / len(rows)
    moves = [[a - c for a, c in zip(x, own, strict=True)] for x in others]
    lengths = sorted((slow_rules.distance(x, own) for x in others), reverse=True)

    def expected(tau):
        shorter = [slow_rules.clip(move, tau) for move in moves]
        return [
            c + w * sum(column) for c, column in zip(own, zip(*shorter, strict=True), strict=True)
        ]

    slack = 1e-12 * np.abs(rows).max()
    adaptive = mix(ClippedGossip(byzantine=b), rows)
    tau = lengths[b] if b < len(lengths) else 0.0
    np.testing.assert_allclose(adaptive, expected(tau), rtol=0, atol=slack)
    fixed = mix(ClippedGossip(radius=1.5), rows)
    np.testing.assert_allclose(fixed, expected(1.5), rtol=0, atol=slack)
    honest = sum(w * slow_rules.distance(x, own) ** 2 for x in others[1:])
    oracle = mix(ClippedGossip(attackers=(1,)), rows)
    np.testing.assert_allclose(oracle, expected((honest / w) ** 0.5), rtol=0, atol=slack)
    plain = mix(ClippedGossip(attackers=()), rows)
    np.testing.assert_allclose(plain, rows.mean(axis=0), rtol=0, atol=slack)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [1e30, 1e300, -3e38])
def test_an_unbounded_neighbor_moves_an_agent_a_bounded_way(kind, value):
    rng = np.random.default_rng(9)
    for dtype in ("float32", "float64") if abs(value) < 3e38 else ("float64",):
        rows = rng.standard_normal((6, 4)).astype(dtype)
        rows[2] = value
        out = mix(RULES[kind](), rows)
        assert out.dtype == rows.dtype
        assert np.abs(out).max() < 5.0
    assert np.abs(mix(RULES["uniform"](), rows)).max() > 1e29


@pytest.mark.parametrize("kind", KINDS)
def test_missing_and_stale_vectors_count_less(kind):
    rule, rows = RULES[kind](), np.random.default_rng(2).standard_normal((6, 3))
    alone = mix(rule, rows, factors={})
    np.testing.assert_allclose(alone, rows[0], atol=1e-15)
    without = mix(rule, rows, factors={1: 1.0, 2: 1.0, 3: 1.0, 4: 1.0})
    fewer = mix(RULES[kind](), rows[:5])
    if kind != "clipped_gossip":  # there the weight of the missing one stays with the agent
        np.testing.assert_allclose(without, fewer, atol=1e-15)
    stale = mix(rule, rows, factors={j: 0.5 if j == 3 else 1.0 for j in range(1, 6)})
    nearer = rows.copy()
    nearer[3] = (rows[0] + rows[3]) / 2
    if kind != "clipped_gossip":
        np.testing.assert_allclose(stale, mix(rule, nearer), atol=1e-14)
    assert not np.array_equal(stale, mix(rule, rows))


def test_clipped_gossip_with_one_radius_keeps_the_mean():
    graph = topologies.RULES["torus"]().at(9, 0, 0)
    check_mixing(ClippedGossip(radius=0.5), graph)
    assert ClippedGossip(radius=0.5).is_doubly_stochastic(graph)
    assert not ClippedGossip().is_doubly_stochastic(graph)


def test_delta_max_is_the_largest_weight_of_byzantine_neighbors():
    graph = complete(13)
    assert ClippedGossip(byzantine=3).delta_max(graph) == pytest.approx(3 / 13)
    assert ClippedGossip(attackers=(0, 1, 2)).delta_max(graph) == pytest.approx(3 / 13)
    ring = topologies.RULES["ring"]().at(9, 0, 0)
    assert ClippedGossip(attackers=(4,)).delta_max(ring) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("rule", "family", "reason"),
    [
        (Bridge(byzantine=1), "ring", r"2 b \+ 1 = 3 neighbors .* agent 0 receives from 2"),
        (
            Neighborhood(aggregator=ROBUST["krum"]()),
            "ring",
            r"hears 2, needs at least 2 f \+ 3 = 5",
        ),
        (Neighborhood(aggregator=ROBUST["bulyan"]()), "torus", r"4 f \+ 3 = 7 vectors"),
        (Neighborhood(aggregator=ROBUST["median"](byzantine=2)), "ring", r"2 f \+ 1 = 5 vectors"),
        (ClippedGossip(byzantine=2), "ring", r"it would trust none of them"),
        (ClippedGossip(), "directed_ring", r"needs an undirected graph"),
        (ClippedGossip(attackers=(99,)), "torus", r"expected agents below 16, got 99"),
    ],
)
def test_graphs_with_too_few_neighbors_are_refused(rule, family, reason):
    with pytest.raises(TopologyError, match=reason):
        rule.check(topologies.RULES[family]().at(16, 0, 0))


def test_graphs_with_enough_neighbors_are_accepted():
    torus = topologies.RULES["torus"]().at(16, 0, 0)
    for rule in (
        Bridge(byzantine=1),
        Neighborhood(aggregator=ROBUST["krum"]()),
        Neighborhood(aggregator=ROBUST["median"](byzantine=2)),
        ClippedGossip(byzantine=3),
    ):
        rule.check(torus)


def test_radius_and_attackers_exclude_each_other():
    with pytest.raises(ScenarioError, match="give one of them"):
        ClippedGossip(radius=1.0, attackers=(1,))


SCENARIO = """
name = "few"
agents = 16
stop = {{rounds = 2}}
learner = {{kind = "quadratic", dimension = 3}}
topology = {{kind = "torus"}}
mixing = {mixing}
"""


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ('mixing = {kind = "bridge"}', "attacks make 2 neighbors of an honest agent"),
        ('mixing = {kind = "neighborhood"}', None),
        (
            'mode = "central"\ncoordinator = {aggregator = {kind = "krum", byzantine = 1}}',
            "attacks make 2 agents Byzantine, and coordinator.aggregator bears 1",
        ),
        ('mode = "central"\ncoordinator = {aggregator = {kind = "median"}}', None),
    ],
)
def test_more_attackers_than_a_rule_bears_are_noted(more, said):
    from p2pfrl.scenario.checks.notes import notes

    text = SCENARIO.replace("mixing = {mixing}", "{more}").format(more=more)
    text += 'attacks = [{kind = "noise", agents = [1, 4]}]\n'
    lines = [line for line in notes(loads(text)) if "may be taken anywhere" in line]
    assert (said in lines[0]) if said else not lines


@pytest.mark.parametrize(
    ("mixing", "said"),
    [
        ('{kind = "clipped_gossip"}', "delta_max = 0.2, and the spectral gap of W squared is 0.16"),
        ('{kind = "bridge"}', "bears 1 Byzantine among the 4 neighbors"),
        ('{kind = "neighborhood"}', "bears 2 Byzantine among the 4 neighbors"),
    ],
)
def test_notes_say_what_a_neighborhood_bears(mixing, said):
    from p2pfrl.scenario.checks.notes import notes

    lines = [*notes(loads(SCENARIO.format(mixing=mixing)))]
    assert any(said in line for line in lines), lines
