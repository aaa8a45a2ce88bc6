"""The coordinator that steps after K updates, and the rounds that a quorum ends."""

from collections.abc import Sequence

import pytest
from machines import SECOND, feed, received

from p2pfrl.consensus.schedules.arrivals import AsynchronousCoordinator
from p2pfrl.consensus.schedules.base import Participants
from p2pfrl.consensus.schedules.buffered import Buffered
from p2pfrl.consensus.schedules.central import Coordinator
from p2pfrl.consensus.staleness import Polynomial
from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.types import SKIP, Expired, Missing, Mix, PeerLost, Started
from p2pfrl.laws.runs import play


def everyone(round: int, present: Sequence[int]) -> Sequence[int]:
    return present


def buffered(
    size: int, rounds: int | None = 4, agents: int = 3, **options: object
) -> AsynchronousCoordinator:
    machine = Buffered(size=size, **options).coordinator(
        Participants(agents, everyone), rounds=rounds
    )  # type: ignore[arg-type]
    assert isinstance(machine, AsynchronousCoordinator)
    return machine


def test_a_coordinator_without_rounds_that_comes_back_sends_its_model_to_all_and_keeps_what_it_has():
    c, again = buffered(2), buffered(2)
    feed(c, Started(), received(1, 0, sequence=1), Expired(0))
    again.restore(c.save())
    assert feed(again, Started()) == ["send model 0 to 0 1 2"]
    assert feed(again, received(1, 0, sequence=1)) == [], "it has that one already"
    assert feed(again, received(2, 0, sequence=1)) == ["mix 0 of 1 2", "send model 1 to 2"]


def test_a_coordinator_without_rounds_that_comes_back_after_the_last_says_so_again():
    c, again = buffered(2, rounds=1), buffered(2, rounds=1)
    feed(c, Started(), *(received(i, 0, sequence=1) for i in (0, 1, 2)))
    again.restore(c.save())
    assert feed(again, Started()) == ["send final 2 to 0 1 2", "finish"]


def test_an_update_of_a_model_that_was_lost_is_not_older_than_fresh():
    c = buffered(1)
    (mix, *_) = c.handle(received(1, 7, sequence=1), 0)
    assert isinstance(mix, Mix)
    assert mix.staleness == [0]


def test_a_model_is_made_of_k_updates_and_nobody_waits_for_it():
    c = buffered(2)
    assert feed(c, Started()) == ["send model 0 to 0 1 2"]
    assert feed(c, received(1, 0, sequence=1)) == ["wait"]
    assert feed(c, Expired(0)) == ["send model 0 to 1"]
    assert feed(c, received(2, 0, sequence=1)) == ["mix 0 of 1 2", "send model 1 to 2"]
    assert feed(c, received(1, 0, sequence=2), Expired(0)) == ["wait", "send model 1 to 1"]
    (mix, _) = c.handle(received(0, 0, sequence=1), 0)
    assert isinstance(mix, Mix)
    assert list(mix.staleness) == [1, 1]
    assert list(mix.factors) == pytest.approx([2**-0.5, 2**-0.5])


def test_updates_of_one_moment_that_make_a_model_are_answered_with_it():
    c = buffered(3)
    feed(c, Started())
    assert feed(c, received(2, 0), received(0, 0), received(1, 0)) == [
        "wait",
        "wait",
        "mix 0 of 0 1 2",
        "send model 1 to 0 1 2",
    ]
    assert feed(c, Expired(0)) == []


def test_one_agent_may_fill_the_buffer_alone():
    c = buffered(2)
    feed(c, Started(), received(1, 0, sequence=1), Expired(0))
    assert feed(c, received(1, 0, sequence=2)) == ["mix 0 of 1 1", "send model 1 to 1"]


def test_the_last_model_is_made_of_what_is_left():
    c = buffered(4, rounds=2)
    feed(c, Started())
    words = feed(c, *(received(k % 3, 0, sequence=k + 1) for k in range(6)))
    assert words[-3:] == ["mix 1 of 1 2", "send final 2 to 0 1 2", "finish"]
    assert Buffered(size=4).models(2, 3) == 2
    assert Buffered(size=3).models(5, 3) == 5


def test_duplicates_skips_and_losses_do_not_count():
    c = buffered(2)
    feed(c, Started(), received(1, 0, sequence=1))
    assert feed(c, received(1, 0, sequence=1)) == []
    assert feed(c, received(2, 0, kind=SKIP), Missing(0, 0)) == [
        "send model 0 to 2",
        "send model 0 to 0",
    ]


def test_updates_of_those_who_left_are_in_the_last_model_and_put_nothing_off():
    c = buffered(3, agents=2)
    assert feed(c, Started(), PeerLost(0), PeerLost(1)) == ["send model 0 to 0 1", "wait"]
    assert feed(c, received(1, 0)) == ["wait"]
    assert feed(c, Expired(SECOND)) == ["send model 0 to 1", "wait"]
    assert feed(c, Expired(300 * SECOND)) == ["mix 0 of 1", "send final 1 to 0 1", "finish"]


@pytest.mark.parametrize("kind", ["leave", "crash"])
@pytest.mark.parametrize(
    ("agents", "schedule"), [(1, {"kind": "asynchronous"}), (3, {"kind": "buffered", "size": 4})]
)
def test_a_run_ends_when_nobody_is_left(
    kind: str, agents: int, schedule: dict[str, object]
) -> None:
    gone = {"at": "5500ms", "kind": kind, "agents": list(range(agents))}
    record = play(
        agents,
        12,
        mode="central",
        faults=(gone,),
        schedule=schedule,
        compute={"seconds_per_env_step": 1.0},
        network={"latency": "1ms"},
    )
    assert record.staleness.sum() == 5 * agents
    assert record.summary["virtual_seconds"] == pytest.approx(305.5, abs=1.1)


def test_only_fresh_updates_count_where_that_is_asked():
    c = buffered(1, fresh_only=True)
    feed(c, Started(), received(1, 0))
    assert feed(c, received(2, 0)) == ["send model 1 to 2"]
    assert c.messages_late == 1
    assert feed(c, received(2, 1, sequence=5)) == ["mix 1 of 2", "send model 2 to 2"]
    with pytest.raises(ScenarioError, match="leave max_staleness out"):
        Buffered(fresh_only=True, max_staleness=3)


def test_defaults_are_those_of_the_paper():
    assert (Buffered().size, Buffered().staleness) == (10, Polynomial(power=0.5))


def test_it_is_refused_where_there_is_no_coordinator():
    for mode in ("gossip", "independent"):
        with pytest.raises(ScenarioError, match="needs a coordinator"):
            play(4, 3, mode=mode, schedule={"kind": "buffered"})


@pytest.mark.parametrize("size", [1, 3, 16, 100])
def test_every_agent_finishes_with_the_last_model_whatever_links_do(size):
    record = play(
        5,
        12,
        mode="central",
        schedule={"kind": "buffered", "size": size},
        exchange={"payload": "delta"},
        network={"loss": 0.2, "duplicate": 0.2, "jitter": "10ms"},
        compute={"variation": {"kind": "exponential"}},
        faults=(
            {"kind": "crash", "at": 0.002, "agents": [1]},
            {"kind": "restart", "at": 0.01, "agents": [1]},
        ),
    )
    assert record.summary["stopped_by"] == "rounds"
    assert record.staleness.sum() == 60, "n times as many updates as rounds"


def elastic(quorum: float, agents: int = 4) -> Coordinator:
    return Coordinator(
        Participants(agents, everyone), rounds=5, deadline=SECOND, suspect_after=2, quorum=quorum
    )


def test_a_quorum_of_answers_ends_a_round():
    c = elastic(0.5)
    feed(c, Started())
    assert feed(c, received(3, 0)) == ["wait"]
    assert feed(c, received(1, 0)) == ["mix 0 of 1 3", "no deadline", "send model 1 to 0 1 2 3"]
    assert feed(c, received(0, 0)) == []
    assert c.messages_late == 1
    assert feed(c, received(0, 1), received(2, 1)) == [
        "wait",
        "mix 1 of 0 2",
        "no deadline",
        "send model 2 to 0 1 2 3",
    ]


def test_a_quorum_is_rounded_up_and_skips_are_answers():
    c = elastic(0.51)
    feed(c, Started())
    assert feed(c, received(0, 0, kind=SKIP), received(1, 0), Missing(2, 0)) == [
        "wait",
        "mix 0 of 1",
        "no deadline",
        "send model 1 to 0 1 2 3",
    ]


def test_elastic_rounds_are_as_long_as_the_quorum_and_stragglers_still_count():
    speeds = {"seconds_per_env_step": 1.0, "speed": [1.0, 1.0, 1.0, 0.27]}
    tables = {"mode": "central", "compute": speeds, "network": {"latency": 0, "bandwidth": 1e18}}
    whole = play(4, 12, **tables)
    elastic = play(4, 12, schedule={"quorum": 0.75}, **tables)
    assert whole.summary["virtual_seconds"] == pytest.approx(12 / 0.27)
    assert elastic.summary["virtual_seconds"] == pytest.approx(12.0, abs=4.0)
    assert elastic.staleness.sum() == 12 * 3
    assert elastic.summary["messages_late"] >= 2, (
        "where the slow one is among the three, a fast one is too late"
    )


def test_a_quorum_is_refused_where_there_is_no_coordinator():
    with pytest.raises(ScenarioError, match="mode gossip has none"):
        play(4, 3, schedule={"quorum": 0.5})
