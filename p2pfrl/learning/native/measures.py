"""What the record measures of the agents' vectors, by the native engine.

A vector has an agent's parameters `(d,)` without padding. Vectors are read where they lie, so that
a population of them is never copied into rows.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from ctypes import addressof, byref, c_char
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.parameters import Places, Vector
from p2pfrl.learning.native.choice import net_of
from p2pfrl.learning.native.library import Net, library, structure
from p2pfrl.learning.networks import LOG_STD, Network

_FLOAT32 = np.dtype(np.float32)
_bytes_of = c_char.from_buffer


class NativeSums:
    """Sums over float32 vectors in C, with the bits of those in numpy (`results/distances.py`)."""

    def add_moves(
        self,
        moves: Sequence[tuple[Vector, Vector]],
        total: NDArray[np.float64],
        error: NDArray[np.float64],
    ) -> bool:
        """Add `after - before` of each move to a sum with its rounding errors, in place.

        Returns:
            whether it did; it does not where numbers are not float32, or do not lie together.
        """
        if not all(_is_plain(before) and _is_plain(after) for before, after in moves):
            return False
        before, after = zip(*moves, strict=True)
        starts, ends = _table(before), _table(after)
        sums = _table((total, error))
        library().engine_add_moves(len(moves), len(total), _first(starts), _first(ends), *sums)
        return True

    def squares(
        self, vectors: Sequence[Vector], others: Sequence[Vector], sums: Sequence[Places]
    ) -> list[list[float]]:
        """Return squared distances of each of `others` to the mean of `vectors`, over each sum."""
        chosen = _plain(vectors)
        known = rows = _table(chosen)
        if others is not vectors:
            rows = _table(others := _plain(others))
        widths = array("i", [one.width for one in sums])
        counts = array("i", [len(one.pieces) for one in sums])
        pieces = array("i", [number for one in sums for piece in one.pieces for number in piece])
        squares = np.empty((len(sums), len(others)))
        if library().engine_squares(
            len(chosen),
            _first(known),
            len(others),
            _first(rows),
            len(chosen[0]),
            len(sums),
            *map(_first, (widths, counts, pieces)),
            squares.ctypes.data,
        ):
            raise MemoryError
        found: list[list[float]] = squares.tolist()
        return found


class Comparison:
    """Outputs of networks whose parameters are vectors, beside those of their mean.

    Args:
        network: of every agent; the engine has code for its layers (`choice.lacking_layers`).
    """

    def __init__(self, network: Network) -> None:
        net, layout = net_of(network), network.layout
        compact = dict(zip(layout.offsets, layout.starts, strict=True))
        chains = [
            [
                (compact[weight], compact[bias], inputs, outputs)
                for weight, bias, inputs, outputs in layers
            ]
            for layers in net.chains
        ]
        size = layout.size
        self._net = structure(Net(size, net.inputs, net.relu, net.has_critic, chains))
        self._size, self._outputs = size, network.outputs
        self._log_std = slice(0, 0)
        for tensor, start in zip(layout.tensors, layout.starts, strict=True):
            if tensor.name == LOG_STD:
                self._log_std = slice(start, start + tensor.size)

    def outputs(self, vectors: Sequence[Vector], x: Vector) -> tuple[Vector, Vector, Vector]:
        """Return outputs `(b, outputs, B)` of vectors and of their mean, and the mean `(d,)`.

        Args:
            vectors: `(d,)` of b agents.
            x: `(b, inputs, B)` what each network sees, contiguous float32 numbers.
        """
        b, _, size = x.shape
        known = _table(vectors := _plain(vectors))
        own = np.empty((b, self._outputs, size), dtype=np.float32)
        common, mean = np.empty_like(own), np.empty(self._size, dtype=np.float32)
        shown, *made = _table((x, mean, own, common))
        if library().engine_compare(
            byref(self._net), b, self._size, _first(known), shown, size, *made
        ):
            raise MemoryError
        return own, common, mean

    def log_std(self, vectors: Sequence[Vector]) -> Vector:
        """Return the log standard deviations in vectors, `(b, policy)`; else `(b, 0)`."""
        if not self._log_std.stop:
            return np.empty((len(vectors), 0), dtype=np.float32)
        return np.stack([vector[self._log_std] for vector in vectors])


def _table(vectors: Sequence[Vector]) -> array[int]:
    """Return where contiguous vectors lie; `vector.ctypes.data` takes several times as long."""
    try:
        return array("Q", [addressof(_bytes_of(_whole(vector))) for vector in vectors])
    except (TypeError, ValueError):  # nobody may write into one, or it is empty
        return array("Q", [vector.ctypes.data for vector in vectors])


def _whole(vector: Vector) -> Any:
    """Return the array that a view shows whole, which has its numbers in the same place.

    A view that nobody may write into often shows one that its owner may write into.
    """
    base = vector.base
    return base if type(base) is np.ndarray and base.nbytes == vector.nbytes else vector


def _plain(vectors: Sequence[Vector]) -> Sequence[Vector]:
    """Return vectors of float32 numbers one behind the other; others are copied."""
    return [one if _is_plain(one) else np.ascontiguousarray(one, _FLOAT32) for one in vectors]


def _is_plain(vector: Vector) -> bool:
    """Whether numbers are float32 and lie one behind the other."""
    return vector.dtype == _FLOAT32 and vector.flags.c_contiguous


def _first(numbers: array[int]) -> int:
    """Return where an array of the standard library lies."""
    return numbers.buffer_info()[0]
