"""Synchronous gossip as a state machine: the test is the world, and feeds any order of events."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from machines import SECOND, Neighbors, feed, message, received, trained

from p2pfrl.consensus.schedules.base import Attendance, always
from p2pfrl.consensus.schedules.gossip import _KEPT, Gossip
from p2pfrl.consensus.schedules.synchronous import Synchronous
from p2pfrl.core.types import (
    SKIP,
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


def machine(
    out: Sequence[int] = (1, 2),
    into: Sequence[int] | None = None,
    *,
    rounds: int | None = 10,
    combine_first: bool = False,
    available: object = always,
    **options: object,
) -> Gossip:
    neighbors = Neighbors(out) if into is None else Neighbors(out, into, both=False)
    order = "combine_while_adapting" if combine_first else "adapt_then_combine"
    return Synchronous(**options).gossip(
        0, neighbors, rounds=rounds, order=order, available=available
    )  # type: ignore[arg-type]


def test_a_round_is_train_send_wait_mix():
    g = machine(rounds=2)
    assert feed(g, Started()) == ["train"]
    assert feed(g, trained()) == ["send update 0 to 1 2", "wait"]
    assert feed(g, received(2, 0)) == []
    assert feed(g, received(1, 0)) == ["mix 0 of 1 2", "no deadline", "train"]
    assert feed(g, trained(), received(1, 1)) == ["send update 1 to 1 2", "wait"]
    assert feed(g, received(2, 1)) == ["mix 1 of 1 2", "no deadline", "finish"]
    assert (g.messages_late, g.deadlines_expired) == (0, 0)


def test_combining_while_adapting_sends_before_it_trains():
    g = machine(combine_first=True)
    assert feed(g, Started()) == ["send update 0 to 1 2", "train"]
    assert feed(g, received(1, 0), received(2, 0)) == []
    assert feed(g, trained()) == ["mix 0 of 1 2", "send update 1 to 1 2", "train"]


def test_several_local_updates_come_before_an_exchange():
    g = machine(every=3)
    assert feed(g, Started(), trained(), trained()) == ["train"] * 3
    assert feed(g, trained()) == ["send update 0 to 1 2", "wait"]


def test_nobody_to_wait_for_means_no_waiting():
    g = machine(out=(), rounds=3)
    assert feed(g, Started(), trained()) == ["train", "send update 0 to", "mix 0 of", "train"]


def test_no_rounds_means_finish_at_once():
    assert feed(machine(rounds=0), Started()) == ["finish"]


def test_what_arrives_early_is_kept_for_its_round():
    g = machine()
    feed(g, Started())
    assert feed(g, received(1, 0), trained(), received(1, 1)) == ["send update 0 to 1 2", "wait"]
    assert feed(g, received(2, 0)) == ["mix 0 of 1 2", "no deadline", "train"]
    assert feed(g, trained()) == ["send update 1 to 1 2", "wait"]
    assert feed(g, received(2, 1)) == ["mix 1 of 1 2", "no deadline", "train"]


def test_the_first_of_two_payloads_for_one_round_counts():
    g = machine()
    first, second = message(1, 0, sequence=1), message(1, 0, sequence=2)
    feed(g, Started(), trained())
    g.handle(Received(first), 0)
    g.handle(Received(second), 0)
    (mix, *_) = g.handle(Received(message(2, 0)), 0)
    assert isinstance(mix, Mix)
    assert mix.received[0] is first


def test_a_skip_is_waited_for_and_not_mixed():
    g = machine()
    feed(g, Started(), trained(), received(1, 0, kind=SKIP))
    assert feed(g, received(2, 0)) == ["mix 0 of 2", "no deadline", "train"]


def test_a_message_the_link_lost_is_not_waited_for_and_others_are():
    g = machine()
    feed(g, Started(), trained())
    assert feed(g, Missing(1, 0)) == []
    assert feed(g, received(2, 0)) == ["mix 0 of 2", "no deadline", "train"]
    assert feed(g, Missing(1, 0), Missing(1, 1), Missing(2, 1)) == []
    assert feed(g, trained()) == ["send update 1 to 1 2", "mix 1 of", "train"]


def test_messages_of_strangers_are_not_mixed_and_end_no_wait():
    g = machine()
    feed(g, Started(), trained())
    assert feed(g, received(7, 0), received(1, 0)) == []
    assert feed(g, received(2, 0)) == ["mix 0 of 1 2", "no deadline", "train"]


def test_the_deadline_counts_from_the_end_of_ones_own_update():
    g = machine(deadline=2.0)
    feed(g, Started())
    (_, wait) = g.handle(trained(), 7 * SECOND)
    assert isinstance(wait, WaitUntil)
    assert wait.time == 9 * SECOND


def test_another_deadline_than_the_one_that_holds_changes_nothing():
    g = machine(deadline=2.0)
    feed(g, Started(), trained())
    assert feed(g, Expired(SECOND)) == []
    assert feed(g, Expired(2 * SECOND)) == ["mix 0 of", "no deadline", "train"]
    assert feed(g, Expired(2 * SECOND)) == []
    assert g.deadlines_expired == 1


def test_whoever_misses_k_deadlines_in_a_row_is_suspected_until_it_is_heard():
    g = machine(deadline=1.0, suspect_after=2)
    feed(g, Started())
    for round, patience in enumerate((SECOND, SECOND // 2)):
        feed(g, trained(), received(1, round))
        assert feed(g, Expired(patience))[0] == f"mix {round} of 1"
    assert feed(g, trained(), received(1, 2)) == [
        "send update 2 to 1 2",
        "wait",
        "mix 2 of 1",
        "no deadline",
        "train",
    ]
    assert feed(g, received(2, 3), trained()) == ["send update 3 to 1 2", "wait"]
    assert feed(g, received(1, 3)) == ["mix 3 of 1 2", "no deadline", "train"]
    assert feed(g, trained(), received(1, 4)) == ["send update 4 to 1 2", "wait"]
    assert g.deadlines_expired == 2


def test_misses_that_are_not_in_a_row_suspect_nobody():
    g = machine(out=(1,), deadline=1.0, suspect_after=2)
    feed(g, Started())
    for round in range(6):
        sent = feed(g, trained())
        assert sent == [f"send update {round} to 1", "wait"]
        feed(g, received(1, round) if round % 2 else Expired(SECOND))
    assert g.deadlines_expired == 3


def test_a_suspect_that_is_heard_too_late_is_given_up_after_one_more_miss():
    g = machine(out=(1,), deadline=1.0, suspect_after=3)
    feed(g, Started())
    for patience in (SECOND, SECOND // 2, SECOND // 2):
        feed(g, trained(), Expired(patience))
    assert feed(g, trained()) == ["send update 3 to 1", "mix 3 of", "train"]
    feed(g, received(1, 1))
    assert g.messages_late == 1
    assert feed(g, trained()) == ["send update 4 to 1", "wait"]
    assert feed(g, Expired(SECOND // 2))[0] == "mix 4 of 1", "what came late counts, once"
    assert feed(g, trained()) == ["send update 5 to 1", "mix 5 of", "train"]
    assert g.deadlines_expired == 4


def test_a_dead_link_ends_the_wait_at_once_and_a_new_one_starts_it_again():
    g = machine()
    feed(g, Started(), trained(), received(1, 0))
    assert feed(g, PeerLost(2)) == ["mix 0 of 1", "no deadline", "train"]
    assert feed(g, trained(), received(1, 1))[:3] == ["send update 1 to 1 2", "wait", "mix 1 of 1"]
    assert feed(g, PeerJoined(2)) == ["send update 1 to 2"]
    assert feed(g, trained(), received(1, 2)) == ["send update 2 to 1 2", "wait"]
    assert g.deadlines_expired == 0


def test_a_joined_stranger_or_one_before_the_first_round_gets_nothing():
    g = machine()
    assert feed(g, Started(), PeerJoined(1)) == ["train"]
    feed(g, trained(), received(1, 0), received(2, 0))
    assert feed(g, PeerJoined(9)) == []


def test_who_joins_while_one_combines_and_adapts_gets_the_vector_of_the_round_at_any_time():
    g = machine(combine_first=True)
    assert feed(g, Started(), PeerJoined(2)) == [
        "send update 0 to 1 2",
        "train",
        "send update 0 to 2",
    ]
    assert feed(g, trained(), PeerJoined(2)) == ["wait", "send update 0 to 2"]
    feed(g, received(1, 0), received(2, 0))
    assert feed(g, PeerJoined(1)) == ["send skip 0 to 1", "send update 1 to 1"]


def test_who_joins_hears_from_an_agent_that_sits_its_round_out_that_it_does():
    g = machine(out=(1, 2), available=lambda round, now: round == 0)
    feed(g, Started(), trained(), received(1, 0))
    assert feed(g, received(2, 0)) == ["mix 0 of 1 2", "no deadline", "send skip 1 to 1 2", "wait"]
    assert feed(g, PeerJoined(2)) == ["send update 0 to 2", "send skip 1 to 2"]


def test_an_agent_that_sits_a_round_out_waits_for_nobody_who_is_past_it():
    g = machine(out=(1,), available=lambda round, now: round > 0)
    assert feed(g, Started()) == ["send skip 0 to 1", "wait"]
    assert feed(g, received(1, 4)) == ["sit out 0", "no deadline", "send skip 3 to 1", "train"]
    assert feed(g, trained()) == ["send update 4 to 1", "mix 4 of 1", "train"]
    assert (g.messages_late, g.deadlines_expired) == (0, 0)


@pytest.mark.parametrize("is_there", [True, False])
def test_who_is_one_round_ahead_may_have_been_overtaken_by_its_own_message_and_is_awaited(
    is_there: bool,
):
    g = machine(out=(1,), available=lambda round, now: is_there or round > 0)
    feed(g, Started(), *([trained()] if is_there else []))
    assert feed(g, received(1, 1)) == []
    assert feed(g, received(1, 0))[0] == ("mix 0 of 1" if is_there else "sit out 0")
    assert (g.round, g.messages_late) == (1, 0)


def test_whoever_sits_out_says_once_that_it_skips_the_round():
    g = Synchronous().gossip(
        0,
        EverySecond((1,)),
        rounds=10,
        order="adapt_then_combine",
        available=lambda round, now: round > 0,
    )
    assert feed(g, Started()) == ["send skip 0 to 1", "wait"]
    assert feed(g, received(1, 4))[0] == "sit out 0", "1 passed round 2, in which it hears us"
    assert g.round == 1


@pytest.mark.parametrize("first", [Missing(1, 0), received(1, 0, kind=SKIP)])
def test_what_was_lost_or_skipped_is_mixed_where_it_comes_all_the_same(first):
    g = machine()
    feed(g, Started(), trained(), first, received(1, 0, sequence=9))
    assert feed(g, received(2, 0))[0] == "mix 0 of 1 2"
    assert g.messages_late == 0


def test_who_joins_gets_the_messages_of_the_rounds_in_which_it_hears_us():
    g = Synchronous().gossip(
        0, EverySecond((1,)), rounds=10, order="adapt_then_combine", available=always
    )
    feed(g, Started())
    assert feed(g, PeerJoined(1)) == [], "this round's payload is still to come"
    feed(g, trained(), received(1, 0))
    assert g.round == 1
    assert feed(g, PeerJoined(1)) == ["send update 0 to 1"], "it waits in the round before"
    feed(g, trained())
    assert g.round == 2
    assert feed(g, trained(), PeerJoined(1))[-1] == "send update 2 to 1"


def away(until: int | None, opens: int | None) -> Attendance:
    """Return the attendance of an agent that is away, where somebody is there from `opens` on."""

    def following(start: int | None, now: int) -> int | None:
        return None if start is None else max(now, start)

    return Attendance(
        is_there=lambda now: until is not None and now >= until,
        returns=lambda now: following(until, now),
        opens=lambda now: following(opens, now),
    )


def test_no_round_passes_while_nobody_is_there():
    g = machine(out=(1,), available=away(until=5, opens=5))
    (wait,) = g.handle(Started(), 0)
    assert isinstance(wait, WaitUntil)
    assert wait.time == 5
    assert feed(g, Expired(4)) == []
    assert feed(g, PeerJoined(1), now=1) == ["no deadline", "wait"]
    assert feed(g, Expired(5), now=5) == ["no deadline", "train"]
    assert feed(g, Expired(5), trained(), now=5) == ["send update 0 to 1", "wait"]


def test_whoever_is_away_sits_out_the_rounds_of_those_who_are_there():
    g = machine(out=(1,), available=away(until=9, opens=5))
    feed(g, Started())
    assert feed(g, Expired(5), now=5) == ["no deadline", "send skip 0 to 1", "wait"]
    assert feed(g, received(1, 0), now=6)[:2] == ["sit out 0", "no deadline"]


def test_whoever_is_away_and_hears_nobody_waits_until_it_is_there_or_hears_somebody():
    g = machine(out=(1,), available=away(until=9, opens=0))
    assert feed(g, Started(), PeerLost(1)) == [
        "send skip 0 to 1",
        "wait",
        "sit out 0",
        "no deadline",
        "wait",
    ]
    assert feed(g, received(1, 4), now=1) == [
        "no deadline",
        "send skip 3 to 1",
        "send skip 4 to 1",
        "sit out 4",
        "send skip 5 to 1",
        "wait",
    ]


def test_a_run_in_which_nobody_will_be_there_again_ends():
    g = machine(out=(1,), available=away(until=None, opens=None))
    (end,) = g.handle(Started(), 0)
    assert isinstance(end, Finish)
    assert end.why == "agents_gone"


def test_a_rest_is_part_of_the_state():
    before, after = (machine(out=(1,), available=away(until=5, opens=5)) for _ in range(2))
    feed(before, Started())
    after.restore(before.save())
    assert feed(after, Expired(5), now=5) == ["no deadline", "train"]


class EverySecond(Neighbors):
    """Neighbors that meet in the even rounds alone."""

    def successors(self, round: int) -> Sequence[int]:
        return super().successors(round) if round % 2 == 0 else ()

    def predecessors(self, round: int) -> Sequence[int]:
        return super().predecessors(round) if round % 2 == 0 else ()


def test_who_came_two_rounds_further_with_what_we_sent_is_awaited_and_who_came_three_is_not():
    g = Synchronous().gossip(
        0, EverySecond((1,)), rounds=10, order="adapt_then_combine", available=always
    )
    assert feed(g, Started(), trained()) == ["train", "send update 0 to 1", "wait"]
    assert feed(g, received(1, 2)) == []
    assert feed(g, received(1, 4)) == ["mix 0 of", "no deadline", "train"]


def test_an_agent_behind_catches_up_and_counts_what_it_skips():
    g = machine()
    feed(g, Started(), received(2, 0), received(1, 4), received(2, 3))
    assert feed(g, trained()) == ["send skip 3 to 1 2", "send update 4 to 1 2", "wait"]
    assert g.messages_late == 2
    assert feed(g, received(2, 4)) == ["mix 4 of 1 2", "no deadline", "train"]


def test_an_agent_that_catches_up_past_the_end_counts_for_the_last_round():
    g = machine(rounds=5)
    feed(g, Started(), received(1, 4), received(2, 4))
    assert feed(g, trained()) == [
        "send skip 3 to 1 2",
        "send update 4 to 1 2",
        "mix 4 of 1 2",
        "finish",
    ]


def test_a_neighbor_two_rounds_ahead_has_given_us_up_and_is_not_awaited():
    g = machine()
    feed(g, Started())
    assert feed(g, trained()) == ["send update 0 to 1 2", "wait"]
    assert feed(g, received(1, 1), received(2, 0)) == []
    assert feed(g, received(1, 2)) == ["mix 0 of 2", "no deadline", "send skip 1 to 1 2", "train"]
    assert feed(g, trained(), received(2, 2)) == [
        "send update 2 to 1 2",
        "wait",
        "mix 2 of 1 2",
        "no deadline",
        "train",
    ]
    ahead = machine(combine_first=True)
    feed(ahead, Started(), received(1, 2), received(2, 0))
    assert feed(ahead, trained()) == [
        "mix 0 of 2",
        "send skip 1 to 1 2",
        "send update 2 to 1 2",
        "train",
    ]
    heard_by_nobody = machine(out=(2,), into=(1, 2))
    feed(heard_by_nobody, Started(), trained(), received(2, 0))
    assert feed(heard_by_nobody, received(1, 2)) == []


def test_rounds_beyond_the_last_are_refused():
    g = machine(rounds=5)
    feed(g, Started(), received(1, 5), received(1, 2**61), received(2, 2**61))
    assert feed(g, trained()) == ["send update 0 to 1 2", "wait"]
    assert g.messages_late == 3


def test_rounds_that_nobody_can_have_reached_are_dropped_even_where_no_round_is_the_last():
    g = machine(rounds=None)
    feed(g, Started(), received(1, 2**20), received(1, 2**61))
    assert feed(g, trained()) == ["send update 0 to 1 2", "wait"]
    assert g.messages_late == 2


def test_of_a_sender_far_ahead_a_bounded_number_of_rounds_is_kept_and_those_of_use():
    g = machine(rounds=None)
    feed(g, Started(), *(received(1, round) for round in range(1, 3001)), received(2, 3000))
    assert sum(1 in box for box in g._inbox.values()) == _KEPT
    assert g.messages_late == 3000 - _KEPT
    assert feed(g, trained()) == [
        "send skip 2999 to 1 2",
        "send update 3000 to 1 2",
        "mix 3000 of 1 2",
        "train",
    ]
    g = machine(out=(1,), into=(2,), rounds=None)
    feed(g, Started(), *(received(2, round) for round in range(1, 3001)))
    assert sorted(g._inbox) == list(range(1, _KEPT + 1))
    assert g.messages_late == 3000 - _KEPT


def test_a_predecessor_that_does_not_hear_us_may_run_ahead_without_making_us_jump():
    g = machine(out=(1,), into=(2,))
    feed(g, Started(), *(received(2, round) for round in range(6)))
    for round in range(5):
        assert feed(g, trained()) == [f"send update {round} to 1", f"mix {round} of 2", "train"]
    assert g.messages_late == 0


def test_who_sits_out_says_so_waits_and_keeps_its_parameters():
    g = machine(available=lambda round, now: round != 1)
    feed(g, Started(), trained(), received(1, 0))
    assert feed(g, received(2, 0)) == ["mix 0 of 1 2", "no deadline", "send skip 1 to 1 2", "wait"]
    assert feed(g, received(1, 1), received(2, 1)) == ["sit out 1", "no deadline", "train"]


def test_nothing_is_kept_of_rounds_that_are_over():
    g = machine(rounds=None, out=(1,))
    feed(g, Started())
    for round in range(100):
        feed(g, trained(), received(1, round), received(1, round), Missing(1, round))
    assert g.round == 100
    assert not g._inbox
    feed(g, *(received(1, round) for round in range(100, 200)))
    assert feed(g, trained()) == [
        "send skip 198 to 1",
        "send update 199 to 1",
        "mix 199 of 1",
        "train",
    ]
    assert not g._inbox


def test_the_report_of_a_deadlock_names_who_is_awaited():
    g = machine()
    feed(g, Started())
    assert g.waits_for() == "agent 0 waits in round 0 for its own update"
    assert g.awaits() == ()
    feed(g, trained(), received(1, 0))
    assert g.waits_for() == "agent 0 waits in round 0 for 2"
    assert g.awaits() == (2,)


@dataclass
class Crowd:
    """Several machines; the test picks which of the possible events happens next."""

    machines: list[Gossip]
    reliable: bool
    flights: list[tuple[int, Message]] = field(default_factory=list)
    training: set[int] = field(default_factory=set)
    deadlines: dict[int, int] = field(default_factory=dict)
    finished: set[int] = field(default_factory=set)
    mixed: list[Counter] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)
    now: int = 0

    def __post_init__(self) -> None:
        self.mixed = [Counter() for _ in self.machines]
        self.rounds = [-1] * len(self.machines)
        for i in range(len(self.machines)):
            self.feed(i, Started())

    def feed(self, i: int, event: object) -> None:
        if i in self.finished:
            return
        for action in self.machines[i].handle(event, self.now):
            if isinstance(action, Train):
                assert i not in self.training
                self.training.add(i)
            elif isinstance(action, Send):
                self.flights += [
                    (to, message(i, action.round, kind=action.kind)) for to in action.to
                ]
            elif isinstance(action, WaitUntil):
                self.deadlines.pop(i, None)
                if action.time is not None:
                    assert action.time > self.now
                    self.deadlines[i] = action.time
            elif isinstance(action, Mix):
                self.check(i, action)
            else:
                assert isinstance(action, Finish)
                self.finished.add(i)
                self.deadlines.pop(i, None)

    def check(self, i: int, mix: Mix) -> None:
        assert mix.round > self.rounds[i], "rounds never go back"
        self.rounds[i] = mix.round
        senders = [m.sender for m in mix.received]
        assert senders == sorted(set(senders))
        for m, tau in zip(mix.received, mix.staleness, strict=True):
            assert tau == mix.round - m.round >= 0
            assert m.kind != SKIP
            self.mixed[i][m.sender, m.round] += 1
            assert self.mixed[i][m.sender, m.round] == 1, "no message is mixed twice"

    def choices(self) -> list[tuple[str, int]]:
        options = [("train", i) for i in sorted(self.training)] + [
            ("deliver", k) for k in range(len(self.flights))
        ]
        if not self.reliable or not options:
            options += [
                ("expire", i) for i in sorted(self.deadlines, key=lambda i: self.deadlines[i])
            ]
        return options

    def step(self, what: str, k: int, fate: str) -> None:
        if what == "train":
            self.training.remove(k)
            self.feed(k, trained(k))
        elif what == "expire":
            self.now = max(self.now, self.deadlines[k])
            self.feed(k, Expired(self.deadlines.pop(k)))
        else:
            to, m = self.flights.pop(k)
            if fate == "lose":
                return
            if fate == "notice":
                self.feed(to, Missing(m.sender, m.round))
                return
            if fate == "double":
                self.flights.append((to, m))
            elif fate == "lost link":
                self.feed(to, PeerLost(m.sender))
            elif fate == "new link":
                self.feed(to, PeerJoined(m.sender))
            self.feed(to, Received(m))


GRAPHS = {
    "ring": lambda n: [Neighbors(sorted({(i - 1) % n, (i + 1) % n} - {i})) for i in range(n)],
    "complete": lambda n: [Neighbors([j for j in range(n) if j != i]) for i in range(n)],
    "directed ring": lambda n: [
        Neighbors([(i + 1) % n], [(i - 1) % n], both=False) for i in range(n)
    ],
    "star": lambda n: [Neighbors(range(1, n)), *(Neighbors([0]) for _ in range(1, n))],
}
FATES = ("deliver", "deliver", "deliver", "lose", "notice", "double", "lost link", "new link")


def crowd(
    graph: str, n: int, rounds: int, *, reliable: bool, combine_first: bool, every: int
) -> Crowd:
    options = Synchronous(deadline=1.0, suspect_after=2, every=every)
    order = "combine_while_adapting" if combine_first else "adapt_then_combine"
    return Crowd(
        [
            options.gossip(i, links, rounds=rounds, order=order, available=always)
            for i, links in enumerate(GRAPHS[graph](n))
        ],
        reliable,
    )


@given(
    graph=st.sampled_from(sorted(GRAPHS)),
    n=st.integers(2, 5),
    rounds=st.integers(1, 6),
    combine_first=st.booleans(),
    every=st.integers(1, 2),
    random=st.randoms(use_true_random=False),
)
def test_without_losses_every_order_of_events_gives_the_same_full_rounds(
    graph, n, rounds, combine_first, every, random
):
    c = crowd(graph, n, rounds, reliable=True, combine_first=combine_first, every=every)
    while len(c.finished) < n:
        assert not c.flights or c.choices()
        what, k = random.choice(c.choices())
        assert what != "expire", "nobody waits where nothing is lost"
        c.step(what, k, "deliver")
    for i, links in enumerate(GRAPHS[graph](n)):
        assert set(c.mixed[i]) == {(j, r) for j in links.predecessors(0) for r in range(rounds)}
        assert c.machines[i].messages_late == c.machines[i].deadlines_expired == 0


@given(
    graph=st.sampled_from(sorted(GRAPHS)),
    n=st.integers(2, 5),
    rounds=st.integers(1, 8),
    combine_first=st.booleans(),
    random=st.randoms(use_true_random=False),
)
def test_whatever_the_network_does_everyone_finishes_and_no_message_is_mixed_twice(
    graph, n, rounds, combine_first, random
):
    c = crowd(graph, n, rounds, reliable=False, combine_first=combine_first, every=1)
    for _ in range(5000):
        if len(c.finished) == n:
            break
        what, k = random.choice(c.choices())
        c.step(what, k, random.choice(FATES))
    assert len(c.finished) == n
    assert all(round < rounds for round in c.rounds)


@pytest.mark.parametrize("graph", ["ring", "complete", "star"])
def test_one_dead_neighbor_costs_its_neighbors_suspect_after_deadlines_and_no_more(graph):
    c = crowd(graph, 4, 12, reliable=True, combine_first=False, every=1)
    c.finished.add(3)
    c.training.discard(3)
    for _ in range(2000):
        if len(c.finished) == 4:
            break
        what, k = c.choices()[0]
        c.step(what, k, "deliver")
    assert len(c.finished) == 4
    expired = [c.machines[i].deadlines_expired for i in range(3)]
    assert max(expired) == 2


def test_a_neighbor_that_missed_the_last_deadline_gets_half_of_the_next_and_the_others_all_of_it():
    g = machine(deadline=1.0)
    feed(g, Started(), trained(), received(1, 0), Expired(SECOND))
    (_, wait) = g.handle(trained(), 10 * SECOND)
    assert isinstance(wait, WaitUntil)
    assert wait.time == 10 * SECOND + SECOND // 2
    (longer,) = g.handle(Expired(wait.time), wait.time)
    assert isinstance(longer, WaitUntil)
    assert longer.time == 11 * SECOND, "agent 1 missed nothing before"
    assert feed(g, received(1, 1)) == ["mix 1 of 1", "no deadline", "train"]


def test_a_late_payload_counts_once_and_says_how_stale_it_is():
    g = machine(out=(1,), deadline=1.0)
    feed(g, Started(), trained(), Expired(SECOND), received(1, 0))
    g.handle(trained(), 0)
    (mix, *_) = g.handle(Expired(SECOND // 2), 0)
    assert isinstance(mix, Mix)
    assert [(m.sender, m.round) for m in mix.received] == [(1, 0)]
    assert mix.staleness == [1]
    assert feed(g, received(1, 0), trained(), Expired(SECOND // 2))[-3] == "mix 2 of", (
        "a duplicate is not applied again"
    )


def test_a_late_payload_beyond_the_bound_is_not_used():
    g = machine(out=(1,), deadline=1.0, max_staleness=0)
    feed(g, Started(), trained(), Expired(SECOND), received(1, 0), trained())
    assert feed(g, Expired(SECOND // 2))[0] == "mix 1 of"


def test_a_gap_in_a_round_beyond_all_others_is_nothing_to_remember():
    g = machine(rounds=None)
    feed(g, Started(), Missing(1, 2**61), Missing(2, 3))
    assert sorted(g._inbox) == [3]


def miss(g: Gossip, *heard: int) -> list[str]:
    """Train in this round, hear only some neighbors, and let the deadline pass."""
    r = g.round
    feed(g, trained(), *(received(j, r) for j in heard))
    assert g._deadline is not None
    half = g._deadline
    actions = feed(g, Expired(half), now=half)
    return actions if g.round > r else actions + feed(g, Expired(g._until), now=g._until)


@pytest.mark.parametrize(("max_staleness", "is_mixed"), [(1, False), (2, True), (None, True)])
def test_a_late_payload_is_mixed_up_to_its_maximum_staleness(max_staleness, is_mixed):
    g = machine(deadline=1.0, suspect_after=9, max_staleness=max_staleness)
    feed(g, Started())
    for _ in range(3):
        miss(g, 2)
    assert g.round == 3
    feed(g, trained(), received(1, 1), received(2, 3))
    (mix, *_) = g.handle(Expired(g._deadline), g._deadline or 0)
    assert isinstance(mix, Mix)
    assert list(mix.staleness) == ([2, 0] if is_mixed else [0])


def test_every_late_payload_is_mixed_once_and_only_if_it_is_newer_than_the_last():
    g = machine(deadline=1.0, suspect_after=9)
    feed(g, Started())
    for _ in range(3):
        miss(g, 2)
    feed(g, received(1, 1))
    assert miss(g, 2)[0] == "mix 3 of 1 2"
    feed(g, received(1, 1, sequence=9), received(1, 0))
    assert miss(g, 2)[0] == "mix 4 of 2", "it is older than what was mixed"
    feed(g, received(1, 2))
    assert miss(g, 2)[0] == "mix 5 of 1 2", "the next one is newer"
    assert miss(g, 2)[0] == "mix 6 of 2", "once"


def test_a_late_payload_is_counted_and_a_late_skip_or_copy_is_not():
    g = machine(deadline=1.0)
    feed(g, Started())
    miss(g, 2)
    feed(g, received(1, 0, kind=SKIP), Received(message(1, 0), again=True))
    assert g.messages_late == 0
    feed(g, received(1, 0))
    assert g.messages_late == 1


def test_one_late_message_does_not_bring_a_neighbor_nearer_to_being_suspected():
    g = machine(deadline=1.0, suspect_after=3)
    feed(g, Started())
    miss(g, 2)
    feed(g, received(1, 0))
    miss(g, 2)
    feed(g, trained(), received(2, 2))
    assert g.waits_for() == "agent 0 waits in round 2 for 1"


def test_misses_are_forgotten_when_the_link_comes_back():
    g = machine(deadline=1.0, suspect_after=2)
    feed(g, Started())
    miss(g, 2)
    feed(g, PeerLost(1), PeerJoined(1))
    miss(g, 2)
    feed(g, trained(), received(2, 2))
    assert g.waits_for() == "agent 0 waits in round 2 for 1"


def test_what_was_missed_of_a_neighbor_is_part_of_the_state():
    before, after = (machine(deadline=1.0, suspect_after=2) for _ in range(2))
    feed(before, Started())
    miss(before, 2)
    feed(before, received(1, 0))
    after.restore(before.save())
    feed(after, trained(), received(2, 1))
    assert after._deadline == SECOND // 2, "it is waited for half as long"
    (mix, *_) = after.handle(Expired(after._deadline), after._deadline)
    assert isinstance(mix, Mix)
    assert list(mix.staleness) == [1, 0]
    feed(after, trained(), received(1, 1), received(2, 2))
    assert not after._awaited, (
        "a second miss made it suspected, and one late message brings it back"
    )


def test_an_agent_that_nobody_hears_does_not_jump():
    g = machine(out=(), into=(1,))
    feed(g, Started(), received(1, 0), received(1, 1))
    assert feed(g, trained()) == ["send update 0 to", "mix 0 of 1", "train"]


class Turning(Neighbors):
    """Agent 0 sends to 1, 2 and 3 in turn, and hears nobody."""

    def successors(self, round: int) -> Sequence[int]:
        return (round % 3 + 1,)

    def predecessors(self, round: int) -> Sequence[int]:
        return ()


def test_the_skip_of_an_agent_that_jumps_goes_to_those_who_hear_it_in_that_round():
    g = Synchronous().gossip(
        0, Turning(()), rounds=10, order="adapt_then_combine", available=always
    )
    feed(g, Started(), received(1, 4))
    assert feed(g, trained())[:2] == ["send skip 3 to 1", "send update 4 to 2"]


def test_exactly_so_many_messages_of_a_sender_are_kept_besides_that_of_this_round():
    g = machine(out=(), into=(2,), rounds=None)
    feed(g, Started(), *(received(2, r) for r in range(_KEPT + 1)))
    assert g.messages_late == 0
    feed(g, received(2, _KEPT + 1))
    assert g.messages_late == 1


def test_a_sender_with_many_messages_costs_another_one_nothing():
    g = machine(out=(1,), into=(1, 2), rounds=None)
    feed(g, Started(), *(received(2, r) for r in range(_KEPT + 1)))
    feed(g, received(1, 0), received(1, 1))
    assert g.messages_late == 0
