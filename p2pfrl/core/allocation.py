"""Allocation of a divisible resource: the shares with the greatest sum of utilities.

    maximize sum_k U_k(R_k)  subject to  sum_k R_k <= R  and  low_k <= R_k <= high_k

with U_k(r) = w_k r^(1 - alpha) / (1 - alpha), w_k log r for alpha = 1. Utilities grow, so all of R
is used unless the upper bounds are below it. For alpha > 0 the conditions of Karush, Kuhn and
Tucker say that R_k = clip(t w_k^(1 / alpha), low_k, high_k) with one t for all. Their sum is
piecewise linear in t, so t is found in closed form, up to rounding. For alpha = 0 the agents with
the greatest weights get all that they may have.

Reference: Kelly, Maulloo, Tan, Rate control for communication networks: shadow prices, proportional
fairness and stability, J. Operational Research Society 49(3), 1998 (log); Mo, Walrand, Fair
end-to-end window-based congestion control, IEEE/ACM Transactions on Networking 8(5), 2000 (alpha).

>>> allocate(np.array([1.0, 3.0]), np.zeros(2), np.full(2, np.inf), 8.0, alpha=1.0).tolist()
[2.0, 6.0]
>>> allocate(np.array([1.0, 3.0]), np.zeros(2), np.array([9.0, 5.0]), 8.0, alpha=0.0).tolist()
[3.0, 5.0]
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]


def allocate(weights: Numbers, low: Numbers, high: Numbers, total: float, alpha: float) -> Numbers:
    """Return R_k, `(n,)`: the optimum, unique for alpha > 0.

    For alpha = 0, agents of equal weight get equal parts beyond their bounds.

    Args:
        weights: w_k > 0.
        low: lower bounds, at least 0; their sum is at most `total`.
        high: upper bounds, at least `low`; infinity for none.
        total: R.
        alpha: of the utility, at least 0.
    """
    if alpha > 0.0:
        scaled = np.exp((np.log(weights) - np.log(weights.max())) / alpha)
        return filled(np.maximum(scaled, np.finfo(np.float64).tiny), low, high, total)
    shares = low.astype(np.float64)
    for weight in np.unique(weights)[::-1]:
        alike = weights == weight
        left = total - float(shares[~alike].sum())
        shares[alike] = filled(np.ones(int(alike.sum())), low[alike], high[alike], left)
    return shares


def filled(rates: Numbers, low: Numbers, high: Numbers, total: float) -> Numbers:
    """Return clip(t rates, low, high) with the t at which the sum is `total`, or the bound nearest.

    The sum grows with t, and its slope changes where a share leaves or reaches a bound. A binary
    search finds the piece with the solution; there t = (total - bounds) / (sum of free rates).
    """
    if float(high.sum()) <= total:
        return high.astype(np.float64)
    turns = np.unique(np.concatenate([low / rates, high / rates]))
    turns = turns[np.isfinite(turns)]
    below, above = 0, len(turns)  # the sum at turns[below - 1] is at most total, at `above` more
    while below < above:
        middle = (below + above) // 2
        if float(np.clip(turns[middle] * rates, low, high).sum()) <= total:
            below = middle + 1
        else:
            above = middle
    left = turns[below - 1] if below else 0.0
    is_free = (low / rates <= left) & (left < high / rates)
    if not is_free.any():
        return np.clip(left * rates, low, high)
    held = float(np.where(low / rates > left, low, high)[~is_free].sum())
    return np.clip((total - held) / float(rates[is_free].sum()) * rates, low, high)
