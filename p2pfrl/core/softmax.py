"""Tabular softmax policies, pi(a|s) ~ exp(theta(s, a)), and their Fisher information."""

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
    """Return the natural direction (F + damping)^+ g, `(..., S, A)`, of a gradient g of logits.

    F = sum_s d(s) (diag pi(.|s) - pi(.|s) pi(.|s)') is the Fisher information of the policy's
    actions. F is zero in the direction that moves all logits of a state together, so the result has
    no component there, and neither has a gradient of the policy. By the formula of Sherman and
    Morrison, w = x - y (sum x / sum y), x = g / (d pi + damping), y = pi / (d pi + damping).
    Kakade, "A natural policy gradient", NeurIPS 2001.

    Args:
        gradient: g.
        visits: d, `(..., S)`: discounted frequencies of the states. Where d is zero and there is no
            damping, w is zero.
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
