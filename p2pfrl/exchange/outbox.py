"""The outbox of an agent: gate, correct, release, compress, and send again what was sent before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from p2pfrl.core.contract import ANSWER_AND_STATE, is_answer, is_vector, returned
from p2pfrl.core.parameters import Vector
from p2pfrl.core.state import State, Stateful
from p2pfrl.core.turn import Turn
from p2pfrl.core.types import COORDINATOR, SKIP, Frame
from p2pfrl.core.wire import Encoder
from p2pfrl.exchange.attacks.attacker import Attacker
from p2pfrl.exchange.compressors.base import ENCODED, Compressor, Raw, is_encoded
from p2pfrl.exchange.compressors.base import State as CompressorState
from p2pfrl.exchange.gates.base import Always, Gate
from p2pfrl.exchange.gates.base import State as GateState
from p2pfrl.exchange.privacy.base import Privacy
from p2pfrl.exchange.secure.errors import SecureError


class Correction(Protocol):
    """The part of a correction that travels beside the payload (learning/corrections)."""

    extras: ClassVar[int]

    def extra(self, turn: Turn, arrives: Callable[[Vector], Vector] = ...) -> Vector | None:
        """Return what travels beside the payload, `(extras k,)`; None where nothing does."""


class Hiding(Protocol):
    """The part of a secure sum that hides what an agent sends (exchange/secure/hiding.py)."""

    def hide(self, vector: Vector, turn: Turn, to: int) -> NDArray[np.uint64] | None:
        """Return what is sent of the vector; None if nothing is sent yet."""

    @property
    def is_per_receiver(self) -> bool:
        """Whether every receiver is sent something else."""

    def arrives(self, vector: Vector) -> Vector:
        """Return what a vector counts for in the sum, `(k,)`."""

    def packed(self, elements: NDArray[np.uint64]) -> NDArray[Any]:
        """Return the bytes of what `hide` returned, as an array."""

    def save(self) -> State:
        """Return what it remembers."""

    def restore(self, state: State) -> None:
        """Take over a state."""


class Outgoing(Protocol):
    """The rules that a payload passes on its way out."""

    @property
    def gate(self) -> Gate:
        """The rule that decides whether to send."""

    @property
    def correction(self) -> Correction:
        """The rule that adds what travels beside the payload."""

    @property
    def privacy(self) -> Privacy:
        """The rule that makes what may be sent of the payload."""

    @property
    def compressor(self) -> Compressor:
        """The rule that encodes the payload."""

    @property
    def score(self) -> Callable[[Turn], float] | None:
        """The score that receivers rank senders by; None for none."""


KEPT = 2
"""Rounds whose frames an agent keeps where rules need every message: the last one's, this one's.

Two agents that wait for each other are at most one round apart (schedules/lockstep.py).
"""
_NO_REPLIES: dict[int, Frame] = {}
"""One empty dict for all agents that never answered: it is replaced, and nothing is added to it."""


Sent = tuple[Sequence[int], Frame]
"""Receivers, and the frame that they get."""
_NOTHING_SENT: dict[int, list[Sent]] = {}
"""One empty dict for all agents that keep nothing: it is replaced, and nothing is added to it."""


class Outbox(Stateful):
    """Makes the frames of one agent.

    Attributes:
        known: `(k,)` what receivers know, where messages only say what changed; None where they say
            everything, and before the first.
        attacker: what replaces the vectors in its messages; None for an honest agent.
        hiding: masks the vectors in its messages; None where receivers may see them.

    Args:
        rules: of the agent.
        encoder: makes the frames.
        parts: names of the parts in a payload.
        rounds: whose messages are kept, to be sent again; 0 where what is lost is not missed.
        attacker, hiding: become the attributes.
    """

    __slots__ = (
        "_compressor_state",
        "_encoder",
        "_gate_state",
        "_parts",
        "_replies",
        "_rounds",
        "_rules",
        "_sent",
        "_varies",
        "attacker",
        "hiding",
        "known",
    )
    STATE: ClassVar[tuple[str, ...]] = (
        "known",
        "_gate_state",
        "_compressor_state",
        "_replies",
        "_sent",
    )

    def __init__(
        self,
        rules: Outgoing,
        encoder: Encoder,
        parts: tuple[str, ...],
        rounds: int = 0,
        attacker: Attacker | None = None,
        hiding: Hiding | None = None,
    ) -> None:
        self.known: Vector | None = None
        self.attacker = attacker
        self.hiding = hiding
        self._rules = rules
        self._encoder = encoder
        self._parts = parts
        self._gate_state, self._compressor_state = GateState(), CompressorState()
        self._replies = _NO_REPLIES
        self._rounds = rounds
        self._sent = _NOTHING_SENT
        self._varies = False

    def begin(self, start: Vector, first: Vector) -> None:
        """Initialize what the rules remember.

        Args:
            start: `(k,)` the agent's shared vector before its first exchange.
            first: `(k',)` a vector like all that will be sent.
        """
        self._gate_state = self._rules.gate.init(start)
        self._compressor_state = self._rules.compressor.init(first)
        if self.attacker is not None:
            self.attacker.begin(start, first)
        has_memory = bool(self._compressor_state) and not self._rules.compressor.is_difference
        self._varies = has_memory or not isinstance(self._rules.gate, Always)

    def admits(self, payload: Vector, turn: Turn) -> bool:
        """Return whether the gate lets `payload` out; asked once per exchange."""
        gate = self._rules.gate
        answer = gate.decide(payload, turn, self._gate_state)
        returned(is_answer(answer), answer, ANSWER_AND_STATE, gate, "decide", turn.agent)
        is_open, self._gate_state = answer
        return is_open

    def frame(self, payload: Vector, turn: Turn, seen: Turn, to: int) -> Frame | None:
        """Return a frame of `payload`; None where it is hidden and cannot leave yet.

        Args:
            payload: `(k',)` what mixing makes of the agent for its receivers.
            turn: the exchange; `turn.own` is what was made of the agent to send.
            seen: the exchange with the agent's own vector.
            to: the receiver, or the first of several that get the same.
        """
        if self._rules.correction.extras:
            correction, hiding = self._rules.correction, self.hiding
            extra = (
                correction.extra(seen) if hiding is None else correction.extra(seen, hiding.arrives)
            )
            payload = payload if extra is None else np.concatenate([payload, extra])
        privacy, compressor = self._rules.privacy, self._rules.compressor
        payload = privacy.release(payload)
        returned(is_vector(payload), payload, "a vector", privacy, "release", turn.agent)
        made = compressor.encode(payload, turn, self._compressor_state)
        returned(is_encoded(made), made, ENCODED, compressor, "encode", turn.agent)
        if self.hiding is not None:
            numbers = compressor.gather(made.known, turn.key[0], turn.round)
            try:
                hidden = self.hiding.hide(numbers, turn, to)
            except SecureError:  # nothing leaves, so the compressor's memory stays
                return self.skip(turn.round)
            self._compressor_state = made.state
            return None if hidden is None else self.masked(hidden, turn.kind, turn.round)
        self._compressor_state = made.state
        if self._rules.compressor.is_difference:
            self.known = made.known
        if self.attacker is not None:
            data, encoding = self.attacker.encode(payload, turn, to)
            return self._encode(data, turn, encoding)
        return self._encode(made.data, turn, self._rules.compressor.encoding)

    def itself(self, turn: Turn) -> Frame:
        """Return the frame of the agent's own vector, where no rule would change it.

        It is the one that `frame` makes then.
        """
        return self._encode(turn.own, turn, Raw.encoding)

    def stamp(self, epoch: int) -> None:
        """Send all frames from now on as those of a coordinator's term of office."""
        self._encoder.stamp(epoch)

    def masked(self, elements: NDArray[np.uint64], kind: str, round: int) -> Frame:
        """Return a frame of a masked vector, with nothing of the agent in its header."""
        assert self.hiding is not None
        data, parts = self.hiding.packed(elements), self._parts
        return self._encoder.encode(
            data, kind=kind, round=round, weight=1.0, encoding="ring", parts=parts
        )

    def content(self, content: bytes, kind: str, round: int) -> Frame:
        """Return a frame of a message of a secure sum that is no vector."""
        return self._encoder.encode(np.frombuffer(content, np.uint8), kind=kind, round=round)

    def skip(self, round: int) -> Frame:
        """Return a frame without a payload, so that receivers do not wait for one."""
        return self._encoder.encode(None, kind=SKIP, round=round)

    def keep(self, round: int, frames: Sequence[Sent]) -> bool:
        """Keep the frames of a round, where they may have to be sent again.

        They are kept for neighbors that wait for each other, and for a coordinator where the rules
        would not make the same of the payload again.

        Returns:
            whether neighbors wait: then the agent has to be saved before the frames leave.
        """
        rounds = self._rounds or int(self._varies and frames[0][0][0] <= COORDINATOR)
        if rounds:
            last = {r: kept for r, kept in self._sent.items() if round - rounds < r < round}
            self._sent = {**last, round: [(tuple(to), frame) for to, frame in frames]}
        return self._rounds > 0

    def forget(self, round: int) -> None:
        """Forget the frames of a round, which begins anew."""
        if round in self._sent:
            self._sent = {r: kept for r, kept in self._sent.items() if r != round}

    def has(self, round: int) -> bool:
        """Return whether the frames of a round are kept."""
        return round in self._sent

    def again(self, round: int, receivers: Sequence[int]) -> Iterator[Sent]:
        """Yield what was sent to `receivers` in a round, in frames with numbers of their own.

        What was sent to a coordinator is meant for whoever is in office now.
        """
        for to, frame in self._sent[round]:
            is_office = to[0] <= COORDINATOR and receivers[0] <= COORDINATOR
            if common := receivers if is_office else [j for j in to if j in receivers]:
                yield common, self._encoder.again(frame)

    def remember(self, receiver: int, frame: Frame) -> None:
        """Keep the answer to `receiver`, which is sent again if the question is repeated."""
        self._replies = {**self._replies, receiver: frame}

    def reply(self, receiver: int) -> Frame:
        """Return the last answer to `receiver`."""
        return self._replies[receiver]

    @override
    def save(self) -> State:
        """Return the state, the number of the last frame and that of attacks included."""
        attacks = {} if self.attacker is None else {"attacker": self.attacker.save()}
        hidden = {} if self.hiding is None else {"hiding": self.hiding.save()}
        return {**super().save(), "encoder": self._encoder.save(), **attacks, **hidden}

    @override
    def restore(self, state: State) -> None:
        """Take over a state.

        In a later incarnation, frames are numbered anew and kept answers are encoded anew.
        """
        super().restore(state)
        if self.attacker is not None:
            self.attacker.restore(state["attacker"])
        if self.hiding is not None:
            self.hiding.restore(state["hiding"])
        if not self._encoder.restore(state["encoder"]):
            made = self._encoder.again
            self._replies = {to: made(frame) for to, frame in sorted(self._replies.items())}

    def _encode(self, data: NDArray[Any], turn: Turn, encoding: str) -> Frame:
        score = self._rules.score
        return self._encoder.encode(
            data,
            kind=turn.kind,
            round=turn.round,
            weight=1.0 if self._rules.privacy.is_accounted else float(turn.env_steps),
            score=score(turn) if score is not None else 0.0,
            encoding=encoding,
            parts=self._parts,
        )
