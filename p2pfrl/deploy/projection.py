"""Seeded random projections that keep distances, for parameters too large to log in full."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.parameters import Layout, Tensor, Vector
from p2pfrl.core.rng import Purpose, generator

DIMENSION = 1024
LARGE = 16_384
"""Number of parameters above which they are logged as projections."""
_NONZEROS = 4
_WIDTH = DIMENSION // _NONZEROS
_BLOCK = 65_536
_OVERHEAD = 170
"""About the number of bytes of an entry of a journal without its vectors."""


def project(seed: int, name: str, vector: Vector) -> NDArray[np.float64]:
    """Return P x: `(d,)` -> `(1024,)`, with E ||P x||^2 = ||x||^2.

    The standard deviation of ||P x||^2 is at most sqrt(2/1024) ||x||^2. P has 4 entries of +-1/2
    per column, one in every quarter of the rows. They are drawn from (seed, "projection", name,
    block of 65,536 columns) anew for each block. P is linear, so P x - P y = P (x - y) up to
    rounding.

    Reference: Kane, Nelson, "Sparser Johnson-Lindenstrauss transforms", Journal of the ACM 61(1),
    2014, arXiv 1012.1577, the block construction.
    """
    out = np.zeros((_NONZEROS, _WIDTH))
    for block, start in enumerate(range(0, len(vector), _BLOCK)):
        x = vector[start : start + _BLOCK].astype(np.float64)
        drawn = generator(seed, Purpose.PROJECTION, name, block).integers(
            0, 2 * _WIDTH, size=(_NONZEROS, len(x)), dtype=np.uint16
        )
        for row, numbers in zip(out, drawn, strict=True):
            row += np.bincount(numbers >> 1, weights=np.where(numbers & 1, x, -x), minlength=_WIDTH)
    out /= _NONZEROS**0.5
    return out.reshape(-1)


class Projection:
    """Projects each part of the parameters separately, so distances per part are known too.

    Args:
        seed: seed of the run.
        layout: names and shapes of the parameters.
    """

    def __init__(self, seed: int, layout: Layout) -> None:
        self._seed = seed
        self._layout = layout

    @cached_property
    def layout(self) -> Layout:
        """The parts of a projected row."""
        return Layout(
            tuple(Tensor(f"{part}.projection", (DIMENSION,)) for part in self._layout.parts),
            "float64",
        )

    def parameters(self, vector: Vector) -> NDArray[np.float64]:
        """Return the projections of all parts of `(d,)` parameters, concatenated."""
        row = np.zeros(self._layout.stride, dtype=self._layout.dtype)
        self._layout.unpack(vector, row)
        parts = self._layout.parts
        return np.concatenate(
            [project(self._seed, part, self._layout.pack(row, (part,))) for part in parts]
        )

    def change(self, before: Vector, after: Vector) -> NDArray[np.float64]:
        """Return the projection of after - before."""
        return project(self._seed, "change", np.subtract(after, before, dtype=np.float64))


def round_bytes(layout: Layout, shared: Sequence[str]) -> int:
    """Return about how many bytes the journal of an agent grows by per round.

    Args:
        layout: names and shapes of the parameters.
        shared: the parts that travel.
    """
    size = int(layout.size)
    if size > LARGE:
        return _OVERHEAD + 8 * DIMENSION * (len(layout.parts) + 1)
    itemsize = int(np.dtype(layout.dtype).itemsize)
    travels: int = sum(piece.stop - piece.start for piece, _ in layout.slices(shared))
    copies = 1 if travels == size else 2
    return _OVERHEAD + itemsize * (size + copies * travels)
