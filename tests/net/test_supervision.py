"""Whatever fails in the loop of a process ends it."""

import asyncio
from collections.abc import Callable

import pytest

from p2pfrl.net.supervision import supervised, surfaced


class FailedError(Exception):
    pass


def fail() -> None:
    raise FailedError("as planned")


async def fail_later() -> None:
    await asyncio.sleep(0)
    fail()


def by_future(loop: asyncio.AbstractEventLoop) -> None:
    done = loop.create_future()
    done.add_done_callback(lambda _: fail())
    done.set_result(None)


def by_thread(loop: asyncio.AbstractEventLoop) -> None:
    done = loop.run_in_executor(None, fail)
    done.add_done_callback(lambda future: future.result())


@pytest.mark.parametrize(
    "start",
    [
        lambda loop: loop.call_soon(fail),
        lambda loop: loop.call_later(0.001, fail),
        lambda loop: surfaced(loop.create_task(fail_later())),
        by_future,
        by_thread,
    ],
)
def test_an_error_in_a_callback_a_timer_or_a_side_task_ends_the_main_task_after_its_cleanup(
    start: Callable[[asyncio.AbstractEventLoop], object],
) -> None:
    cleaned = []

    async def main() -> None:
        start(asyncio.get_running_loop())
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.sleep(0)
            cleaned.append("main")

    with pytest.raises(FailedError, match="as planned"):
        asyncio.run(supervised(main()))
    assert cleaned == ["main"]


def test_results_and_errors_of_the_main_task_pass() -> None:
    async def right() -> int:
        await asyncio.sleep(0)
        return 3

    assert asyncio.run(supervised(right())) == 3
    with pytest.raises(FailedError):
        asyncio.run(supervised(fail_later()))


def test_a_cancelled_main_task_cleans_up_before_the_caller_goes_on() -> None:
    cleaned = []

    async def main() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.sleep(0)
            cleaned.append("main")

    async def caller() -> None:
        async with asyncio.timeout(0.01):
            await supervised(main())

    with pytest.raises(TimeoutError):
        asyncio.run(caller())
    assert cleaned == ["main"]


def test_an_error_of_the_operating_system_on_a_connection_is_no_failure() -> None:
    async def main() -> str:
        loop = asyncio.get_running_loop()
        loop.call_exception_handler({"message": "lost", "exception": ConnectionResetError()})
        await asyncio.sleep(0.01)
        return "alive"

    assert asyncio.run(supervised(main())) == "alive"
