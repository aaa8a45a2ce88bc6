"""What a coordinator's standbys may be: a refusal names the key, the reason and what to do."""

from __future__ import annotations

import pytest

from p2pfrl.core.errors import ScenarioError
from p2pfrl.laws.runs import Table, text
from p2pfrl.scenario import loads

REFUSED: dict[str, tuple[str, dict[str, Table], str]] = {
    "gossip": ("gossip", {}, "mode 'gossip' has no coordinator that standbys could replace"),
    "hierarchical": ("hierarchical", {}, "mode 'hierarchical' has no coordinator that standbys"),
    "one": ("central", {"coordinator": {"standbys": 1}}, "2 voters: expected 2 or 4 standbys"),
    "three": ("central", {"coordinator": {"standbys": [1, 2, 3]}}, "4 voters: expected 2 or 4"),
    "six": ("central", {"coordinator": {"standbys": 6}}, "7 voters: expected 2 or 4 standbys"),
    "unknown": ("central", {"coordinator": {"standbys": [1, 6]}}, "there is no agent 6"),
    "twice": ("central", {"coordinator": {"standbys": [1, 1]}}, "agent 1 is named twice"),
    "asynchronous": ("central", {"schedule": {"kind": "asynchronous"}}, 'expected "synchronous"'),
    "gradient": ("central", {"exchange": {"payload": "gradient"}}, "'train' needs payload"),
    "gate": (
        "central",
        {"gate": {"kind": "norm", "threshold": 0.1}},
        "more than one update of a round, which gate",
    ),
    "delta": (
        "central",
        {"exchange": {"payload": "delta"}, "coordinator": {"standbys": 2, "fallback": "gossip"}},
        "'gossip' needs payload 'parameters', got 'delta'",
    ),
    "latency": (
        "central",
        {
            "topology": {"kind": "random_geometric", "latency_per_unit": 0.1},
            "network": {"latency": {"kind": "edge"}},
        },
        "the topology has no edges of standbys",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_could_not_take_over_is_refused_with_the_reason(name: str) -> None:
    mode, tables, reason = REFUSED[name]
    extra = {"hierarchy": {"edges": 2}} if mode == "hierarchical" else {}
    tables = {"coordinator": {"standbys": 2}, **extra, **tables}
    with pytest.raises(ScenarioError, match=reason):
        loads(text(6, 3, mode=mode, **tables))


def test_a_standby_that_joins_later_is_refused() -> None:
    faults: tuple[Table, ...] = ({"at": "1s", "kind": "join", "agents": [4]},)
    with pytest.raises(ScenarioError, match="agent 4 joins later"):
        loads(text(6, 3, mode="central", faults=faults, coordinator={"standbys": [2, 4]}))


def test_standbys_have_ids_and_hosts() -> None:
    scenario = loads(text(6, 3, mode="central", coordinator={"standbys": [2, 4]}))
    first, second = scenario.standbys
    assert scenario.hosted == {first: 2, second: 4}
    assert scenario.voters == scenario.coordinators == (-1, first, second)
    assert loads(text(6, 3, mode="central")).voters == ()


def test_options_of_standbys_without_standbys_are_noted(capsys: pytest.CaptureFixture[str]) -> None:
    from p2pfrl.scenario.checks.notes import notes

    scenario = loads(text(6, 3, mode="central", coordinator={"fallback": "wait"}))
    assert any("coordinator.fallback" in note for note in notes(scenario))


def test_a_fault_names_the_agent_that_a_standby_lives_with() -> None:
    fault = {"kind": "crash", "at": 1.0, "agents": ["standby0"]}

    def scenario(standbys: object) -> str:
        return text(6, 2, mode="central", coordinator={"standbys": standbys}, faults=[fault])

    loads(scenario(2))
    with pytest.raises(ScenarioError, match=r"standby0 lives with agent 5.*: name agent 5"):
        loads(scenario([5, 2]))
