"""Tabular softmax policies: pi(a|s) in proportion to exp(theta(s, a)), and their Fisher information."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def log_softmax(logits: Array) -> Array:
    """Return log pi, `(..., A)`, of logits `(..., A)`."""
    moved = logits - logits.max(axis=-1, keepdims=True)
    out: Array = moved - np.log(np.exp(moved).sum(axis=-1, keepdims=True))
    return out


def natural(gradient: Array, visits: Array, policy: Array, damping: float) -> Array:
    """Return (F + damping)^+ g, `(..., S, A)`: the natural direction of a gradient g of softmax logits.

    F = sum_s d(s) (diag pi(.|s) - pi(.|s) pi(.|s)') is the Fisher information of the policy's
    actions; it does not see what moves all logits of a state together, of which the result is free,
    as every gradient of the policy is. By the formula of Sherman and Morrison, w = x - y (sum x /
    sum y), x = g / (d pi + damping), y = pi / (d pi + damping). Kakade, "A natural policy
    gradient", NeurIPS 2001.

    Args:
        gradient: g.
        visits: d, `(..., S)`: discounted frequencies of the states; where it is zero, without
            damping, so is w.
        policy: pi.
        damping: added to the diagonal.
    """
    scale = visits[..., None] * policy + damping
    is_seen = scale > 0
    safe = np.where(is_seen, scale, 1.0)
    x, y = np.where(is_seen, gradient / safe, 0.0), np.where(is_seen, policy / safe, 0.0)
    total = y.sum(axis=-1, keepdims=True)
    out: Array = x - y * (x.sum(axis=-1, keepdims=True) / np.where(total > 0, total, 1.0))
    return out
