"""Rows of mixing matrices with many entries: the numbers of a dict, in less space."""

from __future__ import annotations

import numpy as np
import pytest

from p2pfrl.consensus.mixing.base import weighted_sum
from p2pfrl.consensus.mixing.linear import Uniform
from p2pfrl.consensus.mixing.metropolis import Metropolis, metropolis
from p2pfrl.consensus.mixing.rows import Row, compact
from p2pfrl.consensus.topologies.hubs import Complete, Star
from p2pfrl.core.graph import Graph
from p2pfrl.results.files import encode_json
from p2pfrl.results.formats import encode_graph, graph_to_json


def test_a_row_is_equal_to_the_dict_of_its_entries():
    entries = {agent: 1.0 / (3 + agent) for agent in range(0, 200, 3)}
    row = compact(dict(entries))
    assert type(row) is Row
    assert row == entries
    assert entries == row
    assert list(row.items()) == list(entries.items())
    assert list(row.values()) == list(entries.values())
    assert (3, entries[3]) in row.items()
    assert len(row.items()) == len(row.values()) == len(entries)
    assert row[3] == entries[3]
    assert row.get(4) is None
    assert 200 not in row
    with pytest.raises(KeyError):
        row[1]


def test_short_rows_stay_dicts():
    assert type(metropolis(Star().at(20, 1, 0))[0]) is dict


def test_mixing_and_losses_are_those_of_dicts():
    graph = Complete().at(90, 1, 0)
    row = metropolis(graph)[7]
    assert type(row) is Row
    plain = dict(row)
    draws = np.random.default_rng(1).standard_normal((90, 3)).astype(np.float32)
    received = {j: draws[j] for j in range(90) if j != 7}
    own = draws[7]
    np.testing.assert_array_equal(
        weighted_sum(own, received, row), weighted_sum(own, received, plain)
    )
    arrived = dict.fromkeys(range(0, 90, 2), 1.0)
    for on_loss in ("fold", "renormalize"):
        rule = Metropolis(on_loss=on_loss)
        assert rule.effective(row, 7, arrived) == rule.effective(plain, 7, arrived)


def test_uniform_rows_of_a_complete_graph_are_equal_weights():
    row = Uniform().weights(Complete().at(70, 1, 0))[0]
    assert type(row) is Row
    assert set(row.values()) == {1 / 70}


@pytest.mark.parametrize(
    "graph",
    [
        Complete().at(5, 1, 0),
        Graph(((), ())),
        Graph(((1,), ())),
        Graph(()),
        Graph(((1,), (0,)), latency={(0, 1): 0.5}, positions=((0.0, 1.0), (1.0, 0.0))),
    ],
)
def test_graph_json_is_written_row_by_row_as_it_was_at_once(graph):
    members = {-1: tuple(range(graph.n))}
    assert encode_graph(graph, members) == encode_json(graph_to_json(graph, members))
