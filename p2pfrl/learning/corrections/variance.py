"""Variance reduction of local gradients by the last gradient."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field
from typing_extensions import override

from p2pfrl.core.needs import Need, Needs
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rng import Purpose, generator
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


@rule
class Page(Correction):
    """u_k = g(theta_k) with probability p, else g(theta_k) + u_{k-1} - omega g(theta_{k-1}).

    All agents throw one coin, which is public: that of their k-th gradient. Both gradients are on
    the samples of step k; theta_{k-1}, u_k and omega are as in "storm". The first gradient is
    fresh. Fresh gradients may be those of a larger batch, as in the paper. Li, Bao, Zhang,
    Richtarik, PAGE: a simple and optimal probabilistic gradient estimator for nonconvex
    optimization, ICML 2021, arXiv 2008.10898; for policies of agents of which some are Byzantine:
    Jordan, Groetschla, Fan, Wattenhofer, Decentralized federated policy gradient with Byzantine
    fault-tolerance and provably fast convergence, AAMAS 2024, arXiv 2401.03489.

    Attributes:
        p: probability of a fresh gradient; 1 is no correction.
        fresh: episodes of a fresh gradient, where learner.episodes are those of the others; None:
            all batches have the learner's size.
    """

    arrays: ClassVar[tuple[str, ...]] = ("page_estimate", "page_point", "page_steps")
    p: float = Field(default=0.2, gt=0, le=1)
    fresh: int | None = Field(default=None, ge=1)

    @property
    @override
    def needs(self) -> Needs:
        """Updates of whole episodes, if their number changes."""
        return () if self.fresh is None else (Need.EPISODES.of("fresh"),)

    @override
    def batches(self, usual: int) -> tuple[int, ...]:
        return (usual,) if self.fresh is None else (usual, self.fresh)

    @override
    def batch(self, usual: int, state: State) -> int:
        if self.fresh is None:
            return usual
        (step,) = state[self.arrays[2]][:, 0]
        return self.fresh if self._is_fresh(int(step)) else usual

    @override
    def adjust(self, rows: Vector, gradient: Vector, state: State, again: Again) -> None:
        """Replace the gradient by the estimate."""
        estimate, point, steps = (state[name] for name in self.arrays)
        goes_on = np.array([not self._is_fresh(int(step)) for step in steps[:, 0]])
        if goes_on.any():
            before = np.where(goes_on[:, None], point, rows)
            gradient += goes_on[:, None].astype(gradient.dtype) * (estimate - again(before))
        estimate[:] = gradient
        point[:] = rows
        steps[:, 0] += 1.0

    def _is_fresh(self, step: int) -> bool:
        """Return what the coin of a step says."""
        return step == 0 or bool(generator(0, Purpose.COIN, step).random() < self.p)
