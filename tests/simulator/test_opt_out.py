"""An agent that opts out leaves at the end of a round: nothing of its last round is lost."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from test_simulation import check_books, fault, play, trainings

import p2pfrl
from p2pfrl.core.errors import ScenarioError
from p2pfrl.laws.runs import Table, text
from p2pfrl.results.groups import group
from p2pfrl.results.record import Record
from p2pfrl.results.report import opted_out_table
from p2pfrl.scenario import loads


@pytest.mark.parametrize("schedule", ["synchronous", "asynchronous"])
@pytest.mark.parametrize("mode", ["gossip", "central", "independent"])
def test_it_ends_its_round_and_nobody_waits_for_it(mode: str, schedule: str) -> None:
    run = play(fault("opt_out", 1.05, agents=[2]), mode=mode, schedule=schedule)
    check_books(run)
    (left,) = run.summary["opted_out"]
    assert left["agent"] == 2
    assert left["virtual_seconds"] >= 1.05
    # It trains to the end of its round, and begins no update after that.
    assert max(trainings(run, 2)) <= left["virtual_seconds"]
    assert run.summary["deadlines_expired"] == run.summary["messages_late"] == 0
    assert (run.summary["rounds"], run.summary["stopped_by"]) == (20, "rounds")


def sent(run: Record, agents: Sequence[int], last: int) -> list[tuple[int, int, int]]:
    """Return the checksums of what agents sent in their first exchanges."""
    assert run.events is not None
    found = {(e.sender, e.sequence, e.crc) for e in run.events if e.kind == "send"}
    return sorted(one for one in found if one[0] in agents and one[1] <= last)


def test_what_it_sent_until_then_counts_and_what_comes_after_is_without_it() -> None:
    calm, run = play(), play(fault("opt_out", 1.05, agents=[2]))
    (left,) = run.summary["opted_out"]
    ended = left["rounds"]
    assert 5 < ended < 15
    # The others mix its message of its last round: what they send next is what they would have.
    following = ended + 1
    assert sent(run, (0, 1, 3), following) == sent(calm, (0, 1, 3), following)
    assert sent(run, (0, 1, 3), following + 1) != sent(calm, (0, 1, 3), following + 1)
    assert run.metrics["active"].tolist() == [4.0] * ended + [3.0] * (20 - ended)
    assert run.summary["env_steps"] == calm.summary["env_steps"] - (20 - ended)


def test_where_all_opt_out_the_run_ends_and_a_round_that_is_the_last_one_is_no_opt_out() -> None:
    run = play(fault("opt_out", 1.05, agents=[0, 1, 2, 3]))
    assert run.summary["stopped_by"] == "agents_gone"
    assert {left["rounds"] for left in run.summary["opted_out"]} == {run.summary["rounds"]}
    calm = play(rounds=3)
    late = play(fault("opt_out", 0.3, agents=[1]), rounds=3)
    assert "opted_out" not in late.summary
    assert late.summary["parameters_digest"] == calm.summary["parameters_digest"]


LEAVES: Table = {"at": "350ms", "kind": "opt_out", "agents": [1]}


def scenario(*faults: Table, **tables: Table) -> str:
    world = {"topology": {"kind": "complete"}, "compute": {"seconds_per_env_step": 0.1}}
    return text(5, 12, faults=faults, **{**world, **tables})


def test_the_report_says_who_left_and_when() -> None:
    run = p2pfrl.run(loads(scenario(LEAVES)))
    table = opted_out_table(group([run]))
    assert table is not None
    assert [row[2:4] for row in table.rows] == [("1", "4")]
    assert opted_out_table(group([p2pfrl.run(loads(scenario()))])) is None


@pytest.mark.parametrize(
    ("faults", "tables", "expected"),
    [
        ((LEAVES,), {"mixing": {"kind": "push_sum"}}, "push_sum"),
        ((LEAVES,), {"mixing": {"kind": "gradient_tracking"}}, "gradient_tracking"),
        ((LEAVES,), {"secure": {"kind": "neighborhood_masks"}}, "neighborhood_masks"),
        (
            (LEAVES, {"at": "1s", "kind": "crash", "agents": [1]}),
            {},
            "agent 1 is gone at this time, it must be running",
        ),
    ],
)
def test_what_cannot_be_without_an_agent_refuses_it(
    faults: tuple[Table, ...], tables: dict[str, Table], expected: str
) -> None:
    with pytest.raises(ScenarioError, match=expected):
        loads(scenario(*faults, **tables))
