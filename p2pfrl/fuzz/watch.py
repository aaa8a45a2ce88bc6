"""The watch: hands what agents, coordinators and the network do to the checks, while a run runs.

It stands between an agent and its schedule, and between an agent and the network. It is there only
in runs that are watched: other runs have no hooks and no bytes for it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from p2pfrl.build.world import World
from p2pfrl.core.actor import Actor, Body
from p2pfrl.core.errors import P2PFRLError
from p2pfrl.core.parameters import Vector
from p2pfrl.core.types import Action, Event, Frame, Schedule, Started
from p2pfrl.results.record import Record

MOST_EVENTS = 200_000
"""Events after which a small run counts as one that does not end."""


class ViolationError(P2PFRLError):
    """An invariant does not hold.

    Attributes:
        check: name of the check that found it.
    """

    def __init__(self, check: str, detail: str) -> None:
        self.check = check
        super().__init__(f"{check}: {detail}")


class Check:
    """An invariant. Each hook may call `fail`; those that a check does not override cost nothing.

    Class variables:
        says: the invariant, in words.

    Args:
        world: that is about to run.
    """

    says: ClassVar[str] = ""

    def __init__(self, world: World) -> None:
        self.world = world
        self.scenario = world.assembly.scenario
        self.lives: Mapping[int, int] = {}

    def applies(self) -> bool:
        """Return whether the invariant can be checked in this scenario."""
        return True

    def fail(self, detail: str) -> None:
        """Raise an error: the invariant does not hold.

        Raises:
            ViolationError: always.
        """
        name = type(self).__name__
        raise ViolationError(name, f"{detail}, at {self.world.loop.now} ns; {self.says}")

    def vector(self, agent: int) -> Vector:
        """Return a copy of an agent's parameters, without padding."""
        trainer = self.world.trainer
        row = trainer.parameters[trainer.row(agent)][None]
        found: Vector = trainer.stack.layout.pack(row)[0].copy()
        return found

    def event(self, body: Body, event: Event) -> None:
        """Somebody gets an event."""

    def before(self, body: Body, action: Action) -> None:
        """Somebody is about to carry out an action."""

    def after(self, body: Body, action: Action) -> None:
        """Somebody has carried out an action."""

    def sent(self, sender: int, to: Sequence[int], frame: Frame) -> None:
        """Somebody has handed a frame to the network."""

    def ended(self, record: Record) -> None:
        """The run has ended."""


class Watch:
    """Hands what happens in a run to checks.

    Attributes:
        lives: by id, the number of an agent's or coordinator's life, from 0.
        events: that have happened.

    Args:
        checks: classes of checks; those that do not apply are left out.
        at: numbers of events.
        save: called with the world and `others` of `begins` after each of those events, between it
            and the next one.
    """

    def __init__(
        self,
        checks: Sequence[type[Check]],
        at: Sequence[int] = (),
        save: Callable[[World, Mapping[str, object]], None] | None = None,
    ) -> None:
        self.lives: defaultdict[int, int] = defaultdict(lambda: -1)
        self.checks: list[Check] = []
        self._classes = checks
        self._at, self._save = frozenset(at), save
        self._others: Mapping[str, object] = {}
        self.events = self._still = self._last = 0
        self._world: World | None = None
        self._hooks: dict[str, list[Callable[..., None]]] = {}

    def actor(self, actor: Actor) -> Actor:
        """Return the actor with a schedule that is watched."""
        return replace(actor, schedule=_Watched(actor.schedule, actor.body, self))

    def begins(self, world: World, others: Mapping[str, object]) -> None:
        """Make the checks, and stand between every port and the network."""
        self._world, self._others = world, others
        made = [cls(world) for cls in self._classes]
        self.checks = [check for check in made if check.applies()]
        for check in self.checks:
            check.lives = self.lives
        for hook in ("event", "before", "after", "sent", "ended"):
            own = [c for c in self.checks if getattr(type(c), hook) is not getattr(Check, hook)]
            self._hooks[hook] = [getattr(check, hook) for check in own]
        for id in (*range(world.assembly.scenario.agents), *world.assembly.coordinators):
            self._follow(id)

    def _follow(self, id: int) -> None:
        """Look at what a port sends."""
        assert self._world is not None
        port, hooks = self._world.simulation.port(id), self._hooks["sent"]
        hand_over = port.send

        def send(to: Sequence[int], frame: Frame) -> None:
            hand_over(to, frame)
            for hook in hooks:
                hook(id, to, frame)

        port.send = send

    def event(self, body: Body, event: Event) -> None:
        """Count an event, and hand it on.

        Raises:
            ViolationError: the run does not end, or its time does not pass.
        """
        assert self._world is not None
        now = self._world.loop.now
        self.events += 1
        self._still = self._still + 1 if now == self._last else 0
        if now < self._last:
            raise ViolationError("Clock", f"time went back from {self._last} to {now} ns")
        self._last = now
        if self.events > MOST_EVENTS or self._still > MOST_EVENTS // 10:
            raise ViolationError("Progress", f"no end after {self.events} events, at {now} ns")
        if self._save is not None and self.events in self._at:
            world, save, others = self._world, self._save, self._others
            world.loop.when_idle(lambda: save(world, others))
        if isinstance(event, Started):
            self.lives[body.id] += 1
        for hook in self._hooks["event"]:
            hook(body, event)

    def before(self, body: Body, action: Action) -> None:
        """Hand on an action that is about to be carried out."""
        for hook in self._hooks["before"]:
            hook(body, action)

    def after(self, body: Body, action: Action) -> None:
        """Hand on an action that was carried out."""
        for hook in self._hooks["after"]:
            hook(body, action)

    def ended(self, record: Record) -> None:
        """Hand on the end of the run."""
        for hook in self._hooks["ended"]:
            hook(record)


class _Watched:
    """A schedule whose events and actions are seen. It decides nothing itself."""

    __slots__ = ("_body", "_inner", "_watch")

    def __init__(self, inner: Schedule, body: Body, watch: Watch) -> None:
        self._inner, self._body, self._watch = inner, body, watch

    @property
    def messages_late(self) -> int:
        """Messages that came too late to be used."""
        return self._inner.messages_late

    @property
    def deadlines_expired(self) -> int:
        """Waits that ended by a deadline."""
        return self._inner.deadlines_expired

    def handle(self, event: Event, now: int) -> Iterator[Action]:
        """Yield the actions of the schedule."""
        watch, body = self._watch, self._body
        watch.event(body, event)
        for action in self._inner.handle(event, now):
            watch.before(body, action)
            yield action
            watch.after(body, action)

    def waits_for(self) -> str:
        """Return what the schedule is waiting for."""
        return self._inner.waits_for()

    def awaits(self) -> Sequence[int]:
        """Return the agents and coordinators that the schedule waits for."""
        return self._inner.awaits()

    def save(self) -> Mapping[str, Any]:
        """Return the state of the schedule."""
        return self._inner.save()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over a state."""
        self._inner.restore(state)
