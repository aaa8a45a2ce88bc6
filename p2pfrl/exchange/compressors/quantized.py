"""Compressors that send every number in a few bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from p2pfrl.core.errors import WireError
from p2pfrl.core.floats import allow_overflow
from p2pfrl.core.needs import Breaks, Need, Needs
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rng import Purpose
from p2pfrl.core.rule import rule
from p2pfrl.core.turn import Turn
from p2pfrl.exchange.compressors.base import SPARSE, Compressor, Encoded, State
from p2pfrl.exchange.compressors.bits import (
    Bytes,
    Integers,
    Reader,
    join,
    pack,
    packed_size,
    unpack,
    width,
)


@rule
class Quantize(Compressor):
    """Each number in b bits, at 2^b even levels from the least to the greatest of the message.

    The least and the greatest number travel too. With L = (max - min) / (2^b - 1) the error of a
    number is at most L / 2. Rounded at random it is below L, and zero on average.

    On the grid "fixed" it is Q(x) = round(x 2^b) / 2^b instead, whatever the message is: b bits
    after the binary point, and a step of L = 2^-b. No scale travels. A message of d numbers takes
    1 + d w / 8 bytes, where w are the bits of its largest multiple of L, sign included; at most one
    byte more than without compression. The error is not relative to x: numbers up to L / 2
    are zero for receivers, so small steady changes are lost for ever, unless `stochastic` rounds
    them at random or `error_feedback` keeps them.

    Attributes:
        bits: of each number; on the grid "fixed", of each number after the binary point.
        stochastic: round up or down at random, so that E Q(x) = x, instead of to the nearest level.
        grid: "range": the levels reach from the least to the greatest number of a message; "fixed":
            they are the multiples of 2^-bits.

    Reference: Gersho, Gray, Vector quantization and signal compression, 1992; at random: Alistarh,
        Grubic, Li, Tomioka, Vojnovic, QSGD, NeurIPS 2017, arXiv 1610.02132; fixed: Gupta, Agrawal,
        Gopalakrishnan, Narayanan, Deep learning with limited numerical precision, ICML 2015, arXiv
        1502.02551.
    """

    encoding: ClassVar[str] = "quantize"

    bits: int = Field(default=8, ge=1, le=16)
    stochastic: bool = False
    grid: Literal["range", "fixed"] = "range"

    def encode(self, vector: Vector, turn: Turn, state: State) -> Encoded:
        """Return the levels, and the least and the greatest number or the bits of a level."""
        noise: Vector | None = None
        if self.stochastic:
            draws = turn.generator(Purpose.COMPRESSOR)
            noise = draws.random(len(vector), dtype=vector.dtype)
        data, known = self._grid.encode(vector, noise)
        return Encoded(data, known, state)

    def limit(self, size: int, itemsize: int) -> int:
        """Return the bytes of two numbers and the levels; of all numbers on the grid "fixed"."""
        return self._grid.limit(size, itemsize)

    def decode(self, data: memoryview, size: int, dtype: np.dtype[Any]) -> Vector:
        """Return the numbers at the levels."""
        return self._grid.decode(Reader(data, dtype), size)

    @property
    def _grid(self) -> _Range | _Fixed:
        return _GRIDS[self.grid](self.bits)


@dataclass(frozen=True, slots=True)
class _Range:
    """2^bits even levels from the least to the greatest number of a message."""

    bits: int

    def encode(self, vector: Vector, noise: Vector | None) -> tuple[Bytes, Vector]:
        """Return the least number, the greatest and the levels, and what they decode to.

        Numbers are rounded to the nearest level, or at random by `noise` `(n,)` in [0, 1).
        """
        ends = np.array([vector.min(), vector.max()], dtype=vector.dtype)
        with allow_overflow():
            step = self._step(ends)
            place = (
                (vector / 2 - ends[0] / 2) / (step / 2) if step / 2 > 0 else np.zeros_like(vector)
            )
            up = 0.5 if noise is None else noise
            levels = np.clip(np.floor(place + up), 0, 2**self.bits - 1).astype(np.uint32)
        return join(ends, pack(levels, self.bits)), self._values(ends, levels)

    def limit(self, size: int, itemsize: int) -> int:
        """Return the bytes of two numbers and the levels."""
        return 2 * itemsize + packed_size(size, self.bits)

    def decode(self, reader: Reader, size: int) -> Vector:
        """Return the numbers at the levels."""
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
        with allow_overflow():
            values *= (
                self._step(ends) / 2
            )  # halves: from end to end it may be farther than numbers go
            values += ends[0] / 2
            np.minimum(values, ends[1] / 2, out=values)
            values *= 2
        return values


@dataclass(frozen=True, slots=True)
class _Fixed:
    """The multiples of 2^-bits.

    A message is one byte with the bits w of a level, sign included, and the levels. If they would
    take as many bits as the numbers do, the rounded numbers themselves travel, and w says so. So
    no number is too large.
    """

    bits: int

    def encode(self, vector: Vector, noise: Vector | None) -> tuple[Bytes, Vector]:
        """Return w and the levels, and what they decode to.

        Numbers are rounded to the nearest level, ties to the even one, or at random by `noise`
        `(n,)` in [0, 1).
        """
        one, whole = vector.dtype.type(2.0**self.bits), 2.0 ** (np.finfo(vector.dtype).nmant + 1)
        with allow_overflow():
            place = vector * one
            if noise is None:
                levels = np.rint(place)
            else:
                levels = np.floor(place)
                levels += noise < place - levels
            most, full = np.abs(levels).max(), 8 * vector.itemsize
            if not most < 2.0 ** (full - 2):
                # numbers without digits below the grid are on it, and times 2^b may overflow
                values = np.where(np.abs(place) < whole, levels / one, vector)
                return join(np.array([full], dtype=np.uint8), values), values
        codes = levels.astype(np.int64)
        low, high = int(codes.min()), int(codes.max())
        w = max(high, -low - 1).bit_length() + 1 if low or high else 0
        if w:
            codes += 1 << (w - 1)
        return join(np.array([w], dtype=np.uint8), pack(codes, w)), self._values(
            codes, w, vector.dtype
        )

    def limit(self, size: int, itemsize: int) -> int:
        """Return the bytes of the numbers and of w."""
        return 1 + size * itemsize

    def decode(self, reader: Reader, size: int) -> Vector:
        """Return the numbers at the levels."""
        w, full = reader.integer("u1"), 8 * reader.dtype.itemsize
        if w > full:
            raise WireError("malformed", f"expected at most {full} bits for a number, got {w}")
        if w == full:
            numbers = reader.numbers(size).copy()  # one byte before them, they are not aligned
            reader.end()
            return numbers
        codes = unpack(reader.bytes(packed_size(size, w)), size, w)
        reader.end()
        return self._values(codes.astype(np.int64), w, reader.dtype)

    def _values(self, codes: NDArray[np.int64], w: int, dtype: np.dtype[Any]) -> Vector:
        values: Vector = (codes - ((1 << w) >> 1)).astype(dtype)
        values /= dtype.type(2.0**self.bits)
        return values


_GRIDS: dict[str, type[_Range | _Fixed]] = {"range": _Range, "fixed": _Fixed}


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
        with allow_overflow():
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
        with allow_overflow():
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
    with allow_overflow():
        return np.array([np.linalg.norm(vector / largest) * largest], dtype=vector.dtype)
