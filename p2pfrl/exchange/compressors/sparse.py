"""Compressors that send some of the numbers and leave the others out."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import override

from p2pfrl.core.errors import WireError
from p2pfrl.core.needs import Breaks, Need, Needs
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rng import Purpose, Streams, generator
from p2pfrl.core.rule import rule
from p2pfrl.core.turn import Turn
from p2pfrl.exchange.compressors.base import SPARSE, Compressor, Encoded, State
from p2pfrl.exchange.compressors.bits import (
    Reader,
    join,
    pack_positions,
    packed_size,
    positions_size,
    unpack_positions,
)


@rule
class _Some(Compressor):
    """A fixed share of the numbers.

    Attributes:
        fraction: of the numbers that are sent, rounded, at least one.
        count: how many are sent, instead of a fraction.
    """

    needs: ClassVar[Needs] = (Need.CHANGES,)
    breaks: ClassVar[Breaks] = SPARSE

    fraction: float = Field(default=0.1, gt=0, le=1)
    count: int | None = Field(default=None, ge=1)

    @property
    @override
    def idle(self) -> tuple[str, ...]:
        """The fraction, where a count is given."""
        return ("fraction",) if self.count is not None else ()

    def chosen(self, size: int) -> int:
        """Return how many of `size` numbers are sent."""
        return min(size, self.count or max(1, round(self.fraction * size)))


@rule
class TopK(_Some):
    """The k numbers of largest magnitude: ||Q(x) - x||^2 <= (1 - k/d) ||x||^2, of d numbers.

    Of equal magnitudes the first are taken. k numbers travel, and their places in k ceil(log2 d)
    bits, or in d bits where that is less.

    Reference: Stich, Cordonnier, Jaggi, Sparsified SGD with memory, NeurIPS 2018, arXiv 1809.07599.
    """

    encoding: ClassVar[str] = "topk"

    def encode(self, vector: Vector, turn: Turn, state: State) -> Encoded:
        """Return the largest numbers and their places."""
        positions = largest(vector, self.chosen(len(vector)))
        data = join(vector[positions], pack_positions(positions, len(vector)))
        return Encoded(data, _spread(vector[positions], positions, len(vector)), state)

    def limit(self, size: int, itemsize: int) -> int:
        """Return the bytes of k numbers and their places."""
        count = self.chosen(size)
        return count * itemsize + positions_size(size, count)

    def decode(self, data: memoryview, size: int, dtype: np.dtype[Any]) -> Vector:
        """Return the numbers in their places, zeros elsewhere."""
        reader, count = Reader(data, dtype), self.chosen(size)
        values = reader.numbers(count)
        positions = unpack_positions(reader.bytes(positions_size(size, count)), size, count)
        reader.end()
        return _spread(values, positions, size)


@rule
class RandK(_Some):
    """k numbers chosen at random: E||Q(x) - x||^2 = (1 - k/d) ||x||^2, of d numbers.

    If unbiased, they are multiplied by d/k, and the error is (d/k - 1) ||x||^2. The k numbers
    travel, and 8 bytes from which both ends derive the same places. With places in common vectors
    add up number by number, so that secure sums have k numbers, too, and are exact; but what is
    left out is the same for all, so that a mean over agents does not make its error smaller.

    Attributes:
        unbiased: multiply by d/k, so that E Q(x) = x.
        common: all agents choose the same places in a round: seed of the run and round say which.

    Reference: Konecny et al., Federated learning: strategies for improving communication
        efficiency, 2016, arXiv 1610.05492; with memory: Stich, Cordonnier, Jaggi, NeurIPS 2018,
        arXiv 1809.07599.
    """

    encoding: ClassVar[str] = "randk"

    unbiased: bool = False
    common: bool = False

    @property
    @override
    def adds_up(self) -> bool:
        return self.common

    @override
    def kept(self, size: int) -> int:
        return self.chosen(size)

    @override
    def gather(self, vector: Vector, seed: int, round: int) -> Vector:
        return vector[self._places(len(vector), seed, round)]

    @override
    def scatter(self, numbers: Vector, size: int, seed: int, round: int) -> Vector:
        return _spread(numbers, self._places(size, seed, round), size)

    def _places(self, size: int, seed: int, round: int) -> NDArray[np.int64]:
        """Return the places that agents have in common in a round."""
        return _random_positions(_common(seed, round), size, self.chosen(size))

    def encode(self, vector: Vector, turn: Turn, state: State) -> Encoded:
        """Return the numbers and the seed of their places."""
        size = len(vector)
        count = self.chosen(size)
        seed = (
            _common(turn.key[0], turn.round)
            if self.common
            else turn.generator(Purpose.COMPRESSOR).integers(2**64, size=1, dtype=np.uint64)
        )
        positions = _random_positions(seed, size, count)
        values = vector[positions]
        if self.unbiased:
            values *= size / count
        return Encoded(join(values, seed), _spread(values, positions, size), state)

    def limit(self, size: int, itemsize: int) -> int:
        """Return the bytes of k numbers and a seed."""
        return self.chosen(size) * itemsize + 8

    def decode(self, data: memoryview, size: int, dtype: np.dtype[Any]) -> Vector:
        """Return the numbers in their places, zeros elsewhere."""
        reader, count = Reader(data, dtype), self.chosen(size)
        values, seed = reader.numbers(count), reader.bytes(8).view("<u8")
        reader.end()
        return _spread(values, _random_positions(seed, size, count), size)


@rule
class Threshold(Compressor):
    """The numbers of magnitude above epsilon: ||Q(x) - x|| <= epsilon sqrt(d), of d numbers.

    Inside `difference` a number travels when it has moved by more than epsilon since it last
    travelled. Alone, with payload "delta", small steady changes would be lost for ever;
    `error_feedback` around it prevents that.

    Attributes:
        epsilon: numbers up to this magnitude are left out.

    Reference: Strom, Scalable distributed DNN training using commodity GPU cloud computing,
        Interspeech 2015; with memory: Stich, Cordonnier, Jaggi, NeurIPS 2018, arXiv 1809.07599.
    """

    encoding: ClassVar[str] = "threshold"
    needs: ClassVar[Needs] = (Need.CHANGES,)
    breaks: ClassVar[Breaks] = SPARSE

    epsilon: float = Field(default=1e-3, ge=0)

    def encode(self, vector: Vector, turn: Turn, state: State) -> Encoded:
        """Return the count of the numbers, the numbers, and their places."""
        positions = np.flatnonzero(
            ~(np.abs(vector) <= self.epsilon)
        )  # what is no number travels, to be refused
        count = np.array([len(positions)], dtype="<u4")
        data = join(count, vector[positions], pack_positions(positions, len(vector)))
        return Encoded(data, _spread(vector[positions], positions, len(vector)), state)

    def limit(self, size: int, itemsize: int) -> int:
        """Return the bytes of all numbers, with a bit each."""
        return 4 + size * itemsize + packed_size(size, 1)

    def decode(self, data: memoryview, size: int, dtype: np.dtype[Any]) -> Vector:
        """Return the numbers in their places, zeros elsewhere."""
        reader = Reader(data, dtype)
        count = reader.integer("<u4")
        if count > size:
            raise WireError("malformed", f"{count} of {size} numbers")
        values = reader.numbers(count)
        positions = unpack_positions(reader.bytes(positions_size(size, count)), size, count)
        reader.end()
        return _spread(values, positions, size)


def largest(vector: Vector, count: int) -> NDArray[np.int64]:
    """Return the ascending places of the `count` numbers of largest magnitude.

    Of numbers of equal magnitude the first are taken.
    """
    size = np.abs(vector)
    least = np.partition(size, len(size) - count)[len(size) - count]
    above = np.flatnonzero(size > least)
    level = np.flatnonzero(size == least)[: count - len(above)]
    return np.sort(np.concatenate([above, level]))


def _common(seed: int, round: int) -> NDArray[np.uint64]:
    """Return the seed `(1,)` of the places of a round that all agents of a run have in common."""
    rng = generator(seed, Purpose.COMPRESSOR, round)
    return rng.integers(2**64, size=1, dtype=np.uint64)


def _random_positions(seed: NDArray[np.uint64], size: int, count: int) -> NDArray[np.int64]:
    """Return `count` ascending places below `size`, every set equally likely."""
    bits = Streams(np.array([[int(seed[0]), 0]], dtype=np.uint64)).bits(size)[0]
    least = np.partition(bits, count - 1)[count - 1]
    return np.flatnonzero(bits <= least)[:count]


def _spread(values: Vector, positions: NDArray[np.int64], size: int) -> Vector:
    vector: Vector = np.zeros(size, dtype=values.dtype)
    vector[positions] = values
    return vector
