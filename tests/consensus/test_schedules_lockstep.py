"""Rounds that wait for every neighbor.

The test is the world, and lets neighbors crash and come back.
"""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from machines import SECOND, Neighbors, feed, received, trained

from p2pfrl.consensus.schedules.lockstep import Lockstep
from p2pfrl.core.errors import P2PFRLError
from p2pfrl.core.types import SKIP, Expired, Missing, PeerJoined, PeerLost, Send, Started
from p2pfrl.exchange.outbox import KEPT


def lockstep(
    near: Sequence[int] = (1, 2), rounds: int | None = None, **options: object
) -> Lockstep:
    settings = {"every": 1, "patience": 10 * SECOND, "combine_first": False, **options}
    return Lockstep(0, Neighbors(near), rounds=rounds, **settings)  # type: ignore[arg-type]


def test_a_round_is_training_sending_waiting_for_everyone_and_mixing():
    one = lockstep()
    assert feed(one, Started()) == ["train"]
    assert feed(one, trained()) == ["send update 0 to 1 2", "wait"]
    assert feed(one, received(2, 0)) == []
    assert feed(one, received(1, 0)) == ["mix 0 of 1 2", "no deadline", "train"]


def test_combining_first_sends_before_it_trains():
    one = lockstep(combine_first=True)
    assert feed(one, Started()) == ["send update 0 to 1 2", "train"]
    assert feed(one, received(1, 0), received(2, 0)) == []
    assert feed(one, trained()) == ["mix 0 of 1 2", "send update 1 to 1 2", "train"]


def test_what_comes_early_is_kept_for_its_round_and_the_last_round_ends_it():
    one = lockstep(rounds=2)
    assert feed(one, Started(), received(1, 0), received(1, 1), received(2, 0), trained()) == [
        "train",
        "send update 0 to 1 2",
        "mix 0 of 1 2",
        "train",
    ]
    assert feed(one, received(2, 1), trained()) == [
        "send update 1 to 1 2",
        "mix 1 of 1 2",
        "finish",
    ]


def test_a_neighbor_that_is_down_late_or_skips_is_waited_for_all_the_same():
    one = lockstep()
    feed(one, Started(), trained(), received(1, 0))
    assert feed(one, PeerLost(2), Missing(2, 0), received(2, 0, kind=SKIP), received(1, 1)) == []
    assert feed(one, received(2, 0)) == ["mix 0 of 1 2", "no deadline", "train"]


def test_one_that_comes_back_gets_the_messages_of_the_last_round_and_of_this_one_if_they_have_left():
    one = lockstep()
    feed(one, Started())
    assert feed(one, PeerJoined(2)) == []
    feed(one, trained())
    assert feed(one, PeerJoined(2)) == ["send update 0 to 2"]
    feed(one, received(1, 0), received(2, 0))
    assert feed(one, PeerJoined(2)) == ["send update 0 to 2"]
    feed(one, trained())
    assert feed(one, PeerJoined(1)) == ["send update 0 to 1", "send update 1 to 1"]
    assert feed(one, PeerJoined(7)) == []


def test_one_that_has_finished_still_sends_its_last_messages_to_a_neighbor_that_comes_back():
    one = lockstep(rounds=1)
    feed(one, Started(), trained(), received(1, 0), received(2, 0))
    assert feed(one, PeerJoined(2)) == ["send update 0 to 2"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"first": 0}, ["train"]),
        ({"first": 0, "has_sent": True}, ["send update 0 to 1 2", "wait"]),
        ({"first": 4}, ["send update 3 to 1 2", "train"]),
        ({"first": 4, "has_sent": True}, ["send update 3 to 1 2", "send update 4 to 1 2", "wait"]),
        (
            {"first": 4, "has_sent": True, "combine_first": True},
            ["send update 3 to 1 2", "send update 4 to 1 2", "train"],
        ),
        ({"first": 6}, ["send update 5 to 1 2", "finish"]),
    ],
)
def test_one_that_was_restarted_sends_again_what_may_have_been_lost_and_goes_on(options, expected):
    assert feed(lockstep(rounds=6, **options), Started()) == expected


def test_patience_ends_with_a_reason_and_not_before():
    one = lockstep()
    feed(one, Started(), trained(), received(1, 0))
    assert feed(one, Expired(3 * SECOND), now=3 * SECOND) == []
    with pytest.raises(
        P2PFRLError, match=r"agent 0 waited 10 s .* in round 0 for agent 2"
    ) as caught:
        feed(one, Expired(10 * SECOND), now=10 * SECOND)
    assert "raise schedule.deadline" in str(caught.value)
    assert one.deadlines_expired == 1


def test_it_says_what_it_waits_for():
    one = lockstep()
    feed(one, Started())
    assert one.waits_for() == "agent 0 waits in round 0 for its own update"
    assert one.awaits() == ()
    feed(one, trained(), received(1, 0))
    assert one.waits_for() == "agent 0 waits in round 0 for 2"
    assert one.awaits() == [2]


def test_its_state_is_a_value():
    one = lockstep(every=2)
    feed(one, Started(), trained(), received(1, 0), received(1, 1))
    two = lockstep(every=2)
    two.restore(one.save())
    for machine in (one, two):
        assert feed(machine, trained()) == ["send update 0 to 1 2", "wait"]
        assert feed(machine, received(2, 0)) == ["mix 0 of 1 2", "no deadline", "train"]


class World:
    """Agents on a ring in lockstep.

    A crash loses what is under way, and what the agent did since it was saved.
    """

    def __init__(self, n: int, rounds: int, combine_first: bool) -> None:
        self.near = [((i - 1) % n, (i + 1) % n) for i in range(n)]
        self.rounds, self.combine_first = rounds, combine_first
        self.saved = [(0, False)] * n
        self.kept: list[dict[int, None]] = [{} for _ in range(n)]
        self.mixed: list[list[int]] = [[] for _ in range(n)]
        self.under_way: list[tuple[int, int, int]] = []
        self.training: list[bool] = [False] * n
        self.machines: list[Lockstep | None] = [None] * n
        for i in range(n):
            self.start(i)

    def start(self, i: int) -> None:
        first, has_sent = self.saved[i]
        self.machines[i] = Lockstep(
            i,
            Neighbors(sorted(self.near[i])),
            every=1,
            rounds=self.rounds,
            patience=SECOND,
            combine_first=self.combine_first,
            first=first,
            has_sent=has_sent,
        )
        self.feed(i, Started())
        for j in self.near[i]:
            if self.machines[j] is not None:
                self.feed(j, PeerJoined(i))

    def crash(self, i: int) -> None:
        self.machines[i] = None
        self.training[i] = False
        self.under_way = [m for m in self.under_way if i not in m[:2]]

    def feed(self, i: int, event: object) -> None:
        machine = self.machines[i]
        assert machine is not None
        for action in machine.handle(event, 0):  # type: ignore[arg-type]
            if isinstance(action, Send):
                first, has_sent = self.saved[i]
                if action.round == first and not has_sent:
                    self.saved[i] = (first, True)
                    self.kept[i] = dict.fromkeys([*self.kept[i], first][-KEPT:])
                assert action.round in self.kept[i], "a message that was sent before is kept"
                self.under_way += [(i, j, action.round) for j in action.to]
            elif type(action).__name__ == "Train":
                self.training[i] = True
            elif type(action).__name__ == "Mix":
                assert [m.sender for m in action.received] == sorted(self.near[i])
                self.mixed[i].append(action.round)
                self.saved[i] = (action.round + 1, False)


@given(st.data(), st.integers(3, 6), st.booleans())
def test_whoever_crashes_whenever_everybody_mixes_every_round_once_with_all_neighbors(
    data, n, combine_first
):
    world = World(n, 4, combine_first)
    crashes = data.draw(st.integers(0, 8))
    for _ in range(1000):
        choices = [("deliver", k) for k in range(len(world.under_way))]
        choices += [("train", i) for i in range(n) if world.training[i]]
        choices += [("start", i) for i in range(n) if world.machines[i] is None]
        choices += [("crash", i) for i in range(n) if crashes and world.machines[i] is not None]
        if not choices:
            break
        what, which = data.draw(st.sampled_from(choices))
        if what == "deliver":
            sender, receiver, round = world.under_way.pop(which)
            if world.machines[receiver] is not None:
                world.feed(receiver, received(sender, round))
        elif what == "train":
            world.training[which] = False
            world.feed(which, trained(which))
        elif what == "start":
            world.start(which)
        else:
            crashes -= 1
            world.crash(which)
    assert world.mixed == [[0, 1, 2, 3]] * n
