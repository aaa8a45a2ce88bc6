"""The outbox of an agent: gate, correct, release, compress, and send again what was sent before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from p2pfrl.core.parameters import Vector
from p2pfrl.core.state import State, Stateful
from p2pfrl.core.turn import Turn
from p2pfrl.core.types import SKIP, Frame
from p2pfrl.core.wire import Encoder
from p2pfrl.exchange.compressors import Compressor
from p2pfrl.exchange.compressors import State as CompressorState
from p2pfrl.exchange.gates import Gate
from p2pfrl.exchange.gates import State as GateState
from p2pfrl.exchange.privacy import Privacy


class Correction(Protocol):
    """What a correction of local training sends beside the payload (learning/corrections)."""

    extras: ClassVar[int]

    def extra(self, turn: Turn) -> Vector | None:
        """Return what travels beside the payload, `(extras k,)`; None where nothing does."""


class Outbox(Stateful):
    """Makes the frames of one agent.

    Attributes:
        known: `(k,)` what receivers that heard everything know, where messages only say what
            changed; None where they say everything, and before the first.

    Args:
        gate, correction, privacy, compressor: the rules.
        encoder: makes the frames.
        score: what receivers rank senders by; None for nothing.
        parts: names of the parts in a payload.
    """

    __slots__ = (
        "_compressor",
        "_compressor_state",
        "_correction",
        "_encoder",
        "_gate",
        "_gate_state",
        "_parts",
        "_privacy",
        "_replies",
        "_score",
        "known",
    )
    STATE: ClassVar[tuple[str, ...]] = ("known", "_gate_state", "_compressor_state", "_replies")

    def __init__(
        self,
        *,
        gate: Gate,
        correction: Correction,
        privacy: Privacy,
        compressor: Compressor,
        encoder: Encoder,
        score: Callable[[Turn], float] | None,
        parts: tuple[str, ...],
    ) -> None:
        self.known: Vector | None = None
        self._gate, self._gate_state = gate, GateState()
        self._correction = correction
        self._privacy = privacy
        self._compressor, self._compressor_state = compressor, CompressorState()
        self._encoder = encoder
        self._score = score
        self._parts = parts
        self._replies: dict[int, Frame] = {}

    def begin(self, start: Vector, first: Vector) -> None:
        """Initialize what the rules remember.

        Args:
            start: `(k,)` the agent's shared vector before its first exchange.
            first: `(k',)` a vector like all that will be sent.
        """
        self._gate_state = self._gate.init(start)
        self._compressor_state = self._compressor.init(first)

    def admits(self, payload: Vector, turn: Turn) -> bool:
        """Return whether the gate lets `payload` out; asked once per exchange."""
        is_open, self._gate_state = self._gate.decide(payload, turn, self._gate_state)
        return is_open

    def frame(self, payload: Vector, turn: Turn, seen: Turn) -> Frame:
        """Return a frame of `payload`.

        Args:
            payload: `(k',)` what mixing makes of the agent for its receivers.
            turn: the exchange; `turn.own` is what was made of the agent to send.
            seen: the exchange with the agent's own vector.
        """
        if self._correction.extras:
            extra = self._correction.extra(seen)
            payload = payload if extra is None else np.concatenate([payload, extra])
        made = self._compressor.encode(self._privacy.release(payload), turn, self._compressor_state)
        self._compressor_state = made.state
        if self._compressor.is_difference:
            self.known = made.known
        return self._encode(made.data, turn, self._compressor.encoding)

    def whole(self, turn: Turn) -> Frame | None:
        """Return a frame that says everything receivers know; None where every frame does."""
        return None if self.known is None else self._encode(self.known, turn, "raw")

    def skip(self, round: int) -> Frame:
        """Return a frame without a payload, so that receivers do not wait for one."""
        return self._encoder.encode(None, kind=SKIP, round=round)

    def remember(self, receiver: int, frame: Frame) -> None:
        """Keep the answer to `receiver`, for when its question comes again."""
        self._replies[receiver] = frame

    def reply(self, receiver: int) -> Frame:
        """Return the last answer to `receiver`."""
        return self._replies[receiver]

    @override
    def save(self) -> State:
        """Return the state, the number of the last frame included."""
        return {**super().save(), "encoder": self._encoder.save()}

    @override
    def restore(self, state: State) -> None:
        """Take over a state; in a later incarnation frames count anew, and kept answers are made anew."""
        super().restore(state)
        if not self._encoder.restore(state["encoder"]):
            made = self._encoder.again
            self._replies = {to: made(frame) for to, frame in sorted(self._replies.items())}

    def _encode(self, data: NDArray[Any], turn: Turn, encoding: str) -> Frame:
        return self._encoder.encode(
            data,
            kind=turn.kind,
            round=turn.round,
            weight=float(turn.env_steps),
            score=self._score(turn) if self._score else 0.0,
            encoding=encoding,
            parts=self._parts,
        )
