"""A follower refuses what belongs to an earlier term of office, and counts it as late."""

from types import SimpleNamespace
from typing import Any

from p2pfrl.consensus.failover.follower import Follower


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
