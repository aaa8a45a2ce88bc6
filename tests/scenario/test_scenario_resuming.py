"""A process goes on from its checkpoints where its rules stand the messages that it missed."""

from pathlib import Path

import pytest

from p2pfrl.core.errors import P2PFRLError, ScenarioError
from p2pfrl.laws.runs import text
from p2pfrl.scenario import loads
from p2pfrl.scenario.checks.resuming import refuse_resuming

DIFFERENCE = {"kind": "difference", "compressor": {"kind": "qsgd"}}


@pytest.mark.parametrize(
    "tables",
    [
        {},
        {"mixing": {"kind": "push_sum"}, "topology": {"kind": "directed_ring"}},
        {"compressor": DIFFERENCE},
        {"mixing": {"kind": "extra"}},
        {"mixing": {"kind": "gradient_tracking"}},
        {"mixing": {"kind": "chebyshev"}, "checkpoint": {"every": "1s"}},
        {"mixing": {"kind": "choco"}, "compressor": DIFFERENCE},
    ],
    ids=str,
)
def test_a_process_is_resumed_with_every_rule(tables):
    refuse_resuming(loads(text(4, 3, **tables)), Path("runs/a"))


TRACKING = {"mixing": {"kind": "gradient_tracking"}}


@pytest.mark.parametrize(
    ("tables", "where"),
    [
        ({**TRACKING, "topology": {"kind": "random_matchings"}}, "topology.kind"),
        ({**TRACKING, "checkpoint": {"every": 10}}, "checkpoint.every"),
    ],
    ids=str,
)
def test_one_whose_neighbors_have_not_kept_what_it_missed_is_not(tables, where):
    with pytest.raises(P2PFRLError, match="those that this process missed are gone") as caught:
        refuse_resuming(loads(text(4, 3, **tables)), Path("runs/a"))
    assert str(caught.value).startswith(f"runs/a: {where}: ")


@pytest.mark.parametrize(
    ("tables", "where"),
    [
        ({**TRACKING, "topology": {"kind": "random_matchings"}}, "topology.kind"),
        ({**TRACKING, "checkpoint": {"every": 10}}, "checkpoint.every"),
    ],
    ids=str,
)
def test_so_are_faults_that_restart_such_agents(tables, where):
    faults = [
        {"kind": "crash", "at": 1.0, "agents": [1]},
        {"kind": "restart", "at": 2.0, "agents": [1]},
    ]
    with pytest.raises(ScenarioError) as caught:
        loads(text(4, 3, faults=faults, **tables))
    assert any(f" {where}: mixing 'gradient_tracking'" in line for line in caught.value.problems)


def test_a_crash_that_no_restart_follows_is_refused_where_every_message_counts():
    with pytest.raises(ScenarioError) as caught:
        loads(text(4, 3, faults=[{"kind": "crash", "at": 1.0, "agents": [1]}], **TRACKING))
    assert any("add a 'restart' after it" in line for line in caught.value.problems)
