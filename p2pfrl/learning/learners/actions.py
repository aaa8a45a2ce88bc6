"""Checks of the actions that learners of users take."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.contract import described
from p2pfrl.learning.environments.base import Spec


class ActionError(ValueError):
    """Actions are not of the space; the message says what was expected, and what was got."""


def fitting(found: object, spec: Spec, count: int) -> NDArray[np.generic]:
    """Return actions `(count,)` or `(count, a)` as the environment takes them.

    Args:
        found: what a learner took or returned.
        spec: of the environment.
        count: of observations.

    Raises:
        ActionError: they have another shape, are no actions, or lie outside of the bounds.
    """
    action = np.asarray(found)
    width = spec.heads or spec.action_low
    shape = (count, len(width)) if width else (count,)
    if action.shape != shape or action.dtype.kind not in "biuf":
        raise ActionError(f"expected actions {shape}, got {described(action)}")
    if spec.choices:
        most = np.array(spec.heads) if spec.heads else spec.actions
        fits = (action >= 0) & (action < most) & (action == np.floor(action))
        expected = " and ".join(f"0 to {n - 1}" for n in spec.choices)
        what = f"whole numbers from {expected}"
    else:
        action = action.astype(np.float32)
        low, high = (np.array(ends, np.float32) for ends in (spec.action_low, spec.action_high))
        fits = np.isfinite(action) & (action >= low) & (action <= high)
        bounds = " and ".join(f"{a:g} to {b:g}" for a, b in zip(low, high, strict=True))
        what = f"numbers from {bounds}, clipped to env.single_action_space"
    if not fits.all():
        copy = int(np.argwhere(~fits)[0, 0])
        raise ActionError(f"expected actions {shape}, {what}; got {action[copy].tolist()}")
    return action.astype(np.int64) if spec.choices else action
