"""The worker processes of one process of a deployment: they start before its agents do."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from p2pfrl.learning.trainer import Trainer
from p2pfrl.net.log import RunLog
from p2pfrl.scenario import Scenario

if TYPE_CHECKING:
    from p2pfrl.experiment.workforce import Count, Workforce


@asynccontextmanager
async def employed_here(
    count: Count, scenario: Scenario, trainer: Trainer, log: RunLog
) -> AsyncIterator[Workforce | None]:
    """Let processes compute the updates of this process's agents in the block.

    They start in another thread, so that the loop goes on. What is said of them is in the log.

    Args:
        count: how many; with 1 this process trains alone, and there is no workforce.
        scenario: what runs.
        trainer: of the agents that live here.
        log: of this process.
    """
    if count == 1:
        yield None
        return
    from p2pfrl.experiment.workforce import employed

    loop, own = asyncio.get_running_loop(), threading.get_ident()

    def say(text: str) -> None:
        log.note("workers", detail=text)
        log.say(f"workers: {text}")

    def speak(text: str) -> None:
        if threading.get_ident() == own:
            say(text)
        else:  # the log belongs to the loop
            loop.call_soon_threadsafe(say, text)

    with ExitStack() as block:
        start = employed(count, scenario, trainer, say=speak)
        starting = loop.run_in_executor(None, block.enter_context, start)
        try:
            yield await asyncio.shield(starting)
        finally:
            if not starting.done():  # interrupted meanwhile
                await asyncio.wait([starting])
