"""Agents of one process train together where that costs them little."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from p2pfrl.net.batching import Batches


class Loop:
    """A loop whose time the test moves.

    Timers and computations wait until they are told to happen.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[tuple[float, Callable[[], None], Timer]] = []
        self.computing: list[tuple[list[int], asyncio.Future[None]]] = []
        self.real = asyncio.new_event_loop()

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        timer = Timer()
        self.timers.append((delay, callback, timer))
        return timer

    def run_in_executor(
        self, thread: object, work: Callable[[list[int]], None], batch: list[int]
    ) -> Any:
        future: asyncio.Future[None] = self.real.create_future()
        self.computing.append((batch, future))
        return future

    def finish(self, seconds: float) -> list[int]:
        """Let the computation that is under way end; return its batch."""
        self.now += seconds
        ((batch, future),) = self.computing
        self.computing.clear()
        future.set_result(None)
        self.real.run_until_complete(asyncio.sleep(0))
        return batch

    def ring(self) -> float:
        """Let the timer that runs go off; return how long it ran."""
        ((delay, callback, _),) = [timer for timer in self.timers if not timer[2].canceled]
        self.timers.clear()
        self.now += delay
        callback()
        return delay


class Timer:
    def __init__(self) -> None:
        self.canceled = False

    def cancel(self) -> None:
        self.canceled = True


@pytest.fixture
def loop():
    loop = Loop()
    yield loop
    loop.real.close()


def batches(loop: Loop, present: int, ended: list[int] | None = None) -> Batches:
    return Batches(
        cast(asyncio.AbstractEventLoop, loop),
        compute=lambda batch: None,
        trained=(ended if ended is not None else []).append,
        present=lambda: present,
    )


def first_batch(loop: Loop, made: Batches, agents: int, seconds: float) -> None:
    for agent in range(agents):
        made.add(agent)
    assert loop.finish(seconds) == list(range(agents))


def test_a_batch_begins_at_once_when_everyone_is_there(loop):
    ended: list[int] = []
    made = batches(loop, 3, ended)
    for agent in (2, 0, 1):
        assert not loop.computing
        made.add(agent)
    assert loop.finish(1.0) == [0, 1, 2]
    assert ended == [0, 1, 2]


def test_whoever_begins_while_others_train_is_in_the_next_batch(loop):
    made = batches(loop, 2)
    made.add(0)
    loop.ring()
    made.add(1)
    assert loop.finish(1.0) == [0]
    made.add(0)
    assert loop.finish(1.0) == [0, 1]


def test_a_batch_waits_for_the_others_no_longer_than_the_last_one_took(loop):
    made = batches(loop, 3)
    first_batch(loop, made, 3, 0.25)
    made.add(0)
    made.add(1)
    assert not loop.computing
    assert loop.ring() == 0.25
    assert loop.finish(0.25) == [0, 1]


def test_waiting_in_vain_is_halved_and_doubled_again_when_someone_comes(loop):
    made = batches(loop, 2)
    first_batch(loop, made, 2, 1.0)
    waited = []
    for _ in range(6):
        made.add(0)
        waited.append(loop.ring())
        loop.finish(1.0)
    assert waited == [1.0, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 16]
    made.add(0)
    made.add(1)
    loop.timers.clear()
    loop.finish(1.0)
    made.add(0)
    assert loop.ring() == 1 / 8


def test_a_batch_does_not_wait_for_an_agent_that_has_finished(loop):
    present = [2]
    made = Batches(
        cast(asyncio.AbstractEventLoop, loop),
        compute=lambda batch: None,
        trained=lambda agent: None,
        present=lambda: present[0],
    )
    made.add(0)
    assert not loop.computing
    present[0] = 1
    made.look()
    assert loop.finish(1.0) == [0]


def test_nothing_begins_after_the_end(loop):
    made = batches(loop, 2)
    made.add(0)
    made.close()
    made.look()
    assert not loop.computing
    assert all(timer.canceled for _, _, timer in loop.timers)
