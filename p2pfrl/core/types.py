"""Types between an agent, its schedule and its world: events, actions, messages, ports.

Times are integer nanoseconds of the world's clock. Round numbers start at 0.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from p2pfrl.core.parameters import Vector

COORDINATOR = -1
"""The id of the coordinator, in the modes that have one."""

FIRST_EDGE = -2
"""The id of the first edge coordinator, in mode hierarchical; the next one's is lower by one."""

LOWEST_ID, HIGHEST_ID = -(2**31), 2**31 - 1
"""The ids that there can be: those that a frame's envelope can hold."""

MOST_STANDBYS = 4
"""A coordinator has at most so many standbys; their ids are the lowest that there can be."""

UPDATE, MODEL, SKIP, FINAL, REPLY = "update", "model", "skip", "final", "reply"
"""Kinds of message: an agent's payload; the coordinator's model; nothing to say this round; the
last model; the payload that answers another agent's."""

KEYS, SHARES, REVEAL = "keys", "shares", "reveal"
"""Kinds of message of a secure sum, from agents and back (exchange/secure/members.py): public keys;
what agents seal for each other; who answered, and what takes their masks off."""

VACANT = "vacant"
"""Kind of message by which a coordinator with standbys says that it is no longer in office."""

ASK, PROMISE, STORE, STORED = "ask", "promise", "store", "stored"
REFUSE, RESIGN, OVER = "refuse", "resign", "over"
NOTICES = (ASK, PROMISE, STORE, STORED, REFUSE, RESIGN, OVER)
"""Kinds of message between voters (consensus/failover/voter.py); OVER: the run is over."""

ASKS = 1000
"""Maximum number of times in a row that somebody asks again for a model that links keep losing."""

OPTED_OUT = "opted_out"
"""Why an agent ended that left the run of its own will, at the end of a round (`Finish.why`)."""
TRANSITIONS = "transitions"
"""The part that a payload of raw experience names, in place of parts of the parameters."""


COORDINATOR_NAME, EDGE_NAME, STANDBY_NAME = "coordinator", "edge", "standby"
"""The names of coordinators, for those who write; the number of an edge or standby follows."""


def edge_id(number: int) -> int:
    """Return the id of edge coordinator `number`, counted from 0; given an id, return its number.

    >>> edge_id(0), edge_id(3), edge_id(-5)
    (-2, -5, 3)
    """
    return FIRST_EDGE - number


def standby_id(number: int) -> int:
    """Return the id of standby `number`, counted from 0; given an id, return its number.

    >>> standby_id(1), standby_id(-2147483647)
    (-2147483647, 1)
    """
    return LOWEST_ID + number if number >= 0 else number - LOWEST_ID


def is_standby(id: int) -> bool:
    """Return whether an id is that of a standby of the coordinator."""
    return id < LOWEST_ID + MOST_STANDBYS


def name_of(id: int) -> int | str:
    """Return how users name an agent, which is its number, or a coordinator.

    >>> name_of(3), name_of(-1), name_of(-2), name_of(standby_id(0))
    (3, 'coordinator', 'edge0', 'standby0')
    """
    if id >= 0:
        return id
    if is_standby(id):
        return f"{STANDBY_NAME}{standby_id(id)}"
    return COORDINATOR_NAME if id == COORDINATOR else f"{EDGE_NAME}{edge_id(id)}"


def id_of(name: str) -> int:
    """Return the id of a coordinator by its name.

    >>> id_of("coordinator"), id_of("edge0"), id_of("standby1")
    (-1, -2, -2147483647)

    Raises:
        ValueError: no coordinator has this name.
    """
    if name in (known := {f"{STANDBY_NAME}{k}": standby_id(k) for k in range(MOST_STANDBYS)}):
        return known[name]
    number = name.removeprefix(EDGE_NAME)
    if name == COORDINATOR_NAME:
        return COORDINATOR
    if number == name or not (number.isascii() and number.isdigit() and len(number) <= 7):
        raise ValueError(f"expected '{COORDINATOR_NAME}' or an edge such as '{EDGE_NAME}0'")
    return edge_id(int(number))


def member_id(value: int | str) -> int:
    """Return the id of an agent or coordinator as `name_of` names it, also of digits in text.

    >>> member_id(3), member_id("3"), member_id("coordinator")
    (3, 3, -1)

    Raises:
        ValueError: it names nobody.
    """
    is_number = isinstance(value, int) or value.lstrip("-").isdecimal()
    return int(value) if is_number else id_of(str(value))


def called(id: int) -> str:
    """Return what a sentence calls an agent or coordinator.

    >>> called(3), called(-2)
    ('agent 3', 'edge0')
    """
    return f"agent {id}" if id >= 0 else str(name_of(id))


def names_of(ids: Iterable[int]) -> list[int | str]:
    """Return how users name agents and coordinators, in files and summaries.

    >>> names_of([-1, 0, 1])
    ['coordinator', 0, 1]
    """
    return [name_of(id) for id in ids]


@dataclass(slots=True, eq=False)
class Message:
    """One decoded frame. `payload` is read-only, and shared by all who received the same frame.

    Attributes:
        incarnation: how many times the sender had been restarted.
        sequence: the sender's frame counter within its incarnation.
        round: the round (central: the model version) the payload belongs to.
        weight: environment steps behind the payload.
        score: what receivers rank senders by: a return or a loss, as the scenario says; else 0.
        encoding: name of the compressor that decodes it ("raw" for none).
        parts: names of the parameter parts in the payload.
        epoch: the term of office that it belongs to, where the coordinator has standbys; else 0.
    """

    kind: str
    sender: int
    incarnation: int
    sequence: int
    round: int
    weight: float
    encoding: str
    parts: tuple[str, ...]
    crc32: int
    payload: Vector
    score: float = 0.0
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class Notice:
    """A message from a voter to another one (consensus/failover/voter.py).

    Attributes:
        kind: one of `NOTICES`.
        epoch: of the sender; what a receiver has promised may be higher.
        version: of the state that the sender has stored, or asks to store, or was asked to store.
        stored_in: the epoch in which the sender's state was stored.
        value: the state as bytes; None where the receiver has it or does not need it.
    """

    kind: str
    epoch: int
    version: int = 0
    stored_in: int = 0
    value: bytes | None = None


@dataclass(slots=True, eq=False)
class Update:
    """The result of one local update; the new parameters are in the trainer.

    Attributes:
        env_steps: environment steps (gradients, where there is no environment) it took.
        loss: mean over its minibatches.
        returns: undiscounted returns of the training episodes that finished.
        measures: the environment's own measures.
        transitions: `(k,)` what was gathered, where the update did not learn (mode pooled).
    """

    agent: int
    env_steps: int
    loss: float
    returns: Sequence[float] = ()
    measures: Mapping[str, float] = field(default_factory=dict)
    transitions: Vector | None = None


@dataclass(slots=True, eq=False)
class Started:
    """The agent begins, or begins again after a restart."""


@dataclass(slots=True, eq=False)
class Trained:
    """The local update of the agent is done."""

    update: Update


@dataclass(slots=True, eq=False)
class Received:
    """A message arrived.

    Attributes:
        again: the network knows it for a second copy of one that it has delivered.
    """

    message: Message
    again: bool = False


class Frame:
    """An encoded message: immutable, encoded once, shared by all receivers, decoded once.

    Attributes:
        head: everything up to and including the prefix of the payload's `bin`.
        payload: the numbers' own buffer.
        nbytes: bytes on the wire.
        message, received: what a receiver makes of it, once the first has decoded it.
    """

    __slots__ = (
        "crc32",
        "head",
        "kind",
        "message",
        "nbytes",
        "payload",
        "received",
        "round",
        "sequence",
    )

    def __init__(
        self, head: bytes, payload: memoryview, *, kind: str, round: int, sequence: int, crc: int
    ) -> None:
        self.head = head
        self.payload = payload
        self.nbytes = len(head) + len(payload)
        self.kind = kind
        self.round = round
        self.sequence = sequence
        self.crc32 = crc
        self.message: Message | None = None
        self.received: Received | None = None


@dataclass(slots=True, eq=False)
class Missing:
    """The link noticed a gap: the message of `round` from `peer` was sent and will not come.

    `epoch` is that of the message, where the coordinator has standbys.
    """

    peer: int
    round: int
    epoch: int = 0


@dataclass(slots=True, eq=False)
class Expired:
    """The deadline of the agent has passed."""

    deadline: int


@dataclass(slots=True, eq=False)
class PeerLost:
    """The link to `peer` is down: it crashed, left, or is unreachable."""

    peer: int


@dataclass(slots=True, eq=False)
class PeerJoined:
    """The link to `peer` is up (again)."""

    peer: int


Event = Started | Trained | Received | Missing | Expired | PeerLost | PeerJoined


@dataclass(slots=True, eq=False)
class Train:
    """Begin a local update; `Trained` will follow."""


@dataclass(slots=True, eq=False)
class Send:
    """Send the payload (or, for a `SKIP`, nothing but a header) to each of `to`.

    Attributes:
        unused: of a coordinator's model: receiver whose answer to the last one did not count -> the
            round in which one of it counted last, -1 where none did.
        asked: of a coordinator's model that begins a round: those who are expected to end the round
            before with it. None where the model is sent again.
        epoch: the coordinator's term of office, where there are standbys; else 0.
    """

    to: Sequence[int]
    round: int
    kind: str = UPDATE
    unused: Mapping[int, int] = field(default_factory=dict)
    asked: Sequence[int] | None = None
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class Tell:
    """Send a notice to each of `to`, other voters, after the sender was saved."""

    to: tuple[int, ...]
    notice: Notice


@dataclass(slots=True, eq=False)
class Mix:
    """Combine the own parameters with what arrived for `round`.

    Attributes:
        received: messages in ascending order of sender.
        staleness: of each message, in rounds.
        factors: weight factor of each message, at most 1.
        revealed: messages that take the masks off those received, in ascending order of sender.
        active: False when the agent sat this round out and keeps its parameters.
        is_lost: set by whoever carries the action out, where the sum of what was received cannot be
            known: then none of it counted.
    """

    round: int
    received: Sequence[Message] = ()
    staleness: Sequence[int] = ()
    factors: Sequence[float] = ()
    active: bool = True
    revealed: Sequence[Message] = ()
    is_lost: bool = False


@dataclass(slots=True, eq=False)
class Adopt:
    """Replace the own shared parameters by the coordinator's model.

    This ends `round`, or begins the first round where `round` is -1.

    Attributes:
        used: whether the last update that was sent counted; None where the model cannot say so yet.
    """

    message: Message
    round: int
    used: bool | None = True


@dataclass(slots=True, eq=False)
class Answer:
    """Answer an agent that asked, and combine the own parameters with its payload.

    The answer is the own payload. With `again`, the agent has been answered before: the same
    payload is sent again, and nothing changes.
    """

    message: Message
    again: bool = False


@dataclass(slots=True, eq=False)
class Blend:
    """Average the own parameters with those of neighbors, while there is no coordinator.

    No round ends.

    Attributes:
        received: messages in ascending order of sender.
    """

    round: int
    received: Sequence[Message]


@dataclass(slots=True, eq=False)
class Respond:
    """Answer a message of the coordinator that belongs to a secure sum."""

    message: Message


@dataclass(slots=True, eq=False)
class Gather:
    """End a phase of a secure sum before its last: tell agents what follows from their messages.

    Attributes:
        round: of the sum.
        kind: of the messages.
        received: in ascending order of sender.
    """

    round: int
    kind: str
    received: Sequence[Message]


@dataclass(slots=True, eq=False)
class WaitUntil:
    """Put `Expired(time)` into the mailbox unless the deadline changes before.

    None means that there is no deadline.
    """

    time: int | None


@dataclass(slots=True, eq=False)
class Finish:
    """The agent is done.

    Attributes:
        why: "coordinator_gone" or "unreachable" where it ends without the last model, "agents_gone"
            where no agent will be there again, `OPTED_OUT`; else "".
    """

    why: str = ""


Action = Train | Send | Mix | Adopt | Answer | Blend | Tell | Respond | Gather | WaitUntil | Finish


class Schedule(Protocol):
    """A round protocol: a state machine without I/O, whose state is a value (core/state.py)."""

    @property
    def messages_late(self) -> int:
        """Messages that came too late to be used."""

    @property
    def deadlines_expired(self) -> int:
        """Waits that ended by a deadline."""

    def handle(self, event: Event, now: int) -> Iterable[Action]:
        """Return what to do about `event` at time `now`, in order.

        Each action is carried out before the next one is asked for.
        """

    def waits_for(self) -> str:
        """Return in words what this schedule is waiting for, for the report of a deadlock."""

    def awaits(self) -> Sequence[int]:
        """Return the agents and coordinators whose messages it waits for, once it has trained.

        Nobody where it goes on without messages, or with one of anybody.
        """

    def save(self) -> Mapping[str, Any]:
        """Return a copy of the state."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over a state that `save` returned."""


@runtime_checkable
class Counting(Protocol):
    """A schedule of a coordinator, which says how far the run is."""

    def rounds_ended(self) -> int:
        """Return how many rounds of its agents have ended.

        Where it has standbys, those that a majority has stored; of a standby those of the newest
        state that it has stored itself.
        """


class Port(Protocol):
    """The interface of a world to one agent.

    Attributes:
        leaves: whether the agent leaves for good at the end of the round that it is in.
    """

    leaves: bool

    def now(self) -> int:
        """Return the time in nanoseconds."""

    def receive(self) -> Awaitable[Event]:
        """Return the next event of this agent's mailbox, to be awaited."""

    def wait_until(self, time: int | None) -> None:
        """Put `Expired(time)` into the mailbox at `time`, unless this is called again before."""

    def train(self) -> None:
        """Begin a local update of this agent."""

    def send(self, to: Sequence[int], frame: Frame) -> None:
        """Hand a frame to the network; never blocks."""


Scores = Mapping[int, tuple[float, float]]
"""Sender -> (distance, cosine) of its vector (consensus/suspicion.py)."""


class Observer(Protocol):
    """The writer of the record. Nothing flows back from it."""

    def trained(self, agent: int, update: Update) -> None:
        """A local update ended."""

    def mixed(
        self, agent: int, round: int, staleness: Mapping[int, int], before: Vector, after: Vector
    ) -> None:
        """A round of `agent` ended: mixing moved its shared vector from `before` to `after`."""

    def sending(self, agent: int, round: int) -> None:
        """The messages of a round are about to leave: save `agent` now.

        This is called where no message may be lost.
        """

    def answered(self, agent: int, before: Vector, after: Vector) -> None:
        """An exchange with a neighbor that asked moved the shared vector of `agent`.

        The round of the agent itself goes on.
        """

    def sat_out(self, agent: int, round: int) -> None:
        """A round of `agent` ended in which it took no part."""

    def judged(self, round: int, scores: Scores) -> None:
        """A robust rule met the vectors of senders in `round`: (distance, cosine) by sender."""
