"""Low rank: the vector as a matrix, and that matrix as a product of two thin ones."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from p2pfrl.core.floats import allow_overflow
from p2pfrl.core.needs import Breaks, Need, Needs
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rng import Purpose
from p2pfrl.core.rule import rule
from p2pfrl.core.turn import Turn
from p2pfrl.exchange.compressors.base import SPARSE, Compressor, Encoded, State
from p2pfrl.exchange.compressors.bits import Reader, join

Matrix = NDArray[np.floating]


@rule
class LowRank(Compressor):
    """M ~ P Q', P = orthonormal(M Q_before), Q = M' P: one step of subspace iteration.

    M is the vector of d numbers as a matrix of about sqrt(d) rows, filled up with zeros. Every
    message starts from the Q of the message before. P P' M is the projection of M, so that ||Q(x) -
    x|| <= ||x||, and Q(x) = x where M has rank r. The paper takes one matrix per layer and averages
    P and Q over all workers before the product. Here every message stands for itself, which
    neighbors require.

    Attributes:
        rank: r; r (rows + columns) numbers travel.

    Reference: Vogels, Karimireddy, Jaggi, PowerSGD: practical low-rank gradient compression for
        distributed optimization, NeurIPS 2019, arXiv 1905.13727.
    """

    encoding: ClassVar[str] = "low_rank"
    needs: ClassVar[Needs] = (Need.CHANGES,)
    breaks: ClassVar[Breaks] = SPARSE

    rank: int = Field(default=2, ge=1)

    def shape(self, size: int) -> tuple[int, int, int]:
        """Return rows, columns and rank for `size` numbers."""
        rows = math.isqrt(size - 1) + 1
        columns = -(-size // rows)
        return rows, columns, min(self.rank, columns)

    def encode(self, vector: Vector, turn: Turn, state: State) -> Encoded:
        """Return P and Q; Q is remembered."""
        rows, columns, rank = self.shape(len(vector))
        matrix = np.zeros((rows, columns), dtype=vector.dtype)
        matrix.reshape(-1)[: len(vector)] = vector
        if state and state[0].any(axis=0).all():
            right = state[0]
        else:
            right = (
                turn.generator(Purpose.COMPRESSOR)
                .standard_normal((columns, rank))
                .astype(vector.dtype)
            )
        left = np.linalg.qr(matrix @ right)[0]
        right = matrix.T @ left
        return Encoded(join(left, right), _product(left, right, len(vector)), (right,))

    def limit(self, size: int, itemsize: int) -> int:
        """Return the bytes of P and Q."""
        rows, columns, rank = self.shape(size)
        return (rows + columns) * rank * itemsize

    def decode(self, data: memoryview, size: int, dtype: np.dtype[Any]) -> Vector:
        """Return the product."""
        reader, (rows, columns, rank) = Reader(data, dtype), self.shape(size)
        left = reader.numbers(rows * rank).reshape(rows, rank)
        right = reader.numbers(columns * rank).reshape(columns, rank)
        reader.end()
        return _product(left, right, size)


def _product(left: Matrix, right: Matrix, size: int) -> Vector:
    """Return the first `size` numbers of left right', the same on every machine.

    No library chooses the order of the sums.
    """
    with allow_overflow():
        total = left[:, :1] * right[:, 0]
        for i in range(1, left.shape[1]):
            total += left[:, i : i + 1] * right[:, i]
    vector: Vector = total.reshape(-1)[:size]
    return vector
