"""A mean in which vectors that are suspect weigh less."""

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
class SuspectScore(Robust):
    """sum_i w_i x_i / sum_i w_i, w_i = max(1, s_i)^-power, s_i = ||x_i - m|| / med_j ||x_j - m||.

    m is the median of every coordinate, and s_i is the suspicion that a record shows of a rule that
    chooses m. The half of the vectors that is nearest counts in full. With power = 1 a vector pulls
    with the strength of one at the median distance, however far it is: those are the weights of
    Huber, and this is one step of iteratively reweighted least squares from the median. With a
    larger power the pull of far vectors goes to zero. Where more than half of the vectors are
    equal, they are the result.

    Attributes:
        power: how fast the weight falls with suspicion.

    Reference: Huber, Robust estimation of a location parameter, Annals of Mathematical Statistics
        35, 1964; Holland, Welsch, Robust regression using iteratively reweighted least-squares,
        Communications in Statistics A 6, 1977.
    """

    reads_byzantine: ClassVar[bool] = False
    power: float = Field(default=2.0, ge=1)

    @override
    def reduce(self, rows: Rows, f: int, place: Place) -> Vector:
        wide = rows.astype(np.float64, copy=False)
        middle = coordinate_median(wide)
        away = wide - middle
        distances = norms(away)
        unit = float(np.median(distances))
        if unit == 0.0:
            return middle
        weights = np.maximum(1.0, distances / unit) ** -self.power
        moved: Vector = middle + np.einsum("k,kd->d", weights / weights.sum(), away)
        return moved
