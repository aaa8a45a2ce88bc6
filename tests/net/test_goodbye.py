"""Who leaves when all is done is not lost; who leaves before is. Queues are sent before that."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from test_takeover import WAIT, Side

from p2pfrl.net.listener import listen


@pytest.mark.parametrize(
    ("left_is_done", "right_is_done", "noted"),
    [(True, False, "left"), (False, True, "left"), (True, True, "left"), (False, False, "lost")],
)
def test_a_neighbor_that_has_finished_or_is_not_needed_any_more_is_not_called_lost(
    left_is_done: bool, right_is_done: bool, noted: str
) -> None:
    async def main() -> None:
        async with pair() as (left, right):
            left.mesh.is_done, right.mesh.is_done = left_is_done, right_is_done
            await left.mesh.close()
            async with asyncio.timeout(WAIT):
                while not right.reports:
                    await asyncio.sleep(0)
            assert right.reports == [False], "the agents are told either way, or they would wait"
            assert right.log.said == ["joined", noted]
            assert right.mesh.refusals == {}

    asyncio.run(main())


@asynccontextmanager
async def pair(engines: tuple[str, str] = ("torch", "torch")) -> AsyncIterator[tuple[Side, Side]]:
    """Two processes that are linked, and their engines."""
    (one, here), (two, there) = (
        await listen(("127.0.0.1", 0), None),
        await listen(("127.0.0.1", 0), None),
    )
    left, right = Side(0, here, there, engines[0]), Side(1, there, here, engines[1])
    one.accept, two.accept = left.mesh.accept, right.mesh.accept
    try:
        await asyncio.gather(left.mesh.open(), right.mesh.open())
        yield left, right
    finally:
        await asyncio.gather(left.mesh.close(), right.mesh.close())
        one.server.close()
        two.server.close()


def test_draining_ends_when_the_queue_is_sent() -> None:
    async def main() -> None:
        async with pair() as (left, right):
            (link,) = left.mesh._connections
            link.pause_writing()
            left.say(0)
            draining = asyncio.create_task(left.mesh.drain())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert link.pending
            assert not draining.done()
            link.resume_writing()
            await asyncio.wait_for(draining, 1.0)
            await asyncio.wait_for(right.until_round(0), WAIT)

    asyncio.run(main())


@pytest.mark.parametrize("closes_first", [True, False])
def test_draining_does_not_wait_for_the_queue_of_a_closed_link(closes_first: bool) -> None:
    async def main() -> None:
        async with pair() as (left, right):
            (link,) = right.mesh._connections
            link.pause_writing()
            right.say(0)
            if closes_first:
                await left.mesh.close()
                await link.closed.wait()
            draining = asyncio.create_task(right.mesh.drain())
            await asyncio.sleep(0)
            await left.mesh.close()
            await asyncio.wait_for(draining, 1.0)  # one timeout is 5 s
            assert link.pending, "what it had not sent stays unsent"

    asyncio.run(main())


def test_a_process_that_is_not_there_when_we_come_back_counts_as_lost() -> None:
    async def main() -> None:
        side = Side(0, ("127.0.0.1", 1), ("127.0.0.1", 2))
        side.mesh._timing = replace(side.mesh._timing, start=0.05)
        try:
            await side.mesh.open(resuming=True)
            assert side.log.said.count("lost") == side.mesh.lost == 1
            assert side.reports == [False]
        finally:
            await side.mesh.close()

    asyncio.run(main())
