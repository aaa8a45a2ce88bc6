"""Compressors that send every number in a few bits."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from p2pfrl.core.errors import WireError
from p2pfrl.core.needs import Breaks, Need, Needs
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rng import Purpose
from p2pfrl.core.rule import rule
from p2pfrl.core.turn import Turn
from p2pfrl.exchange.compressors.base import SPARSE, Compressor, Encoded, State
from p2pfrl.exchange.compressors.bits import (
    Integers,
    Reader,
    join,
    pack,
    packed_size,
    quiet,
    unpack,
    width,
)


@rule
class Quantize(Compressor):
    """Each number in b bits, at 2^b even levels from the least to the greatest of the message.

    The least and the greatest number travel too. With L = (max - min) / (2^b - 1) the error of a
    number is at most L / 2. Rounded at random it is below L, and zero on average.

    Attributes:
        bits: of each number.
        stochastic: round up or down at random, so that E Q(x) = x, instead of to the nearest level.

    Reference: Gersho, Gray, Vector quantization and signal compression, 1992; at random: Alistarh,
        Grubic, Li, Tomioka, Vojnovic, QSGD, NeurIPS 2017, arXiv 1610.02132.
    """

    encoding: ClassVar[str] = "quantize"

    bits: int = Field(default=8, ge=1, le=16)
    stochastic: bool = False

    def encode(self, vector: Vector, turn: Turn, state: State) -> Encoded:
        """Return the least number, the greatest number and the levels."""
        ends = np.array([vector.min(), vector.max()], dtype=vector.dtype)
        with quiet():
            step = self._step(ends)
            place = (
                (vector / 2 - ends[0] / 2) / (step / 2) if step / 2 > 0 else np.zeros_like(vector)
            )
            noise = (
                turn.generator(Purpose.COMPRESSOR).random(len(vector), dtype=place.dtype)
                if self.stochastic
                else 0.5
            )
            levels = np.clip(np.floor(place + noise), 0, 2**self.bits - 1).astype(np.uint32)
        return Encoded(join(ends, pack(levels, self.bits)), self._values(ends, levels), state)

    def limit(self, size: int, itemsize: int) -> int:
        """Return the bytes of two numbers and the levels."""
        return 2 * itemsize + packed_size(size, self.bits)

    def decode(self, data: memoryview, size: int, dtype: np.dtype[Any]) -> Vector:
        """Return the numbers at the levels."""
        reader = Reader(data, dtype)
        ends = reader.numbers(2)
        if ends[0] > ends[1]:
            raise WireError(
                "malformed", f"the least number, {ends[0]}, is above the greatest, {ends[1]}"
            )
        levels = unpack(reader.bytes(packed_size(size, self.bits)), size, self.bits)
        reader.end()
        return self._values(ends, levels)

    def _step(self, ends: Vector) -> float:
        """Return the distance of two neighboring levels.

        The difference of the ends may be too large for this dtype.
        """
        parts = 2**self.bits - 1
        return ends[1] / parts - ends[0] / parts  # type: ignore[no-any-return]

    def _values(self, ends: Vector, levels: Integers) -> Vector:
        values: Vector = levels.astype(ends.dtype)
        with quiet():
            values *= (
                self._step(ends) / 2
            )  # halves: from end to end it may be farther than numbers go
            values += ends[0] / 2
            np.minimum(values, ends[1] / 2, out=values)
            values *= 2
        return values


@rule
class QSGD(Compressor):
    """Q(x)_i = ||x|| sign(x_i) floor(s |x_i| / ||x|| + u) / s, with u uniform in [0, 1).

    There are s levels of magnitude. E Q(x) = x and E||Q(x) - x||^2 <= w ||x||^2 with w = min(d /
    s^2, sqrt(d) / s) for d numbers. Divided by 1 + w it is a contraction: E||Q(x) / (1 + w) - x||^2
    <= w / (1 + w) ||x||^2. The norm travels, and each number in ceil(log2(2 s + 1)) bits. The
    paper's Elias code, whose length varies, is not used.

    Attributes:
        levels: s.
        contractive: divide by 1 + w.

    Reference: Alistarh, Grubic, Li, Tomioka, Vojnovic, NeurIPS 2017, arXiv 1610.02132; divided:
        Koloskova, Stich, Jaggi, ICML 2019, arXiv 1902.00340.
    """

    encoding: ClassVar[str] = "qsgd"

    levels: int = Field(default=16, ge=1, le=2**20)
    contractive: bool = False

    def encode(self, vector: Vector, turn: Turn, state: State) -> Encoded:
        """Return the norm and the levels."""
        norm, s = _norm(vector), self.levels
        with quiet():
            place = np.abs(vector) / norm[0] * s if norm[0] > 0 else np.zeros_like(vector)
            place += turn.generator(Purpose.COMPRESSOR).random(len(vector), dtype=place.dtype)
            steps = np.copysign(np.minimum(np.floor(place), s), vector).astype(np.int64)
        codes = (steps + s).astype(np.uint32)
        return Encoded(join(norm, pack(codes, width(2 * s + 1))), self._values(norm, steps), state)

    def limit(self, size: int, itemsize: int) -> int:
        """Return the bytes of the norm and the levels."""
        return itemsize + packed_size(size, width(2 * self.levels + 1))

    def decode(self, data: memoryview, size: int, dtype: np.dtype[Any]) -> Vector:
        """Return the numbers at the levels."""
        reader, s = Reader(data, dtype), self.levels
        norm, bits = reader.numbers(1), width(2 * s + 1)
        codes = unpack(reader.bytes(packed_size(size, bits)), size, bits)
        reader.end()
        if norm[0] < 0 or (codes > 2 * s).any():
            raise WireError("malformed", f"expected a norm of at least 0 and levels up to {2 * s}")
        return self._values(norm, codes.astype(np.int64) - s)

    def _values(self, norm: Vector, steps: Integers) -> Vector:
        values: Vector = steps.astype(norm.dtype)
        size, s = len(values), self.levels
        shrink = 1.0 + min(size / s**2, size**0.5 / s) if self.contractive else 1.0
        with quiet():
            values *= norm[0] / norm.dtype.type(s * shrink)
        return values


@rule
class Sign(Compressor):
    """Q(x)_i = ||x||_1 / d sign(x_i), of d numbers, in one bit each.

    The error is ||Q(x) - x||^2 = ||x||^2 - ||x||_1^2 / d. The sign of zero is plus. Magnitudes are
    lost, so wrap it in `error_feedback` or `difference`.

    Reference: Bernstein, Wang, Azizzadenesheli, Anandkumar, signSGD, ICML 2018, arXiv 1802.04434;
        scaled and with error feedback: Karimireddy, Rebjock, Stich, Jaggi, ICML 2019, arXiv
        1901.09847.
    """

    encoding: ClassVar[str] = "sign"
    needs: ClassVar[Needs] = (Need.CHANGES,)
    breaks: ClassVar[Breaks] = SPARSE

    def encode(self, vector: Vector, turn: Turn, state: State) -> Encoded:
        """Return the scale and the signs."""
        scale = np.array([np.abs(vector / len(vector)).sum()], dtype=vector.dtype)
        negative = vector < 0
        signs = np.packbits(negative, bitorder="little")
        return Encoded(join(scale, signs), np.where(negative, -scale, scale), state)

    def limit(self, size: int, itemsize: int) -> int:
        """Return the bytes of the scale and the signs."""
        return itemsize + packed_size(size, 1)

    def decode(self, data: memoryview, size: int, dtype: np.dtype[Any]) -> Vector:
        """Return the numbers."""
        reader = Reader(data, dtype)
        scale, signs = (
            reader.numbers(1),
            np.unpackbits(reader.bytes(packed_size(size, 1)), bitorder="little"),
        )
        reader.end()
        if scale[0] < 0 or signs[size:].any():
            raise WireError("malformed", "expected a scale of at least 0 and one sign per number")
        vector: Vector = np.where(signs[:size] == 1, -scale, scale)
        return vector


def _norm(vector: Vector) -> Vector:
    """Return the Euclidean norm `(1,)`, also of numbers whose squares underflow or overflow."""
    largest = np.abs(vector).max()
    if not 0 < largest < np.inf:
        return np.array([largest], dtype=vector.dtype)
    with quiet():
        return np.array([np.linalg.norm(vector / largest) * largest], dtype=vector.dtype)
