"""Supervision of the event loop of a process: whatever fails in it ends the run.

asyncio only logs an error of a callback, a timer or a task that nobody awaits. The process would
live on without what failed, and its neighbors would wait for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def supervised(main: Coroutine[Any, Any, T]) -> T:
    """Return the result of `main`, or raise the first error of anything else in the loop.

    `main` is then cancelled, and its cleanup is waited for. An error of the operating system on a
    connection is no failure of the process: links have their own end.
    """
    loop = asyncio.get_running_loop()
    failed: list[BaseException] = []
    has_failed = asyncio.Event()

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is None or (isinstance(error, OSError) and "handle" not in context):
            loop.default_exception_handler(context)
            return
        failed.append(error)
        has_failed.set()

    before = loop.get_exception_handler()
    loop.set_exception_handler(handle)
    work, watch = loop.create_task(main), loop.create_task(has_failed.wait())
    try:
        await asyncio.wait((work, watch), return_when=asyncio.FIRST_COMPLETED)
        if failed:
            raise failed[0]
        return work.result()
    finally:
        loop.set_exception_handler(before)
        watch.cancel()
        work.cancel()
        await asyncio.wait((work,))
        if not work.cancelled():
            work.exception()  # asked for, so that asyncio does not report it


def surfaced(task: asyncio.Task[Any]) -> asyncio.Task[Any]:
    """Let a task that nobody awaits raise its error in the loop, where `supervised` sees it."""
    task.add_done_callback(_raise)
    return task


def _raise(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.result()
