"""Noise of whole numbers: the discrete Gaussian, which adds up in the ring of secure sums."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.parameters import Vector

Uniform = Callable[[int, int], Vector]
"""(part, size) -> that many independent numbers, uniform in (0, 1); every part has others."""


def discrete_gaussian(scale: float, size: int, uniform: Uniform) -> NDArray[np.int64]:
    """Return independent whole numbers, `(size,)`, with P(z) proportional to e^(-z^2 / (2 s^2)).

    Whole numbers of a discrete Laplace distribution, each accepted with a probability of
    exp(-(|z| - s^2/t)^2 / (2 s^2)), t = floor(s) + 1. Canonne, Kamath, Steinke draw by exact coins;
    here logarithms and probabilities are of double precision, and the numbers are whole all the
    same.

    Canonne, Kamath, Steinke, The discrete Gaussian for differential privacy, NeurIPS 2020, arXiv
    2004.00010, algorithm 3.

    Args:
        scale: s, at least 1/2.
        size: how many.
        uniform: the random numbers.
    """
    found = np.zeros(size, np.int64)
    left, part = np.arange(size), 0
    t = math.floor(scale) + 1
    while len(left):
        first, second, third = uniform(part, 3 * len(left)).reshape(3, -1)
        magnitude = np.floor(-t * np.log(first))
        is_negative = second < 0.5
        chance = np.exp(-np.square(magnitude - scale**2 / t) / (2.0 * scale**2))
        # Zero comes with both signs, and one of them is refused.
        taken = (third < chance) & ~(is_negative & (magnitude == 0.0))
        signed = np.where(is_negative, -magnitude, magnitude)
        found[left[taken]] = signed[taken].astype(np.int64)
        left, part = left[~taken], part + 1
    return found


def excess_of_sum(scale: float, count: int) -> float:
    """Return tau: a sum of discrete Gaussians is none, and diverges by at most tau d more.

    tau = 10 sum_{j=1}^{count - 1} exp(-2 pi^2 s^2 j / (j + 1)), for `count` summands of scale s, at
    least 1/2, and d numbers.

    Kairouz, Liu, Steinke, The distributed discrete Gaussian mechanism for federated learning with
    secure aggregation, ICML 2021, arXiv 2102.06387, theorem 1 and proposition 14.
    """
    j = np.arange(1.0, count)
    return 10.0 * float(np.exp(-2.0 * np.square(math.pi * scale) * j / (j + 1.0)).sum())
