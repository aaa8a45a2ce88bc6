"""Followers and standbys: what belongs to an earlier term of office, and what links lost."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from p2pfrl.consensus.failover.follower import Follower
from p2pfrl.consensus.failover.replica import Replica
from p2pfrl.consensus.failover.voter import Voter
from p2pfrl.consensus.schedules.central import Client
from p2pfrl.core.types import ASKS, Finish, Message, Missing, Received, Send, Tell, Trained, Update


class Own:
    """The schedule of an agent: it notes the events that it is given."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.messages_late = self.deadlines_expired = 0

    def handle(self, event: Any, now: int) -> tuple[()]:
        self.events.append(event)
        return ()

    def awaits(self) -> tuple[int, ...]:
        return (-1,)


def test_a_model_of_an_earlier_epoch_is_refused_and_counted(monkeypatch):
    module = "p2pfrl.consensus.failover.follower"
    monkeypatch.setattr(f"{module}.replace", lambda message, **changes: message)
    own = Own()
    follower = Follower(own, [-1, -2], trains=False, available=lambda *_: True)

    def hear(epoch: int) -> None:
        message = SimpleNamespace(sender=-1, epoch=epoch, kind="model")
        list(follower._received(SimpleNamespace(message=message, again=False), 0))

    hear(2)
    hear(1)
    hear(2)
    assert [event.message.epoch for event in own.events] == [2, 2]
    assert follower.messages_late == 1


def test_who_waits_for_its_coordinator_waits_for_whoever_is_in_office():
    follower = Follower(Own(), [-1, -2], trains=False, available=lambda *_: True)
    assert follower.awaits() == [-1]
    follower._holder = -2
    assert follower.awaits() == [-2]


def model(epoch: int, round: int) -> Received:
    return Received(Message("model", -2, 0, 1, round, 0.0, "raw", (), 0, np.empty(0), 0.0, epoch))


def test_the_first_model_of_a_term_that_was_lost_is_answered_by_a_skip_and_others_by_the_answer():
    client = Client(every=1, rounds=9, patience=10, available=lambda *_: True)
    follower = Follower(client, [-1, -2, -3], trains=False, available=lambda *_: True)
    list(follower.handle(model(1, 4), 0))
    list(follower.handle(Trained(Update(0, 1, 0.0)), 0))

    def answers(peer: int, epoch: int) -> list[tuple[str, int, tuple[int, ...]]]:
        actions = follower.handle(Missing(peer, 4, epoch), 0)
        return [(a.kind, a.round, tuple(a.to)) for a in actions if isinstance(a, Send)]

    assert answers(-2, 1) == [("update", 4, (-2,))]  # the answer was lost, and it is asked again
    assert answers(-3, 2) == answers(-3, 3) == [("skip", 4, (-3,))]
    assert answers(-2, 2) == [("skip", 4, (-2,))]  # elected again
    assert answers(-3, 1) == []


def test_a_standby_asks_again_only_so_often_and_says_nothing_once_it_has_given_up():
    voter = Voter(-2, [-1, -2, -3], wait=10)
    voter.leader, voter.version, voter.epoch = -1, 3, 1
    standby = Replica(voter, Own(), SimpleNamespace(), [0, 1], 10**9)  # type: ignore[arg-type]

    def said(event: object) -> list[type]:
        return [type(a) for a in standby.handle(event, 0) if isinstance(a, Tell | Finish)]  # type: ignore[arg-type]

    assert said(Missing(-1, 3)) == [Tell]
    store = Message("store", -1, 0, 1, 4, 1.0, "raw", (), 0, np.empty(0), 0.0, 1)
    assert said(Received(store)) == [Tell]
    assert [said(Missing(-1, 4)) for _ in range(ASKS)] == [[Tell]] * ASKS
    assert said(Missing(-1, 4)) == [Finish]
    assert said(Received(store)) == said(Missing(-1, 4)) == []
