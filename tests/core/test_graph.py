import networkx as nx
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from p2pfrl.core.errors import TopologyError
from p2pfrl.core.graph import Graph, directed, path_latency, undirected, union


@st.composite
def edges(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]]]:
    n = draw(st.integers(1, 7))
    pairs = st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)).filter(lambda e: e[0] != e[1])
    return n, draw(st.lists(pairs, max_size=15)) if n > 1 else []


@given(edges())
def test_predecessors_are_the_successors_turned_round_and_both_ascend(case):
    n, pairs = case
    graph = directed(n, pairs)
    assert graph.edges == tuple(sorted(set(pairs)))
    assert sorted((i, j) for j, heard in enumerate(graph.predecessors) for i in heard) == list(
        graph.edges
    )
    assert all(
        list(agents) == sorted(agents) for agents in (*graph.successors, *graph.predecessors)
    )


@given(edges())
def test_connectedness_is_that_of_networkx(case):
    n, pairs = case
    D = nx.DiGraph(pairs)
    D.add_nodes_from(range(n))
    assert directed(n, pairs).is_connected == nx.is_strongly_connected(D)
    assert undirected(n, pairs).is_connected == nx.is_connected(D.to_undirected())
    assert undirected(n, pairs).is_undirected
    assert directed(n, pairs).is_undirected == all((j, i) in set(pairs) for i, j in pairs)


@given(edges(), st.data())
def test_path_latencies_are_those_of_networkx(case, data):
    n, pairs = case
    graph = undirected(n, pairs)
    assume(graph.is_connected)
    latency = {
        e: data.draw(st.integers(1, 9)) / 8 for e in sorted({tuple(sorted(p)) for p in pairs})
    }
    both = latency | {(j, i): s for (i, j), s in latency.items()}
    G = nx.Graph()
    G.add_nodes_from(range(n))
    G.add_weighted_edges_from((i, j, s) for (i, j), s in latency.items())
    expected = nx.single_source_dijkstra_path_length(G, 0)
    assert path_latency(Graph(graph.successors, both), 0) == tuple(expected[i] for i in range(n))


def test_an_unreachable_agent_and_a_self_loop_are_errors_that_name_it():
    with pytest.raises(TopologyError, match="no path leads from agent 0 to agent 2"):
        path_latency(undirected(3, [(0, 1)]), 0)
    with pytest.raises(TopologyError, match="agent 1 has an edge to itself"):
        directed(3, [(0, 1), (1, 1)])


def test_a_union_has_all_edges_and_the_latencies_of_all():
    first = Graph(((1,), (), ()), {(0, 1): 0.5}, {}, ((0.0, 0.0),) * 3, ("a", "b", "c"))
    second = Graph(((2,), (0,), ()), {(0, 2): 0.25}, {(1, 0): 9.0})
    both = union([first, second])
    assert both.successors == ((1, 2), (0,), ())
    assert both.latency == {(0, 1): 0.5, (0, 2): 0.25}
    assert both.bandwidth == {(1, 0): 9.0}
    assert both.name(1) == "1 (b)"
    assert second.name(1) == "1"
