"""Replicas: a coordinator that has standbys, and each of its standbys.

Every one of them is a `Voter` (voter.py) and can run the schedule of a coordinator. The one in
office runs it, with two differences: what the schedule wants to send after a new model waits until
a majority has stored the coordinator's state, and what arrives meanwhile waits, too. So agents only
ever see models that are committed. Everything that is sent carries the epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import ClassVar, Protocol

from typing_extensions import override

from p2pfrl.consensus.coordinator import Coordinator
from p2pfrl.consensus.failover.fenced import Fenced
from p2pfrl.consensus.failover.voter import (
    IN_OFFICE,
    Committed,
    Deposed,
    Elected,
    Output,
    Stamp,
    Voter,
)
from p2pfrl.core.state import State, decode, encode
from p2pfrl.core.types import (
    ASKS,
    NOTICES,
    OVER,
    SKIP,
    STORED,
    VACANT,
    Action,
    Counting,
    Event,
    Expired,
    Finish,
    Message,
    Missing,
    Mix,
    Notice,
    PeerJoined,
    PeerLost,
    Port,
    Received,
    Schedule,
    Send,
    Started,
    Tell,
    Trained,
    WaitUntil,
)
from p2pfrl.core.wire import Encoder
from p2pfrl.exchange.privacy.ledger import Ledger


class Memory(Protocol):
    """What a coordinator remembers outside its schedule."""

    def remember(self) -> State:
        """Return what a successor goes on from."""

    def adopt(self, state: State) -> None:
        """Take over what a predecessor remembered."""


class Office:
    """The coordinator of a replica, and the frames of the voter beside it.

    Attributes:
        id: its number.

    Args:
        coordinator: carries out what the schedule of a coordinator decides.
        encoder: makes the frames of this replica.
        port: its world.
        ledger: pays for the models, where a coordinator adds noise.
    """

    def __init__(
        self, coordinator: Coordinator, encoder: Encoder, port: Port, ledger: Ledger | None
    ) -> None:
        self.id = coordinator.id
        self._coordinator = coordinator
        self._encoder = encoder
        self._port = port
        self._ledger = ledger

    def perform(self, action: Action | Trained) -> None:
        """Send a notice, or do what a coordinator does."""
        if isinstance(action, Tell):
            self._port.send(action.to, self._encoder.notice(action.notice))
            return
        if isinstance(action, Send):
            self._encoder.stamp(action.epoch)
            if action.kind == VACANT:
                frame = self._encoder.encode(None, kind=VACANT, round=action.round)
                self._port.send(action.to, frame)
                return
        self._coordinator.perform(action)

    def place(self) -> str:
        """Return the round that it is in."""
        return self._coordinator.place()

    def save(self) -> State:
        """Return what it remembers."""
        return self._coordinator.save()

    def restore(self, state: State) -> None:
        """Take over what `save` returned."""
        self._coordinator.restore(state)

    def remember(self) -> State:
        """Return what a successor goes on from: what it has spent of its budget included."""
        spent = {} if self._ledger is None else {"ledger": self._ledger.save()}
        return {**self._coordinator.save(), **spent}

    def adopt(self, state: State) -> None:
        """Take over what a predecessor remembered. Its own frames keep their numbers."""
        if self._ledger is not None:
            self._ledger.adopt(state["ledger"])
        self._coordinator.restore({**state, "encoder": self._encoder.save()})


class Replica(Fenced):
    """The schedule of a coordinator that has standbys, or of a standby.

    A standby asks again for a notice that a link lost, up to `ASKS` times in a row. Then it gives
    up.

    After a takeover the coordinator's schedule starts again from the committed state: it sends the
    model again to the agents whose answers were awaited, and they answer again. A version is
    replaced before it was committed only if no majority stored it; then no agent has seen it.

    Args:
        voter: its part in the election.
        schedule: of a coordinator.
        memory: what the coordinator remembers beside it.
        agents: ids of all agents.
        patience: nanoseconds without anybody in office after which it gives up.
        report: called with (id, epoch) where it takes office.
    """

    STATE: ClassVar[tuple[str, ...]] = (
        "_fenced",
        "_deadline",
        "_held",
        "_queue",
        "_is_resuming",
        "_gone",
        "_term",
        "_round",
        "_since",
        "_is_over",
        "_asks",
    )

    def __init__(
        self,
        voter: Voter,
        schedule: Schedule,
        memory: Memory,
        agents: Sequence[int],
        patience: int,
        report: Callable[[int, int], None] = lambda id, epoch: None,
    ) -> None:
        super().__init__(schedule)
        self.voter = voter
        self._memory = memory
        self._agents = tuple(agents)
        self._patience = patience
        self._report = report
        self._deadline: int | None = None
        self._held: list[Send | WaitUntil | Finish] = []
        self._queue: list[Event] = []
        self._is_resuming = False
        self._gone: dict[int, None] = {}
        self._term = 0
        self._round = 0
        self._since: int | None = None
        self._is_over = False
        self._asks = 0
        self._ended = 0
        self._read: Stamp | None = None

    @override
    def save(self) -> State:
        """Return the state, those of voter and coordinator included."""
        return {**super().save(), "voter": self.voter.save()}

    @override
    def restore(self, state: State) -> None:
        """Take over a state."""
        super().restore(state)
        self.voter.restore(state["voter"])

    def waits_for(self) -> str:
        """Return in words what it is waiting for."""
        if self.voter.role == IN_OFFICE:
            is_waiting = self.voter.version and not self.voter.is_committed
            return (
                "a coordinator waits for its standbys" if is_waiting else self._schedule.waits_for()
            )
        return "a standby waits for the coordinator's next state"

    def awaits(self) -> Sequence[int]:
        """Return whom a coordinator in office waits for; nobody for a standby."""
        if self.voter.role != IN_OFFICE:
            return ()
        if self.voter.version and not self.voter.is_committed:
            return [id for id in self.voter.voters if id != self.voter.me]
        return self._schedule.awaits()

    def rounds_ended(self) -> int:
        """Return the rounds that a majority has stored; of a standby, those that it has stored."""
        if self.voter.role == IN_OFFICE:
            self._read = None
            if not self._is_waiting:
                assert isinstance(self._schedule, Counting), "it is that of a coordinator"
                self._ended = self._schedule.rounds_ended()
        elif self.voter.value is not None and self.voter.stamp != self._read:
            self._read = self.voter.stamp
            self._ended = int(decode(self.voter.value)["schedule"]["round"])
        return self._ended

    def handle(self, event: Event, now: int) -> Iterator[Action]:
        """Yield the actions for `event`."""
        yield from self._event(event, now)
        times = [
            max(t, now)  # a deadline may have passed while it was held back
            for t in (self.voter.deadline, self._deadline, self._limit(now))
            if t is not None
        ]
        yield WaitUntil(min(times, default=None))

    def _limit(self, now: int) -> int | None:
        """Return when it gives up, where nobody is in office."""
        if self._is_over or self.voter.leader is not None:
            self._since = None
            return None
        self._since = now if self._since is None else self._since
        return self._since + self._patience

    def _event(self, event: Event, now: int) -> Iterator[Action]:
        if isinstance(event, Received):
            yield from self._received(event, now)
        elif isinstance(event, Started):
            self._forget()
            self._gone, self._since, self._is_over = {}, None, False
            yield from self._do(self.voter.start(now), now)
        elif isinstance(event, PeerLost | PeerJoined):
            yield from self._link(event, now)
        elif isinstance(event, Missing):
            if event.peer not in self.voter.voters:
                yield from self._pass(event, now)
            elif self._is_over:
                yield from self._over((event.peer,))
            elif event.peer == self.voter.leader:
                yield from self._ask(event.peer)
        elif isinstance(event, Expired):
            yield from self._expired(event, now)

    def _ask(self, leader: int) -> Iterator[Action]:
        """Answer a message of the one in office that was lost: it may have been its last one."""
        self._asks += 1
        if self._asks > ASKS:
            yield from self._give_up()
        else:
            answer = Notice(STORED, self.voter.epoch, self.voter.version)
            yield Tell((leader,), answer)

    def _received(self, event: Received, now: int) -> Iterator[Action]:
        message = event.message
        if message.sender == self.voter.leader:
            self._asks = 0
        if message.kind in NOTICES:
            yield from self._notice(message, now)
        elif message.epoch > self.voter.epoch and not self._is_over:
            yield from self._do(self.voter.observe(message.epoch, now), now)
        elif self.voter.role != IN_OFFICE or (message.epoch < self._term and message.kind != SKIP):
            # A skip may be of an agent that lost the first message of this term, and does not know
            # of it; nothing is in it that an earlier coordinator could have wrong.
            self._fenced += not event.again
        else:
            yield from self._pass(event, now)

    def _notice(self, message: Message, now: int) -> Iterator[Action]:
        if self._is_over:
            if message.kind != OVER:
                yield from self._over((message.sender,))
            return
        if message.kind == OVER:
            self._is_over = True
            self.voter.leader, self.voter.deadline = message.sender, None
            yield Finish()
            return
        value = message.payload.tobytes() or None
        notice = Notice(message.kind, message.epoch, message.round, int(message.weight), value)
        yield from self._do(self.voter.receive(message.sender, notice, now), now)

    def _link(self, event: PeerLost | PeerJoined, now: int) -> Iterator[Action]:
        is_up = isinstance(event, PeerJoined)
        if event.peer not in self.voter.voters:
            if is_up:
                self._gone.pop(event.peer, None)
            else:
                self._gone[event.peer] = None
            yield from self._pass(event, now)
        elif not self._is_over:
            told = self.voter.joined if is_up else self.voter.lost
            yield from self._do(told(event.peer, now), now)
        elif is_up:
            yield from self._over((event.peer,))

    def _expired(self, event: Expired, now: int) -> Iterator[Action]:
        own, limit = self.voter.deadline, self._limit(now)
        if own is not None and event.deadline >= own:
            yield from self._do(self.voter.expired(now), now)
        if self._deadline is not None and event.deadline >= self._deadline:
            deadline, self._deadline = self._deadline, None
            yield from self._pass(Expired(deadline), now)
        if limit is not None and event.deadline >= limit and self.voter.leader is None:
            yield from self._give_up()

    def _give_up(self) -> Iterator[Action]:
        """End without the end of the run."""
        self._is_over, self.voter.leader, self.voter.deadline = True, None, None
        yield Finish("coordinator_gone")

    def _over(self, to: tuple[int, ...]) -> Iterator[Action]:
        """Tell voters that the run is over, unless this one has given up and cannot know."""
        if self.voter.leader is not None:
            yield Tell(to, Notice(OVER, self.voter.epoch, self.voter.version))

    # The coordinator's schedule.

    @property
    def _is_waiting(self) -> bool:
        """Whether a state of it is not committed yet."""
        return self._is_resuming or bool(self.voter.version and not self.voter.is_committed)

    def _pass(self, event: Event, now: int) -> Iterator[Action]:
        """Let the coordinator's schedule handle an event, now or when its state is committed."""
        if self.voter.role != IN_OFFICE:
            return
        if self._is_waiting:
            self._queue.append(event)
        else:
            yield from self._run(event, now)

    def _run(self, event: Event, now: int, *, is_first: bool = False) -> Iterator[Action]:
        """Run the coordinator's schedule; hold back what it sends after a new model."""
        has_moved = is_first
        for action in self._schedule.handle(event, now):
            if isinstance(action, Send):
                self._round = action.round
            if isinstance(action, Mix):
                has_moved = True
                yield action
            elif has_moved:
                assert isinstance(action, Send | WaitUntil | Finish)
                self._held.append(_kept(action))
            else:
                yield from self._let(action)
        if has_moved:
            state = {"schedule": self._schedule.save(), "memory": self._memory.remember()}
            yield from self._do(self.voter.propose(encode(state), now), now)

    def _let(self, action: Action) -> Iterator[Action]:
        """Carry out an action of the coordinator's schedule."""
        if isinstance(action, WaitUntil):
            self._deadline = action.time
        elif isinstance(action, Finish):
            self._is_over, self.voter.deadline = True, None
            others = tuple(i for i in self.voter.voters if i != self.voter.me)
            yield from self._over(others)
            yield action
        elif isinstance(action, Send):
            yield replace(action, epoch=self.voter.epoch)
        else:
            yield action

    def _do(self, outputs: Sequence[Output], now: int) -> Iterator[Action]:
        for output in outputs:
            if isinstance(output, Tell):
                yield output
            elif isinstance(output, Elected):
                yield from self._take_office(now)
            elif isinstance(output, Committed):
                yield from self._go_on(now)
            else:
                assert isinstance(output, Deposed)
                yield from self._leave_office()

    def _take_office(self, now: int) -> Iterator[Action]:
        self._forget()
        self._term = self.voter.epoch
        self._report(self.voter.me, self._term)
        if self.voter.value is None:
            yield from self._run(Started(), now, is_first=True)
            self._queue = [*map(PeerLost, self._gone)]
            return
        state = decode(self.voter.value)
        self._schedule.restore(state["schedule"])
        self._memory.adopt(state["memory"])
        self._is_resuming = True

    def _go_on(self, now: int) -> Iterator[Action]:
        """The newest state is committed: send what was held back, and handle what has arrived."""
        if self._is_resuming:
            self._is_resuming = False
            yield from self._run(Started(), now)
            self._queue = [*map(PeerLost, self._gone), *self._queue]
        held, self._held = self._held, []
        for action in held:
            yield from self._let(action)
        while self._queue and not self._is_waiting and not self._is_over:
            yield from self._run(self._queue.pop(0), now)

    def _leave_office(self) -> Iterator[Action]:
        self._forget()
        yield Send(self._agents, self._round, VACANT, epoch=self._term)

    def _forget(self) -> None:
        """Drop what the coordinator's schedule had in hand."""
        self._held, self._queue = [], []
        self._deadline, self._is_resuming = None, False


def _kept(action: Send | WaitUntil | Finish) -> Send | WaitUntil | Finish:
    """Return an action as plain data."""
    if not isinstance(action, Send):
        return action
    asked = None if action.asked is None else tuple(action.asked)
    return replace(action, to=tuple(action.to), asked=asked, unused=dict(action.unused))
