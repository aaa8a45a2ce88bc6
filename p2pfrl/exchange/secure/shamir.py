"""Shamir's secret sharing over a prime field: t of n shares give the secret, fewer give nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

PRIME = 2**256 + 297
"""The smallest prime above 2^256, so that every secret of 32 bytes is an element."""
SECRET = 32
"""Bytes of a secret."""
SHARE = 33
"""Bytes of a share."""


def threshold(count: int) -> int:
    """Return how many of `count` agents must answer for a sum: more than two thirds.

    >>> [threshold(count) for count in (3, 4, 6, 100)]
    [3, 3, 5, 67]
    """
    return 2 * count // 3 + 1


class ShareError(ValueError):
    """Shares do not belong together, or are too few."""


def split(
    secret: bytes, points: Sequence[int], threshold: int, draw: Callable[[int], bytes]
) -> list[bytes]:
    """Return one share per point: values of a random polynomial whose constant term is the secret.

    Reference: Shamir, How to share a secret, Communications of the ACM 22(11), 1979.

    Args:
        secret: of `SECRET` bytes.
        points: distinct, positive.
        threshold: t, how many shares give the secret: the degree is t - 1.
        draw: size -> that many random bytes.
    """
    assert len(secret) == SECRET
    assert 1 <= threshold <= len(points)
    assert len(set(points)) == len(points)
    assert min(points) > 0
    # 48 bytes per coefficient: the remainder modulo the prime is uniform up to 2^-127.
    raw = draw(48 * (threshold - 1))
    higher = [
        int.from_bytes(raw[start : start + 48], "little") % PRIME
        for start in range(0, len(raw), 48)
    ]
    coefficients = [*reversed(higher), int.from_bytes(secret, "little")]
    return [_at(coefficients, point).to_bytes(SHARE, "little") for point in points]


def combine(shares: Mapping[int, bytes], threshold: int) -> bytes:
    """Return the secret of which `shares` (point -> share) are at least `threshold` shares.

    Raises:
        ShareError: they are too few, no shares, or not all on one polynomial of that degree. A
            false one among exactly `threshold` shares goes unnoticed here, and gives another
            secret: compare it with a commitment.
    """
    if len(shares) < threshold:
        raise ShareError(f"expected at least {threshold} shares, got {len(shares)}")
    values = {point: int.from_bytes(share, "little") for point, share in sorted(shares.items())}
    for point, share in shares.items():
        if point < 1 or len(share) != SHARE or values[point] >= PRIME:
            raise ShareError(f"the share at {point} is not one")
    points = tuple(values)[:threshold]
    for other in tuple(values)[threshold:]:
        if _value(values, points, other) != values[other]:
            raise ShareError(f"the share at {other} does not fit the others")
    secret = _value(values, points, 0)
    if secret >> 8 * SECRET:
        raise ShareError("the shares give no secret")
    return secret.to_bytes(SECRET, "little")


def _at(coefficients: Sequence[int], point: int) -> int:
    """Return the value of a polynomial at `point` (Horner), highest coefficient first."""
    value = 0
    for coefficient in coefficients:
        value = (value * point + coefficient) % PRIME
    return value


def _value(values: Mapping[int, int], points: tuple[int, ...], at: int) -> int:
    """Return the value at `at` of the polynomial through `points`."""
    weights = _weights(points, at)
    return sum(w * values[p] for w, p in zip(weights, points, strict=True)) % PRIME


@lru_cache(maxsize=4096)
def _weights(points: tuple[int, ...], at: int) -> tuple[int, ...]:
    """Return Lagrange's coefficients at `at`: the secrets of a round share them."""
    found = []
    for own in points:
        over = under = 1
        for other in points:
            if other != own:
                over = over * (at - other) % PRIME
                under = under * (own - other) % PRIME
        found.append(over * pow(under, -1, PRIME) % PRIME)
    return tuple(found)
