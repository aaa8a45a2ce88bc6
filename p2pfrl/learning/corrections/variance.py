"""Variance reduction of local gradients by the last gradient."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field
from typing_extensions import override

from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule
from p2pfrl.learning.corrections.base import Again, Correction, State


@rule
class Storm(Correction):
    """u_k = g(theta_k) + (1 - beta) (u_{k-1} - omega g(theta_{k-1})), u_0 = g.

    Both gradients are on the samples of step k. theta_{k-1} is where the agent took its last
    gradient, u_k replaces the gradient of the local step, and omega weighs an episode by the
    product of pi(theta_{k-1}) / pi(theta_k), at most 10. Cutkosky, Orabona, Momentum-based variance
    reduction in non-convex SGD (STORM), NeurIPS 2019, arXiv 1905.10018; for policies Jiang, Lee,
    Tan, Tan, Balu, Lee, Hegde, Sarkar, MDPGT: momentum-based decentralized policy gradient
    tracking, AAAI 2022, arXiv 2112.02813, whose momentum-based variance reduction this is.

    Attributes:
        beta: weight of the new gradient alone; 1 is no correction.
    """

    arrays: ClassVar[tuple[str, ...]] = ("storm_estimate", "storm_point", "storm_steps")
    beta: float = Field(default=0.5, gt=0, le=1)

    @override
    def adjust(self, rows: Vector, gradient: Vector, state: State, again: Again) -> None:
        """Replace the gradient by the estimate."""
        estimate, point, steps = (state[name] for name in self.arrays)
        if self.beta < 1.0 and (steps[:, 0] > 0).any():
            has_past = (steps[:, :1] > 0).astype(gradient.dtype)
            before = np.where(has_past > 0, point, rows)
            gradient += (1.0 - self.beta) * has_past * (estimate - again(before))
        estimate[:] = gradient
        point[:] = rows
        steps[:, 0] += 1.0
