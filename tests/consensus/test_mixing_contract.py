"""Laws of every mixing rule, over all of `RULES` and over graphs of every family."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from p2pfrl.consensus import topologies
from p2pfrl.consensus.mixing import MATRICES, RULES
from p2pfrl.consensus.mixing.check import play
from p2pfrl.consensus.theory import matrix
from p2pfrl.core.errors import TopologyError
from p2pfrl.core.graph import Graph, undirected
from p2pfrl.core.turn import NoMemory, Turn

FAMILIES = sorted(set(topologies.RULES) - {"file"})
SYMMETRIC = ("metropolis", "laplacian", "lazy")
ON_LOSS = ("fold", "renormalize", "last_known", "symmetric")
IN_ROUNDS = [kind for kind, rule in RULES.items() if not rule.is_pairwise]
AGREEING = [kind for kind in IN_ROUNDS if kind != "by_role" and not RULES[kind].is_robust]
"""Rules by which agents agree on their mean: those of two roles never agree."""


def see(
    agent: int, own: np.ndarray, start: np.ndarray | None = None, *, round: int = 0, to=()
) -> Turn:
    """Return what the rule of an agent sees; others know it exactly."""
    start = own if start is None else start
    return Turn(
        agent, round, "update", start, own, 1, 0.0, (), 0.0, (0, agent, round), NoMemory(), own, to
    )


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    kind, n, seed = (
        draw(st.sampled_from(FAMILIES)),
        draw(st.integers(1, 30)),
        draw(st.integers(0, 99)),
    )
    try:
        return topologies.RULES[kind]().at(n, seed, draw(st.integers(0, 3)))
    except TopologyError:
        assume(False)
        raise


@pytest.mark.parametrize("kind", IN_ROUNDS)
@given(graph=graphs())
def test_rows_name_oneself_and_those_heard_in_order_and_rows_or_columns_sum_to_one(kind, graph):
    rule = RULES[kind]()
    rows = rule.weights(graph)
    for i, row in enumerate(rows):
        assert list(row) == sorted({i, *graph.predecessors[i]})
    sums = matrix(rows).sum(axis=0 if rule.is_per_neighbor else 1)
    np.testing.assert_allclose(sums, 1.0, rtol=0, atol=1e-14)


@pytest.mark.parametrize("kind", AGREEING)
@pytest.mark.parametrize(
    ("family", "dtype"),
    [
        ("ring", "float64"),
        ("torus", "float32"),
        *(
            pytest.param(*run, marks=pytest.mark.slow)
            for run in (
                ("star", "float64"),
                ("torus", "float64"),
                ("ring", "float32"),
                ("star", "float32"),
            )
        ),
    ],
)
def test_agents_agree_on_the_mean_of_where_they_began(kind, dtype, family):
    if (kind, family) == ("uniform", "star"):
        pytest.skip("keeps the mean on regular graphs only")
    x = np.random.default_rng(5).standard_normal((9, 3)).astype(dtype)
    rounds = {"ring": 700, "torus": 250, "star": 700}[family]
    rounds = rounds if dtype == "float64" else rounds // 2
    after = play(RULES[kind](), topologies.RULES[family]().at(9, 0, 0), x, rounds)
    np.testing.assert_allclose(
        after, np.tile(x.mean(axis=0), (9, 1)), atol=3e-12 if dtype == "float64" else 1e-4
    )


@pytest.mark.parametrize("kind", AGREEING)
def test_the_mean_moves_as_training_moves_the_agents(kind):
    rng = np.random.default_rng(6)
    x, steps = rng.standard_normal((9, 3)), rng.standard_normal((500, 9, 3))
    steps[20:] = 0.0
    after = play(
        RULES[kind](),
        topologies.RULES["ring"]().at(9, 0, 0),
        x,
        500,
        lambda round, x: x + steps[round],
    )
    np.testing.assert_allclose(after.mean(axis=0), (x + steps.sum(axis=0)).mean(axis=0), atol=1e-11)
    assert np.abs(after - after.mean(axis=0)).max() < 1e-6


@pytest.mark.parametrize("kind", SYMMETRIC)
@given(graph=graphs())
def test_symmetric_rules_are_doubly_stochastic_on_every_undirected_graph_and_refuse_others(
    kind, graph
):
    rule = RULES[kind]()
    if not graph.is_undirected:
        with pytest.raises(TopologyError, match="needs an undirected graph, but agent"):
            rule.check(graph)
        return
    rule.check(graph)
    W = matrix(rule.weights(graph))
    assert np.array_equal(W, W.T)
    assert np.all(W >= 0)
    assert np.allclose(W.sum(axis=0), 1.0, atol=1e-14)
    assert rule.is_doubly_stochastic(graph)


def test_uniform_weights_keep_the_mean_on_regular_graphs_only():
    uniform = RULES["uniform"]()
    for kind in (
        "ring",
        "torus",
        "complete",
        "exponential",
        "one_peer_exponential",
        "directed_ring",
    ):
        graph = topologies.RULES[kind]().at(16, 0, 0)
        uniform.check(graph)
        assert uniform.is_doubly_stochastic(graph)
    assert not uniform.is_doubly_stochastic(topologies.RULES["star"]().at(16, 0, 0))


@pytest.mark.parametrize("kind", MATRICES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_mixing_is_the_sum_in_ascending_order_bit_for_bit_and_keeps_its_inputs(kind, dtype):
    rng = np.random.default_rng(0)
    graph = topologies.RULES["barabasi_albert"]().at(12, 3, 0)
    rule = RULES[kind]()
    x = rng.standard_normal((12, 7)).astype(dtype)
    before = x.copy()
    x.setflags(write=False)
    for i, row in enumerate(rule.weights(graph)):
        state = rule.init(x[i])
        arrivals = {
            int(j): rule.payload(see(j, x[j]), state, i)
            for j in rng.permutation(graph.predecessors[i])
        }
        mixed, _ = rule.mix(see(i, x[i]), arrivals, row, state)
        (first, weight), *rest = sorted(row.items())
        expected = x[first] * weight
        for j, weight in rest:
            expected = expected + x[j] * weight
        assert mixed.dtype == np.dtype(dtype)
        assert np.array_equal(mixed, expected)
        assert not np.shares_memory(mixed, x)
    assert np.array_equal(x, before)


def test_mixing_without_a_payload_that_a_weight_names_is_our_bug():
    x = np.ones((3, 2))
    with pytest.raises(AssertionError):
        RULES["uniform"]().mix(see(0, x[0]), {1: x[1]}, {0: 0.4, 1: 0.3, 2: 0.3}, ())


@pytest.mark.parametrize("kind", MATRICES)
@pytest.mark.parametrize("on_loss", ON_LOSS)
@given(data=st.data())
def test_rows_under_loss_still_sum_to_one(kind, on_loss, data):
    graph = topologies.RULES["erdos_renyi"]().at(12, data.draw(st.integers(0, 9)), 0)
    rule = RULES[kind](on_loss=on_loss)
    i = data.draw(st.integers(0, 11))
    row = rule.weights(graph)[i]
    factors = st.sampled_from([0.0, 0.25, 1.0])
    arrived = data.draw(st.dictionaries(st.sampled_from(graph.predecessors[i]), factors))
    effective = rule.effective(row, i, arrived)
    assert list(effective) == sorted({i, *arrived})
    assert sum(effective.values()) == pytest.approx(1.0, abs=1e-12)
    if on_loss != "renormalize":
        assert all(effective[j] == factor * row[j] for j, factor in arrived.items())


@pytest.mark.parametrize("on_loss", ON_LOSS)
def test_a_full_row_is_used_as_it_stands(on_loss):
    rule = RULES["metropolis"](on_loss=on_loss)
    row = rule.weights(topologies.RULES["torus"]().at(16, 0, 0))[5]
    assert rule.effective(row, 5, {j: 1.0 for j in row if j != 5} | {99: 1.0}) is row


def test_fold_and_renormalize_put_a_missing_weight_where_they_say():
    row = {0: 0.25, 1: 0.5, 2: 0.25}
    assert RULES["uniform"](on_loss="fold").effective(row, 1, {0: 1.0}) == {0: 0.25, 1: 0.75}
    assert RULES["uniform"](on_loss="renormalize").effective(row, 1, {0: 1.0}) == {
        0: 1 / 3,
        1: 2 / 3,
    }
    assert RULES["uniform"](on_loss="fold").effective(row, 1, {0: 0.5, 2: 1.0}) == {
        0: 0.125,
        1: 0.625,
        2: 0.25,
    }
    assert RULES["uniform"](on_loss="renormalize").effective(row, 1, {}) == {1: 1.0}
    assert RULES["uniform"](on_loss="renormalize").effective({0: 0.0, 1: 1.0}, 0, {}) == {0: 1.0}


def test_symmetric_loss_keeps_the_mean_and_one_sided_loss_does_not():
    rng = np.random.default_rng(1)
    graph = topologies.RULES["ring"]().at(16, 0, 0)
    x = rng.standard_normal((16, 3))
    rule = RULES["metropolis"](on_loss="symmetric")
    rows = rule.weights(graph)

    def mean_after(lost: set[tuple[int, int]]) -> np.ndarray:
        mixed = []
        for i, row in enumerate(rows):
            arrived = {j: 1.0 for j in graph.predecessors[i] if (j, i) not in lost}
            mixed.append(
                rule.mix(
                    see(i, x[i]), {j: x[j] for j in arrived}, rule.effective(row, i, arrived), ()
                )[0]
            )
        return np.mean(mixed, axis=0)

    assert np.allclose(mean_after({(3, 4), (4, 3), (9, 10), (10, 9)}), x.mean(axis=0), atol=1e-15)
    assert np.abs(mean_after({(3, 4)}) - x.mean(axis=0)).max() > 1e-3


@pytest.mark.parametrize(
    ("kind", "bound", "best"), [("ring", 0.5, 0.4817), ("star", 0.125, 2 / 17)]
)
def test_laplacian_converges_below_its_bound_and_refuses_it(kind, bound, best):
    graph = topologies.RULES[kind]().at(16, 0, 0)
    RULES["laplacian"](alpha=0.999 * bound).check(graph)
    for alpha in (bound, 1.01 * bound):
        with pytest.raises(TopologyError, match=rf"\(0, 2/lambda_max\) = \(0, {bound}\)"):
            RULES["laplacian"](alpha=alpha).check(graph)
    for alpha, grows in ((0.99 * bound, False), (1.01 * bound, True)):
        largest = np.sort(
            np.abs(np.linalg.eigvalsh(matrix(RULES["laplacian"](alpha=alpha).weights(graph))))
        )
        assert (largest[-1] > 1.0 + 1e-9) == grows
    rates = [
        np.sort(np.abs(np.linalg.eigvalsh(matrix(RULES["laplacian"](alpha=a).weights(graph)))))[-2]
        for a in (0.98 * best, best, 1.02 * best)
    ]
    assert rates[1] < min(rates[0], rates[2])


def test_laplacian_mixes_by_its_formula():
    graph = undirected(3, [(0, 1), (1, 2)])
    x = np.array([[1.0], [2.0], [6.0]])
    row = RULES["laplacian"](alpha=0.2).weights(graph)[1]
    mixed, _ = RULES["laplacian"](alpha=0.2).mix(see(1, x[1]), {0: x[0], 2: x[2]}, row, ())
    assert mixed == pytest.approx(2.0 + 0.2 * (1.0 - 2.0 + 6.0 - 2.0))
    assert RULES["laplacian"]().step(graph) == 1 / 3


def test_renormalizing_negative_weights_is_refused():
    graph = topologies.RULES["ring"]().at(7, 0, 0)
    with pytest.raises(TopologyError, match=r"alpha at most 0\.5"):
        RULES["laplacian"](alpha=0.51, on_loss="renormalize").check(graph)
    RULES["laplacian"](alpha=0.51).check(graph)


def test_symmetric_loss_needs_links_that_have_two_ends():
    with pytest.raises(TopologyError, match="on_loss = 'symmetric' needs an undirected graph"):
        RULES["uniform"](on_loss="symmetric").check(topologies.RULES["directed_ring"]().at(5, 0, 0))


def test_a_refusal_names_the_nodes_of_a_graph_file():
    graph = Graph(((1,), (2,), (0,)), labels=("Oslo", "Rome", "Bern"))
    with pytest.raises(
        TopologyError, match=r"agent 0 \(Oslo\) sends to 1 \(Rome\) and receives nothing from it"
    ):
        RULES["metropolis"]().check(graph)


def test_by_role_averages_within_roles_and_hears_the_others():
    graph = undirected(5, [(i, j) for i in range(5) for j in range(i)])
    rows = matrix(RULES["by_role"](roles=2).weights(graph))
    expected = np.zeros((5, 5))
    expected[np.ix_([0, 2, 4], [0, 2, 4])], expected[np.ix_([1, 3], [1, 3])] = 1 / 3, 1 / 2
    np.testing.assert_allclose(rows, expected, atol=1e-15)


def test_lazy_weights_have_no_negative_eigenvalue_and_zero_laziness_is_metropolis():
    graph = topologies.RULES["star"]().at(9, 0, 0)
    assert np.linalg.eigvalsh(matrix(RULES["lazy"]().weights(graph))).min() >= 0
    assert RULES["lazy"](laziness=0.0).weights(graph) == RULES["metropolis"]().weights(graph)
