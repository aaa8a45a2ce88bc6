"""The contract of compressors: how a vector becomes the bytes on the wire, and back.

A compressor is a frozen dataclass of options. What it remembers between messages is a value that it
receives and returns.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from p2pfrl.core.needs import Breaks, Composable, Need
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule
from p2pfrl.core.turn import Turn
from p2pfrl.core.types import Message

State = tuple[Vector, ...]


@dataclass(slots=True, frozen=True)
class Encoded:
    """One encoded message.

    Attributes:
        data: its bytes: the buffer of this array travels.
        known: `(k,)` what every receiver that had all messages before knows now.
        state: what the sender remembers.
    """

    data: NDArray[Any]
    known: Vector
    state: State


ENCODED = "an Encoded: an array, a vector and a state"


def is_encoded(made: object) -> bool:
    """Return whether a compressor returned an encoded message."""
    return (
        isinstance(made, Encoded)
        and isinstance(made.data, np.ndarray)
        and isinstance(made.known, np.ndarray)
        and made.state is not None
    )


class Compressor(Composable, ABC):
    """Encodes and decodes vectors; the encoding is named in every frame.

    Attributes:
        encoding: its name in frames; "raw" for the numbers as they are.
        is_difference: messages say what changed, so receivers remember what they knew: `receive`.
        keeps_errors: a message has what earlier ones left out.
    """

    encoding: ClassVar[str]
    is_difference: ClassVar[bool] = False
    keeps_errors: ClassVar[bool] = False
    breaks: ClassVar[Breaks] = (Need.EXACT_MESSAGES,)

    @property
    def adds_up(self) -> bool:
        """Whether all agents of a round keep the numbers of the same places, and only those.

        Then secure sums add up what `gather` returns, and `scatter` makes a vector of the sum.
        """
        return False

    def kept(self, size: int) -> int:
        """Return how many of `size` numbers `gather` keeps. Only if it `adds_up`."""
        return size

    def gather(self, vector: Vector, seed: int, round: int) -> Vector:
        """Return the kept numbers, `(kept,)`, of `Encoded.known`. Only if it `adds_up`.

        Args:
            vector: `(k,)`.
            seed: of the run.
            round: in which it is sent.
        """
        return vector

    def scatter(self, numbers: Vector, size: int, seed: int, round: int) -> Vector:
        """Return the vector `(size,)` of kept numbers, zeros elsewhere. Only if it `adds_up`."""
        return numbers

    def init(self, start: Vector) -> State:
        """Return what a sender remembers before its first message.

        The vector `start` `(k,)` has the form of all that it will send.
        """
        return ()

    @abstractmethod
    def encode(self, vector: Vector, turn: Turn, state: State) -> Encoded:
        """Return `vector` encoded. It is not modified, and the result may share its memory.

        Args:
            vector: `(k,)`.
            turn: names the random numbers: `turn.generator("compressor")`.
            state: as `init` or the last `encode` returned it.
        """

    @abstractmethod
    def limit(self, size: int, itemsize: int) -> int:
        """Return the most bytes that `size` numbers of `itemsize` bytes take."""

    @abstractmethod
    def decode(self, data: memoryview, size: int, dtype: np.dtype[Any]) -> Vector:
        """Return the `(size,)` vector in `data`.

        Raises:
            WireError: the bytes are not such a vector.
        """

    def receive(self, message: Message, known: State | None) -> tuple[Vector | None, State | None]:
        """Return the sender's vector, and what is remembered of the sender.

        The vector is None where it cannot be known. This is called only where `is_difference`, for
        every message of every sender in the order of mixing.

        Args:
            message: with `encoding` "raw" it holds the whole vector.
            known: what this returned for the sender's last message; None before the first.
        """
        return message.payload, known


SPARSE: Breaks = (Need.EXACT_MESSAGES, Need.EVERY_NUMBER)
"""The facts that a compressor breaks that sends only a part of a vector.

Such a compressor is for changes, not for parameters.
"""


@rule
class Raw(Compressor):
    """The numbers as they are, little-endian."""

    encoding: ClassVar[str] = "raw"
    breaks: ClassVar[Breaks] = ()

    @property
    @override
    def adds_up(self) -> bool:
        return True

    def encode(self, vector: Vector, turn: Turn, state: State) -> Encoded:
        """Return the vector."""
        return Encoded(vector, vector, state)

    def limit(self, size: int, itemsize: int) -> int:
        """Return the bytes of the numbers."""
        return size * itemsize

    def decode(self, data: memoryview, size: int, dtype: np.dtype[Any]) -> Vector:
        """Return the numbers."""
        return np.frombuffer(data, dtype)
