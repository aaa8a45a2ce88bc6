"""Laws of failover: seeded schedules of lost, doubled and late messages, crashes and cut networks.

Every schedule runs the state machine of the voters (consensus/failover/voter.py) and looks after
every event whether what was promised still holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from random import Random

from p2pfrl.consensus.failover.voter import IN_OFFICE, Committed, Deposed, Elected, Output, Voter
from p2pfrl.core.state import State
from p2pfrl.core.types import Notice, Tell
from p2pfrl.laws.base import Figure, Law, at_least, near

WAIT = 100
"""Waiting time per rank, in the unit of time of a schedule; a message takes 1 to 60."""
STORMY, CALM = 6_000, 60_000
"""When faults stop, and until when there must be progress; then a schedule ends."""
_PROGRESS = 3
"""Versions that have to be committed once faults have stopped."""

Make = Callable[[int, Sequence[int]], Voter]


@dataclass
class Outcome:
    """What a schedule did.

    Attributes:
        violations: what was promised and did not hold; empty for a correct machine.
        committed: versions that were committed.
        terms: terms of office.
        events: that happened.
    """

    violations: list[str] = field(default_factory=list)
    committed: int = 0
    terms: int = 0
    events: int = 0


class Storm:
    """One schedule.

    Args:
        seed: of everything that is drawn.
        make: (id, ids of all) -> a voter.
        forgets: attributes that a crash loses although they have to be durable; a planted bug.
    """

    def __init__(
        self,
        seed: int,
        make: Make = lambda me, voters: Voter(me, voters, wait=WAIT),
        forgets: Sequence[str] = (),
    ) -> None:
        self.outcome = Outcome()
        self._rng = rng = Random(seed)
        self._ids = tuple(range(rng.choice((3, 3, 5))))
        self._make, self._forgets = make, forgets
        self._voters = {i: make(i, self._ids) for i in self._ids}
        self._disk: dict[int, State] = {i: v.durable() for i, v in self._voters.items()}
        self._up = dict.fromkeys(self._ids, True)
        self._side = dict.fromkeys(self._ids, 0)
        self._heap: list[tuple[int, int, Callable[..., None], tuple[object, ...]]] = []
        self._number, self._names = count(), count()
        self._loss = rng.choice((0.0, 0.05, 0.3))
        self._doubles = rng.choice((0.0, 0.3))
        self._late = rng.choice((5, 60, 400))
        self._office: dict[int, int] = {}  # epoch -> who was in office
        self._truth: dict[int, bytes] = {0: b""}  # version -> what was committed
        self._highest = dict.fromkeys(self._ids, (0, (0, 0)))

    def run(self) -> Outcome:
        """Run it to its end, or to the first violation."""
        for i in self._ids:
            self._post(0, self._begin, i)
        mishaps: list[tuple[Callable[..., None], int]] = [
            (self._crash, 4),
            (self._cut, 2),
            (self._heal, 2),
            (self._doubt, 2),
        ]
        now = 0
        while (now := now + self._rng.randrange(50, 700)) < STORMY:
            kinds, weights = zip(*mishaps, strict=True)
            self._post(now, self._rng.choices(kinds, weights)[0])
        self._post(STORMY, self._calm)
        while self._heap and not self.outcome.violations:
            now, _, action, args = heappop(self._heap)
            if now > CALM or (now > STORMY and max(self._truth) >= self._before + _PROGRESS):
                break
            self._now = now
            action(*args)
            self.outcome.events += 1
        self.outcome.committed = max(self._truth)
        if not self.outcome.violations and self.outcome.committed < self._before + _PROGRESS:
            self._violated(f"no progress after calm: {self._before} to {self.outcome.committed}")
        return self.outcome

    _now = 0
    _before = 0

    def _post(self, when: int, action: Callable[..., None], *args: object) -> None:
        heappush(self._heap, (when, next(self._number), action, args))

    def _violated(self, what: str) -> None:
        self.outcome.violations.append(f"at {self._now}: {what}")

    # What happens.

    def _begin(self, i: int, memory: State | None = None) -> None:
        self._up[i] = True
        self._do(i, self._voters[i].start(self._now, memory))
        for j in self._ids:
            if j == i:
                continue
            if self._linked(i, j):
                self._do(j, self._voters[j].joined(i, self._now))
            else:
                self._do(i, self._voters[i].lost(j, self._now))

    def _crash(self) -> None:
        i = self._rng.choice(self._ids)
        if not self._up[i]:
            return
        self._up[i] = False
        memory = {k: v for k, v in self._disk[i].items() if k not in self._forgets}
        self._voters[i] = self._make(i, self._ids)
        for j in self._ids:
            if j != i and self._rng.random() < 0.8:  # others may come back before they are told
                self._post(self._now + self._rng.randrange(1, 300), self._tell_lost, j, i)
        self._post(self._now + self._rng.randrange(1, 1500), self._begin, i, memory)

    def _cut(self) -> None:
        self._side = {i: self._rng.randrange(2) for i in self._ids}
        for i in self._ids:
            for j in self._ids:
                if i != j and not self._linked(i, j):
                    self._post(self._now + self._rng.randrange(1, 300), self._tell_lost, i, j)

    def _heal(self) -> None:
        self._side = dict.fromkeys(self._ids, 0)
        for i in self._ids:
            for j in self._ids:
                if i != j and self._linked(i, j):
                    self._do(i, self._voters[i].joined(j, self._now))

    def _doubt(self) -> None:
        """A voter is told that another one is lost, which is not so."""
        i, j = self._rng.sample(self._ids, 2)
        if self._up[i]:
            self._do(i, self._voters[i].lost(j, self._now))
            self._post(self._now + self._rng.randrange(1, 300), self._find, i, j)

    def _find(self, i: int, j: int) -> None:
        if self._linked(i, j):
            self._do(i, self._voters[i].joined(j, self._now))

    def _tell_lost(self, to: int, about: int) -> None:
        if self._up[to] and not self._linked(to, about):
            self._do(to, self._voters[to].lost(about, self._now))

    def _calm(self) -> None:
        """Faults stop: a majority is up, and for a while all are."""
        self._loss, self._doubles = 0.0, 0.0
        self._late = min(self._late, 60)
        self._heal()
        self._before = max(self._truth)
        if self._rng.random() < 0.5:  # one stays away for good, so that a majority has to do
            i = self._rng.choice(self._ids)
            self._heap = [e for e in self._heap if not (e[2] == self._begin and e[3][0] == i)]
            self._heap.sort()
            self._up[i] = False
            for j in self._ids:
                if j != i:
                    self._post(self._now + 100, self._tell_lost, j, i)

    def _linked(self, i: int, j: int) -> bool:
        return self._up[i] and self._up[j] and self._side[i] == self._side[j]

    # Messages and timers.

    def _do(self, i: int, outputs: Sequence[Output]) -> None:
        voter = self._voters[i]
        for output in outputs:
            if isinstance(output, Tell):
                self._disk[i] = voter.durable()  # write-ahead
                for to in output.to:
                    self._send(i, to, output.notice)
            elif isinstance(output, Elected):
                self._elected(i, voter)
            elif isinstance(output, Committed):
                self._committed(i, voter)
            else:
                assert isinstance(output, Deposed)
        self._watch(i, voter)
        if voter.deadline is not None:
            self._post(max(voter.deadline, self._now), self._ring, i, voter, voter.deadline)

    def _send(self, sender: int, to: int, notice: Notice) -> None:
        copies = 1 + (self._rng.random() < self._doubles)
        for _ in range(copies):
            if self._rng.random() >= self._loss:
                when = self._now + 1 + self._rng.randrange(self._late)
                self._post(when, self._arrive, sender, to, notice)

    def _arrive(self, sender: int, to: int, notice: Notice) -> None:
        if self._linked(sender, to):
            self._do(to, self._voters[to].receive(sender, notice, self._now))

    def _ring(self, i: int, voter: Voter, deadline: int) -> None:
        if self._up[i] and voter is self._voters[i] and voter.deadline == deadline:
            self._do(i, voter.expired(self._now))

    def _propose(self, i: int, voter: Voter, epoch: int) -> None:
        """The one in office makes the next version: it ends with a name that no other has."""
        is_still = voter.role == IN_OFFICE and voter.epoch == epoch and self._up[i]
        if is_still and voter is self._voters[i] and (voter.is_committed or not voter.version):
            name = next(self._names)
            value = (voter.value or b"") + name.to_bytes(4, "little")
            self._do(i, voter.propose(value, self._now))

    # What was promised.

    def _elected(self, i: int, voter: Voter) -> None:
        self.outcome.terms += 1
        other = self._office.setdefault(voter.epoch, i)
        if other != i:
            self._violated(f"{other} and {i} were both in office in epoch {voter.epoch}")
        if not voter.version:
            self._post(self._now, self._propose, i, voter, voter.epoch)

    def _committed(self, i: int, voter: Voter) -> None:
        value = voter.value or b""
        for version in range(voter.version + 1):
            own = value[: 4 * version]
            if self._truth.setdefault(version, own) != own:
                self._violated(f"{i} changed the committed version {version}")
                return
        wait = self._rng.choice((1, 50, 400))
        self._post(self._now + wait, self._propose, i, voter, voter.epoch)

    def _watch(self, i: int, voter: Voter) -> None:
        epoch, stamp = self._highest[i]
        if voter.epoch < epoch or voter.stamp < stamp:
            self._violated(f"{i} went back from {epoch, stamp} to {voter.epoch, voter.stamp}")
        told = self._disk[i]
        self._highest[i] = told["epoch"], (told["stored_in"], told["version"])


def storms(seeds: Sequence[int], **planted: object) -> Iterator[Outcome]:
    """Run one schedule per seed."""
    for seed in seeds:
        yield Storm(seed, **planted).run()  # type: ignore[arg-type]


class FirstReplyWins(Voter):
    """A planted bug: a candidate adopts the first promise, not the newest."""

    def _newest(self) -> tuple[tuple[int, int], bytes | None]:
        """Return what the first other voter has."""
        return [*self._promises.values()][1]

    def _take_office(self, now: int) -> list[Output]:
        stamp, value = self._newest()
        if value is not None or not stamp[1]:
            self.stored_in, self.version, self.value = *stamp, value
        return super()._take_office(now)


class VotesTwice(Voter):
    """A planted bug: a voter gives its promise for an epoch to everyone who asks."""

    def _may_promise(self, candidate: int, epoch: int) -> bool:
        return epoch >= self.epoch


class StaticList(Voter):
    """A planted bug: the next of a list takes over where it does not hear the one before."""

    def _campaign(self, now: int) -> list[Output]:
        found = super()._campaign(now)
        return [*found, *self._take_office(now)]


PLANTED: dict[str, Callable[[int], Outcome]] = {
    "votes not durable": lambda seed: Storm(seed, forgets=("epoch", "voted")).run(),
    "first reply wins": lambda seed: Storm(seed, _maker(FirstReplyWins)).run(),
    "vote twice": lambda seed: Storm(seed, _maker(VotesTwice)).run(),
    "static list without votes": lambda seed: Storm(seed, _maker(StaticList)).run(),
}
"""Planted bug -> one schedule with it."""


def _maker(cls: type[Voter]) -> Make:
    return lambda me, voters: cls(me, voters, wait=WAIT)


def seeds_until_found(bug: str, most: int) -> int:
    """Return how many schedules run until one finds a planted bug; `most` + 1 if none does."""
    for seed in range(most):
        if PLANTED[bug](seed).violations:
            return seed + 1
    return most + 1


SCHEDULES = 10_000


def _failover() -> Iterator[Figure]:
    violations, committed, terms = 0, 0, 0
    for outcome in storms(range(SCHEDULES)):
        violations += bool(outcome.violations)
        committed += outcome.committed
        terms += outcome.terms
    yield near(f"{SCHEDULES} schedules with a violation", 0.0, violations, 0.0)
    yield at_least("committed states", SCHEDULES, committed)
    yield at_least("terms of office", 2 * SCHEDULES, terms)
    for bug in PLANTED:
        yield Figure(
            f"schedules until found: {bug}", "<= 1000", seeds_until_found(bug, 1000), 1, 1000
        )


LAWS = (
    Law(
        "failover",
        "standbys under loss, doubling, reordering, crashes and cuts: at most one coordinator per epoch, committed "
        "rounds never change",
        "Ongaro, Ousterhout, USENIX ATC 2014",
        _failover,
        is_slow=True,
    ),
)
