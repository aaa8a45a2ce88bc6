"""The filter of FedPG-BR: gradients that are as near to each other as concentration says."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import override

from p2pfrl.consensus.aggregators.distances import coordinate_median, norms, squared_distances
from p2pfrl.consensus.aggregators.robust import Place, Robust, Rows, mean
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule


@rule
class Concentration(Robust):
    """The mean of G = {i: ||x_i - m|| <= T}, T = 2 sigma sqrt(2 log(2 k / delta) / batch).

    m is the vector nearest to the mean of those that have more than half of the k within T. If G
    has fewer than k - f members, everything is done again with T = 2 sigma. The bounds hold for
    gradients that differ from their mean by at most sigma per trajectory: the mean of `batch`
    trajectories then lies within T / 2 of it, except with probability delta / k.

    If no vector has more than half within 2 sigma, sigma is too small, and the median of every
    coordinate is the result; the paper does not say what then. f stands for alpha k of the paper.

    Attributes:
        byzantine: f.
        sigma: largest distance of the gradient of one trajectory from the mean.
        delta: probability that the smaller radius fails.
        batch: trajectories behind each vector.

    Reference: Fan, Ma, Dai, Jing, Tan, Low, Fault-tolerant federated reinforcement learning with
        theoretical guarantee, NeurIPS 2021, arXiv 2110.14074, Algorithm 1 (FedPG-Aggregate); sigma
        and delta of its CartPole experiment.
    """

    byzantine: int = Field(default=1, ge=0)
    sigma: float = Field(default=0.06, gt=0)
    delta: float = Field(default=0.6, gt=0, lt=1)
    batch: int = Field(default=16, ge=1)

    @override
    def reduce(self, rows: Rows, f: int, place: Place) -> Vector:
        k = len(rows)
        distances = np.sqrt(squared_distances(rows))
        near = 2.0 * self.sigma * math.sqrt(2.0 * math.log(2.0 * k / self.delta) / self.batch)
        kept = _within(rows, distances, near)
        if len(kept) < k - f:
            kept = _within(rows, distances, 2.0 * self.sigma)
        return mean(rows[kept]) if len(kept) else coordinate_median(rows)


def _within(rows: Rows, distances: NDArray[np.float64], radius: float) -> NDArray[np.intp]:
    """Return the positions within a radius of the vector that stands for the majority."""
    dense = np.flatnonzero((distances <= radius).sum(axis=1) > len(rows) / 2)
    if not len(dense):
        return dense
    wide = rows[dense].astype(np.float64, copy=False)
    center = dense[int(np.argmin(norms(wide - mean(wide))))]
    return np.flatnonzero(distances[center] <= radius)
