"""The mailbox of one agent: first in first out, one waiter, at most one timer."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfrl.core.mailbox import MailboxPort
from p2pfrl.core.types import Expired, PeerLost
from p2pfrl.simulator.loop import VirtualTimeLoop, virtual_time


def port_on(loop: VirtualTimeLoop) -> MailboxPort:
    return MailboxPort(loop, lambda: None, lambda to, frame: None)


def timers(loop: VirtualTimeLoop) -> int:
    return len(loop.pending())


def test_events_come_out_in_the_order_in_which_they_went_in():
    loop = virtual_time()
    port, events = port_on(loop), [PeerLost(i) for i in range(6)]

    async def main() -> list[object]:
        for event in events[:3]:
            port.put(event)
        for number, event in enumerate(events[3:], start=1):
            loop.post(number, port.put, event)
        return [await port.receive() for _ in events]

    assert loop.run_until_complete(main()) == events


def test_a_deadline_rings_once_at_its_time():
    loop = virtual_time()
    port = port_on(loop)

    async def main() -> tuple[int, int]:
        port.wait_until(500)
        event = await port.receive()
        assert isinstance(event, Expired)
        return event.deadline, port.now()

    assert loop.run_until_complete(main()) == (500, 500)
    assert timers(loop) == 0


def test_a_deadline_that_is_taken_back_never_rings():
    loop = virtual_time()
    port = port_on(loop)

    async def main() -> object:
        port.wait_until(500)
        port.wait_until(None)
        loop.post(1000, port.put, PeerLost(1))
        return await port.receive()

    assert isinstance(loop.run_until_complete(main()), PeerLost)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 25).map(lambda t: 2 * t),
            st.none() | st.integers(0, 50).map(lambda t: 2 * t + 1),
        ),
        min_size=1,
        max_size=30,
    )
)
def test_only_the_deadline_that_holds_when_its_time_comes_rings(plan):
    loop = virtual_time()
    port, rung, expected, now, held = port_on(loop), [], [], 0, None
    for pause, deadline in plan:
        now += pause
        if held is not None and held < now:
            expected.append(held)
        held = None if deadline is None else now + deadline
    if held is not None:
        expected.append(held)

    async def listen() -> None:
        while True:
            event = await port.receive()
            assert isinstance(event, Expired)
            assert event.deadline == loop.now
            rung.append(event.deadline)

    async def main() -> None:
        task = asyncio.create_task(listen())
        at = 0
        for pause, deadline in plan:
            at += pause
            loop.post(at, lambda d: port.wait_until(None if d is None else loop.now + d), deadline)
        await asyncio.sleep(1e-3)
        task.cancel()

    loop.run_until_complete(main())
    assert rung == expected


def test_deadlines_that_move_forward_keep_one_timer_in_the_heap():
    loop = virtual_time()
    port = port_on(loop)
    most = 0

    def move(left: int) -> None:
        nonlocal most
        port.wait_until(loop.now + 1000)
        most = max(most, timers(loop))
        if left:
            loop.post(loop.now + 10, move, left - 1)

    async def main() -> object:
        loop.post(1, move, 500)
        return await port.receive()

    event = loop.run_until_complete(main())
    assert isinstance(event, Expired)
    assert event.deadline == loop.now == 1 + 500 * 10 + 1000
    assert most == 1


def test_an_earlier_deadline_rings_earlier():
    loop = virtual_time()
    port = port_on(loop)

    async def main() -> list[int]:
        port.wait_until(1000)
        port.wait_until(100)
        await port.receive()
        first = loop.now
        port.wait_until(1000)
        await port.receive()
        return [first, loop.now]

    assert loop.run_until_complete(main()) == [100, 1000]


def test_a_closed_mailbox_has_forgotten_events_and_deadlines_and_serves_the_next_life():
    loop = virtual_time()
    port = port_on(loop)

    async def first() -> None:
        await port.receive()

    async def main() -> list[object]:
        life = asyncio.create_task(first())
        await asyncio.sleep(1e-9)
        port.wait_until(50)
        life.cancel()
        port.close()
        port.put(PeerLost(9))
        port.close()
        port.wait_until(70)
        event = await port.receive()
        assert isinstance(event, Expired)
        return [event.deadline, loop.now]

    assert loop.run_until_complete(main()) == [70, 70]


def test_an_event_for_an_agent_that_was_canceled_harms_nobody():
    loop = virtual_time()
    port = port_on(loop)

    async def main() -> int:
        waiting = port.receive()
        waiting.cancel()
        port.put(PeerLost(9))
        return len(port)

    assert loop.run_until_complete(main()) == 1


def test_a_mailbox_that_is_empty_waits():
    loop = virtual_time()
    with pytest.raises(Exception, match="everyone waits"):
        loop.run_until_complete(port_on(loop).receive())
