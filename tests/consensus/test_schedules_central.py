"""Client, coordinator and the asynchronous machines.

The test is the world, and sends events in any order.
"""

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from machines import SECOND, Neighbors, feed, message, model, received, trained

from p2pfrl.consensus.schedules.arrivals import AsynchronousCoordinator
from p2pfrl.consensus.schedules.asynchronous import Asynchronous, Push
from p2pfrl.consensus.schedules.base import Attendance, Participants, always
from p2pfrl.consensus.schedules.central import Client, Coordinator
from p2pfrl.consensus.schedules.synchronous import Synchronous
from p2pfrl.consensus.staleness import Hinge
from p2pfrl.core.types import (
    ASKS,
    COORDINATOR,
    FINAL,
    SKIP,
    Adopt,
    Expired,
    Finish,
    Message,
    Missing,
    Mix,
    PeerJoined,
    PeerLost,
    Received,
    Send,
    Started,
    Train,
    WaitUntil,
)


def client(
    *, every: int = 1, rounds: int | None = 5, retag: bool = True, available: object = always
) -> Client:
    return Client(
        every=every, rounds=rounds, patience=10 * SECOND, available=available, retag=retag
    )  # type: ignore[arg-type]


def final(round: int, sequence: int = 99) -> Received:
    return model(round, kind=FINAL, sequence=sequence)


def born_again(machine: Client | Coordinator, fresh: Client | Coordinator) -> list[str]:
    """Let `fresh` take over what `machine` remembers, and start it."""
    fresh.restore(machine.save())
    return feed(fresh, Started())


def test_a_coordinator_that_comes_back_sends_its_model_again_to_those_it_awaited():
    before, after = coordinator(), coordinator()
    feed(before, Started(), received(0, 0), received(1, 0), received(2, 0), received(1, 1))
    feed(before, PeerLost(0), PeerJoined(0))
    assert born_again(before, after) == ["wait", "send model 1 to 2 0"]
    assert feed(after, received(2, 1, incarnation=0)) == []
    assert feed(after, PeerLost(0)) == [
        "mix 1 of 1 2",
        "no deadline",
        "send model 2 to 1 2",
    ]


def test_a_coordinator_that_comes_back_does_not_remember_who_was_away():
    before, after = coordinator(), coordinator()
    feed(before, Started(), PeerLost(0), PeerLost(1), PeerLost(2))
    assert born_again(before, after) == ["no deadline", "send model 1 to 0 1 2"]


def test_a_coordinator_that_comes_back_after_its_last_round_says_so_again():
    before, after = coordinator(rounds=1), coordinator(rounds=1)
    feed(before, Started(), received(0, 0), PeerLost(1), PeerLost(2))
    assert born_again(before, after) == ["no deadline", "send final 1 to 0 1 2", "finish"]


def test_an_update_is_sent_again_to_a_coordinator_that_comes_back():
    c = client()
    feed(c, Started(), model(0), trained())
    assert feed(c, PeerLost(COORDINATOR), PeerJoined(COORDINATOR)) == ["wait", "no deadline"]
    assert feed(c, model(0, incarnation=1, sequence=1)) == ["send update 0 to -1"]
    assert feed(c, model(1, incarnation=0, sequence=7)) == [], "of its former life"


def test_a_client_goes_back_with_a_coordinator_that_lost_its_newest_checkpoint():
    c = client()
    feed(c, Started(), model(3), trained(), model(4))
    assert feed(c, model(2, incarnation=1, sequence=1)) == []
    assert feed(c, trained()) == ["send update 2 to -1", "adopt 2"]
    assert feed(c, model(1, incarnation=1, sequence=2)) == [], "not within one life"
    assert feed(c, model(1, incarnation=2, sequence=1)) == ["adopt 1", "train"]


def test_a_client_learns_from_the_next_model_whether_its_update_counted():
    c = client()
    used = [action.used for action in c.handle(model(0), 0) if isinstance(action, Adopt)]
    feed(c, trained())
    for score, expected in ((0.0, True), (2.0, True), (2.0, False), (-1.0, False)):
        round = len(used)
        (adopt, _) = c.handle(model(round, score=score), 0)
        assert isinstance(adopt, Adopt)
        used.append(adopt.used)
        assert adopt.used is expected, (round, score)
        feed(c, trained())


def test_of_an_update_that_counts_for_a_newer_model_that_model_says_nothing():
    c = client()
    feed(c, model(0), model(1, score=-1.0))
    (send, adopt) = c.handle(trained(), 0)
    assert isinstance(send, Send)
    assert isinstance(adopt, Adopt)
    assert (send.round, adopt.used) == (1, None)
    (adopt, _) = c.handle(model(2), 0)
    assert isinstance(adopt, Adopt)
    assert adopt.used is True


def test_a_client_that_comes_back_sends_its_update_again_or_trains_again():
    before, after = client(every=2), client(every=2)
    feed(before, model(0), trained())
    assert born_again(before, after) == ["train"]
    assert feed(after, trained()) == ["send update 0 to -1"]
    third = client(every=2)
    assert born_again(after, third) == []
    assert feed(third, model(0, incarnation=1)) == ["send update 0 to -1"]


def test_a_model_says_to_those_whose_answer_did_not_count_which_one_did():
    c = coordinator(suspect_after=9)
    feed(c, Started(), received(0, 0), received(1, 0))
    (_, _, send) = c.handle(PeerLost(2), 0)
    assert isinstance(send, Send)
    assert send.unused == {}, "of those that get it"
    (join,) = c.handle(PeerJoined(2), 0)
    assert isinstance(join, Send)
    assert join.unused == {2: -1}
    feed(c, received(0, 1), received(2, 1))
    (*_, send) = c.handle(received(1, 1, kind=SKIP), 0)
    assert isinstance(send, Send)
    assert send.unused == {1: 0}


def everyone(round: int, present: Sequence[int]) -> Sequence[int]:
    return present


def coordinator(
    agents: int = 3,
    rounds: int | None = 5,
    choose: Callable[[int, Sequence[int]], Sequence[int]] = everyone,
    suspect_after: int = 2,
) -> Coordinator:
    return Coordinator(
        Participants(agents, choose), rounds=rounds, deadline=SECOND, suspect_after=suspect_after
    )


def test_a_client_trains_from_every_model_and_answers():
    c = client()
    assert feed(c, Started()) == []
    assert feed(c, model(0)) == ["adopt 0", "train"]
    assert c.awaits() == ()
    assert feed(c, trained()) == ["send update 0 to -1"]
    assert c.awaits() == (-1,)
    assert feed(c, model(1), trained()) == ["adopt 1", "train", "send update 1 to -1"]
    assert feed(c, final(2)) == ["adopt 2", "finish"]


def test_the_first_model_begins_and_every_later_one_ends_a_round():
    c = client()
    (first, _) = c.handle(model(0), 0)
    assert first.round == -1
    c.handle(trained(), 0)
    (second, _) = c.handle(model(1), 0)
    assert second.round == 0


def test_a_client_makes_all_its_local_updates_before_it_answers():
    c = client(every=3)
    assert feed(c, model(0), trained(), trained()) == ["adopt 0", "train", "train", "train"]
    assert feed(c, trained()) == ["send update 0 to -1"]


def test_a_duplicate_of_a_model_changes_nothing():
    c = client()
    assert feed(c, model(0), model(0), model(0)) == ["adopt 0", "train"]
    feed(c, trained())
    assert feed(c, model(0)) == []
    feed(c, model(1))
    assert feed(c, model(0), trained()) == ["send update 1 to -1"]


def test_a_model_that_is_sent_anew_is_answered_again():
    c = client()
    feed(c, model(0, sequence=1), trained())
    assert feed(c, model(0, sequence=2)) == ["send update 0 to -1"]
    assert feed(c, model(0, sequence=2)) == []
    assert feed(c, model(1, sequence=3)) == ["adopt 1", "train"]
    assert feed(c, model(1, sequence=4)) == []
    assert feed(c, trained()) == ["send update 1 to -1"]


def test_whoever_sits_out_skips_and_says_so_again_when_asked_again():
    c = client(available=lambda round, now: round != 1)
    feed(c, model(0, sequence=1), trained())
    assert feed(c, model(1, sequence=2)) == ["adopt 1", "send skip 1 to -1"]
    assert feed(c, model(1, sequence=3)) == ["send skip 1 to -1"]
    assert feed(c, model(2, sequence=4)) == ["adopt 2", "train"]


def away(until: int | None, opens: int | None) -> Attendance:
    """Return the attendance of an agent that is away, where somebody is there from `opens` on."""
    return Attendance(
        is_there=lambda now: until is not None and now >= until,
        returns=lambda now: until,
        opens=lambda now: None if opens is None else max(now, opens),
    )


def test_a_round_waits_until_somebody_is_there():
    c = client(available=away(until=5, opens=5))
    (_, wait) = c.handle(model(0), 0)
    assert isinstance(wait, WaitUntil)
    assert wait.time == 5
    assert feed(c, model(0, sequence=7), Expired(4), now=4) == [], "sent again"
    assert feed(c, PeerLost(COORDINATOR), PeerJoined(COORDINATOR)) == ["wait", "wait"]
    assert feed(c, Expired(5), now=5) == ["train"]
    other = client(available=away(until=9, opens=5))
    feed(other, model(0))
    assert feed(other, Expired(5), now=5) == ["send skip 0 to -1"]
    assert feed(other, model(1), now=8) == ["adopt 1", "send skip 1 to -1"]
    assert feed(other, model(1, sequence=9), now=8) == ["send skip 1 to -1"]


def test_a_client_ends_where_nobody_will_be_there_again():
    c = client(available=away(until=None, opens=None))
    (_, end) = c.handle(model(0), 0)
    assert isinstance(end, Finish)
    assert end.why == "agents_gone"


def test_a_straggler_s_update_counts_for_the_newest_round():
    c = client()
    feed(c, model(0), model(1), model(3), model(2, sequence=2))
    assert feed(c, trained()) == ["send update 3 to -1", "adopt 3"]
    assert feed(c, model(4)) == ["adopt 4", "train"]


def test_a_straggler_that_gets_the_final_model_finishes_with_it():
    c = client()
    feed(c, model(0), final(5))
    assert feed(c, trained()) == ["adopt 5", "finish"]


def test_a_lost_model_is_answered_with_a_skip_so_that_nobody_waits():
    c = client()
    feed(c, model(0), trained())
    assert feed(c, Missing(COORDINATOR, 1)) == ["send skip 1 to -1"]
    assert feed(c, model(2)) == ["adopt 2", "train"]


def test_where_a_repetition_of_its_model_is_lost_a_client_sends_its_update_again():
    c = client()
    feed(c, model(0))
    assert feed(c, Missing(COORDINATOR, 0)) == [], "its update comes after its training"
    assert feed(c, trained(), Missing(COORDINATOR, 0)) == ["send update 0 to -1"] * 2


def test_a_client_asks_again_for_a_lost_final_model_and_ends_with_it():
    c = client(rounds=5)
    feed(c, model(4), trained())
    assert feed(c, Missing(COORDINATOR, 5), Missing(COORDINATOR, 5)) == ["send skip 5 to -1"] * 2
    assert feed(c, final(5)) == ["adopt 5", "finish"]


@pytest.mark.parametrize("retag", [True, False])
def test_a_client_that_trains_asks_at_once_for_a_lost_final_model(retag):
    c = client(rounds=5, every=2, retag=retag)
    feed(c, model(4))
    assert feed(c, Missing(COORDINATOR, 5), trained()) == ["send skip 5 to -1", "train"]
    assert feed(c, final(5), trained()) == ["adopt 5", "finish"]


@pytest.mark.parametrize("trains", [True, False])
def test_a_client_whose_final_model_is_lost_a_thousand_times_ends_without_it_and_says_so(trains):
    c = client(rounds=5)
    feed(c, model(4), *(() if trains else (trained(),)))
    assert feed(c, *[Missing(COORDINATOR, 5)] * ASKS) == ["send skip 5 to -1"] * ASKS
    end = list(c.handle(Missing(COORDINATOR, 5), 0))
    end += c.handle(trained(), 0) if trains else []
    assert [action.why for action in end] == ["unreachable"]


def test_only_models_that_are_lost_in_a_row_end_a_client_without_rounds():
    c = client(retag=False)
    feed(c, *[Missing(COORDINATOR, 0)] * ASKS)
    assert feed(c, model(0), trained()) == ["adopt 0", "train", "send update 0 to -1"]
    assert feed(c, *[Missing(COORDINATOR, 1)] * ASKS) == ["send skip 1 to -1"] * ASKS
    assert feed(c, Missing(COORDINATOR, 1)) == ["finish"]


@pytest.mark.parametrize("rounds", [3, 4])
@pytest.mark.parametrize("is_asynchronous", [False, True])
def test_a_coordinator_sends_the_last_model_again_to_whoever_did_not_get_it(
    rounds, is_asynchronous
):
    c = asynchronous(rounds=rounds) if is_asynchronous else coordinator(agents=2, rounds=rounds)
    feed(c, Started())
    for number in range(rounds):
        feed(c, received(0, number), received(1, number))
    last = 2 * rounds if is_asynchronous else rounds
    again = [f"send final {last} to 1"]
    assert feed(c, received(1, last, kind=SKIP, sequence=98)) == again, "it asks"
    assert feed(c, Missing(1, last)) == again, "its question was lost"
    assert feed(c, PeerJoined(1)) == again, "its link was down"
    assert feed(c, Missing(1, last - 1), PeerLost(1), Expired(0)) == []
    assert feed(c, received(1, last - 1, kind=SKIP, sequence=99)) == [], "of an earlier model"
    assert feed(c, received(1, last, sequence=100)) == [], "an update that comes too late"


def test_a_model_says_who_is_expected_to_end_the_round_before_with_it():
    c = coordinator(rounds=1)
    (_, send) = c.handle(Started(), 0)
    assert isinstance(send, Send)
    assert send.asked == [0, 1, 2]
    feed(c, PeerLost(1))
    (again,) = c.handle(PeerJoined(1), 0)
    assert isinstance(again, Send)
    assert again.asked is None, "sent again: the round has begun"
    feed(c, PeerLost(1), received(0, 0))
    (*_, last, _) = c.handle(received(2, 0), 0)
    assert isinstance(last, Send)
    assert (last.to, last.asked) == (range(3), [0, 2]), "nobody waits for one that is away"


def test_a_client_without_a_coordinator_finishes_when_its_patience_ends():
    c = client()
    feed(c, model(0), trained())
    (wait,) = c.handle(PeerLost(COORDINATOR), 3 * SECOND)
    assert isinstance(wait, WaitUntil)
    assert wait.time == 13 * SECOND
    assert feed(c, Expired(12 * SECOND)) == []
    (end,) = c.handle(Expired(13 * SECOND), 0)
    assert isinstance(end, Finish)
    assert end.why == "coordinator_gone"
    assert c.deadlines_expired == 1


def test_a_client_whose_patience_ends_while_it_trains_finishes_after_its_update():
    c = client()
    feed(c, model(0), PeerLost(COORDINATOR))
    assert feed(c, Expired(10 * SECOND)) == []
    assert feed(c, trained()) == ["finish"]


def test_a_coordinator_that_comes_back_makes_the_client_go_on():
    c = client()
    feed(c, model(0), PeerLost(COORDINATOR), Expired(10 * SECOND))
    assert feed(c, PeerJoined(COORDINATOR)) == ["no deadline"]
    assert feed(c, trained()) == ["send update 0 to -1"]
    feed(c, PeerLost(COORDINATOR), PeerJoined(COORDINATOR))
    assert feed(c, Expired(10 * SECOND)) == []


def test_an_asynchronous_client_has_one_update_under_way_however_often_the_model_comes():
    c = client(retag=False)
    feed(c, model(0, sequence=1))
    assert feed(c, model(0, sequence=2), model(3, sequence=3), trained()) == ["send update 0 to -1"]
    assert feed(c, model(4, sequence=4), trained()) == ["adopt 4", "train", "send update 4 to -1"]


def test_an_asynchronous_client_finishes_with_a_final_model_that_came_meanwhile():
    c = client(retag=False)
    feed(c, model(0), final(5))
    assert feed(c, trained()) == ["adopt 5", "finish"]


def test_the_coordinator_sends_waits_aggregates_in_order_and_ends_with_the_final_model():
    c = coordinator(rounds=1)
    assert feed(c, Started()) == ["no deadline", "send model 0 to 0 1 2"]
    assert feed(c, received(2, 0)) == ["wait"]
    assert feed(c, received(0, 0)) == []
    assert feed(c, received(1, 0)) == [
        "mix 0 of 0 1 2",
        "no deadline",
        "send final 1 to 0 1 2",
        "finish",
    ]
    assert (c.messages_late, c.deadlines_expired) == (0, 0)


def test_the_coordinator_s_deadline_counts_from_the_first_answer():
    c = coordinator()
    feed(c, Started())
    (wait,) = c.handle(received(2, 0), 5 * SECOND)
    assert isinstance(wait, WaitUntil)
    assert wait.time == 6 * SECOND
    assert feed(c, Expired(5 * SECOND)) == []
    assert feed(c, Expired(6 * SECOND)) == ["mix 0 of 2", "no deadline", "send model 1 to 0 1 2"]
    assert feed(c, Expired(6 * SECOND)) == []


def test_whoever_misses_k_deadlines_is_not_asked_until_it_is_heard_again():
    c = coordinator(agents=2)
    feed(c, Started())
    feed(c, received(0, 0), Expired(SECOND))
    assert feed(c, received(0, 1), Expired(SECOND)) == [
        "wait",
        "mix 1 of 0",
        "no deadline",
        "send model 2 to 0",
    ]
    assert feed(c, received(1, 0)) == []
    assert feed(c, received(0, 2)) == ["mix 2 of 0", "no deadline", "send model 3 to 0 1"]
    assert c.messages_late == 1


def test_skips_and_losses_answer_too_and_a_round_without_any_update_still_ends():
    c = coordinator()
    feed(c, Started(), received(0, 0, kind=SKIP))
    assert feed(c, Missing(1, 0), Missing(1, 0)) == []
    assert feed(c, PeerLost(2)) == ["mix 0 of", "no deadline", "send model 1 to 0 1"]
    assert c.messages_late == 0


def test_only_the_participants_are_asked_and_awaited():
    c = coordinator(
        agents=4, choose=lambda round, present: [i for i in present if i % 2 == round % 2]
    )
    assert feed(c, Started()) == ["no deadline", "send model 0 to 0 2"]
    assert feed(c, received(1, 0)) == []
    assert c.messages_late == 1
    assert feed(c, received(0, 0), received(2, 0)) == [
        "wait",
        "mix 0 of 0 2",
        "no deadline",
        "send model 1 to 1 3",
    ]


def test_duplicates_and_answers_of_other_rounds_are_not_aggregated():
    c = coordinator(agents=2)
    feed(c, Started())
    first = message(0, 0, sequence=1)
    feed(c, Received(first), received(0, 0, sequence=2), received(1, 1), received(1, 2**61))
    (mix, *_) = c.handle(received(1, 0), 0)
    assert mix.received[0] is first
    assert feed(c, received(0, 0), received(1, 0)) == []


def test_whoever_joins_is_sent_the_model_of_this_round_and_awaited():
    c = coordinator()
    feed(c, Started(), PeerLost(1), received(0, 0))
    assert feed(c, PeerJoined(1)) == ["send model 0 to 1"]
    assert feed(c, received(2, 0)) == []
    assert feed(c, received(1, 0)) == ["mix 0 of 0 1 2", "no deadline", "send model 1 to 0 1 2"]


def test_a_coordinator_that_everyone_left_waits_a_deadline_at_a_time_and_ends():
    c = coordinator(agents=1, rounds=3)
    feed(c, Started())
    assert feed(c, PeerLost(0)) == ["mix 0 of", "wait"]
    assert feed(c, Expired(SECOND)) == ["mix 1 of", "wait"]
    assert feed(c, Expired(SECOND)) == ["mix 2 of", "no deadline", "send final 3 to 0", "finish"]


def test_the_coordinator_says_whom_it_waits_for():
    c = coordinator()
    feed(c, Started(), received(1, 0))
    assert c.waits_for() == "the coordinator waits in round 0 for 0, 2"
    assert c.awaits() == (0, 2)


def asynchronous(
    rounds: int | None = 4, max_staleness: int | None = None
) -> AsynchronousCoordinator:
    options = Asynchronous(max_staleness=max_staleness, staleness=Hinge(slope=1.0, grace=1))
    machine = options.coordinator(Participants(2, everyone), rounds=rounds)
    assert isinstance(machine, AsynchronousCoordinator)
    return machine


def test_every_update_is_applied_at_once_with_its_staleness_and_answered():
    c = asynchronous()
    assert feed(c, Started()) == ["send model 0 to 0 1"]
    assert feed(
        c, received(0, 0, sequence=1), received(0, 1, sequence=2), received(0, 2, sequence=3)
    )[-2:] == [
        "mix 2 of 0",
        "send model 3 to 0",
    ]
    (mix, send) = c.handle(received(1, 0), 0)
    assert isinstance(mix, Mix)
    assert list(mix.staleness) == [3]
    assert list(mix.factors) == [1.0 / 3.0]
    assert send.round == 4


def test_rounds_times_n_updates_end_an_asynchronous_run():
    c = asynchronous(rounds=2)
    feed(c, Started(), received(0, 0, sequence=1), received(1, 0), received(0, 1, sequence=2))
    assert feed(c, received(1, 1)) == ["mix 3 of 1", "send final 4 to 0 1", "finish"]


def test_an_asynchronous_run_ends_where_no_update_can_be_used_a_thousand_times_per_agent():
    c = asynchronous()
    feed(c, Started())
    lost = [Missing(0, 0)] * (2 * ASKS)
    assert feed(c, *lost) == ["send model 0 to 0"] * (2 * ASKS)
    feed(c, received(1, 0))
    assert feed(c, *lost)[-1] == "send model 1 to 0", "one that is used is a new beginning"
    assert feed(c, Missing(0, 0)) == ["send final 1 to 0 1", "finish"]
    d = asynchronous()
    *_, finish = [a for event in (Started(), *lost, Missing(0, 0)) for a in d.handle(event, 0)]
    assert finish.why == "unreachable"


def test_duplicates_are_applied_once_and_a_restarted_agent_counts_anew():
    c = asynchronous()
    feed(c, Started())
    assert feed(c, received(0, 0, sequence=5)) == ["mix 0 of 0", "send model 1 to 0"]
    assert feed(c, received(0, 0, sequence=5), received(0, 0, sequence=4)) == []
    assert feed(c, received(0, 0, sequence=1, incarnation=1)) == ["mix 1 of 0", "send model 2 to 0"]
    assert feed(c, received(0, 0, sequence=6)) == []
    assert c.version == 2


def test_updates_that_are_too_stale_are_counted_and_answered_but_not_applied():
    c = asynchronous(max_staleness=1)
    feed(c, Started(), received(0, 0, sequence=1), received(0, 1, sequence=2))
    assert feed(c, received(1, 0)) == ["send model 2 to 1"]
    assert c.messages_late == 1


def test_skips_losses_and_newcomers_get_the_model():
    c = asynchronous()
    feed(c, Started())
    assert feed(c, received(0, 0, kind=SKIP), Missing(1, 0), PeerJoined(0)) == [
        "send model 0 to 0",
        "send model 0 to 1",
        "send model 0 to 0",
    ]
    assert c.waits_for() == "the coordinator waits at version 0 for any update"
    assert c.awaits() == ()


def test_an_asynchronous_coordinator_that_everyone_left_waits_five_minutes_and_ends():
    c = asynchronous()
    feed(c, Started(), PeerLost(1), PeerJoined(1), PeerLost(0))
    assert feed(c, PeerLost(1), now=SECOND) == ["wait"]
    assert feed(c, PeerLost(0), now=2 * SECOND) == []
    assert feed(c, Expired(301 * SECOND)) == ["send final 0 to 0 1", "finish"]
    assert c.deadlines_expired == 1


def test_an_asynchronous_coordinator_goes_on_with_whoever_comes_back():
    c = asynchronous()
    feed(c, Started(), PeerLost(0), PeerLost(1))
    assert feed(c, PeerJoined(1)) == ["no deadline", "send model 0 to 1"]
    assert feed(c, Expired(300 * SECOND)) == []
    assert feed(c, PeerLost(1), now=SECOND) == ["wait"]


def push(out: Sequence[int] = (1, 2), **options: object) -> Push:
    machine = Asynchronous(**options).gossip(
        0,
        Neighbors(out),
        rounds=4,
        order="adapt_then_combine",
        available=lambda round, now: round != 1,
    )  # type: ignore[arg-type]
    assert isinstance(machine, Push)
    return machine


def test_pushing_sends_mixes_what_is_there_and_goes_on():
    p = push()
    assert feed(p, Started(), received(2, 0), received(1, 0)) == ["train"]
    assert feed(p, trained()) == ["send update 0 to 1 2", "mix 0 of 1 2", "train"]
    assert feed(p, trained()) == ["sit out 1", "train"]
    assert feed(p, trained()) == ["send update 2 to 1 2", "mix 2 of", "train"]
    assert feed(p, trained()) == ["send update 3 to 1 2", "mix 3 of", "finish"]


def test_staleness_is_the_lag_on_arrival_plus_own_updates_since():
    p = push(staleness=Hinge(slope=1.0, grace=0))
    feed(p, Started(), trained(), received(1, 0), trained())
    feed(p, received(2, 7))
    (_, mix, _) = p.handle(trained(), 0)
    assert isinstance(mix, Mix)
    assert [m.sender for m in mix.received] == [1, 2]
    assert list(mix.staleness) == [2, 0]
    assert list(mix.factors) == [1.0 / 3.0, 1.0]


@pytest.mark.parametrize(("lag", "is_mixed"), [(0, True), (1, True), (2, False), (3, False)])
def test_a_pushed_payload_is_mixed_up_to_its_maximum_staleness(lag, is_mixed):
    p = Asynchronous(max_staleness=1).gossip(
        0, Neighbors((1,)), rounds=9, order="adapt_then_combine", available=always
    )
    feed(p, Started(), *[trained()] * 4)
    feed(p, received(1, 4 - lag))
    (_, mix, _) = p.handle(trained(), 0)
    assert isinstance(mix, Mix)
    assert list(mix.staleness) == ([lag] if is_mixed else [])
    assert p.messages_late == (not is_mixed)


def test_updates_since_its_arrival_make_a_pushed_payload_too_old():
    p = Asynchronous(max_staleness=1, every=2).gossip(
        0, Neighbors((1,)), rounds=9, order="adapt_then_combine", available=lambda r, now: r > 1
    )
    feed(p, Started(), received(1, 0), *[trained()] * 4)
    assert p.round == 2
    (_, mix, _) = [*p.handle(trained(), 0), *p.handle(trained(), 0)][1:]
    assert isinstance(mix, Mix)
    assert (list(mix.received), p.messages_late) == ([], 1)


def test_a_pusher_moves_to_the_round_after_its_own_or_to_that_of_a_newer_payload():
    p = push(out=(1,))
    feed(p, Started(), received(1, 1, sequence=1), trained())
    assert p.round == 1
    feed(p, trained(), received(1, 3, sequence=2), trained())
    assert p.round == 3
    assert feed(p, trained())[-1] == "finish"


def test_who_joins_a_pusher_gets_its_last_payload_if_there_is_one_and_it_hears_it():
    p = push(out=(1,))
    feed(p, Started())
    assert feed(p, PeerJoined(1)) == []
    feed(p, trained())
    assert feed(p, PeerJoined(1), PeerJoined(2)) == ["send update 0 to 1"]


@pytest.mark.parametrize(("lag", "is_applied"), [(0, True), (1, True), (2, False)])
def test_an_update_counts_up_to_its_maximum_staleness(lag, is_applied):
    c = asynchronous(max_staleness=1, rounds=9)
    feed(c, Started(), received(0, 0, sequence=1), received(0, 1, sequence=2))
    assert feed(c, received(1, 2 - lag))[0] == ("mix 2 of 1" if is_applied else "send model 2 to 1")
    assert c.messages_late == (not is_applied)


def test_a_final_model_of_the_round_of_a_model_that_waits_replaces_it():
    c = client(retag=False)
    feed(c, model(0), model(3, sequence=5), final(3))
    assert feed(c, trained()) == ["adopt 3", "finish"]


@pytest.mark.parametrize("between", ["an answer", "a new link"])
def test_only_deadlines_missed_in_a_row_count(between):
    c = coordinator(agents=2, suspect_after=2)
    feed(c, Started(), received(0, 0), Expired(SECOND))
    if between == "an answer":
        feed(c, received(0, 1), received(1, 1))
    else:
        feed(c, PeerLost(1), PeerJoined(1))
    number = c.round
    feed(c, received(0, number))
    assert feed(c, Expired(SECOND))[-1] == f"send model {number + 1} to 0 1"


@pytest.mark.parametrize(("quorum", "enough"), [(1.0, 3), (0.7, 3), (0.6, 2), (0.34, 2), (0.3, 1)])
def test_a_quorum_is_rounded_up(quorum, enough):
    c = Coordinator(
        Participants(3, everyone), rounds=5, deadline=SECOND, suspect_after=2, quorum=quorum
    )
    feed(c, Started())
    for number in range(enough):
        assert c.round == 0
        feed(c, received(number, 0))
    assert c.round == 1


def test_the_newest_payload_of_a_neighbor_counts_once_whatever_the_order_of_arrival():
    p = push(out=(1,))
    newest = message(1, 3, sequence=4)
    feed(p, Started(), received(1, 1, sequence=2))
    p.handle(Received(newest), 0)
    feed(
        p,
        received(1, 2, sequence=3),
        received(1, 3, sequence=4),
        received(1, 9, kind=SKIP, sequence=9),
    )
    (_, mix, _) = p.handle(trained(), 0)
    assert isinstance(mix, Mix)
    assert list(mix.received) == [newest]
    feed(p, received(1, 3, sequence=4), trained())
    (_, mix, _) = p.handle(trained(), 0)
    assert list(mix.received) == []


def test_payloads_beyond_the_bound_are_dropped_and_counted():
    p = push(out=(1,), max_staleness=0)
    feed(p, Started(), trained(), received(1, 0))
    feed(p, trained())
    assert feed(p, trained()) == ["send update 2 to 1", "mix 2 of", "train"]
    assert p.messages_late == 1


def test_a_neighbor_that_joins_gets_what_one_has():
    p = push()
    assert feed(p, Started(), PeerJoined(1)) == ["train"]
    feed(p, trained())
    assert feed(p, PeerJoined(1), PeerJoined(5), PeerLost(1), Missing(1, 0), Expired(1)) == [
        "send update 0 to 1"
    ]


class Federation:
    """A coordinator and its clients; the test picks what happens next, links may fail and heal."""

    def __init__(self, n: int, rounds: int, *, asynchronous: bool) -> None:
        options = Asynchronous() if asynchronous else Synchronous(deadline=1.0, suspect_after=2)
        last = rounds * n if asynchronous else rounds
        self.machines = {i: options.client(rounds=last, available=always) for i in range(n)}
        self.machines[COORDINATOR] = options.coordinator(Participants(n, everyone), rounds=rounds)
        self.flights: list[tuple[int, Message]] = []
        self.training: set[int] = set()
        self.deadlines: dict[int, int] = {}
        self.finished: set[int] = set()
        self.reasons: set[str] = set()
        self.sequence = dict.fromkeys(self.machines, 0)
        self.applied: set[tuple[int, int]] = set()
        self.cut: set[int] = set()
        self.now = 0
        for i in self.machines:
            self.feed(i, Started())

    def feed(self, i: int, event: object) -> None:
        if i in self.finished and i != COORDINATOR:
            return
        for action in self.machines[i].handle(event, self.now):  # type: ignore[arg-type]
            if isinstance(action, Train):
                assert i not in self.training
                self.training.add(i)
            elif isinstance(action, Send):
                self.sequence[i] += 1
                m = message(i, action.round, kind=action.kind, sequence=self.sequence[i])
                self.flights += [(to, m) for to in action.to]
            elif isinstance(action, WaitUntil):
                self.deadlines.pop(i, None)
                if action.time is not None:
                    self.deadlines[i] = action.time
            elif isinstance(action, Mix):
                for m in action.received:
                    assert (m.sender, m.sequence) not in self.applied, "no update is applied twice"
                    self.applied.add((m.sender, m.sequence))
            elif isinstance(action, Finish):
                self.finished.add(i)
                self.reasons.add(action.why)
                self.deadlines.pop(i, None)

    def step(self, random: object) -> None:
        options = [("train", i) for i in sorted(self.training)] + [
            ("deliver", k) for k in range(len(self.flights))
        ]
        if not options:
            options = [
                ("expire", i) for i in sorted(self.deadlines, key=lambda i: self.deadlines[i])[:1]
            ]
        what, k = random.choice(options)  # type: ignore[attr-defined]
        if what == "train":
            self.training.remove(k)
            self.feed(k, trained(k))
        elif what == "expire":
            self.now = max(self.now, self.deadlines[k])
            self.feed(k, Expired(self.deadlines.pop(k)))
        else:
            to, m = self.flights.pop(k)
            if to in self.cut or m.sender in self.cut:
                return
            fate = random.choice(("deliver", "deliver", "deliver", "notice", "double"))  # type: ignore[attr-defined]
            if fate == "double":
                self.flights.append((to, m))
            self.feed(to, Missing(m.sender, m.round) if fate == "notice" else Received(m))

    def heal(self) -> None:
        for i in sorted(self.cut):
            over = COORDINATOR in self.finished
            self.feed(i, PeerLost(COORDINATOR) if over else PeerJoined(COORDINATOR))
            self.feed(COORDINATOR, PeerJoined(i))
        self.cut.clear()


@given(
    n=st.integers(1, 4),
    rounds=st.integers(1, 5),
    asynchronous=st.booleans(),
    cuts=st.lists(st.integers(0, 60), max_size=3),
    random=st.randoms(use_true_random=False),
)
def test_whatever_links_do_everyone_finishes_and_no_update_is_applied_twice(
    n, rounds, asynchronous, cuts, random
):
    f = Federation(n, rounds, asynchronous=asynchronous)
    for number in range(4000):
        if len(f.finished) == n + 1:
            break
        if number in cuts:
            f.heal()
            f.cut = {i for i in range(n) if random.random() < 0.6}
        elif number - 12 in cuts:
            f.heal()
        if not (f.training or f.flights or f.deadlines):
            f.heal()
        f.step(random)
    assert len(f.finished) == n + 1
    assert f.reasons <= {"", *(["coordinator_gone"] if cuts else [])}, "losses alone take no model"


def test_who_is_away_asks_an_asynchronous_coordinator_again_more_and_more_rarely():
    is_there = [False] * 4 + [True]
    c = client(retag=False, available=lambda models, now: is_there[models])
    assert feed(c, Started()) == []
    assert feed(c, model(3, sequence=1)) == ["adopt 3", "send skip 3 to -1"]
    for tries, rest in enumerate((10, 20, 40)):
        until = rest * 10**6
        *_, action = c.handle(model(4 + tries, sequence=2 + tries), 0)
        assert isinstance(action, WaitUntil)
        assert action.time == until
        assert feed(c, Expired(until - 1)) == []
        assert feed(c, Expired(until)) == [f"send skip {4 + tries} to -1"]
    assert feed(c, model(9, sequence=9)) == ["adopt 9", "train"]
    assert feed(c, Expired(40 * 10**6)) == []
