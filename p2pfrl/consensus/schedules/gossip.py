"""Synchronous rounds of one agent, as a state machine: train, send, wait for neighbors, mix."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from typing_extensions import override

from p2pfrl.consensus.schedules.base import Available, Neighborhood, resting
from p2pfrl.core.state import State, Stateful
from p2pfrl.core.types import (
    SKIP,
    UPDATE,
    Action,
    Event,
    Expired,
    Finish,
    Message,
    Missing,
    Mix,
    PeerJoined,
    PeerLost,
    Received,
    Send,
    Started,
    Train,
    Trained,
    WaitUntil,
)
from p2pfrl.core.units import SECOND

_KEPT = 1024
"""Messages of one sender kept for later rounds: usually one, more if it does not wait for us."""
_HORIZON = 2**20
"""A round that is this far ahead of ours cannot be true.

With rounds of 30 ms it takes longer than a partition of eight hours.
"""
_SEARCHED = 64
"""Rounds after ours that are searched for one that a neighbor passed.

Topologies cache the graphs of 64 rounds (topologies/base.py): a longer search would rebuild them.
"""
_TRAIN, _NO_TIMER = Train(), WaitUntil(None)
"""Actions without anything of an agent: all agents share them."""
_NOBODY: dict[int, None] = {}
"""The neighbors that an agent waits for while it trains, which are none.

All agents share this dict, to which nothing is ever added.
"""


class Options(Protocol):
    """The options of synchronous rounds (see `Synchronous`)."""

    @property
    def every(self) -> int:
        """Local updates per exchange."""

    @property
    def deadline(self) -> float:
        """Seconds to wait for neighbors."""

    @property
    def suspect_after(self) -> int:
        """Misses in a row after which a neighbor is suspected."""

    @property
    def max_staleness(self) -> int | None:
        """Rounds after which a payload is too old; None for never."""


@dataclass(slots=True)
class Missed(Stateful):
    """A neighbor whose payload did not arrive before the deadline.

    Attributes:
        count: number of deadlines missed in a row.
        usable_from: the first round whose payload may still be used: the first one missed, or the
            one after the newest payload that was mixed since.
        late: the newest payload that arrived after the deadline of its round.
    """

    STATE: ClassVar[tuple[str, ...]] = ("count", "usable_from", "late")
    count: int
    usable_from: int
    late: Message | None = None

    def take(self) -> Message | None:
        """Return the late payload if it may still be used, once."""
        late, self.late = self.late, None
        return None if late is None or late.round < self.usable_from else late


class Gossip(Stateful):
    """One agent's synchronous rounds: train, send, wait for the neighbors that it hears, mix.

    `Lockstep` replaces it if a rule needs every message.

    Adapt then combine trains before it sends. Combine while adapting sends first, trains meanwhile,
    and adds its own progress to the mixed vector: without deadlines this is D-PSGD (Lian et al.,
    NeurIPS 2017, arXiv 1705.09056, Algorithm 1).

    Four rules keep one slow or absent agent from stopping the others. In them, a successor is a
    neighbor that we send to, a predecessor one that we hear.

    - Catching up. If a successor is in a later round, it no longer waits for our round. At the
      start of a round and after training we move to the newest round of a successor, and our
      update counts there.
    - Passed. A predecessor that passed a round in which it should have heard us has given us up.
      We do not wait for it.
    - Absent. A predecessor whose link is down, or that missed `suspect_after` deadlines in a row,
      is not waited for until it is heard. If that message is late too, one more miss is enough.
    - Half a deadline. A predecessor that missed a deadline, and has not been in time since, is
      waited for only half as long, so that we are not late at our other neighbors in turn.

    Late payloads: of each sender the newest payload that came after its deadline is mixed once, in
    the first round in which we take part and for which nothing came from its sender, neither a
    payload nor a skip nor the notice of a loss, if it is then at most `max_staleness` rounds old.
    If a message of its sender comes in time before that, it is dropped.

    State: while the agent trains, `_awaited` is `_NOBODY`. While it waits, the message of this
    round, or a skip, has left. While it rests, nothing has left for this round. `_deadline` is the
    timer that is set; `_until` is when the wait for all neighbors ends.
    """

    STATE: ClassVar[tuple[str, ...]] = (
        "messages_late",
        "deadlines_expired",
        "round",
        "_updates_left",
        "_waiting",
        "_active",
        "_is_resting",
        "_deadline",
        "_until",
        "_awaited",
        "_inbox",
        "_newest",
        "_absent",
    )

    __slots__ = (
        "_absent",
        "_active",
        "_available",
        "_awaited",
        "_combine_first",
        "_deadline",
        "_every",
        "_inbox",
        "_is_resting",
        "_me",
        "_misses",
        "_neighborhood",
        "_newest",
        "_oldest",
        "_patience",
        "_rounds",
        "_suspect_after",
        "_until",
        "_updates_left",
        "_waiting",
        "deadlines_expired",
        "messages_late",
        "round",
    )

    def __init__(
        self,
        options: Options,
        me: int,
        neighborhood: Neighborhood,
        rounds: int | None,
        combine_first: bool,
        available: Available,
        first: int = 0,
    ) -> None:
        self.messages_late = 0
        self.deadlines_expired = 0
        self.round = first
        self._me = me
        self._neighborhood = neighborhood
        self._rounds = rounds
        self._combine_first = combine_first
        self._available = available
        self._every = options.every
        self._patience = round(options.deadline * SECOND)
        self._suspect_after = options.suspect_after
        self._oldest = options.max_staleness
        self._updates_left = 0
        self._waiting = False
        self._active = True
        self._is_resting = False
        self._deadline: int | None = None
        self._until = 0
        self._awaited = _NOBODY
        # round -> sender -> message; None: it skips the round, or its message was lost
        self._inbox: dict[int, dict[int, Message | None]] = {}
        # sender -> the newest round that it was heard of, if that is later than ours
        self._newest: dict[int, int] = {}
        self._misses: dict[int, Missed] = {}
        self._absent: dict[int, None] = {}

    def handle(self, event: Event, now: int) -> Sequence[Action]:
        """Return what to do about `event`."""
        return _HANDLERS[type(event)](self, event, now)

    @override
    def save(self) -> State:
        """Return the state, what was missed of each neighbor included."""
        missed = {j: found.save() for j, found in self._misses.items()}
        return {**super().save(), "misses": missed}

    @override
    def restore(self, state: State) -> None:
        """Take over a state."""
        super().restore(state)
        self._misses = {}
        for j, saved in state["misses"].items():
            self._misses[j] = Missed(0, 0)
            self._misses[j].restore(saved)

    def waits_for(self) -> str:
        """Return in words what this agent is waiting for."""
        if self._waiting:
            return f"agent {self._me} waits in round {self.round} for {', '.join(map(str, self._awaited))}"
        return f"agent {self._me} waits in round {self.round} for its own update"

    def awaits(self) -> Sequence[int]:
        """Return the neighbors whose messages of this round are not here yet."""
        return tuple(self._awaited) if self._waiting else ()

    def _started(self, event: Started, now: int) -> Sequence[Action]:
        return self._begin(now, [])

    def _begin(self, now: int, actions: list[Action]) -> list[Action]:
        """Begin the next round that takes time; return `actions` with those that this needs.

        A round that is sat out without waiting for anybody ends at once. Thousands may follow each
        other, so this is a loop.
        """
        while True:
            if self._newest:
                actions += self._catch_up()
            if self._rounds is not None and self.round >= self._rounds:
                actions.append(Finish())
                return actions
            self._updates_left = self._every
            self._active = self._available(self.round, now)
            if self._active:
                break
            if rest := self._rest(now):
                actions.append(rest)
                return actions
            actions.append(Send(self._neighborhood.successors(self.round), self.round, SKIP))
            if wait := self._wait_until(now):
                actions.append(wait)
                return actions
            actions += self._end_round()
        if self._combine_first:
            actions.append(Send(self._neighborhood.successors(self.round), self.round))
        actions.append(_TRAIN)
        return actions

    def _rest(self, now: int) -> Action | None:
        """Return what an absent agent does instead of sitting out a round; None to sit it out.

        It rests while nobody is there, or, if all neighbors that it would hear are lost, until it
        is there itself. Otherwise rounds would pass at once, since a round that everybody sits out
        takes no time. A message ends the rest, as it may come from a round in which it is awaited.
        """
        heard = self._neighborhood.predecessors(self.round)
        has_company = not heard or any(j not in self._absent for j in heard)
        until = resting(self._available, now, has_company=has_company)
        if until is None:
            return Finish("agents_gone")
        if until <= now:
            return None
        self._is_resting, self._deadline = True, until
        return WaitUntil(until)

    def _end_rest(self, now: int) -> list[Action]:
        self._is_resting, self._deadline = False, None
        return self._begin(now, [_NO_TIMER])

    def _catch_up(self) -> Sequence[Action]:
        """Move to the newest round heard from a successor; our update counts there.

        A skip of the round before it is sent: a neighbor that waits in that round mixes at once,
        and one in an earlier round sees that we have passed it (`_has_passed`). Kept payloads of
        the rounds left out count as late.
        """
        to = self._neighborhood.successors(self.round)
        ahead = max((self._newest.get(j, 0) for j in to), default=0)
        if ahead <= self.round:
            return ()
        self.round = ahead
        for stale in [r for r in self._inbox if r < ahead]:
            self.messages_late += sum(m is not None for m in self._inbox.pop(stale).values())
        return (Send(self._neighborhood.successors(ahead - 1), ahead - 1, SKIP),)

    def _trained(self, event: Trained, now: int) -> Sequence[Action]:
        self._updates_left -= 1
        if self._updates_left:
            return (_TRAIN,)
        if self._combine_first:
            return self._wait(now)
        actions = [*self._catch_up()] if self._newest else []
        actions.append(Send(self._neighborhood.successors(self.round), self.round))
        actions += self._wait(now)
        return actions

    def _wait(self, now: int) -> list[Action]:
        """Wait for the neighbors of this round, or mix if there is nobody to wait for."""
        wait = self._wait_until(now)
        return self._mix(now) if wait is None else [wait]

    def _wait_until(self, now: int) -> WaitUntil | None:
        """Begin to wait; return the timer to set, or None if there is nobody to wait for."""
        arrived, absent = self._inbox.get(self.round, {}), self._absent
        expected = self._neighborhood.predecessors(self.round)
        newest = self._newest
        self._awaited = {
            j: None
            for j in expected
            if not (j in arrived or j in absent or (j in newest and self._has_passed(j, newest[j])))
        }
        self._waiting = True
        if not self._awaited:
            return None
        self._until = now + self._patience
        is_shaky = bool(self._misses) and any(j in self._misses for j in self._awaited)
        self._deadline = now + self._patience // 2 if is_shaky else self._until
        return WaitUntil(self._deadline)

    def _received(self, event: Received, now: int) -> Sequence[Action]:
        message = event.message
        sender, round = message.sender, message.round
        if round > self.round or round == self._rounds:
            if self._is_impossible(round):
                self.messages_late += not event.again
                return ()
            if round > self._newest.get(sender, 0):
                self._newest[sender] = round
        if self._absent:
            self._absent.pop(sender, None)
        if round < self.round:
            self._came_late(message, event.again)
            return ()
        if self._misses:
            self._misses.pop(sender, None)
        content = None if message.kind == SKIP else message
        if round <= self.round + 1 and not self._is_resting:  # as nearly every message
            return self._keep(sender, round, content, now)
        has_passed = self._waiting and sender in self._awaited and self._has_passed(sender, round)
        was_resting = self._is_resting  # read first, because `_keep` may mix and begin a rest
        actions = self._keep(sender, round, content, now)
        if was_resting:
            return self._end_rest(now)
        if not has_passed:
            return actions
        # The message is of a later round, so `actions` is empty.
        if self._active:
            return self._keep(sender, self.round, None, now)  # counts as a skip of our round
        # We sit this round out and only wait to keep in step: go on from where the others are.
        return self._mix(now)

    def _came_late(self, message: Message, again: bool) -> None:
        """Count a message of an earlier round, and keep its payload where it was missed."""
        self.messages_late += message.kind != SKIP and not again
        missed = self._misses.get(message.sender)
        if missed is not None:
            # It was heard, but late: one more miss makes it absent again.
            missed.count = min(missed.count, self._suspect_after - 1)
            late = missed.late
            at_least = missed.usable_from if late is None else late.round + 1
            if message.kind != SKIP and message.round >= at_least:
                missed.late = message

    def _has_passed(self, sender: int, round: int) -> bool:
        """Return whether `sender`, now in `round`, mixed a later round than ours without us.

        We have sent nothing after our own round, so any round between ours and `round` in which
        `sender` hears us was mixed without our payload. Call this only after the message of our
        round has left.
        """
        if round <= self.round + 1:  # as of nearly every message
            return False
        between = range(self.round + 1, min(round, self.round + _SEARCHED))
        return any(sender in self._neighborhood.successors(r) for r in between)

    def _missing(self, event: Missing, now: int) -> Sequence[Action]:
        if event.round < self.round or self._is_impossible(event.round):
            return ()
        return self._keep(event.peer, event.round, None, now)

    def _is_impossible(self, round: int) -> bool:
        """Whether nobody can be in `round` yet."""
        return round >= self.round + _HORIZON or (
            self._rounds is not None and round >= self._rounds
        )

    def _keep(self, sender: int, round: int, message: Message | None, now: int) -> Sequence[Action]:
        """Keep what `sender` sent for `round` (None: skipped or lost).

        Mix if it was the last that this round waits for.
        """
        box = self._inbox.get(round)
        if box is None:
            box = self._inbox[round] = {}
        if box.get(sender) is None:  # what was lost or skipped may come all the same
            box[sender] = message
        if len(self._inbox) > _KEPT:  # a cheap test first: rounds of all senders
            self._trim(sender)
        if self._waiting and round == self.round and sender in self._awaited:
            del self._awaited[sender]
            if not self._awaited:
                return self._mix(now)
        return ()

    def _trim(self, sender: int) -> None:
        """Drop one message of a sender that has too many.

        If it hears us, we will move to its newest round, so its oldest message goes. Otherwise we
        come to its rounds in order, so its newest message goes.
        """
        later = [r for r, box in self._inbox.items() if sender in box and r != self.round]
        if len(later) > _KEPT:
            surplus = (
                min(later) if sender in self._neighborhood.successors(self.round) else max(later)
            )
            box = self._inbox[surplus]
            self.messages_late += box.pop(sender) is not None
            if not box:
                del self._inbox[surplus]

    def _expired(self, event: Expired, now: int) -> Sequence[Action]:
        if self._is_resting and event.deadline == self._deadline:
            return self._end_rest(now)
        if not self._waiting or event.deadline != self._deadline:
            return ()
        self.deadlines_expired += 1
        # A process that is late may be past the end of the wait; a timer may fire a little early.
        is_over = max(now, event.deadline) >= self._until
        # At half the deadline, only those are given up that missed one and were not in time since.
        given_up = [j for j in self._awaited if is_over or j in self._misses]
        for j in given_up:
            del self._awaited[j]
            missed = self._misses.setdefault(j, Missed(0, self.round))
            missed.count += 1
            if missed.count >= self._suspect_after:
                self._absent[j] = None
        if not self._awaited:
            return self._mix(now)
        self._deadline = self._until
        return (WaitUntil(self._deadline),)

    def _lost(self, event: PeerLost, now: int) -> Sequence[Action]:
        self._absent[event.peer] = None
        if self._waiting and event.peer in self._awaited:
            del self._awaited[event.peer]
            if not self._awaited:
                return self._mix(now)
        return ()

    def _joined(self, event: PeerJoined, now: int) -> Sequence[Action]:
        """Send a neighbor that is back our messages of the last round and of this one.

        It waits in our round or in the one before, and may never have received our message of that
        round. What we have counts for one of them:

            we are                           last round   this round
            waiting, or training after
            sending (combine while adapting)    skip        update
            training before sending            update       later
            sitting this round out             update       skip
            resting                            update       none
        """
        self._absent.pop(event.peer, None)
        self._misses.pop(event.peer, None)
        if self._is_resting:
            return [*self._resend(event.peer, last=UPDATE, this=None), *self._end_rest(now)]
        if not self._active:
            return self._resend(event.peer, last=UPDATE, this=SKIP)
        if self._waiting or self._combine_first:
            return self._resend(event.peer, last=SKIP, this=UPDATE)
        return self._resend(event.peer, last=UPDATE, this=None)

    def _resend(self, peer: int, *, last: str, this: str | None) -> list[Action]:
        """Return messages of the last round and of this one, if the neighbor hears us in them."""
        kinds = {self.round - 1: last, self.round: this}
        hears = [r for r in kinds if r >= 0 and peer in self._neighborhood.successors(r)]
        return [Send((peer,), r, kind) for r in hears if (kind := kinds[r]) is not None]

    def _mix(self, now: int) -> list[Action]:
        return self._begin(now, self._end_round())

    def _end_round(self) -> list[Action]:
        """Mix what has arrived for this round, and move to the next one."""
        self._waiting = False
        self._awaited = _NOBODY  # a dict that was emptied would keep its table
        box = self._inbox.pop(self.round, {})
        if not self._inbox:
            self._inbox = {}
        expected = self._neighborhood.predecessors(self.round)
        if self._misses:
            for j in expected:
                if j not in box and (late := self._take_late(j)) is not None:
                    box[j] = late
        received = [m for j in expected if (m := box.get(j)) is not None]
        if self._misses:
            for m in received:
                if (missed := self._misses.get(m.sender)) is not None:
                    # What is older, or comes again, has been overtaken.
                    missed.usable_from = max(missed.usable_from, m.round + 1)
        staleness = [0] * len(received)
        if self._misses:  # else all of them are of this round
            staleness = [self.round - m.round for m in received]
        full = [1.0] * len(received)  # synchronous rounds do not discount by age
        mix = Mix(self.round, received, staleness, full, active=self._active)
        actions: list[Action] = [mix]
        if self._deadline is not None:
            self._deadline = None
            actions.append(_NO_TIMER)
        self.round += 1
        if self._newest:
            later = {j: round for j, round in self._newest.items() if round > self.round}
            self._newest = later
        return actions

    def _take_late(self, j: int) -> Message | None:
        """Return a payload that came after its round was mixed, if it is fresh enough.

        Each payload is returned at most once.
        """
        missed = self._misses.get(j)
        late = missed.take() if missed is not None and self._active else None
        is_fresh = late is not None and (
            self._oldest is None or self.round - late.round <= self._oldest
        )
        return late if is_fresh else None


_HANDLERS: dict[type, Callable[[Gossip, Any, int], Sequence[Action]]] = {
    Started: Gossip._started,
    Trained: Gossip._trained,
    Received: Gossip._received,
    Missing: Gossip._missing,
    Expired: Gossip._expired,
    PeerLost: Gossip._lost,
    PeerJoined: Gossip._joined,
}
