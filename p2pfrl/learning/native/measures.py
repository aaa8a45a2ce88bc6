"""What the record measures of the agents' vectors, by the native engine.

A vector has an agent's parameters `(d,)` without padding. Vectors are read where they lie, so that
a population of them is never copied into rows.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from ctypes import (
    POINTER,
    Structure,
    addressof,
    byref,
    c_char,
    c_int32,
    c_ssize_t,
    c_void_p,
    sizeof,
)
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.parameters import Places, Vector
from p2pfrl.learning.native.choice import net_of
from p2pfrl.learning.native.library import Net, library, structure
from p2pfrl.learning.networks import LOG_STD, Network

_FLOAT32 = np.dtype(np.float32)
_bytes_of: Any = c_char.from_buffer


class NativeSums:
    """Sums over float32 vectors in C, with the bits of those in numpy (`results/distances.py`)."""

    def add_moves(self, moves: Sequence[Vector], sums: NDArray[np.float64]) -> bool:
        """Add `after - before` of each move to a sum with its rounding errors, in place.

        Args:
            moves: vectors before and after a move, in turns.
            sums: `(2, d)` the sum and its rounding errors, contiguous.

        Returns:
            whether it did; it does not where numbers are not float32, or do not lie together.
        """
        kind, arrays = _floats(), tuple(moves)
        if kind is None:
            return False
        add, d = library().engine_add_moves, sums.shape[1]
        return bool(add(len(arrays) // 2, _items(arrays), kind, d, addressof(_bytes_of(sums))))

    def squares(
        self, vectors: Sequence[Vector], others: Sequence[Vector], sums: Sequence[Places]
    ) -> list[list[float]]:
        """Return squared distances of each of `others` to the mean of `vectors`, over each sum."""
        d = len(vectors[0])
        known = rows = _plain(vectors, d)
        if others is not vectors:
            rows = _plain(others, d)
        widths = array("i", [one.width for one in sums])
        counts = array("i", [len(one.pieces) for one in sums])
        pieces = array("i", [number for one in sums for piece in one.pieces for number in piece])
        squares = np.empty((len(sums), len(others)))
        if library().engine_squares(
            len(vectors),
            _first(known.places),
            len(others),
            _first(rows.places),
            d,
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
        known = _plain(vectors, self._size)
        own = np.empty((b, self._outputs, size), dtype=np.float32)
        common, mean = np.empty_like(own), np.empty(self._size, dtype=np.float32)
        shown, *made = (one.ctypes.data for one in (x, mean, own, common))
        if library().engine_compare(
            byref(self._net), b, self._size, _first(known.places), shown, size, *made
        ):
            raise MemoryError
        return own, common, mean

    def log_std(self, vectors: Sequence[Vector]) -> Vector:
        """Return the log standard deviations in vectors, `(b, policy)`; else `(b, 0)`."""
        if not self._log_std.stop:
            return np.empty((len(vectors), 0), dtype=np.float32)
        return np.stack([vector[self._log_std] for vector in vectors])


class _Plain(NamedTuple):
    """Vectors of float32 numbers that lie one behind the other, and where each of them lies."""

    places: array[int]
    vectors: Sequence[Vector]


def _plain(vectors: Sequence[Vector], d: int) -> _Plain:
    """Return vectors `(d,)` as they are, or copies of them."""
    places = _places(tuple(vectors), d)
    if places is None:
        vectors = [np.ascontiguousarray(one, _FLOAT32) for one in vectors]
        places = array("Q", [one.ctypes.data for one in vectors])
    return _Plain(places, vectors)


def _places(vectors: tuple[Vector, ...], d: int) -> array[int] | None:
    """Return where vectors lie; None where some have no `d` float32 numbers one behind the other.

    The engine looks into the arrays: `vector.ctypes.data` takes many times as long.
    """
    kind, found = _floats(), array("Q", bytes(8 * len(vectors)))
    if kind is None:
        return None
    are_arrays = library().engine_places(len(vectors), _items(vectors), kind, d, _first(found))
    return found if are_arrays else None


def _items(objects: tuple[object, ...]) -> int:
    """Return where a tuple has the places of its objects."""
    return id(objects) + tuple.__basicsize__


_HEAD = object.__basicsize__
"""Bytes with which every object begins; the last of them say where its class is."""


class _Kind(Structure):
    """Arrays that the engine reads: `kind_t` in engine.c."""

    _fields_ = (("type", c_void_p), ("head", c_int32), ("number", c_int32))


_FLOATS = _Kind(id(np.ndarray), _HEAD, _FLOAT32.num)


class _Array(Structure):
    """What arrays have behind the head: `array_t` in engine.c."""

    _fields_ = (
        ("data", c_void_p),
        ("axes", c_int32),
        ("shape", POINTER(c_ssize_t)),
        ("strides", POINTER(c_ssize_t)),
        ("base", c_void_p),
        ("type", c_void_p),
        ("flags", c_int32),
    )


class _Type(Structure):
    """What types of numbers have behind the head: `type_t` in engine.c."""

    _fields_ = (
        ("type", c_void_p),
        ("kind", c_char),
        ("letter", c_char),
        ("order", c_char),
        ("unused", c_char),
        ("number", c_int32),
    )


@cache
def _floats() -> int | None:
    """Return where the kind of arrays of float32 numbers is; None: the engine cannot read them."""
    return addressof(_FLOATS) if _knows_arrays() else None


def _knows_arrays() -> bool:
    """Whether tuples and arrays are what the engine takes them for, judged by one of each."""
    if sys.implementation.name != "cpython":  # elsewhere `id` is no place
        return False
    one = np.zeros((3, 5), np.float32)[1:]
    pair = (None, one)
    if list((c_void_p * 2).from_address(_items(pair))) != [id(None), id(one)]:
        return False
    if c_void_p.from_address(id(one) + _HEAD - sizeof(c_void_p)).value != id(np.ndarray):
        return False
    array = _Array.from_address(id(one) + _HEAD)
    if (array.data, array.axes, array.base) != (one.ctypes.data, one.ndim, id(one.base)):
        return False
    if (array.type, array.flags & 1) != (id(one.dtype), one.flags.c_contiguous):
        return False
    if array.shape[: one.ndim] != list(one.shape) or array.strides[: one.ndim] != list(one.strides):
        return False
    of = _Type.from_address(id(one.dtype) + _HEAD)
    told = (of.kind + of.letter).decode()
    return (told, of.order, of.number) == (one.dtype.kind + one.dtype.char, b"=", one.dtype.num)


def _first(numbers: array[int]) -> int:
    """Return where an array of the standard library lies."""
    return numbers.buffer_info()[0]
