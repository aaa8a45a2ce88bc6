"""The flat parameter vector: the places of its tensors, and the parts that travel.

An agent's parameters are one row of `stride` numbers. Every tensor starts on a multiple of 64 bytes
within the row, and every row on a multiple of 64 bytes in memory, because matrix kernels give
slightly different results at other alignments. With it, an agent's result does not depend on its
position. The padding never travels: `pack` returns the `d` numbers without padding, `unpack` writes
them into rows with padding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from p2pfrl.core.rng import key

ALIGNMENT = 64  # bytes

Vector = NDArray[np.floating]


def aligned_zeros(shape: tuple[int, ...], dtype: DTypeLike) -> Vector:
    """Return zeros whose first byte lies on a multiple of 64."""
    return _aligned(np.zeros(_bytes(shape, dtype), dtype=np.uint8), shape, dtype)


def aligned_empty(shape: tuple[int, ...], dtype: DTypeLike) -> Vector:
    """Return an array to be written to, whose first byte lies on a multiple of 64."""
    return _aligned(np.empty(_bytes(shape, dtype), dtype=np.uint8), shape, dtype)


def _bytes(shape: tuple[int, ...], dtype: DTypeLike) -> int:
    """Return the bytes in which an array has room wherever they begin."""
    return math.prod(shape) * np.dtype(dtype).itemsize + ALIGNMENT


def _aligned(raw: NDArray[np.uint8], shape: tuple[int, ...], dtype: DTypeLike) -> Vector:
    """Return the array of these bytes."""
    offset = -raw.ctypes.data % ALIGNMENT
    return raw[offset : offset + len(raw) - ALIGNMENT].view(dtype).reshape(shape)


@dataclass(frozen=True)
class Tensor:
    """One named tensor of the layout.

    A `name` is "part.rest": the text before the first dot is the part that the tensor belongs to.

    Attributes:
        aligned: start on 64 bytes. False places it right behind the previous tensor, so that a
            learner can view neighboring tensors (the heads of an actor and a critic) as one matrix.
    """

    name: str
    shape: tuple[int, ...]
    aligned: bool = True

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def part(self) -> str:
        """The part of the vector this tensor belongs to, for example "actor"."""
        return self.name.partition(".")[0]


@dataclass(frozen=True)
class Places:
    """A row that is made of pieces of a vector. Where no piece is, there are zeros.

    Attributes:
        width: numbers of the row.
        pieces: (first place in the row, first number of the vector, how many) of each piece.
    """

    width: int
    pieces: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class Layout:
    """The places of all tensors in a row.

    Attributes:
        tensors: in order.
        dtype: "float32" for networks, "float64" for quadratic and tabular learners.
    """

    tensors: tuple[Tensor, ...]
    dtype: str = "float32"

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """First element of each tensor within a row."""
        unit = ALIGNMENT // np.dtype(self.dtype).itemsize
        offsets, end = [], 0
        for tensor in self.tensors:
            start = -(-end // unit) * unit if tensor.aligned else end
            offsets.append(start)
            end = start + tensor.size
        return tuple(offsets)

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """First number of each tensor within a vector without padding."""
        return tuple(accumulate((t.size for t in self.tensors[:-1]), initial=0))

    @cached_property
    def stride(self) -> int:
        """Elements per row, padding included."""
        unit = ALIGNMENT // np.dtype(self.dtype).itemsize
        end = self.offsets[-1] + self.tensors[-1].size
        return -(-end // unit) * unit

    @cached_property
    def size(self) -> int:
        """Number of parameters d, without padding."""
        return sum(t.size for t in self.tensors)

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """Names of the parts, in order of first appearance."""
        return tuple(dict.fromkeys(t.part for t in self.tensors))

    @cached_property
    def signature(self) -> str:
        """A short hash of names, shapes and dtype.

        Peers compare it before they exchange anything.
        """
        return key(0, repr((self.tensors, self.dtype))).hex()[:16]

    def places(self, parts: Sequence[str] | None = None) -> Places:
        """Return where the numbers of a vector are in a row; of `parts`, one behind the other."""
        start = dict(zip(self.offsets, self.starts, strict=True))
        rows = [row for _, row in self.slices(parts)]
        sizes = [row.stop - row.start for row in rows]
        at = [row.start for row in rows] if parts is None else [*accumulate(sizes, initial=0)]
        first = [start[row.start] for row in rows]
        width = self.stride if parts is None else sum(sizes)
        return Places(width, tuple(zip(at, first, sizes, strict=False)))

    def slices(self, parts: Sequence[str] | None = None) -> tuple[tuple[slice, slice], ...]:
        """Return pairs of slices of `parts`: of the compact vector, and of the row.

        All parts are meant where `parts` is None. Adjacent slices are merged.
        """
        wanted = self.parts if parts is None else tuple(parts)
        found = self._found.get(wanted)
        if found is None:
            found = self._found[wanted] = self._slices(wanted)
        return found

    @cached_property
    def _numpy_dtype(self) -> np.dtype[Any]:
        return np.dtype(self.dtype)

    @cached_property
    def _found(self) -> dict[tuple[str, ...], tuple[tuple[slice, slice], ...]]:
        """The slices that were asked for before, kept because every message needs them."""
        return {}

    def _slices(self, wanted: tuple[str, ...]) -> tuple[tuple[slice, slice], ...]:
        pairs: list[tuple[slice, slice]] = []
        end = 0
        for tensor, offset in zip(self.tensors, self.offsets, strict=True):
            if tensor.part not in wanted:
                continue
            compact, row = slice(end, end + tensor.size), slice(offset, offset + tensor.size)
            if pairs and pairs[-1][1].stop == row.start:
                compact, row = (
                    slice(pairs[-1][0].start, compact.stop),
                    slice(pairs[-1][1].start, row.stop),
                )
                pairs.pop()
            pairs.append((compact, row))
            end += tensor.size
        return tuple(pairs)

    def zeros(self, rows: int) -> Vector:
        """Return `(rows, stride)` aligned zeros."""
        return aligned_zeros((rows, self.stride), self.dtype)

    def pack(self, rows: Vector, parts: Sequence[str] | None = None) -> Vector:
        """Return the numbers of `parts` without padding: `(..., stride)` -> a new `(..., k)`."""
        pairs = self.slices(parts)
        if len(pairs) == 1 and rows.ndim == 1:  # an agent's vector, most often; faster
            return rows[pairs[0][1]].astype(self._numpy_dtype)
        out = np.empty((*rows.shape[:-1], pairs[-1][0].stop if pairs else 0), dtype=self.dtype)
        for compact, row in pairs:
            out[..., compact] = rows[..., row]
        return out

    def unpack(self, vectors: Vector, rows: Vector, parts: Sequence[str] | None = None) -> None:
        """Write the numbers of `parts`, `(..., k)`, into `(..., stride)` rows, in place.

        Other parts keep their values.
        """
        for compact, row in self.slices(parts):
            rows[..., row] = vectors[..., compact]
