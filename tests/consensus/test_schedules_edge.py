"""Edges between agents and cloud, as machines and as runs."""

import numpy as np
import pytest
from machines import SECOND, feed, model, received

import p2pfrl
from p2pfrl.build.preview import preview
from p2pfrl.consensus.schedules.base import Participants
from p2pfrl.consensus.schedules.edge import Edge
from p2pfrl.consensus.schedules.synchronous import Synchronous
from p2pfrl.core.errors import ScenarioError, WireError
from p2pfrl.core.types import (
    ASKS,
    COORDINATOR,
    FINAL,
    MODEL,
    SKIP,
    UPDATE,
    Expired,
    Missing,
    PeerJoined,
    PeerLost,
    Started,
)
from p2pfrl.core.wire import Decoder, Encoder
from p2pfrl.laws.runs import play, text
from p2pfrl.scenario import loads

BEGIN = ["adopt 0", "no deadline", "send model 0 to 4 5"]


def edge(rounds: int | None = 6, period: int = 2, members: tuple[int, ...] = (4, 5)) -> Edge:
    participants = Participants(len(members), lambda round, present: present, members)
    return Synchronous(deadline=1.0).edge(
        participants, rounds=rounds, period=period, above=COORDINATOR
    )


def test_an_edge_waits_for_the_cloud_and_reports_after_its_rounds():
    e = edge()
    assert feed(e, Started()) == []
    assert feed(e, model(0)) == BEGIN
    assert feed(e, received(5, 0), received(4, 0)) == [
        "wait",
        "mix 0 of 4 5",
        "no deadline",
        "send model 1 to 4 5",
    ]
    assert feed(e, received(4, 1), received(5, 1)) == [
        "wait",
        "mix 1 of 4 5",
        "no deadline",
        "send update 0 to -1",
    ]
    assert e.waits_for() == "an edge waits for the cloud's next model"
    assert e.awaits() == (COORDINATOR,)
    assert feed(e, model(1)) == ["adopt 1", "no deadline", "send model 2 to 4 5"]


def test_the_last_model_goes_to_its_agents_under_the_number_of_the_last_round():
    e = edge(rounds=3)
    feed(e, model(0), *(received(i, r) for r in (0, 1) for i in (4, 5)), model(1))
    assert feed(e, received(4, 2), received(5, 2))[-1] == "send update 1 to -1", (
        "a period that the end cuts short"
    )
    assert feed(e, model(2, kind=FINAL)) == ["adopt 2", "send final 3 to 4 5", "finish"]


def test_a_model_of_the_cloud_that_is_lost_is_one_that_it_goes_on_without():
    e = edge(rounds=4)
    assert feed(e, Missing(COORDINATOR, 0)) == ["no deadline", "send model 0 to 4 5"]
    assert feed(e, Missing(COORDINATOR, 0)) == []
    feed(e, *(received(i, r) for r in (0, 1) for i in (4, 5)))
    assert feed(e, Missing(COORDINATOR, 1)) == ["no deadline", "send model 2 to 4 5"]


@pytest.mark.parametrize("reports", [True, False])
def test_an_edge_asks_again_for_a_lost_last_model_and_ends_without_it_a_thousand_times_later(
    reports,
):
    e = edge(rounds=4)
    last = [received(i, 3) for i in (4, 5)]
    feed(e, model(0), *(received(i, r) for r in (0, 1) for i in (4, 5)), model(1))
    feed(e, *(received(i, 2) for i in (4, 5)), *(last if reports else ()))
    assert feed(e, *[Missing(COORDINATOR, 2)] * ASKS) == ["send skip 2 to -1"] * ASKS
    if reports:
        assert feed(e, Missing(COORDINATOR, 2)) == ["send final 4 to 4 5", "finish"]
        return
    assert feed(e, Missing(COORDINATOR, 2), now=3) == []
    *_, wait, report = [a for event in last for a in e.handle(event, 4)]
    assert (wait.time, report.kind) == (4, UPDATE)
    assert feed(e, Expired(4), now=4) == ["send final 4 to 4 5", "finish"]


def test_an_edge_takes_a_last_model_that_it_asked_for():
    e = edge(rounds=2)
    feed(e, model(0), *(received(i, r) for r in (0, 1) for i in (4, 5)))
    assert feed(e, Missing(COORDINATOR, 1), model(1, kind=FINAL)) == [
        "send skip 1 to -1",
        "adopt 1",
        "send final 2 to 4 5",
        "finish",
    ]
    assert feed(e, received(4, 2, kind=SKIP), Missing(COORDINATOR, 1)) == ["send final 2 to 4"]


def test_a_model_that_is_lost_during_the_rounds_of_an_earlier_one_is_answered_with_a_skip():
    e = edge(rounds=12)
    feed(e, model(0), received(4, 0))
    assert feed(e, Missing(COORDINATOR, 1), Missing(COORDINATOR, 0)) == ["send skip 1 to -1"]


def test_where_a_repetition_of_its_model_is_lost_an_edge_reports_again():
    e = edge()
    feed(e, model(0), *(received(i, 0) for i in (4, 5)))
    assert feed(e, Missing(COORDINATOR, 0)) == [], "its report comes after its rounds"
    feed(e, *(received(i, 1) for i in (4, 5)))
    assert feed(e, Missing(COORDINATOR, 0)) == ["send update 0 to -1"]


def test_a_model_that_comes_twice_counts_once():
    e = edge()
    feed(e, model(0))
    assert feed(e, model(0)) == []
    assert e.messages_late == 1


def test_an_edge_that_everyone_left_answers_at_once():
    e = edge()
    feed(e, model(0), PeerLost(4))
    assert feed(e, PeerLost(5)) == ["mix 0 of", "no deadline", "send update 0 to -1"]
    assert feed(e, model(1)) == ["adopt 1", "no deadline", "send update 1 to -1"]
    assert feed(e, PeerJoined(5)) == [], "it gets the next model of the cloud"
    assert feed(e, model(2)) == ["adopt 2", "no deadline", "send model 4 to 5"]
    assert feed(e, PeerJoined(4)) == ["send model 4 to 4"]
    assert feed(e, PeerJoined(COORDINATOR), PeerLost(COORDINATOR)) == []


def test_a_model_that_was_answered_already_is_answered_again_where_the_link_to_the_cloud_was_lost():
    e = edge()
    feed(e, model(0), *(received(i, r) for r in (0, 1) for i in (4, 5)))
    assert feed(e, PeerLost(COORDINATOR), PeerJoined(COORDINATOR)) == ["wait", "no deadline"]
    assert feed(e, model(0, sequence=8)) == ["send update 0 to -1"]
    assert feed(e, model(1, sequence=9)) == ["adopt 1", "no deadline", "send model 2 to 4 5"]


def test_an_edge_that_comes_back_goes_on_with_its_round_and_reports_again():
    e, again, third = edge(rounds=6), edge(rounds=6), edge(rounds=6)
    feed(e, model(0), received(4, 0))
    again.restore(e.save())
    assert feed(again, Started()) == ["wait", "send model 0 to 5"]
    feed(again, *(received(i, r) for r in (0, 1) for i in (4, 5)))
    third.restore(again.save())
    assert feed(third, Started()) == []
    assert feed(third, model(0, sequence=5)) == ["send update 0 to -1"]
    assert feed(third, model(1, sequence=6)) == ["adopt 1", "no deadline", "send model 2 to 4 5"]


def test_an_edge_that_comes_back_after_its_last_model_says_so_again():
    e, again = edge(rounds=2), edge(rounds=2)
    feed(e, model(0), *(received(i, r) for r in (0, 1) for i in (4, 5)), model(1, kind=FINAL))
    again.restore(e.save())
    assert feed(again, Started()) == ["send final 2 to 4 5", "finish"]


def test_an_edge_goes_back_with_a_cloud_that_lost_its_newest_checkpoint():
    e = edge(rounds=12)
    feed(e, model(0), *(received(i, r) for r in (0, 1) for i in (4, 5)), model(1), received(4, 2))
    assert feed(e, model(0, incarnation=1, sequence=1)) == []
    feed(e, received(5, 2), received(4, 3))
    assert feed(e, received(5, 3)) == ["mix 3 of 4 5", "no deadline", "send update 0 to -1"]


def test_what_becomes_of_an_older_model_answers_the_one_that_came_meanwhile():
    e = edge(rounds=12)
    feed(e, model(0), received(4, 0))
    assert feed(e, PeerLost(COORDINATOR), PeerJoined(COORDINATOR), model(0, sequence=8)) == []
    assert feed(e, model(3, sequence=9)) == []
    feed(e, received(5, 0), received(4, 1))
    assert feed(e, received(5, 1)) == ["mix 1 of 4 5", "no deadline", "send update 3 to -1"]
    assert feed(e, model(4, sequence=10)) == ["adopt 4", "no deadline", "send model 8 to 4 5"]


def test_the_last_model_that_came_while_its_agents_trained_is_the_last():
    e = edge(rounds=4)
    feed(e, model(0), received(4, 0), received(5, 0), received(4, 1))
    assert feed(e, model(2, kind=FINAL)) == []
    assert feed(e, received(5, 1)) == [
        "mix 1 of 4 5",
        "no deadline",
        "adopt 2",
        "send final 4 to 4 5",
        "finish",
    ]


def test_an_edge_whose_cloud_does_not_come_back_ends_with_what_it_has_ten_deadlines_later():
    e = edge()
    feed(e, model(0))
    assert feed(e, PeerLost(COORDINATOR), now=SECOND) == [], "its rounds go on"
    feed(e, *(received(i, r) for r in (0, 1) for i in (4, 5)), now=2 * SECOND)
    assert feed(e, PeerLost(4), Expired(3 * SECOND), now=3 * SECOND) == []
    assert feed(e, Expired(11 * SECOND), now=11 * SECOND) == ["send final 2 to 4 5", "finish"]
    assert e.deadlines_expired == 1


def test_rounds_that_take_longer_than_that_are_finished_first():
    e = edge()
    feed(e, model(0), PeerLost(COORDINATOR), *(received(i, 0) for i in (4, 5)), received(4, 1))
    wait, _ = list(e.handle(received(5, 1), 20 * SECOND))[1:]
    assert wait.time == 20 * SECOND
    assert feed(e, Expired(wait.time), now=20 * SECOND) == ["send final 2 to 4 5", "finish"]


def test_a_cloud_that_every_edge_left_ends_a_deadline_per_model_later():
    edges = (-3, -2)
    cloud = Synchronous(deadline=1.0).cloud(
        Participants(2, lambda round, there: there, edges), rounds=6, period=3
    )
    assert feed(cloud, Started()) == ["no deadline", "send model 0 to -3 -2"]
    assert feed(cloud, received(-2, 0)) == [], "however long the others take"
    assert feed(cloud, PeerLost(-2), PeerLost(-3)) == ["mix 0 of -2", "wait"]
    assert feed(cloud, Expired(SECOND), now=SECOND) == [
        "mix 1 of",
        "no deadline",
        "send final 2 to -3 -2",
        "finish",
    ]


def test_only_edges_may_send_both_models_and_updates():
    decoder = Decoder("run", agents=4, parts=("p",), size=2, dtype="float64", coordinators=3)
    vector = np.zeros(2)
    for sender, kinds in (
        (-1, (MODEL, FINAL)),
        (-2, (MODEL, FINAL, UPDATE, SKIP)),
        (0, (UPDATE, SKIP)),
    ):
        for kind in (MODEL, FINAL, UPDATE, SKIP):
            empty = kind == SKIP
            frame = Encoder("run", sender).encode(
                None if empty else vector, kind=kind, round=0, parts=() if empty else ("p",)
            )
            if kind in kinds:
                assert decoder.decode(frame).kind == kind
            else:
                with pytest.raises(WireError, match="is not for"):
                    decoder.decode(frame)
    with pytest.raises(WireError, match="expected an agent"):
        decoder.decode(Encoder("run", -4).encode(vector, kind=MODEL, round=0, parts=("p",)))


TREE = {"edges": 3, "edge_rounds": 2}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_crashes_losses_and_stragglers_block_nobody(seed):
    record = play(
        9,
        30,
        mode="hierarchical",
        hierarchy=TREE,
        seed=seed,
        schedule={"deadline": "2s"},
        network={
            "loss": 0.1,
            "duplicate": 0.1,
            "jitter": "20ms",
            "latency": "5ms",
            "peer_timeout": "500ms",
        },
        compute={"seconds_per_env_step": 0.2, "variation": {"kind": "lognormal", "sigma": 0.5}},
        faults=(
            {"kind": "crash", "at": 1.0, "agents": [0, 4]},
            {"kind": "restart", "at": 6.0, "agents": [0]},
            {"kind": "straggle", "at": 2.0, "agents": [8], "factor": 30.0},
            {"kind": "crash", "at": 3.0, "agents": [3, 5]},
            {"kind": "partition", "at": 8.0, "groups": [[0, 1, 2, 8], [6, 7]]},
            {"kind": "heal", "at": 12.0},
        ),
    )
    assert record.summary["stopped_by"] == "rounds"
    assert np.isfinite(record.parameters).all()
    agents = record.agents
    last = {i: max(agents["round"][agents["agent"] == i], default=0) for i in (1, 2, 6, 7)}
    assert min(last.values()) >= 28, last


def test_participation_is_of_each_edge_and_the_same_run_is_the_same():
    tables = {
        "mode": "hierarchical",
        "hierarchy": TREE,
        "coordinator": {"participation": {"kind": "uniform", "fraction": 0.34}},
    }
    one, other = (play(9, 12, **tables) for _ in range(2))
    assert one.summary["digest"] == other.summary["digest"]
    assert one.staleness.sum() == 12 * 3, "one agent of every edge and round"


def test_the_preview_counts_the_messages_that_are_sent():
    written = text(10, 8, mode="hierarchical", hierarchy={"edges": 3, "edge_rounds": 4})
    told = preview(loads(written))
    record = p2pfrl.run(loads(written))
    ends = 10 + 3  # the last models
    assert record.summary["messages_sent"] == 8 * told["messages_per_round"] + ends


def test_agents_may_be_one_or_as_many_as_edges():
    for agents, tree in ((1, {}), (3, {"edges": 3}), (5, {"edges": 1})):
        central, tall = (
            play(
                agents,
                5,
                mode=mode,
                learner={"noise": 0.1},
                **({"hierarchy": tree} if mode != "central" else {}),
            )
            for mode in ("central", "hierarchical")
        )
        assert np.abs(central.parameters - tall.parameters).max() <= 1e-12


@pytest.mark.parametrize(
    ("tables", "reason"),
    [
        ({"schedule": {"kind": "asynchronous"}}, "needs a synchronous schedule"),
        ({"exchange": {"payload": "gradient"}}, "edges average models"),
        ({"hierarchy": {"edges": 7}}, "expected at most 6"),
        ({"hierarchy": {"groups": [[0, 1], [2, 3]]}}, "agent 4 is in no group"),
        ({"hierarchy": {"groups": [[0, 1, 2, 3, 4, 5], [5]]}}, "in group 0 already"),
        ({"hierarchy": {"groups": [[0, 1, 2, 3, 4, 5], []]}}, "needs an agent"),
        ({"hierarchy": {"groups": [[0, 1, 2, 3, 4, 5, 6]]}}, "expected agents below 6"),
        ({"hierarchy": {"groups": [[0, 1, 2, 3, 4, 5]], "edges": 1}}, "leave out one of them"),
        ({"faults": ({"kind": "crash", "at": 1.0, "agents": [-2]},)}, "no agent -2"),
    ],
)
def test_what_a_tree_cannot_be_is_refused(tables, reason):
    with pytest.raises(ScenarioError, match=reason):
        play(6, 3, mode="hierarchical", **tables)


def test_the_deadline_of_an_edge_is_its_own():
    e = edge()
    feed(e, model(0))
    (wait,) = e.handle(received(4, 0), SECOND)
    assert wait.time == 2 * SECOND
