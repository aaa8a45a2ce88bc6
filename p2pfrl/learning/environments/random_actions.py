"""Actions of an environment: random ones of those that its masks allow, and what is one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.rng import Streams
from p2pfrl.learning.environments.base import Spec


def random_action(spec: Spec, obs: NDArray[np.float32], streams: Streams) -> NDArray[np.generic]:
    """Return an action for each of the observations `(b, m, o)`, as `Environment.step` takes it.

    Continuous actions are uniform within their bounds; a coordinate without bounds is uniform in
    [-1, 1], one with a single bound within 1 of it.

    Args:
        spec: whose actions.
        obs: what is acted on; only its mask matters.
        streams: b streams.
    """
    m = obs.shape[1]
    if spec.heads:
        mask, uniform = _mask(spec, obs), streams.uniform(m, len(spec.heads))
        parts = np.split(mask, np.cumsum(spec.heads)[:-1], axis=-1)
        return np.stack([chosen(part, uniform[..., h]) for h, part in enumerate(parts)], axis=-1)
    if spec.actions:
        return chosen(_mask(spec, obs), streams.uniform(m))
    low, high = np.array(spec.action_low), np.array(spec.action_high)
    first = np.where(np.isfinite(low), low, np.where(np.isfinite(high), high - 1.0, -1.0))
    last = np.where(np.isfinite(high), high, first + np.where(np.isfinite(low), 1.0, 2.0))
    action: NDArray[np.float64] = first + streams.uniform(m, len(low)) * (last - first)
    return action.astype(np.float32)


def wrong_actions(spec: Spec, action: NDArray[Any]) -> str:
    """Return what was expected, if `action` `(b, m, ...)` are no actions of `spec`; else ""."""
    width = len(spec.action_low)
    if spec.choices:
        shape = (len(spec.heads),) if spec.heads else ()
        is_right = action.dtype.kind in "iu" and action.shape[2:] == shape
        is_right = is_right and bool(
            (action >= 0).all() and (action < np.array(spec.heads or spec.actions)).all()
        )
        most = " and ".join(str(count - 1) for count in spec.choices)
        return "" if is_right else f"integers from 0 to {most}"
    is_right = action.dtype == np.float32 and action.shape[2:] == (width,)
    is_right = is_right and bool(
        (action >= np.array(spec.action_low, dtype=np.float32)).all()
        and (action <= np.array(spec.action_high, dtype=np.float32)).all()
    )
    return "" if is_right else f"float32 (b, m, {width}) within the bounds"


def chosen(mask: NDArray[np.floating], uniform: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return one of the allowed actions for each uniform number `(...)`, by masks `(..., k)`."""
    cumulated = np.cumsum(mask > 0, axis=-1)
    rank = (uniform * cumulated[..., -1]).astype(np.int64)
    found: NDArray[np.int64] = (cumulated <= rank[..., None]).sum(axis=-1, dtype=np.int64)
    return found


def _mask(spec: Spec, obs: NDArray[np.float32]) -> NDArray[np.float32]:
    if spec.is_masked:
        return obs[..., -spec.mask :]
    return np.ones((*obs.shape[:2], sum(spec.choices)), dtype=np.float32)
