"""Drivers run the actors of a simulation by callbacks.

A task would do the same, and takes longer: for every event it makes a future, enters a context and
resumes a coroutine. Over TCP actors run as tasks (`Actor.run`).
"""

from __future__ import annotations

import asyncio

from p2pfrl.core.actor import Actor
from p2pfrl.core.causes import FOREIGN
from p2pfrl.core.mailbox import MailboxPort
from p2pfrl.core.types import Event, Started
from p2pfrl.simulator.loop import VirtualTimeLoop


class Driver:
    """Carries the events of a port to an actor, until it finishes or is stopped.

    Attributes:
        done: gets what `Actor.run` returns or raises; cancel it to stop the actor.

    Args:
        loop: the clock.
        actor: what it runs.
        port: whose events it takes.
    """

    __slots__ = ("_answer", "_port", "done")

    def __init__(self, loop: VirtualTimeLoop, actor: Actor, port: MailboxPort) -> None:
        self.done: asyncio.Future[str] = loop.create_future()
        self._answer, self._port = actor.answer, port
        port.listen(self.take)

    def take(self, event: Event | None) -> None:
        """Let the actor answer an event and those that wait behind it; None for just those."""
        done, following = self.done, self._port.next
        if done.done():  # stopped before it could answer
            return
        try:
            while True:
                if event is not None and (finish := self._answer(event)) is not None:
                    self._port.forget()
                    done.set_result(finish.why)
                    return
                if (event := following()) is None:
                    return
        except FOREIGN as error:
            self._port.forget()
            done.set_exception(error)


def drive(
    loop: VirtualTimeLoop, actor: Actor, port: MailboxPort, *, is_new: bool = True
) -> asyncio.Future[str]:
    """Run an actor; the result gets why it ended early (`Finish.why`), and stops it if cancelled.

    Args:
        loop: the clock.
        actor: to be run.
        port: whose events it takes.
        is_new: whether it starts; one that was saved while it waited for an event just goes on.
    """
    driver = Driver(loop, actor, port)
    loop.soon(driver.take, Started() if is_new else None)
    return driver.done
