"""Mixing and participation by what agents have: speed, bandwidth, joules."""

from __future__ import annotations

import numpy as np
import pytest

from p2pfrl.consensus import topologies
from p2pfrl.consensus.mixing.capacity import Capacity
from p2pfrl.consensus.mixing.metropolis import metropolis
from p2pfrl.consensus.participation import RULES as PARTICIPATION
from p2pfrl.consensus.participation.base import Standing
from p2pfrl.consensus.participation.capable import Capable
from p2pfrl.consensus.theory import matrix
from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.resources import Resources
from p2pfrl.laws.runs import play, text
from p2pfrl.scenario import loads
from p2pfrl.scenario.checks.notes import notes

SPEEDS = (1.0, 4.0, 2.0, 8.0)


def graph(kind: str, n: int = 4):
    return topologies.RULES[kind]().at(n, 0, 0)


@pytest.mark.parametrize("kind", ["ring", "star", "path", "complete"])
def test_weights_balance_in_detail_and_are_no_chances_below_zero(kind: str) -> None:
    rows = matrix(Capacity(capacities=SPEEDS).weights(graph(kind)))
    flow = np.array(SPEEDS)[:, None] * rows
    np.testing.assert_allclose(flow, flow.T, rtol=0, atol=1e-15)
    assert rows.min() >= 0.0
    np.testing.assert_allclose(SPEEDS @ rows, SPEEDS, rtol=1e-14)


def test_equal_capacities_are_metropolis() -> None:
    for kind in ("ring", "star"):
        found = Capacity(capacities=(3.0,) * 4).weights(graph(kind))
        np.testing.assert_allclose(matrix(found), matrix(metropolis(graph(kind))), atol=1e-15)


def resources(env_steps: int = 0, bytes_sent: int = 0) -> Resources:
    speed, other = np.array(SPEEDS), np.array([4.0, 3.0, 2.0, 1.0])
    joules, steps = np.array([1.0, 1.0, 9.0, 1.0]), np.full(4, float(env_steps))
    return Resources(speed, other, other, joules, steps, bytes_sent)


@pytest.mark.parametrize(
    ("by", "expected"), [("speed", [1, 3]), ("bandwidth", [0, 1]), ("energy", [1, 3])]
)
def test_the_most_capable_are_asked(by: str, expected: list[int]) -> None:
    rule = Capable(by=by).with_resources(resources(env_steps=5, bytes_sent=2))  # type: ignore[arg-type]
    standing = Standing(1, np.zeros(2))
    assert rule.choose(0, range(4), standing) == expected
    assert rule.choose(0, [0, 2], standing) == ([2] if by == "speed" else [0])


@pytest.mark.parametrize("kind", ["capable", "power_of_choice"])
def test_more_candidates_than_agents_are_refused(kind: str) -> None:
    rule = PARTICIPATION[kind](candidates=5)
    assert rule.misfit(5) is None
    assert rule.misfit(4) == "candidates: expected at most 4, the number of agents, got 5"


def test_candidates_are_drawn_anew_and_the_best_of_them_asked() -> None:
    rule = Capable(fraction=0.25, candidates=2).with_resources(resources())
    asked = [rule.choose(k, range(4), Standing(1, np.zeros(2)))[0] for k in range(300)]
    shares = np.bincount(asked, minlength=4) / 300
    # The best of two of four: agent 3 in 3 of 6 pairs, agent 1 in 2, agent 2 in 1, agent 0 in none.
    np.testing.assert_allclose(shares, [0.0, 2 / 6, 1 / 6, 3 / 6], atol=0.09)


def test_fast_agents_make_rounds_short() -> None:
    tables = {"compute": {"seconds_per_env_step": 1.0, "speed": list(SPEEDS)}}

    def seconds(rule: dict[str, object]) -> float:
        run = play(4, 3, mode="central", coordinator={"participation": rule}, **tables)
        return float(run.summary["virtual_seconds"])

    assert seconds({"kind": "all"}) == pytest.approx(3 * 1.0, abs=0.1)
    assert seconds({"kind": "capable", "fraction": 0.5}) == pytest.approx(3 * 0.25, abs=0.1)
    own = {"kind": "capable", "fraction": 0.5, "values": [0.0, 0.0, 1.0, 1.0]}
    assert seconds(own) == pytest.approx(3 * 0.5, abs=0.1)


def test_capable_agents_of_every_edge_are_asked() -> None:
    tables = {"compute": {"seconds_per_env_step": 1.0, "speed": list(SPEEDS)}}
    participation = {"participation": {"kind": "capable", "fraction": 0.5}}
    run = play(4, 2, mode="hierarchical", coordinator=participation, trace=True, **tables)
    assert run.events is not None
    trained = {event.sender for event in run.events if event.kind == "train"}
    assert trained == {1, 3}


@pytest.mark.parametrize(
    ("mode", "tables", "key"),
    [
        ("gossip", {"mixing": {"kind": "capacity"}}, "mixing.by"),
        (
            "central",
            {"coordinator": {"aggregator": {"kind": "mean", "weights": "bandwidth"}}},
            "coordinator.aggregator.weights",
        ),
        (
            "central",
            {"coordinator": {"participation": {"kind": "capable", "by": "energy"}}},
            "coordinator.participation.by",
        ),
    ],
)
def test_a_note_says_that_agents_are_alike(mode: str, tables: dict[str, object], key: str) -> None:
    said = [note for note in notes(loads(text(4, 2, mode=mode, **tables))) if key in note]  # type: ignore[arg-type]
    assert len(said) == 1
    assert "tells no agents apart" in said[0]
    uneven = {
        "compute": {"speed": list(SPEEDS)},
        "network": {"bandwidth": [1e6, 2e6, 3e6, 4e6]},
        "energy": {"per_byte": [1.0, 2.0, 3.0, 4.0]},
    }
    assert not [n for n in notes(loads(text(4, 2, mode=mode, **tables, **uneven))) if key in n]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("mode", "tables"),
    [
        ("gossip", {"mixing": {"kind": "capacity", "capacities": [1.0, 2.0]}}),
        ("central", {"coordinator": {"participation": {"kind": "capable", "values": [1.0]}}}),
    ],
)
def test_a_number_for_each_agent_is_expected(mode: str, tables: dict[str, object]) -> None:
    with pytest.raises(ScenarioError, match="for each of 4 agents, got"):
        loads(text(4, 2, mode=mode, **tables))  # type: ignore[arg-type]


def test_one_way_edges_are_refused() -> None:
    with pytest.raises(ScenarioError, match="mixing 'capacity' needs an undirected graph"):
        loads(text(4, 2, mixing={"kind": "capacity"}, topology={"kind": "directed_ring"}))
