"""The lives of the simulated agents: what runs, what is saved, and who keeps their timeline."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Protocol

from p2pfrl.core.mailbox import MailboxPort
from p2pfrl.core.types import Actor, Schedule
from p2pfrl.learning.trainer import Snapshot


class Witness(Protocol):
    """Whoever keeps the timeline of the record."""

    def interval(self, agent: int, kind: str, start: int, end: int) -> None:
        """An agent did `kind` (train or send) from `start` to `end`, nanoseconds."""

    def live(self, agent: int, alive: bool) -> None:
        """An agent came or went."""


@dataclass(slots=True)
class Life:
    """The state of one agent in the world."""

    port: MailboxPort
    actor: Actor | None = None
    task: asyncio.Task[None] | None = None
    incarnation: int = -1
    training: int = 0
    slowness: float = 1.0
    saved: Snapshot | None = None
    completed: int = 0
    schedules: list[Schedule] = field(default_factory=list)
