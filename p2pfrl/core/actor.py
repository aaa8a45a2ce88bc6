"""Actors: a schedule, the agent or coordinator that carries out its actions, and their world."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from p2pfrl.core.causes import cause, foreign, is_of_user
from p2pfrl.core.errors import AgentError, P2PFRLError
from p2pfrl.core.state import State
from p2pfrl.core.types import (
    OPTED_OUT,
    Action,
    Adopt,
    Event,
    Finish,
    Mix,
    Port,
    Schedule,
    Started,
    Train,
    Trained,
    WaitUntil,
)


def _carry_out(
    actions: Iterable[Action], port: Port, perform: Callable[[Action | Trained], None]
) -> Finish | None:
    """Do what a schedule wants; return its last action if it finished.

    An agent that leaves does nothing more after the end of a round.
    """
    has_left = False
    for action in actions:
        kind = type(action)
        if kind is WaitUntil:
            port.wait_until(action.time)  # type: ignore[union-attr]
        elif kind is Finish:
            return action  # type: ignore[return-value]
        elif has_left:
            break
        elif kind is Train:
            perform(action)
            port.train()
        else:
            perform(action)
            has_left = (kind is Mix or kind is Adopt) and port.leaves
    return Finish(OPTED_OUT) if has_left else None


class Body(Protocol):
    """An agent or a coordinator: it performs actions, and its memory is a value.

    Attributes:
        id: its number; coordinators are below 0.
    """

    id: int

    def perform(self, action: Action | Trained, /) -> None:
        """Carry out an action, or note what an agent's training produced."""

    def place(self) -> str:
        """Return where in the run it is, in words."""

    def save(self) -> State:
        """Return a copy of what it remembers."""

    def restore(self, state: State) -> None:
        """Take over what `save` returned."""


@dataclass(frozen=True, slots=True)
class Actor:
    """One life of an agent or of a coordinator: its schedule, what carries it out, and its world.

    Attributes:
        schedule: decides.
        body: carries it out.
        port: its world.
        stays: it still answers neighbors that come back once it has finished.
        gives_last: once it has finished it still sends its last model to whoever did not get it.
    """

    schedule: Schedule
    body: Body
    port: Port
    stays: bool = False
    gives_last: bool = False

    async def run(self, *, is_new: bool = True) -> str:
        """Carry events to the schedule and its actions to port and body, until it finishes.

        Returns why it ended early (`Finish.why`).

        Args:
            is_new: whether it starts; one that was saved while it waited for an event just goes on.

        Raises:
            AgentError: the agent cannot go on, or a rule of the user's own raised an error.
        """
        finish = self.answer(Started()) if is_new else None
        while finish is None:  # no event is kept while the next is awaited
            finish = self.answer(await self.port.receive())
        return finish.why

    def answer(self, event: Event) -> Finish | None:
        """Do what the schedule makes of `event`, also once it has finished.

        Returns its last action if it finished.

        Raises:
            AgentError: as `run`; it says whose the error is, and in which round.
        """
        try:
            if type(event) is Trained:
                self.body.perform(event)
            actions = self.schedule.handle(event, self.port.now())
            if not actions:  # as of most messages
                return None
            return _carry_out(actions, self.port, self.body.perform)
        except AgentError as error:
            raise error.at(self.body.place()) from error.__cause__
        except P2PFRLError:
            raise
        except foreign() as error:
            if not is_of_user(error):
                raise  # our own bug, with its traceback
            raise AgentError(self.body.id, cause(error), self.body.place()) from error

    def save(self) -> State:
        """Return what schedule and body remember."""
        return {"schedule": self.schedule.save(), "body": self.body.save()}

    def restore(self, state: State) -> None:
        """Take over what `save` returned."""
        self.schedule.restore(state["schedule"])
        self.body.restore(state["body"])
