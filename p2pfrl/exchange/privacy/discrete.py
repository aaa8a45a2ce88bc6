"""Noise of whole numbers: the discrete Gaussian, which adds up in the ring of secure sums."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.parameters import Vector

Words = NDArray[np.uint64]
"""Numbers of 64 random bits each."""
Draw = Callable[[int, int], Words]
"""(part, size) -> that many independent words; every part has others."""


def discrete_gaussian(scale: float, size: int, draw: Draw) -> NDArray[np.int64]:
    """Return independent whole numbers, `(size,)`, with P(z) proportional to e^(-z^2 / (2 s^2)).

    With t = floor(s) + 1, |z| = u + t v, u uniform among 0 to t - 1 and v geometric of e^-1. It is
    accepted with a probability of e^(-u / t) exp(-(|z| - s^2/t)^2 / (2 s^2)). u and signs are exact
    whole numbers of random bits, at any scale. v and acceptance are decided by coins of 52 bits, in
    place of exact ones: no |z| of 10 s or more comes.

    Canonne, Kamath, Steinke, The discrete Gaussian for differential privacy, NeurIPS 2020, arXiv
    2004.00010, algorithms 2 and 3.

    Args:
        scale: s, from 1/2 to 2^59.
        size: how many.
        draw: the random bits.
    """
    found = np.zeros(size, np.int64)
    left, part = np.arange(size), 0
    t = math.floor(scale) + 1
    last = np.uint64(2**64 - 1 - 2**64 % t)  # up to it every remainder comes equally often
    while len(left):
        first, second, third = draw(part, 3 * len(left)).reshape(3, -1)
        rest = (first % np.uint64(t)).astype(np.int64)
        times = np.floor(-np.log(in_unit(second)))
        magnitude = rest + t * times
        exponent = rest / t + np.square(magnitude - scale**2 / t) / (2.0 * scale**2)
        is_negative = third % np.uint64(2) == 1
        # Zero comes with both signs, and one of them is refused.
        taken = (first <= last) & (in_unit(third) < np.exp(-exponent))
        taken &= ~(is_negative & (magnitude == 0.0))
        whole = rest[taken] + t * times[taken].astype(np.int64)
        found[left[taken]] = np.where(is_negative[taken], -whole, whole)
        left, part = left[~taken], part + 1
    return found


def in_unit(words: Words) -> Vector:
    """Return numbers in (0, 1) of the 52 highest bits of each word."""
    numbers: Vector = ((words >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
    return numbers


def excess_of_sum(scale: float, count: int) -> float:
    """Return tau: a sum of discrete Gaussians is none, and diverges by at most tau d more.

    tau = 10 sum_{j=1}^{count - 1} exp(-2 pi^2 s^2 j / (j + 1)), for `count` summands of scale s, at
    least 1/2, and d numbers.

    Kairouz, Liu, Steinke, The distributed discrete Gaussian mechanism for federated learning with
    secure aggregation, ICML 2021, arXiv 2102.06387, theorem 1 and proposition 14.
    """
    j = np.arange(1.0, count)
    return 10.0 * float(np.exp(-2.0 * np.square(math.pi * scale) * j / (j + 1.0)).sum())
