"""Rounds with a coordinator, which sends a model and aggregates what agents send back.

Agents train from the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import ceil
from typing import ClassVar

from p2pfrl.consensus.schedules.base import Available, Participants, resting
from p2pfrl.core.state import Stateful
from p2pfrl.core.types import (
    ASKS,
    COORDINATOR,
    FINAL,
    MODEL,
    SKIP,
    UPDATE,
    Action,
    Adopt,
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
    name_of,
)

_FIRST_REST, _LONGEST_REST = 10 * 10**6, 10**9


class Client(Stateful):
    """An agent that trains from every model it gets and sends the result back, synchronous or not.

    If the model of a straggler has been replaced meanwhile, the straggler catches up: with `retag`
    its update counts for the newest round. Without `retag` there is no round to wait for. The agent
    then takes only the model that answers its update, so that one update of it is under way however
    often a coordinator that lost sight of it sends the model again. While it is not available it
    asks again after 10, 20, 40 ms and so on up to a second, and not as fast as models come.

    A coordinator that comes back sends its last model again, and the agent sends its result for
    that model again. If the newest checkpoint of a coordinator was damaged, the coordinator goes
    back to an earlier model, and the agent follows.

    Of a model that a link lost it says so with a skip. The coordinator sends the last model again
    then, and without rounds any model, up to `ASKS` times in a row. Where a repetition of the model
    that it has is lost, it sends its result again.

    Args:
        every: local updates per exchange.
        rounds: the number of the final model, where it is known.
        patience: nanoseconds without a coordinator after which the agent finishes with what it has.
        available: whether it takes part in a round.
        retag: count a late update for the newest round known, instead of the one it started from.
        coordinator: whom it trains for.
    """

    STATE: ClassVar[tuple[str, ...]] = (
        "messages_late",
        "deadlines_expired",
        "_round",
        "_sent",
        "_models",
        "_newest",
        "_updates_left",
        "_next",
        "_deadline",
        "_answer",
        "_over",
        "_is_alone",
        "_absences",
        "_rest",
        "_asks",
    )

    def __init__(
        self,
        *,
        every: int,
        rounds: int | None,
        patience: int,
        available: Available,
        retag: bool = True,
        coordinator: int = COORDINATOR,
    ) -> None:
        self.messages_late = 0
        self.deadlines_expired = 0
        self._every = every
        self._rounds = rounds
        self._patience = patience
        self._available = available
        self._retag = retag
        self._to = (coordinator,)
        self._round = -1
        self._sent: int | None = None
        self._models = 0
        self._newest = (-1, -1)
        self._updates_left = 0
        self._next: Message | None = None
        self._deadline: int | None = None
        self._answer = SKIP
        self._over = False
        self._is_alone = False
        self._absences = 0
        self._rest: int | None = None
        self._asks = 0

    def handle(self, event: Event, now: int) -> Sequence[Action]:
        """Return what to do about `event`."""
        if isinstance(event, Received):
            return self._received(event, now)
        if isinstance(event, Trained):
            return self._trained(now)
        if isinstance(event, Started):
            return self._start()
        if isinstance(event, Missing):
            return self._missing(event.round)
        if isinstance(event, PeerLost):
            self._deadline = now + self._patience
            return (WaitUntil(self._deadline),)
        if isinstance(event, PeerJoined):
            self._deadline = None
            self._is_alone = False
            return (WaitUntil(self._rest if self._retag else None),)
        if isinstance(event, Expired) and event.deadline == self._deadline:
            self.deadlines_expired += 1
            self._is_alone = True
            return () if self._updates_left else (Finish("coordinator_gone"),)
        if isinstance(event, Expired) and event.deadline == self._rest:
            self._rest = None
            if self._retag:
                return self._begin(now)
            return (Send(self._to, self._round, SKIP),)
        return ()

    def waits_for(self) -> str:
        """Return in words what this agent is waiting for."""
        return "an agent waits for " + (
            "its own update" if self._updates_left else "the coordinator's next model"
        )

    def awaits(self) -> Sequence[int]:
        """Return the coordinator, between two updates."""
        return () if self._updates_left else self._to

    def _start(self) -> Sequence[Action]:
        """Wait for a model, or continue with the saved one.

        The coordinator sends its model again.
        """
        self._deadline = self._rest = None
        self._is_alone = False
        return (Train(),) if self._updates_left else ()

    def _missing(self, round: int) -> Sequence[Action]:
        """Say that a model was lost; end where one that is needed is lost again and again.

        One that it had before is a repetition: the coordinator waits for the answer.
        """
        if self._retag and round == self._round:
            return self._missing_again()
        is_last = self._rounds is not None and round >= self._rounds
        if is_last or not self._retag:
            self._asks += 1
            if self._asks > ASKS:
                self._over = True
                return () if self._updates_left else (Finish("unreachable"),)
        return (Send(self._to, round, SKIP),)

    def _missing_again(self) -> Sequence[Action]:
        """Answer a repetition that was lost."""
        return self._repeat()

    def _repeat(self) -> Sequence[Action]:
        """Send the answer of this round again, if there is one yet."""
        is_busy = self._updates_left or self._rest is not None
        return () if is_busy else (Send(self._to, self._round, self._answer),)

    def _received(self, event: Received, now: int) -> Sequence[Action]:
        message = event.message
        version = (message.incarnation, message.sequence)
        is_behind = self._retag and message.round < self._round and message.kind != FINAL
        if version <= self._newest or (is_behind and message.incarnation == self._newest[0]):
            self.messages_late += not event.again
            return ()
        self._newest = version
        self._asks = 0
        if self._retag and message.round == self._round and message.kind != FINAL:
            return self._repeat()
        if self._updates_left:
            if (
                self._next is None
                or message.round >= self._next.round
                or message.incarnation > self._next.incarnation
            ):
                self._next = message
            return ()
        return self._adopt(message, now)

    def _adopt(self, message: Message, now: int) -> list[Action]:
        self._round = message.round
        actions: list[Action] = [Adopt(message, message.round - 1, self._used(message))]
        if message.kind == FINAL:
            # An edge without its cloud sends a last model before the last round.
            is_early = self._rounds is not None and message.round < self._rounds
            return [*actions, Finish("coordinator_gone" if is_early else "")]
        self._models += 1
        return [*actions, *self._begin(now)]

    def _begin(self, now: int) -> list[Action]:
        """Train from the model, sit out its round, or wait until somebody is there."""
        if not self._available(self._models - 1, now):
            self._answer = SKIP
            return [self._sit_out(now)]
        self._absences, self._rest = 0, None
        self._updates_left = self._every
        return [Train()]

    def _used(self, message: Message) -> bool | None:
        """Return whether the last update counted, according to a model.

        The result is None if the model is not newer than the update.
        """
        if self._sent is None:
            return True
        if self._retag and message.round <= self._sent:
            return None
        used = message.score in (0.0, self._sent + 1.0)
        self._sent = None
        return used

    def _sit_out(self, now: int) -> Action:
        """Say that the agent does not take part; wait first while nobody is there.

        Without `retag` it says so at once only the first time. After that it waits longer and
        longer before it asks again.
        """
        self._absences += 1
        if self._retag:
            self._rest = None
            until = resting(self._available, now)
            if until is None:
                return Finish("agents_gone")
            if until > now:
                self._rest = until
                return WaitUntil(until)
        if self._retag or self._absences == 1:
            return Send(self._to, self._round, SKIP)
        self._rest = now + min(_LONGEST_REST, _FIRST_REST << min(self._absences - 2, 16))
        return WaitUntil(self._rest)

    def _trained(self, now: int) -> Sequence[Action]:
        self._updates_left -= 1
        if self._updates_left:
            return (Train(),)
        following, self._next = self._next, None
        if following is not None and following.kind == FINAL:
            return self._adopt(following, now)
        if self._over or self._is_alone:
            return (Finish("coordinator_gone" if self._is_alone else "unreachable"),)
        if following is None or not self._retag:
            self._answer = UPDATE
            self._sent = self._round
            return (Send(self._to, self._round),)
        self._round = self._sent = following.round
        self._answer = SKIP
        adopt = Adopt(following, following.round - 1, self._used(following))
        return [Send(self._to, following.round), adopt]


class Coordinator(Stateful):
    """Synchronous rounds: send the model to the participants, and aggregate their answers.

    A round ends when all participants have answered, or at the deadline. The deadline counts from
    the first answer of a round, so that it does not depend on how long training takes. Before that,
    lost messages and dead links are reported by the links. With a `quorum` below 1 that share of
    answers is enough, and later answers are late. Without a deadline the coordinator waits for all
    agents that are present. If none is, a round ends after `idle`, which is the deadline if nothing
    else is said.

    The score of a model tells an agent whose last answer did not count which of its updates counted
    last: it is 1 + the round of that update.

    A coordinator that is started again continues with the round that it was in: it sends the model
    again to the agents whose answers it waited for. It does not know any more which agents are
    present; links report the absent ones.

    After its end it still answers: it sends the last model again to an agent that did not get it.

    Args:
        participants: those that are asked in a round.
        rounds: number of rounds; None for no end.
        deadline: nanoseconds after the first answer of a round after which it ends; None: no end.
        suspect_after: missed deadlines in a row after which an agent is not waited for.
        quorum: share of the answers that is enough.
        idle: nanoseconds after which a round ends in which nobody is there.
        per_model: rounds of agents in a round of this coordinator, which is above edges.
    """

    STATE: ClassVar[tuple[str, ...]] = (
        "messages_late",
        "deadlines_expired",
        "round",
        "_spare",
        "_deadline",
        "_box",
        "_awaited",
        "_misses",
        "_absent",
        "_asked",
        "_counted",
        "_unused",
        "_is_over",
    )

    def __init__(
        self,
        participants: Participants,
        *,
        rounds: int | None,
        deadline: int | None,
        suspect_after: int,
        quorum: float = 1.0,
        idle: int | None = None,
        per_model: int = 1,
    ) -> None:
        self.messages_late = 0
        self.deadlines_expired = 0
        self.round = 0
        self._participants = participants
        self._rounds = rounds
        self._patience = deadline
        self._idle = deadline if idle is None else idle
        self._suspect_after = suspect_after
        self._quorum = quorum
        self._per_model = per_model
        self._spare = 0
        self._deadline: int | None = None
        self._box: dict[int, Message] = {}
        self._awaited: dict[int, None] = {}
        self._misses: dict[int, int] = {}
        self._absent: dict[int, None] = {}
        self._asked: dict[int, None] = {}
        self._counted: dict[int, int] = {}
        self._unused: dict[int, int] = {}
        self._is_over = False

    def handle(self, event: Event, now: int) -> Iterable[Action]:
        """Return what to do about `event`."""
        if self._is_over and not isinstance(event, Started):
            return self._again(event)
        if isinstance(event, Received):
            return self._received(event, now)
        if isinstance(event, Started):
            return self._start(now)
        if isinstance(event, Missing) and event.round == self.round:
            return self._answered(event.peer, now)
        if isinstance(event, PeerLost):
            self._absent[event.peer] = None
            return self._answered(event.peer, now)
        if isinstance(event, PeerJoined):
            return self._joined(event.peer)
        if isinstance(event, Expired) and event.deadline == self._deadline:
            self.deadlines_expired += 1
            for j in self._awaited:
                self._misses[j] = self._misses.get(j, 0) + 1
                if self._misses[j] >= self._suspect_after:
                    self._absent[j] = None
            return self._close(now)
        return ()

    def waits_for(self) -> str:
        """Return in words what the coordinator is waiting for."""
        awaited = ", ".join(str(name_of(id)) for id in self._awaited)
        return f"the coordinator waits in round {self.round} for {awaited}"

    def rounds_ended(self) -> int:
        """Return how many rounds of its agents have ended."""
        return self.round * self._per_model

    def awaits(self) -> Sequence[int]:
        """Return the agents whose answers are awaited."""
        return tuple(self._awaited)

    def _start(self, now: int) -> list[Action]:
        """Begin the first round, or continue with the saved one."""
        self._absent, self._misses = {}, {}
        if not self._awaited or self._is_last():
            return self._begin(now)
        self._deadline = None
        if self._box and self._patience is not None:
            self._deadline = now + self._patience
        return [WaitUntil(self._deadline), self._sending(tuple(self._awaited))]

    def _is_last(self) -> bool:
        """Whether all rounds are over."""
        return self._rounds is not None and self.round >= self._rounds

    def _begin(self, now: int) -> list[Action]:
        """Ask the participants of the next round; one in which nobody takes part ends at once."""
        self._box, skipped = {}, list[Action]()
        while True:
            if self._is_last():
                return [*skipped, WaitUntil(None), *self._end()]
            present = self._present()
            chosen = self._participants.choose(self.round, present) if present else ()
            if chosen or not present:
                break
            skipped.append(Mix(self.round, [], [], []))
            self.round += 1
        self._awaited, self._asked = dict.fromkeys(chosen), dict.fromkeys(chosen)
        self._spare = len(chosen) - ceil(self._quorum * len(chosen))
        self._deadline = None if chosen or self._idle is None else now + self._idle
        actions: list[Action] = [*skipped, WaitUntil(self._deadline)]
        if chosen:
            actions.append(self._sending(chosen, asked=chosen))
        return actions

    def _present(self) -> list[int]:
        """Return the agents that are there."""
        return [i for i in self._participants.everyone if i not in self._absent]

    def _end(self, why: str = "") -> list[Action]:
        """Send the last model to everyone. Nobody waits for those who are away."""
        self._is_over = True
        everyone = self._participants.everyone
        return [self._sending(everyone, FINAL, asked=self._present()), Finish(why)]

    def _again(self, event: Event) -> Sequence[Action]:
        """Send the last model again to whoever did not get it."""
        return [self._sending(to, FINAL) for to in lacking_last(event, self.round)]

    def _sending(
        self, to: Sequence[int], kind: str = MODEL, asked: Sequence[int] | None = None
    ) -> Send:
        """Return the sending of the model of this round."""
        unused = {i: self._unused[i] for i in to if i in self._unused} if self._unused else {}
        return Send(to, self.round, kind, unused, asked)

    def _joined(self, peer: int) -> Sequence[Action]:
        self._absent.pop(peer, None)
        self._misses.pop(peer, None)
        self._awaited[peer] = self._asked[peer] = None
        return (self._sending((peer,)),)

    def _received(self, event: Received, now: int) -> Iterable[Action]:
        message = event.message
        self._misses.pop(message.sender, None)
        self._absent.pop(message.sender, None)
        if message.round != self.round or message.sender not in self._awaited:
            self.messages_late += message.kind != SKIP and not event.again
            return ()
        is_first = not self._box and message.kind != SKIP
        if message.kind != SKIP:
            self._box[message.sender] = message
        del self._awaited[message.sender]
        if len(self._awaited) <= self._spare:
            return self._close(now)
        if is_first and self._patience is not None:
            self._deadline = now + self._patience
            return [WaitUntil(self._deadline)]
        return ()

    def _answered(self, peer: int, now: int) -> Iterable[Action]:
        if peer in self._awaited:
            del self._awaited[peer]
            if len(self._awaited) <= self._spare:
                return self._close(now)
        return ()

    def _close(self, now: int) -> Iterator[Action]:
        """Yield the actions that end a round and begin the next.

        The participants of the next round may depend on the model that the first actions produce.
        """
        received = [self._box[j] for j in sorted(self._box)]
        for j in self._asked:
            if j in self._box:
                self._counted[j] = self.round
                self._unused.pop(j, None)
            else:
                self._unused[j] = self._counted.get(j, -1)
        self.round += 1
        yield Mix(self.round - 1, received, [0] * len(received), [1.0] * len(received))
        yield from self._begin(now)


def lacking_last(event: Event, round: int) -> Sequence[tuple[int]]:
    """Return who, after the end, did not get the last model, of `round`; at most one agent."""
    if isinstance(event, Received):
        message = event.message
        return [(message.sender,)] if message.kind == SKIP and message.round >= round else []
    if isinstance(event, PeerJoined) or (isinstance(event, Missing) and event.round >= round):
        return [(event.peer,)]
    return []
