"""Numbers in as few bits as they need, and a strict reader of bytes.

Malformed bytes are refused, never guessed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.errors import WireError
from p2pfrl.core.parameters import Vector

Bytes = NDArray[np.uint8]
Integers = NDArray[np.integer]


def width(values: int) -> int:
    """Return how many bits distinguish `values` values.

    >>> width(17)
    5
    """
    return (values - 1).bit_length()


def packed_size(count: int, bits: int) -> int:
    """Return the bytes of `count` numbers of `bits` bits each."""
    return (count * bits + 7) // 8


def pack(values: Integers, bits: int) -> Bytes:
    """Return `(packed_size,)` bytes of `(n,)` integers below 2^bits.

    Their low bytes come first, then the remaining bits, packed.
    """
    planes, rest = [], values.astype(np.uint64)
    for _ in range(bits // 8):
        planes.append(rest.astype(np.uint8))
        rest >>= np.uint64(8)
    narrow = bits % 8
    if narrow:
        groups = np.zeros((-(-len(rest) // 8), 8), dtype="<u8")
        groups.reshape(-1)[: len(rest)] = rest
        total = groups[:, 0].copy()
        for i in range(1, 8):
            total |= groups[:, i] << np.uint64(narrow * i)
        planes.append(
            total.view(np.uint8)
            .reshape(-1, 8)[:, :narrow]
            .reshape(-1)[: packed_size(len(rest), narrow)]
        )
    return np.concatenate(planes) if planes else np.empty(0, dtype=np.uint8)


def unpack(data: Bytes, count: int, bits: int) -> NDArray[np.uint64]:
    """Return the `(count,)` integers in exactly `packed_size` bytes.

    Raises:
        WireError: the bits after the last integer are not zero.
    """
    values = np.zeros(count, dtype=np.uint64)
    for plane in range(bits // 8):
        values |= data[plane * count : (plane + 1) * count].astype(np.uint64) << np.uint64(
            8 * plane
        )
    narrow = bits % 8
    if narrow:
        groups = np.zeros((-(-count // 8), 8), dtype=np.uint8)
        spread = np.zeros(len(groups) * narrow, dtype=np.uint8)
        rest = data[bits // 8 * count :]
        spread[: len(rest)] = rest
        groups[:, :narrow] = spread.reshape(-1, narrow)
        total = groups.view("<u8")
        shifts = np.arange(0, 8 * narrow, narrow, dtype=np.uint64)
        parts = ((total >> shifts) & np.uint64(2**narrow - 1)).reshape(-1)
        if parts[count:].any():
            raise WireError("malformed", "the bits that are left over are not zero")
        values |= parts[:count] << np.uint64(bits - narrow)
    return values


def positions_size(size: int, count: int) -> int:
    """Return the bytes that name `count` of `size` positions.

    Positions are stored by number, or as one bit for every position where that takes less.
    """
    return min(packed_size(count, width(size)), packed_size(size, 1))


def pack_positions(positions: Integers, size: int) -> Bytes:
    """Return the bytes of `(n,)` ascending positions below `size`."""
    if packed_size(len(positions), width(size)) <= packed_size(size, 1):
        return pack(positions, width(size))
    bits = np.zeros(size, dtype=np.uint8)
    bits[positions] = 1
    return np.packbits(bits, bitorder="little")


def unpack_positions(data: Bytes, size: int, count: int) -> NDArray[np.int64]:
    """Return the `(count,)` ascending positions below `size` in exactly `positions_size` bytes.

    Raises:
        WireError: they are not ascending, are too large, or are not `count`.
    """
    if packed_size(count, width(size)) <= packed_size(size, 1):
        positions = unpack(data, count, width(size)).astype(np.int64)
    else:
        positions = np.flatnonzero(np.unpackbits(data, bitorder="little"))
    is_strict = len(positions) == count and not (positions[1:] <= positions[:-1]).any()
    if not is_strict or (count and positions[-1] >= size):
        raise WireError("malformed", f"expected {count} ascending positions below {size}")
    return positions


def join(*parts: NDArray[Any]) -> Bytes:
    """Return the bytes of contiguous little-endian arrays, one after the other."""
    return np.concatenate([np.ascontiguousarray(part).reshape(-1).view(np.uint8) for part in parts])


class Reader:
    """Takes a message apart, from front to back.

    Attributes:
        dtype: of its numbers, little-endian.

    Args:
        data: its bytes.
        dtype: of its numbers, little-endian.
    """

    __slots__ = ("_at", "_data", "dtype")

    def __init__(self, data: memoryview, dtype: np.dtype[Any]) -> None:
        self._data = np.frombuffer(data, np.uint8)
        self.dtype = dtype
        self._at = 0

    def bytes(self, count: int) -> Bytes:
        """Return the next `count` bytes."""
        taken = self._data[self._at : self._at + count]
        if len(taken) != count:
            raise WireError("bad_length", f"expected {count} more bytes, got {len(taken)}")
        self._at += count
        return taken

    def integer(self, dtype: str) -> int:
        """Return the next unsigned integer."""
        return int(self.bytes(np.dtype(dtype).itemsize).view(dtype)[0])

    def numbers(self, count: int) -> Vector:
        """Return the next `count` numbers, which must be finite."""
        taken: Vector = self.bytes(count * self.dtype.itemsize).view(self.dtype)
        if not np.isfinite(taken).all():
            raise WireError("not_finite", "the payload holds NaN or infinity")
        return taken

    def rest(self) -> memoryview:
        """Return all bytes that are left."""
        taken, self._at = self._data[self._at :], len(self._data)
        return taken.data

    def end(self) -> None:
        """Refuse a message that has bytes left."""
        if self._at != len(self._data):
            raise WireError("bad_length", f"{len(self._data) - self._at} bytes too many")
