"""Voters: who is coordinator, and what was committed, as a state machine without I/O.

A coordinator and its standbys are voters, an odd number of them. One of them is in office at a
time. Epochs number the terms of office:

    ask      a candidate asks for the promise of all voters for a new epoch
    promise  a voter answers to none below that epoch any more, and says what it has stored
    store    the one in office asks all voters to store its newest state
    stored   a voter has stored it
    refuse   a voter has promised a later epoch, or hears the one in office
    resign   the one in office gives up, since no majority stores its state

A candidate with promises of a majority is in office. It adopts the state that was stored in the
highest (epoch, version) among them, and stores it again in its own epoch. A state is committed when
a majority has stored it. Any two majorities have a voter in common, so a committed state is never
lost, and two sides of a cut network never both have one.

What a voter has promised and stored must be durable before a message of it leaves. Who carries its
messages saves it first (write-ahead); a voter that comes back continues from what was saved.

A voter suspects the one in office where its world reports it lost, and then waits by rank before it
asks, twice as long after each attempt. Suspicion may be wrong: it costs time, and nothing else. The
protocol is that of a replicated register with votes; its log is one entry long, because each state
replaces the one before.

Reference: Lamport, "The part-time parliament", ACM Transactions on Computer Systems 16(2), 1998;
    Ongaro, Ousterhout, "In search of an understandable consensus algorithm", USENIX ATC 2014.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from p2pfrl.core.state import State, Stateful
from p2pfrl.core.types import ASK, PROMISE, REFUSE, RESIGN, STORE, STORED, Notice, Tell

FOLLOWER, CANDIDATE, IN_OFFICE = "follower", "candidate", "in_office"
"""Roles of a voter."""

_DOUBLINGS = 6
"""Maximum number of times that a waiting time is doubled."""
_TRIES = 4
"""Times that a state is sent again before the one in office gives up without a majority."""

Stamp = tuple[int, int]
"""(epoch, version): when a state was stored, and the how manieth it is. (0, 0) is no state."""


@dataclass(frozen=True, slots=True)
class Elected:
    """This voter is in office. Its `value` is what it goes on from; None: nothing has begun."""


@dataclass(frozen=True, slots=True)
class Committed:
    """A majority has stored this version."""

    version: int


@dataclass(frozen=True, slots=True)
class Deposed:
    """This voter was in office, and is no longer."""


Output = Tell | Elected | Committed | Deposed


class Voter(Stateful):
    """One voter.

    Attributes:
        me: its id.
        role: FOLLOWER, CANDIDATE or IN_OFFICE.
        epoch: the highest that it has promised or seen. It answers to none below it.
        voted: to whom it has promised `epoch`; None for nobody.
        version, stored_in, value: the state that it has stored.
        leader: who is in office as far as it knows; None for nobody.
        deadline: when it wants `expired` to be called, in nanoseconds; None for never.
        is_committed: while in office, whether a majority has stored its state.

    Args:
        me: its id.
        voters: ids of all voters by rank: the coordinator first, then its standbys.
        wait: nanoseconds that a voter waits per rank before it asks for promises.
    """

    DURABLE: ClassVar[tuple[str, ...]] = ("epoch", "voted", "version", "stored_in", "value")
    STATE: ClassVar[tuple[str, ...]] = (
        *DURABLE,
        "role",
        "leader",
        "deadline",
        "is_committed",
        "_promises",
        "_acks",
        "_lost",
        "_attempts",
        "_tries",
        "_is_refused",
    )

    def __init__(self, me: int, voters: Sequence[int], *, wait: int) -> None:
        self.me = me
        self.voters = tuple(voters)
        self.epoch = 0
        self.voted: int | None = None
        self.version = 0
        self.stored_in = 0
        self.value: bytes | None = None
        self.role = FOLLOWER
        self.leader: int | None = None
        self.deadline: int | None = None
        self.is_committed = False
        self._rank = self.voters.index(me)
        self._others = tuple(i for i in self.voters if i != me)
        self._majority = len(self.voters) // 2 + 1
        self._wait = wait
        self._promises: dict[int, tuple[Stamp, bytes | None]] = {}
        self._acks: dict[int, None] = {}
        self._lost: dict[int, None] = {}
        self._attempts = 0
        self._tries = 0
        self._is_refused = False

    @property
    def stamp(self) -> Stamp:
        """When the state that it has stored was stored, and the how manieth it is."""
        return self.stored_in, self.version

    def durable(self) -> State:
        """Return what must outlive a crash."""
        return {name: getattr(self, name) for name in self.DURABLE}

    def start(self, now: int, memory: State | None = None) -> list[Output]:
        """Begin, or come back with what was durable.

        Nobody is in office as far as it knows, and it is not, whatever it was before.
        """
        for name, value in (memory or {}).items():
            setattr(self, name, value)
        self.role, self.leader, self.is_committed = FOLLOWER, None, False
        self._promises, self._acks, self._lost = {}, {}, {}
        self._attempts = self._tries = 0
        is_first = self.epoch == 0 and self._rank == 0
        self.deadline = now if is_first else self._later(now)
        return []

    def propose(self, value: bytes, now: int) -> list[Output]:
        """Ask all voters to store a new state, the next version; only while in office."""
        assert self.role == IN_OFFICE, "only the one in office has a new state"
        assert self.version == 0 or self.is_committed, "one state after the other"
        self.version += 1
        self.value = value
        return self._spread(now)

    def receive(self, sender: int, notice: Notice, now: int) -> list[Output]:
        """Return what to do about a message."""
        return _HANDLERS[notice.kind](self, sender, notice, now)

    def lost(self, peer: int, now: int) -> list[Output]:
        """Return what to do where the link to a voter is down."""
        self._lost[peer] = None
        if peer == self.leader:
            self._seek(now)
        return []

    def joined(self, peer: int, now: int) -> list[Output]:
        """Return what to do where the link to a voter is up again: it may have been restarted."""
        self._lost.pop(peer, None)
        if self.role == IN_OFFICE and self.version:
            self._acks.pop(peer, None)
            self.deadline = self.deadline or now + self._wait
            return [Tell((peer,), self._notice(STORE, value=self.value))]
        if peer == self.leader:
            self._seek(now)
        return []

    def expired(self, now: int) -> list[Output]:
        """Return what to do at the deadline."""
        self.deadline = None
        if self.role == IN_OFFICE:
            return self._spread_again(now)
        return [] if self.leader is not None else self._campaign(now)

    def observe(self, epoch: int, now: int) -> list[Output]:
        """Note an epoch that somebody has seen: a higher one ends the own term of office."""
        return self._rise(epoch, None, now) if epoch > self.epoch else []

    # Candidates.

    def _campaign(self, now: int) -> list[Output]:
        """Ask for promises for a new epoch.

        A candidate that only waits asks again for the same one: where disks are slow, promises that
        are under way still count.
        """
        if self.role != CANDIDATE or self._is_refused:
            self.epoch, self.voted, self.role = self.epoch + 1, self.me, CANDIDATE
            self._promises = {self.me: (self.stamp, self.value)}
            self._is_refused = False
        self._attempts += 1
        self.deadline = self._later(now)
        return [Tell(self._others, self._notice(ASK))]

    def _promises_it(self, sender: int, notice: Notice, now: int) -> list[Output]:
        if self.role != CANDIDATE or notice.epoch != self.epoch:
            return self.observe(notice.epoch, now)
        self._promises[sender] = (notice.stored_in, notice.version), notice.value
        if len(self._promises) < self._majority:
            return []
        return self._take_office(now)

    def _take_office(self, now: int) -> list[Output]:
        stamp, value = self._newest()
        if stamp > self.stamp:
            self.version, self.value = stamp[1], value
        self.role, self.leader, self._attempts = IN_OFFICE, self.me, 0
        self.is_committed, self.deadline = False, None
        return [*(self._spread(now) if self.version else ()), Elected()]

    def _newest(self) -> tuple[Stamp, bytes | None]:
        """Return the state of the highest (epoch, version) that a majority knows of."""
        return max(self._promises.values(), key=lambda promise: promise[0])

    def _refuses(self, sender: int, notice: Notice, now: int) -> list[Output]:
        self._is_refused |= notice.epoch == self.epoch  # it has promised this one to another
        return self.observe(notice.epoch, now)

    # In office.

    def _spread(self, now: int) -> list[Output]:
        """Store the state in the own epoch, and ask all voters to do the same."""
        self.stored_in = self.epoch
        self._acks, self._tries, self.is_committed = {self.me: None}, 0, False
        self.deadline = now + self._wait
        return [Tell(self._others, self._notice(STORE, value=self.value))]

    def _spread_again(self, now: int) -> list[Output]:
        """Ask those again who have not answered; give up where no majority ever does."""
        self._tries += 1
        if not self.is_committed and self._tries > _TRIES:
            self._attempts += 1
            notice = self._notice(RESIGN)
            return [*self._step_down(), *self._seek(now), Tell(self._others, notice)]
        silent = [i for i in self._others if i not in self._acks and i not in self._lost]
        if silent or not self.is_committed:
            self.deadline = now + (self._wait << min(self._tries, _DOUBLINGS))
        if not silent:
            return []
        return [Tell(tuple(silent), self._notice(STORE, value=self.value))]

    def _has_stored(self, sender: int, notice: Notice, now: int) -> list[Output]:
        is_answer = (notice.epoch, notice.version) == (self.epoch, self.version)
        if self.role != IN_OFFICE or not is_answer:
            return self.observe(notice.epoch, now)
        self._acks[sender] = None
        if len(self._acks) == len(self.voters):
            self.deadline = None
        if self.is_committed or len(self._acks) < self._majority:
            return []
        self.is_committed = True
        return [Committed(self.version)]

    def _step_down(self) -> list[Output]:
        was_in_office, self.role = self.role == IN_OFFICE, FOLLOWER
        self.leader, self.is_committed = None, False
        return [Deposed()] if was_in_office else []

    # Everyone.

    def _asks(self, sender: int, notice: Notice, now: int) -> list[Output]:
        if self._hears_another(sender) or not self._may_promise(sender, notice.epoch):
            return [Tell((sender,), self._notice(REFUSE))]
        found: list[Output] = []
        if notice.epoch > self.epoch:
            found = self._rise(notice.epoch, sender, now)
        knows = (notice.stored_in, notice.version) >= self.stamp
        answer = self._notice(PROMISE, value=None if knows else self.value)
        return [*found, Tell((sender,), answer)]

    def _may_promise(self, candidate: int, epoch: int) -> bool:
        """Whether nobody else has its promise for this epoch or a later one."""
        return epoch > self.epoch or (epoch == self.epoch and self.voted == candidate)

    def _hears_another(self, candidate: int) -> bool:
        """Whether somebody else is in office and can be heard: it needs no successor."""
        return self.leader is not None and self.leader != candidate

    def _put(self, notice: Notice) -> None:
        """Store the state of a message, unless a newer one is stored."""
        if (notice.epoch, notice.version) > self.stamp:
            self.version, self.stored_in = notice.version, notice.epoch
            self.value = notice.value

    def _stores(self, sender: int, notice: Notice, now: int) -> list[Output]:
        if notice.epoch < self.epoch:
            return [Tell((sender,), self._notice(REFUSE))]
        found: list[Output] = []
        if notice.epoch > self.epoch:
            found = self._rise(notice.epoch, sender, now)
        elif self.role == CANDIDATE:
            self.role = FOLLOWER
        self.leader, self.deadline, self._attempts = sender, None, 0
        self._put(notice)
        return [*found, Tell((sender,), Notice(STORED, self.epoch, notice.version))]

    def _resigns(self, sender: int, notice: Notice, now: int) -> list[Output]:
        if sender == self.leader and notice.epoch == self.epoch:
            self._seek(now)
        return self.observe(notice.epoch, now)

    def _rise(self, epoch: int, voted: int | None, now: int) -> list[Output]:
        """Answer to none below `epoch` any more."""
        self.epoch, self.voted = epoch, voted
        found = self._step_down()
        self._seek(now)
        return found

    def _seek(self, now: int) -> list[Output]:
        """Nobody is in office as far as it knows: be a candidate later, if nobody else is."""
        self.leader = None
        self.deadline = self._later(now)
        return []

    def _later(self, now: int) -> int:
        """Return the time until which it waits, by rank, twice as long after each attempt."""
        return now + ((self._rank + 1) * self._wait << min(self._attempts, _DOUBLINGS))

    def _notice(self, kind: str, value: bytes | None = None) -> Notice:
        return Notice(kind, self.epoch, self.version, self.stored_in, value)


_HANDLERS: dict[str, Callable[[Voter, int, Notice, int], list[Output]]] = {
    ASK: Voter._asks,
    PROMISE: Voter._promises_it,
    STORE: Voter._stores,
    STORED: Voter._has_stored,
    REFUSE: Voter._refuses,
    RESIGN: Voter._resigns,
}
