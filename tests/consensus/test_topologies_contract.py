"""Laws of every topology: what the contract promises, over all of `RULES`."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfrl.consensus.topologies import RULES
from p2pfrl.consensus.topologies.base import Topology, TopologyView
from p2pfrl.core.errors import TopologyError
from p2pfrl.core.graph import Graph

GENERATED = sorted(set(RULES) - {"file"})
STATIC_RANDOM = (
    "barabasi_albert",
    "erdos_renyi",
    "random_geometric",
    "random_regular",
    "watts_strogatz",
)


def graph_or_refusal(topology: Topology, n: int, seed: int, round: int) -> Graph | None:
    try:
        return topology.at(n, seed, round)
    except TopologyError:
        return None


@pytest.mark.parametrize("kind", GENERATED)
@given(n=st.integers(1, 40), seed=st.integers(0, 2**31), round=st.integers(0, 9))
def test_a_graph_is_a_pure_function_of_size_seed_and_round(kind, n, seed, round):
    first, again = (graph_or_refusal(RULES[kind](), n, seed, round) for _ in range(2))
    assert first == again
    if first is None:
        return
    assert first.n == n
    for i, receivers in enumerate(first.successors):
        assert list(receivers) == sorted(set(receivers))
        assert i not in receivers
        assert all(0 <= j < n for j in receivers)


@pytest.mark.parametrize("kind", GENERATED)
@given(n=st.integers(1, 40), seed=st.integers(0, 2**31))
def test_the_union_over_rounds_is_connected_and_holds_every_round(kind, n, seed):
    topology = RULES[kind]()
    if graph_or_refusal(topology, n, seed, 0) is None:
        return
    view = TopologyView(topology, n, seed)
    assert view.union.islands == topology.islands
    assert view.union.is_connected == (topology.islands == 1)
    links = set(view.union.edges)
    for round in range(view.period or 5):
        assert set(view.at(round).edges) <= links
    if view.period is not None:
        assert view.at(view.period + 1) == view.at(1 % view.period)
        assert topology.at(n, seed, view.period + 1) == view.at(1 % view.period)


@pytest.mark.parametrize("kind", GENERATED)
def test_one_agent_has_no_edges_or_is_refused(kind):
    graph = graph_or_refusal(RULES[kind](), 1, 0, 0)
    assert graph is None or graph.successors == ((),)
    assert (graph is None) == (
        kind in {"random_regular", "watts_strogatz", "barabasi_albert", "islands"}
    )


@pytest.mark.parametrize("kind", STATIC_RANDOM)
def test_random_graphs_depend_on_the_seed_but_not_on_the_round(kind):
    topology = RULES[kind]()
    assert topology.at(24, 1, 0) == topology.at(24, 1, 7)
    assert len({topology.at(24, seed, 0).successors for seed in range(5)}) == 5


def test_fresh_draws_differ_from_round_to_round_and_are_cached():
    view = TopologyView(RULES["random_matchings"](), 16, 3)
    assert len({view.at(round).successors for round in range(20)}) == 20
    assert view.at(100) is view.at(100)
    periodic = TopologyView(RULES["one_peer_exponential"](), 16, 3)
    assert periodic.at(1) is periodic.at(1_000_001)


@pytest.mark.parametrize("n", [15, 16])
def test_a_matching_gives_every_agent_at_most_one_partner(n):
    view = TopologyView(RULES["random_matchings"](), n, 5)
    for round in range(20):
        assert sorted(map(len, view.at(round).successors)) == [0] * (n % 2) + [1] * (n - n % 2)


@pytest.mark.parametrize(
    ("kind", "n", "edges"),
    [
        ("ring", 16, 16),
        ("ring", 2, 1),
        ("path", 16, 15),
        ("star", 16, 15),
        ("complete", 16, 120),
        ("grid", 12, 17),
        ("torus", 16, 32),
        ("torus", 8, 12),
        ("hypercube", 16, 32),
        ("tree", 15, 14),
        ("dumbbell", 10, 21),
        ("random_regular", 16, 32),
        ("watts_strogatz", 16, 32),
        ("barabasi_albert", 16, 28),
    ],
)
def test_graphs_have_their_number_of_edges(kind, n, edges):
    graph = RULES[kind]().at(n, 0, 0)
    assert graph.is_undirected
    assert len(graph.edges) == 2 * edges


@pytest.mark.parametrize(
    ("kind", "options", "n", "says"),
    [
        ("torus", {}, 7, "6 or 8 would fit"),
        ("grid", {}, 13, "12 or 14 would fit"),
        ("torus", {"rows": 3}, 16, "15 or 18 would fit"),
        ("hypercube", {}, 12, "8 or 16 would fit"),
        ("random_regular", {"degree": 3}, 7, "6 or 8 agents would fit"),
        ("random_regular", {"degree": 4}, 4, "5 agents would fit"),
        ("watts_strogatz", {"neighbors": 8}, 8, "at least 9 agents"),
        ("barabasi_albert", {"attach": 5}, 5, "at least 6 agents"),
        ("dumbbell", {"bridges": 4}, 6, "at least 8 agents"),
        ("erdos_renyi", {"probability": 0.01}, 20, "raise topology.probability above"),
        ("random_geometric", {"radius": 0.01}, 20, "raise topology.radius above"),
    ],
)
def test_a_size_that_does_not_fit_is_refused_saying_what_would(kind, options, n, says):
    with pytest.raises(TopologyError, match=says):
        RULES[kind](**options).at(n, 0, 0)


def test_a_tree_gives_every_agent_its_parent():
    for branching, parents in (
        (1, [0, 1, 2, 3, 4, 5]),
        (2, [0, 0, 1, 1, 2, 2]),
        (3, [0, 0, 0, 1, 1, 1]),
    ):
        graph = RULES["tree"](branching=branching).at(7, 0, 0)
        assert [graph.successors[i][0] for i in range(1, 7)] == parents


def test_exponential_graphs_hear_powers_of_two_ahead():
    assert RULES["exponential"]().at(12, 0, 0).predecessors[3] == (4, 5, 7, 11)
    hearing = [
        RULES["one_peer_exponential"]().at(12, 0, round).predecessors[3] for round in range(5)
    ]
    assert hearing == [(4,), (5,), (7,), (11,), (4,)]


def test_a_directed_ring_sends_one_way():
    graph = RULES["directed_ring"]().at(5, 0, 0)
    assert graph.successors == ((1,), (2,), (3,), (4,), (0,))
    assert not graph.is_undirected


def test_geometric_links_are_the_pairs_within_the_radius_and_take_latency_from_length():
    graph = RULES["random_geometric"](radius=0.4, latency_per_unit="10ms").at(30, 2, 0)
    for i in range(30):
        near = {
            j
            for j in range(30)
            if j != i and math.dist(graph.positions[i], graph.positions[j]) <= 0.4
        }
        assert near == set(graph.successors[i])
    for (i, j), seconds in graph.latency.items():
        assert seconds == pytest.approx(0.01 * math.dist(graph.positions[i], graph.positions[j]))
    assert set(graph.latency) == set(graph.edges)


def test_an_erdos_renyi_graph_has_its_density():
    graphs = [RULES["erdos_renyi"](probability=0.3).at(60, seed, 0) for seed in range(20)]
    assert sum(len(graph.edges) for graph in graphs) / (20 * 60 * 59) == pytest.approx(
        0.3, abs=0.01
    )


def test_rewiring_keeps_the_edges_and_zero_keeps_the_lattice():
    lattice = RULES["watts_strogatz"](rewire=0.0).at(20, 0, 0)
    rewired = RULES["watts_strogatz"](rewire=0.5).at(20, 0, 0)
    assert lattice.successors[5] == (3, 4, 6, 7)
    assert len(rewired.edges) == len(lattice.edges)
    assert rewired != lattice


@pytest.mark.parametrize(
    ("agents", "neighbors"),
    [
        ("consecutive", ((1, 2), (0, 2), (0, 1), (4, 5), (3, 5), (3, 4))),
        ("alternate", ((2, 4), (3, 5), (0, 4), (1, 5), (0, 2), (1, 3))),
    ],
)
def test_islands_have_one_graph_each_and_no_edge_between_them(agents, neighbors):
    islands = RULES["islands"](count=2, agents=agents, graph=RULES["complete"]())
    assert islands.at(6, 0, 0).successors == neighbors
    assert TopologyView(islands, 6, 0).union.islands == 2


def test_islands_take_over_rounds_and_latencies_of_their_graph():
    changing = RULES["islands"](count=3, graph=RULES["one_peer_exponential"]())
    view = TopologyView(changing, 12, 0)
    assert view.period == 2
    assert view.at(0) != view.at(1)
    assert view.union.islands == 3
    far = RULES["random_geometric"](radius=2.0, latency_per_unit="1s")
    islands = RULES["islands"](count=2, agents="alternate", graph=far).at(6, 5, 0)
    assert islands.latency[0, 4] == islands.latency[1, 5] == far.at(3, 5, 0).latency[0, 2]


@pytest.mark.parametrize(
    ("n", "graph", "complaint"),
    [
        (5, "ring", r"topology.count: 5 agents cannot form 2 equal islands; 4 or 6 can"),
        (6, "hypercube", r"topology.graph: a hypercube has a power of two of agents, got 3"),
        (4, "random_regular", r"topology.graph.degree: no connected graph of 2 agents"),
    ],
)
def test_islands_say_which_agents_would_fit(n, graph, complaint):
    with pytest.raises(TopologyError, match=complaint):
        RULES["islands"](count=2, graph=RULES[graph]()).at(n, 0, 0)
