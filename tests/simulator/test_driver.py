"""Drivers carry events to actors in the order in which tasks would."""

import asyncio
import gc
import weakref
from collections.abc import Callable

import pytest

from p2pfrl.core.actor import Actor
from p2pfrl.core.errors import AgentError
from p2pfrl.core.mailbox import MailboxPort
from p2pfrl.core.types import Expired, Finish, PeerJoined, PeerLost, WaitUntil
from p2pfrl.simulator.driver import drive
from p2pfrl.simulator.loop import VirtualTimeLoop, virtual_time

Follow = Callable[[VirtualTimeLoop, Actor, MailboxPort], "asyncio.Future[str]"]


def as_a_task(loop: VirtualTimeLoop, actor: Actor, port: MailboxPort) -> "asyncio.Future[str]":
    return loop.create_task(actor.run())


class Chain:
    """A schedule that tells the next port when its timer rings, until it has had enough events."""

    messages_late = deadlines_expired = 0

    def __init__(self, name: int, heard: list[tuple[int, object, int]], most: int) -> None:
        self.name, self.heard, self.most = name, heard, most
        self.next: MailboxPort | None = None

    def handle(self, event: object, now: int) -> list[object]:
        self.heard.append((self.name, type(event).__name__ + str(getattr(event, "peer", "")), now))
        own = [name for name, _, _ in self.heard if name == self.name]
        if self.next is not None and isinstance(event, Expired):
            self.next.put(PeerJoined(self.name))
            self.next.put(PeerLost(len(own)))
        if len(own) >= self.most:
            return [Finish("enough")]
        return [WaitUntil(now + 3)] if isinstance(event, PeerLost) else []


class Idle:
    id = 0

    def perform(self, action: object) -> None:
        raise AssertionError(f"{action} is for nobody")

    def place(self) -> str:
        return ""


def chain(follow: Follow) -> tuple[list[tuple[int, object, int]], list[str]]:
    loop, heard = virtual_time(), []
    ports = [MailboxPort(loop, lambda: None, lambda to, frame: None) for _ in range(4)]
    schedules = [Chain(i, heard, most=9 + i) for i in range(4)]
    for i, schedule in enumerate(schedules):
        schedule.next = ports[(i + 1) % 4]
    ends = [
        follow(loop, Actor(schedule, Idle(), port), port)
        for schedule, port in zip(schedules, ports, strict=True)
    ]
    for k in range(48):
        loop.post(5 * (k // 2), ports[k * k % 4 + k % 3].put, PeerLost(k))
        loop.post(5 * (k // 2), ports[k % 4].put, PeerJoined(k))

    async def everyone() -> list[str]:
        return [await end for end in ends]

    return heard, loop.run_until_complete(everyone())


def test_actors_hear_what_they_would_hear_as_tasks_in_the_same_order():
    heard, ends = chain(drive)
    assert (heard, ends) == chain(as_a_task)
    assert len(heard) == 9 + 10 + 11 + 12
    assert ends == ["enough"] * 4
    assert len({now for _, _, now in heard}) > 5


def test_a_driver_that_is_stopped_does_not_carry_what_has_arrived():
    loop, heard = virtual_time(), []
    port = MailboxPort(loop, lambda: None, lambda to, frame: None)
    done = drive(loop, Actor(Chain(0, heard, 9), Idle(), port), port)

    def stop() -> None:
        port.put(PeerLost(1))
        port.put(PeerLost(2))
        done.cancel()

    loop.post(5, stop)
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(done)
    assert [what for _, what, _ in heard] == ["Started"]


def test_an_error_of_an_actor_is_that_of_its_driver():
    loop = virtual_time()
    port = MailboxPort(loop, lambda: None, lambda to, frame: None)

    class Broken(Chain):
        def handle(self, event: object, now: int) -> list[object]:
            raise ZeroDivisionError("broken")

    done = drive(loop, Actor(Broken(0, [], 9), Idle(), port), port)
    with pytest.raises(AgentError, match="ZeroDivisionError: broken"):
        loop.run_until_complete(done)


def test_an_actor_that_goes_on_begins_with_the_events_that_wait():
    loop, heard = virtual_time(), []
    port = MailboxPort(loop, lambda: None, lambda to, frame: None)
    port.put(PeerJoined(1))
    port.put(PeerJoined(2))
    done = drive(loop, Actor(Chain(0, heard, 2), Idle(), port), port, is_new=False)
    assert loop.run_until_complete(done) == "enough"
    assert [what for _, what, _ in heard] == ["PeerJoined1", "PeerJoined2"]


def test_an_actor_that_has_finished_is_forgotten_by_its_port():
    loop = virtual_time()
    port = MailboxPort(loop, lambda: None, lambda to, frame: None)
    port.put(PeerJoined(1))
    schedule = Chain(0, [], 1)
    known = weakref.ref(schedule)
    done = drive(loop, Actor(schedule, Idle(), port), port, is_new=False)
    del schedule
    gc.disable()  # nothing but references keeps it alive
    try:
        assert loop.run_until_complete(done) == "enough"
        assert known() is None
    finally:
        gc.enable()
