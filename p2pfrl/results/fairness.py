"""How evenly a number is spread over agents."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def fairness(values: NDArray[np.float64]) -> dict[str, float | None]:
    """Return how even the finite ones of `values` `(n,)` are; all None if there are none.

    Entries:
        `worst`: the smallest.
        `p10`: the 10th percentile, linear between values.
        `jain`: (sum x)^2 / (n sum x^2), 1 if all are equal and 1 / n if one has everything. None
            where a value is negative, or all are 0.
        `gini`: sum_ij |x_i - x_j| / (2 n^2 mean), 0 if all are equal. None in the same cases.

    >>> fairness(np.array([1.0, 1.0, 2.0]))["jain"]
    0.8888888888888888
    >>> fairness(np.array([-1.0, 1.0]))["gini"] is None
    True

    Reference: Jain, Chiu, Hawe, "A quantitative measure of fairness and discrimination for resource
    allocation in shared computer systems", DEC research report TR-301, 1984.
    """
    x = np.sort(values[np.isfinite(values)])
    if not len(x):
        return dict.fromkeys(("worst", "p10", "jain", "gini"))
    n, largest = len(x), float(np.abs(x).max())
    found: dict[str, float | None] = {
        "worst": float(x[0]),
        "p10": float(np.percentile(x, 10)),
        "jain": None,
        "gini": None,
    }
    if x[0] >= 0 and largest > 0:
        share = x / largest  # squares of large numbers would not be finite
        found["jain"] = float(share.sum() ** 2 / (n * np.square(share).sum()))
        rank = 2.0 * np.arange(1, n + 1) - n - 1
        found["gini"] = float((rank * share).sum() / (n * share.sum()))
    return found
