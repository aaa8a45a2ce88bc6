"""The attacks of one Byzantine agent: what it really sends, kept apart from its own state.

The agent itself follows the rules: it trains, mixes, and makes the message that an honest agent
would send. The attacks replace the vector in it last, after privacy and before the compressor, so
that what is sent can be decoded. The compressor has two memories: one of the honest messages, which
the agent's own rules see, and one of what was really sent, which is what receivers know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.floats import allow_overflow
from p2pfrl.core.parameters import Vector
from p2pfrl.core.state import Stateful
from p2pfrl.core.turn import Turn
from p2pfrl.core.units import SECOND
from p2pfrl.exchange.attacks.base import Memory, MessageAttack, Scene, View
from p2pfrl.exchange.compressors.base import Compressor
from p2pfrl.exchange.compressors.base import State as CompressorState

_RAW = "raw"


class Idle(Protocol):
    """The part of a payload that tells what an agent sends that has not trained."""

    def scaled(self, vector: Vector, model: Vector, factor: float) -> Vector:
        """Return a payload that moves `model` only `factor` of the way."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a Byzantine agent has around it.

    Attributes:
        payload: of the run.
        compressor: of the run.
        receivers: round -> whom the agent sends to, ascending.
        now: the clock, nanoseconds.
        view: the others, where anybody may see them.
    """

    payload: Idle
    compressor: Compressor
    receivers: Callable[[int], Sequence[int]]
    now: Callable[[], int]
    view: View | None


class Attacker(Stateful):
    """Replaces the vectors in an agent's messages.

    Args:
        attacks: on its messages, in order: one corrupts what the one before it made. Each with the
            agents that make it.
        around: what the agent has around it.
    """

    __slots__ = ("_around", "_attacks", "_count", "_memories", "_model", "_moved", "_sent")
    STATE: ClassVar[tuple[str, ...]] = ("_memories", "_count", "_model", "_moved", "_sent")

    def __init__(
        self,
        attacks: Sequence[tuple[MessageAttack, tuple[int, ...]]],
        around: Surroundings,
    ) -> None:
        self._attacks = attacks
        self._around = around
        self._memories: list[Memory] = [attack.init() for attack, _ in attacks]
        self._count = -1
        self._model: Vector = np.zeros(0)
        self._moved: Vector = np.zeros(0)
        self._sent: CompressorState = ()

    def begin(self, start: Vector, first: Vector) -> None:
        """Initialize what it remembers; arguments as of `Outbox.begin`."""
        self._model, self._moved = start.copy(), np.zeros_like(start)
        self._sent = self._around.compressor.init(first)

    def hear(self, received: Mapping[int, Vector]) -> None:
        """Note what the agent received: neighbors' vectors, or a coordinator's model."""
        if received:
            k = len(self._model)
            rows = [received[sender][:k] for sender in sorted(received)]
            model = np.mean(np.array(rows, dtype=np.float64), axis=0).astype(self._model.dtype)
            self._model, self._moved = model, model - self._model

    def is_per_receiver(self, round: int) -> bool:
        """Return whether an attack that holds now sends every receiver something else."""
        return any(attack.is_per_receiver for _, attack, _ in self._on(round))

    def encode(self, message: Vector, turn: Turn, to: int) -> tuple[NDArray[Any], str]:
        """Return what is sent in place of the honest `message`, and its encoding.

        Args:
            message: `(k',)` as privacy has released it; its first numbers are the payload's vector.
            turn: the exchange; `turn.own` is the payload's vector `(k,)`.
            to: the receiver.
        """
        sent = self._corrupt(message, turn, to)
        if 0 in np.isfinite(sent).tobytes():  # no compressor takes it; receivers refuse it
            return sent, _RAW
        made = self._around.compressor.encode(sent, turn, self._sent)
        self._sent = made.state
        return made.data, self._around.compressor.encoding

    def _on(self, round: int) -> list[tuple[int, MessageAttack, tuple[int, ...]]]:
        """Return the attacks that hold now: position, attack, agents."""
        seconds = self._around.now() / SECOND
        return [
            (position, attack, agents)
            for position, (attack, agents) in enumerate(self._attacks)
            if attack.is_on(round, seconds)
        ]

    def _corrupt(self, message: Vector, turn: Turn, to: int) -> Vector:
        k = len(turn.own)
        vector, rest = message[:k], message[k:]
        if turn.key[-1] != self._count:  # the first message of an exchange
            self._count = turn.key[-1]
            for position, (attack, _) in enumerate(self._attacks):
                self._memories[position] = attack.remember(vector, self._memories[position])
        on = self._on(turn.round)
        for position, attack, agents in on:
            scene = self._scene(vector, turn, to, agents)
            made = attack.corrupt(vector, scene, self._memories[position])
            with allow_overflow():
                vector = np.asarray(made, dtype=message.dtype)
        return np.concatenate([vector, rest]) if on and len(rest) else vector if on else message

    def _scene(self, vector: Vector, turn: Turn, to: int, agents: tuple[int, ...]) -> Scene:
        around, k = self._around, len(vector)
        receivers = around.receivers(turn.round)
        return Scene(
            turn=turn,
            to=to,
            receivers=receivers if to in receivers else (to,),
            idle=around.payload.scaled(vector, self._model[:k], 0.0),
            model=self._model,
            moved=self._moved,
            attackers=agents,
            view=around.view,
        )
