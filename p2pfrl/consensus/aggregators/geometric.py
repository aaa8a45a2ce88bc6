"""Geometric median: the point with the smallest sum of distances to the vectors."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field
from typing_extensions import override

from p2pfrl.consensus.aggregators.distances import coordinate_median, norms
from p2pfrl.consensus.aggregators.robust import Place, Robust, Rows
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule


@rule
class GeometricMedian(Robust):
    """argmin_z sum_i ||x_i - z||: z <- sum_i w_i x_i / sum_i w_i, w_i = 1 / max(nu, ||x_i - z||).

    The iteration (smoothed Weiszfeld) starts at the median of every coordinate. It ends when z
    moves by at most `tolerance` times r, the median distance of the vectors from that start, and nu
    is `smoothing` times r. So vectors that are scaled or shifted together move the result alike.
    The paper starts at a given point, with a fixed nu.

    Attributes:
        tolerance: of the last step, relative to r.
        smoothing: nu / r.
        steps: largest number of steps.

    Reference: Pillutla, Kakade, Harchaoui, Robust aggregation for federated learning, IEEE TSP 70,
        2022, arXiv 1912.13445 (RFA).
    """

    reads_byzantine: ClassVar[bool] = False

    tolerance: float = Field(default=1e-6, ge=0)
    smoothing: float = Field(default=1e-6, gt=0)
    steps: int = Field(default=100, ge=1)

    @override
    def reduce(self, rows: Rows, f: int, place: Place) -> Vector:
        wide = rows.astype(np.float64, copy=False)
        z = coordinate_median(wide)
        distances = norms(wide - z)
        unit = float(np.median(distances))
        if unit == 0.0:
            return z
        for _ in range(self.steps):
            weights = 1.0 / np.maximum(distances, self.smoothing * unit)
            weights /= weights.sum()
            before, z = z, np.einsum("k,kd->d", weights, wide)
            if float(norms((z - before)[None])[0]) <= self.tolerance * unit:
                break
            distances = norms(wide - z)
        return z
