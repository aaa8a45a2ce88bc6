"""Random streams that depend on nothing but a seed and a path.

They do not depend on which agents share a batch, or on the order of events. There are three kinds.
`generator` is an ordinary numpy generator for draws made once, when a world is built. `Streams`
holds one counter-based stream per agent and draws for a whole batch at once; row i is the same
whatever the other rows are. `draw` gives two numbers for one message. None has state that must
survive a crash: a stream is named by its purpose.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import IntEnum, StrEnum
from hashlib import blake2b
from math import prod

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

# Arrays without axes: with few numbers numpy takes half the time that it takes with scalars.
_GOLDEN, _MIX_1, _MIX_2, _11, _27, _30, _31 = (
    np.array(number, dtype=np.uint64)
    for number in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 11, 27, 30, 31)
)
_TO_UNIT = 2.0**-53


class Purpose(StrEnum):
    """The uses of random streams: each names one stream beside seed and agent.

    Environments derive their streams' names from `ENVIRONMENT` ("environment-reset", ...), and
    varied physics from the names of what varies ("vary-gravity", ...).
    """

    ACTION = "action"
    ATTACK = "attack"
    BEHAVIOR = "behavior"
    BOOTSTRAP = "bootstrap"
    BYZANTINE = "byzantine"
    CHAIN_START = "chain-start"
    CHECK = "check"
    COMPRESSOR = "compressor"
    COIN = "coin"
    CONTRACTION = "contraction"
    ENVIRONMENT = "environment"
    EPISODE = "episode"
    EVALUATION_POLICY = "evaluation-policy"
    FEATURES = "features"
    GRADIENT = "gradient"
    KIND = "kind"
    LANCZOS = "lanczos"
    MATCHING = "matching"
    MINIBATCH = "minibatch"
    PARTICIPATION = "participation"
    POOL = "pool"
    PRIVACY = "privacy"
    PROBE = "probe"
    PROBLEM = "problem"
    PROJECTION = "projection"
    PUBLIC = "public"
    REPLAY = "replay"
    SAMPLES = "samples"
    SECURE = "secure"
    SPEED = "speed"
    START = "start"
    TOPOLOGY = "topology"
    TRAJECTORIES = "trajectories"

    @override
    def __repr__(self) -> str:
        """Return the `repr` of the value, which is part of the key of a stream."""
        return repr(self.value)


class MessagePurpose(IntEnum):
    """The uses of numbers that are drawn per message or per round (`draw`)."""

    LATENCY = 0
    LOSS = 1
    EDGE_LOSS = 2
    JITTER = 3
    DUPLICATE = 4
    FAULT_LOSS = 5
    AVAILABILITY = 6
    PARTNER = 7
    VARIATION = 8


def key(seed: int, *path: int | str) -> bytes:
    """Return the 16 bytes that name the stream `path` of `seed`.

    Different paths give independent keys.
    """
    return blake2b(repr((seed, *path)).encode(), digest_size=16).digest()


def generator(seed: int, *path: int | str) -> np.random.Generator:
    """Return a numpy generator for the stream `path` of `seed`.

    >>> first, again = generator(1, 0, Purpose.PROBLEM), generator(1, 0, Purpose.PROBLEM)
    >>> float(first.random()) == float(again.random())
    True
    """
    return np.random.Generator(np.random.PCG64(int.from_bytes(key(seed, *path), "little")))


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the SplitMix64 finalizer of every element, computed in place.

    Guy L. Steele Jr., Doug Lea, Christine H. Flood, "Fast splittable pseudorandom number
    generators", OOPSLA 2014.
    """
    x ^= x >> _30
    x *= _MIX_1
    x ^= x >> _27
    x *= _MIX_2
    x ^= x >> _31
    return x


class Streams:
    """Counter-based random streams, one per row.

    Number c of row i is mix(mix(a_i + c g) + b_i), where (a_i, b_i) is the key of the row. Every
    operation is elementwise on integers or numpy floats, so row i never depends on the other rows.

    Args:
        keys: `(b, 2)` unsigned 64-bit keys, one pair per row.
    """

    __slots__ = ("_count", "_keys")

    def __init__(self, keys: NDArray[np.uint64]) -> None:
        self._keys = keys
        self._count = 0

    @classmethod
    def of(
        cls, seed: int, agents: Sequence[int], purpose: str, index: Sequence[int] | int = 0
    ) -> Streams:
        """Return streams for `agents`, keyed by seed, agent, purpose and index.

        The index is the number of the update or episode.
        """
        indices = [index] * len(agents) if isinstance(index, int) else index
        # The keys of `key`, whose path is written once for all agents.
        first, then = f"({seed!r}, ", f", {purpose!r}, "
        # Of a bytearray, since the address of an array that nobody may write into is slow to find.
        raw = bytearray().join(
            blake2b(f"{first}{a:d}{then}{i:d})".encode(), digest_size=16).digest()
            for a, i in zip(agents, indices, strict=True)
        )
        return cls(np.frombuffer(raw, dtype="<u8").reshape(-1, 2))

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def keys(self) -> NDArray[np.uint64]:
        """The keys `(b, 2)`, for those who draw numbers by themselves."""
        return self._keys

    def of_rows(self, rows: slice | NDArray[np.intp]) -> Streams:
        """Return the streams of some rows, which go on where these are."""
        found = Streams(self._keys[rows])
        found._count = self._count
        return found

    def skip(self, size: int) -> int:
        """Leave the next `size` numbers to the caller; return how many came before them."""
        self._count += size
        return self._count - size

    def bits(self, *shape: int) -> NDArray[np.uint64]:
        """Return `(b, *shape)` unsigned 64-bit integers; the next call continues the streams."""
        size = prod(shape)
        counter = np.arange(self._count + 1, self._count + size + 1, dtype=np.uint64) * _GOLDEN
        self._count += size
        x = self._keys[:, :1] + counter
        x = _mix(x)
        x += self._keys[:, 1:]
        return _mix(x).reshape(len(x), *shape)

    def uniform(self, *shape: int) -> NDArray[np.float64]:
        """Return `(b, *shape)` numbers uniform in [0, 1)."""
        return (self.bits(*shape) >> _11).astype(np.float64) * _TO_UNIT

    def uniform_at(
        self, rows: NDArray[np.intp], positions: NDArray[np.intp], size: int
    ) -> NDArray[np.float64]:
        """Return `(q, size)` uniform numbers: block `positions[i]` of row `rows[i]`.

        The streams are not moved on. Use this for draws at moments that depend on the data, such as
        the end of an episode, so that they cannot shift other draws. Do not mix it with the
        sequential methods on one object: both count from zero.
        """
        counter = (
            np.arange(1, size + 1, dtype=np.uint64)
            + np.asarray(positions * size, dtype=np.uint64)[:, None]
        )
        keys = self._keys.take(rows, axis=0)
        x = _mix(keys[:, :1] + counter * _GOLDEN)
        x += keys[:, 1:]
        return (_mix(x) >> _11).astype(np.float64) * _TO_UNIT

    def normal(self, *shape: int) -> NDArray[np.float64]:
        """Return `(b, *shape)` standard normal numbers (Box-Muller, the cosine branch)."""
        u = self.uniform(2, *shape)
        radius = np.sqrt(-2.0 * np.log1p(-u[:, 0]))
        return radius * np.cos(2.0 * np.pi * u[:, 1])

    def permutation(self, size: int) -> NDArray[np.int64]:
        """Return `(b, size)`: a uniformly random order of range(size) for every row."""
        order: NDArray[np.int64] = self.permutations(1, size)[0]
        return order

    def permutations(self, count: int, size: int) -> NDArray[np.int64]:
        """Return `(count, b, size)`: the next so many orders of range(size), with fewer calls."""
        index = np.arange(size, dtype=np.uint64)
        mask = np.uint64((1 << int(size).bit_length()) - 1)
        # The index is in the low bits: sorting is five times faster than argsort.
        keys = (self.bits(count, size) & ~mask) | index
        keys.sort(axis=-1)
        return np.ascontiguousarray((keys & mask).astype(np.int64).transpose(1, 0, 2))


_DRAW = struct.Struct("<qiiqi")
_PAIR = struct.Struct("<QQ")


def draw(
    seed: int, sender: int, receiver: int, number: int, purpose: MessagePurpose
) -> tuple[float, float]:
    """Return two independent numbers uniform in [0, 1) for one message.

    The message is the one with `number` from `sender` to `receiver`.
    """
    packed = _DRAW.pack(seed, sender, receiver, number, purpose)
    a, b = _PAIR.unpack(blake2b(packed, digest_size=16).digest())
    return (a >> 11) * _TO_UNIT, (b >> 11) * _TO_UNIT
