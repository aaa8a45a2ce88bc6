"""Memory of a process: what it saves of its agents and coordinators, and starts them again from.

Whoever sends is saved first, so that nobody has seen what its sender could forget (write-ahead):

    a coordinator             before every frame; in asynchronous modes, less often
    a voter                   before every notice that promises something or stores a state
    an agent of coordinators  before the update of every `saved_every` rounds, with its schedule
    an agent of neighbors     at the end of every `checkpoint.rounds` rounds; where neighbors wait
                              for each other, also before the messages of a round
                              (deploy/journal.py)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from p2pfrl.build.assembly import Assembly, saved_every
from p2pfrl.core.actor import Actor
from p2pfrl.core.mailbox import MailboxPort
from p2pfrl.core.types import (
    ASK,
    KEYS,
    PROMISE,
    REVEAL,
    SHARES,
    STORE,
    STORED,
    Frame,
    name_of,
)
from p2pfrl.core.writes import Writes
from p2pfrl.deploy.journal import Journal, Notes
from p2pfrl.exchange.privacy.ledger import Ledger
from p2pfrl.learning.trainer import Trainer
from p2pfrl.net.checkpoint import Checkpoints

_BINDING = (ASK, PROMISE, STORE, STORED)
"""Notices of a voter that others rely on: a candidate votes for itself, too."""
_COST = 50
"""An asynchronous coordinator spends at most this part of its time, one in 50, on saving itself."""


class Memory:
    """Saves the agents and coordinators of one process, and starts them from what was saved.

    Attributes:
        actors: those that were started, by id.
        journal: of the process; set before anyone is started.
        first: agent -> the round with which it goes on, 0 for one that begins.
        was_behind: whether an earlier start had gone on without checkpoints to its end.

    Args:
        assembly: makes agents and coordinators.
        trainer: of the process's agents; those that were saved are restored in it.
        checkpoints: the files.
        ids: the agents and coordinators of the process.
        incarnation: how many times the process was started before.
        writes: tries to write a checkpoint (core/writes.py).
        ledgers: of its agents, where what leaves them is accounted (deploy/ledgers.py).
        terms: called with (id, epoch) where one of its coordinators or standbys takes office.

    Raises:
        RecordError: somebody was saved, and none of its files is valid, or a voter's newest is not.
    """

    journal: Journal

    def __init__(
        self,
        assembly: Assembly,
        trainer: Trainer,
        checkpoints: Checkpoints,
        ids: Sequence[int],
        incarnation: int,
        writes: Writes,
        ledgers: Mapping[int, Ledger],
        terms: Callable[[int, int], None] = lambda id, epoch: None,
    ) -> None:
        self.actors: dict[int, Actor] = {}
        self.first = {i: checkpoints.restore(i, trainer) for i in ids if i >= 0}
        votes = bool(assembly.scenario.standbys)
        self._coordinators = {
            i: checkpoints.restore_coordinator(i, votes=votes) for i in ids if i < 0
        }
        self._assembly = assembly
        self._trainer = trainer
        self._checkpoints = checkpoints
        self._incarnation = incarnation
        self._has_coordinator = assembly.mode.has_coordinator
        self._every = saved_every(assembly.scenario)
        self._due: dict[int, float] = {}  # coordinator -> when it is saved next
        self._writes = writes
        self._ledgers = ledgers
        self._terms = terms
        self._goes_on = assembly.scenario.checkpoint.on_error == "continue"
        self.was_behind = self._goes_on and incarnation > 0 and not checkpoints.are_newest
        self._unsaved = dict.fromkeys(ids if self.was_behind else ())
        if self._goes_on and not self.was_behind:
            checkpoints.mark(saved=True)

    @property
    def goes_on(self) -> list[str]:
        """In words what was saved: nothing for a process that begins."""
        found = []
        if any(self.first.values()):
            rounds = self._assembly.scenario.stop.rounds
            of = f" of {rounds}" if rounds else ""
            found.append(f"this run up to round {min(self.first.values())}{of}")
        names = [str(name_of(i)) for i, state in self._coordinators.items() if state is not None]
        if names:
            found.append(f"{' and '.join(names)} as it was")
        return found

    def start(self, id: int, port: MailboxPort) -> Actor:
        """Return an agent or coordinator, from what was saved of it if it was."""
        self.journal.begin()
        actor = self._coordinator(id, port) if id < 0 else self._agent(id, port)
        self.actors[id] = actor
        return actor

    def before(self, id: int, frame: Frame) -> None:
        """Save the sender of `frame`, which is about to leave, if it is due.

        In a secure sum an agent is saved with its keys, so that no life of it answers a round that
        another one has answered. What follows needs no saving: a round that is interrupted is lost
        for whoever was.
        """
        if frame.kind in (SHARES, REVEAL) or (frame.kind == KEYS and id < 0):
            return
        if frame.kind == KEYS:
            if frame.round:
                self._save_agent(id, frame.round - 1)
            return
        if id < 0 and self._assembly.scenario.standbys:
            if frame.kind in _BINDING:
                voter = self.actors[id].save()
                self._save(id, lambda: self._checkpoints.save_coordinator(id, voter))
        elif id < 0:
            began = time.perf_counter()
            if began < self._due.get(id, 0.0):
                return
            state = self.actors[id].save()
            self._save(id, lambda: self._checkpoints.save_coordinator(id, state))
            if self._assembly.scenario.schedule.is_asynchronous:
                # There are no rounds to agree on, so an older state will do.
                now = time.perf_counter()
                self._due[id] = now + _COST * (now - began)
        elif self._has_coordinator and (frame.round + 1) % self._every == 0:
            self._save_agent(id, frame.round)

    def _save_agent(self, id: int, round: int) -> None:
        """Save an agent of a coordinator at the end of the training of `round`."""
        memory = {
            **self.actors[id].save(),
            "gathered": self._trainer.transitions.get(id),
            "updates": self.journal.updates(id),
        }
        self._save(id, lambda: self._checkpoints.save(id, round, self._trainer, memory))

    def after(self, agent: int, round: int) -> None:
        """Save an agent of neighbors that has completed `round`."""
        if not self._has_coordinator:
            memory = {**self.actors[agent].body.save(), "updates": self.journal.updates(agent)}
            self._save(agent, lambda: self._checkpoints.save(agent, round, self._trainer, memory))

    def _save(self, id: int, write: Callable[[], None]) -> None:
        """Write a checkpoint; note whether those of all agents are the newest."""
        was_whole = not self._unsaved
        if self._writes("checkpoints", write):
            self._unsaved.pop(id, None)
        else:
            self._unsaved[id] = None
        if self._goes_on and was_whole != (not self._unsaved):
            self._checkpoints.mark(saved=not self._unsaved)

    def _coordinator(self, id: int, port: MailboxPort) -> Actor:
        notes = Notes(self.journal, id, self._terms)
        actor = self._assembly.coordinator(
            port, self._trainer, notes, id, self._incarnation, self._ledgers.get(id)
        )
        if (state := self._coordinators[id]) is not None:
            actor.restore(state)
        return actor

    def _agent(self, agent: int, port: MailboxPort) -> Actor:
        memory = self._checkpoints.memories.get(agent)
        if memory is not None:
            self.journal.resume(agent, memory["updates"])
        actor = self._assembly.agent(
            agent,
            self._incarnation,
            port,
            self._trainer,
            self.journal,
            first=self.first[agent],
            memory=None if self._has_coordinator else memory,
            counts_own=True,
            ledger=self._ledgers.get(agent),
        )
        if self._has_coordinator and memory is not None:
            actor.restore(memory)
            if memory["gathered"] is not None:
                self._trainer.transitions[agent] = memory["gathered"]
        return actor
