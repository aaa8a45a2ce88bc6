"""Compressors around another one, whose errors they remember, so that nothing is lost for ever."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar
from zlib import crc32

import numpy as np
from pydantic import Field
from typing_extensions import override

from p2pfrl.core.errors import WireError
from p2pfrl.core.floats import allow_overflow
from p2pfrl.core.needs import Breaks, Need, Needs
from p2pfrl.core.options import Rule
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule
from p2pfrl.core.turn import Turn
from p2pfrl.core.types import Message
from p2pfrl.exchange.compressors import INNER
from p2pfrl.exchange.compressors.base import SPARSE, Compressor, Encoded, State
from p2pfrl.exchange.compressors.bits import Reader, join
from p2pfrl.exchange.compressors.sparse import TopK

_CHANGE, _FIRST, _WHOLE = 0, 1, 2


@rule
class ErrorFeedback(Compressor):
    """Send Q(x + e) and keep e <- x + e - Q(x + e), the error of the compressor.

    The sum of all x is the sum of all that is sent, plus e. It is for payloads that add up, deltas
    and gradients: the next messages contain what one message left out.

    Attributes:
        compressor: Q.

    Reference: Seide, Fu, Droppo, Li, Yu, 1-bit SGD, Interspeech 2014; Karimireddy, Rebjock, Stich,
        Jaggi, ICML 2019, arXiv 1901.09847.
    """

    encoding: ClassVar[str] = "error_feedback"
    keeps_errors: ClassVar[bool] = True
    needs: ClassVar[Needs] = (Need.CHANGES,)
    breaks: ClassVar[Breaks] = SPARSE

    compressor: Annotated[Compressor, Rule("compressors", lambda: INNER)] = Field(
        default_factory=TopK
    )

    def init(self, start: Vector) -> State:
        """Return e = 0, and what Q remembers."""
        return (np.zeros_like(start), *self.compressor.init(start))

    def encode(self, vector: Vector, turn: Turn, state: State) -> Encoded:
        """Return Q(x + e)."""
        error, *inner = state
        wanted = vector + error
        made = self.compressor.encode(wanted, turn, tuple(inner))
        with allow_overflow():
            return Encoded(made.data, made.known, (wanted - made.known, *made.state))

    @property
    @override
    def adds_up(self) -> bool:
        return self.compressor.adds_up

    @override
    def kept(self, size: int) -> int:
        return self.compressor.kept(size)

    @override
    def gather(self, vector: Vector, seed: int, round: int) -> Vector:
        return self.compressor.gather(vector, seed, round)

    @override
    def scatter(self, numbers: Vector, size: int, seed: int, round: int) -> Vector:
        return self.compressor.scatter(numbers, size, seed, round)

    def limit(self, size: int, itemsize: int) -> int:
        """Return the limit of Q."""
        return self.compressor.limit(size, itemsize)

    def decode(self, data: memoryview, size: int, dtype: np.dtype[Any]) -> Vector:
        """Return Q(x + e)."""
        return self.compressor.decode(data, size, dtype)


@rule
class Difference(Compressor):
    """Send q = Q(x - y), y <- y + q, where y, 0 at first, is what receivers know: they add q to it.

    Agents wait for neighbors that are down, so that receivers know y. A message says on which y it
    builds, by its checksum: a receiver that is not told the truth notices it, and does not know y
    until it gets a whole message. The vector is the decoded one with three numbers behind it:
    whether it builds on nothing, and the checksum in two halves.

    Attributes:
        compressor: Q.
        refresh: every so many messages, from the first on, x itself is sent; 0: never.

    Reference: Koloskova, Stich, Jaggi, Decentralized stochastic optimization and gossip algorithms
        with compressed communication, ICML 2019, arXiv 1902.00340 (there without `refresh`); for
        gradients to a server: Mishchenko, Gorbunov, Takac, Richtarik, DIANA, 2019, arXiv
            1901.09269.
    """

    encoding: ClassVar[str] = "difference"
    is_difference: ClassVar[bool] = True
    needs: ClassVar[Needs] = (Need.NEIGHBORS, Need.EVERY_MESSAGE, Need.STATIC_GRAPH)
    breaks: ClassVar[Breaks] = SPARSE

    compressor: Annotated[Compressor, Rule("compressors", lambda: INNER)] = Field(
        default_factory=TopK
    )
    refresh: int = Field(default=0, ge=0)

    def init(self, start: Vector) -> State:
        """Return y = 0, the number of messages 0, and what Q remembers."""
        return (np.zeros_like(start), np.zeros(1), *self.compressor.init(start))

    def encode(self, vector: Vector, turn: Turn, state: State) -> Encoded:
        """Return Q(x - y), or x."""
        known, count, *inner = state
        check = np.array([crc32(known.data)], dtype="<u4")
        if self.refresh and count[0] % self.refresh == 0:
            form, data, now, rest = _WHOLE, vector, vector.copy(), tuple(inner)
        else:
            with allow_overflow():
                change = vector - known
            made = self.compressor.encode(change, turn, tuple(inner))
            form, now = (_CHANGE, known + made.known) if count[0] else (_FIRST, made.known)
            data, rest = made.data, made.state
        return Encoded(
            join(np.array([form], dtype=np.uint8), check, data), now, (now, count + 1, *rest)
        )

    def limit(self, size: int, itemsize: int) -> int:
        """Return the limit of Q plus five bytes.

        If x is sent at times and takes more bytes than Q's limit, they count in its place.
        """
        return 5 + max(
            self.compressor.limit(size, itemsize), size * itemsize if self.refresh else 0
        )

    def decode(self, data: memoryview, size: int, dtype: np.dtype[Any]) -> Vector:
        """Return q or x, whether it builds on nothing, and the checksum of what it builds on."""
        reader = Reader(data, dtype)
        form, check = reader.integer("u1"), reader.integer("<u4")
        if form > (_WHOLE if self.refresh else _FIRST):
            raise WireError("malformed", f"a message of form {form}")
        vector: Vector = np.empty(size + 3, dtype=dtype)
        if form == _WHOLE:
            vector[:size] = reader.numbers(size)
            reader.end()
        else:
            vector[:size] = self.compressor.decode(reader.rest(), size, dtype)
        vector[size:] = form != _CHANGE, check >> 16, check & 0xFFFF
        return vector

    def receive(self, message: Message, known: State | None) -> tuple[Vector | None, State | None]:
        """Return y, None where it cannot be known, and what is remembered: y and its checksum."""
        vector = message.payload
        if message.encoding != self.encoding:
            return vector, (vector, _halves(vector))
        change, (is_fresh, *check) = vector[:-3], vector[-3:]
        if not is_fresh:
            if known is None or known[1].tolist() != check:
                return None, known
            change = known[0] + change
        return change, (change, _halves(change))


def _halves(vector: Vector) -> Vector:
    """Return the checksum of a vector in two numbers that every dtype holds."""
    check = crc32(np.ascontiguousarray(vector).data)
    return np.array([check >> 16, check & 0xFFFF], dtype=np.float64)
