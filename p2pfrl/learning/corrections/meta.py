"""MAML: local steps that improve what one more local step would give."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field
from typing_extensions import override

from p2pfrl.core.parameters import Vector, aligned_zeros
from p2pfrl.core.rule import rule
from p2pfrl.learning.corrections.base import Again, Correction, State


@rule
class MAML(Correction):
    """g <- (I - alpha H) grad f_i(w - alpha grad f_i(w)): descent on f_i(w - alpha grad f_i(w)).

    H is the Hessian of f_i at w. The resulting model is not good for any agent, but one gradient
    step of rate alpha away from it is, for each agent (`[personal]` kind "finetune" takes it).
    `order` decides how the Hessian is treated, with g' = grad f_i(w - alpha grad f_i(w)):

        first          g <- g'; 2 gradients a step
        hessian_free   g <- g' - alpha (grad f_i(w + delta g') - grad f_i(w - delta g'))
                       / (2 delta); 4 gradients a step

    On quadratics f_i = 1/2 (x - x*_i)' A_i (x - x*_i) with one step per exchange, FedAvg then ends
    at (sum W_i)^-1 sum W_i x*_i, with W_i = A_i (I - alpha A_i) for "first" and W_i = (I - alpha
    A_i) A_i (I - alpha A_i), MAML's own, for "hessian_free".

    The paper draws new samples for each of these gradients. Here all are of the samples of the
    step, weighted as the learner weighs samples that another policy took. Environment steps count
    samples, not gradients.

    References: Fallah, Mokhtari, Ozdaglar, "Personalized federated learning with theoretical
        guarantees: a model-agnostic meta-learning approach" (Per-FedAvg), NeurIPS 2020, arXiv
        2002.07948, Algorithm 1 and section 4; Finn, Abbeel, Levine, "Model-agnostic meta-learning
        for fast adaptation of deep networks", ICML 2017, arXiv 1703.03400.

    Attributes:
        alpha: rate of the step that is looked ahead; 0 is plain training.
        order: first leaves the Hessian out; hessian_free takes its product with g' from a
            difference of gradients.
        delta: how far apart these gradients are taken, relative to g'.
    """

    alpha: float = Field(default=0.01, ge=0)
    order: Literal["first", "hessian_free"] = "first"
    delta: float = Field(default=1e-3, gt=0)

    @property
    @override
    def idle(self) -> tuple[str, ...]:
        """The distance of the gradients, where their difference is left out."""
        return ("delta",) if self.order == "first" else ()

    @property
    @override
    def bends(self) -> bool:
        """Whether alpha is above 0."""
        return self.alpha > 0

    @override
    def adjust(self, rows: Vector, gradient: Vector, state: State, again: Again) -> None:
        """Replace the gradient by that of f_i(w - alpha grad f_i(w))."""
        if not self.bends:
            return
        gradient[:] = after = again(_beside(rows, -self.alpha, gradient))
        if self.order == "hessian_free":
            ahead, behind = (again(_beside(rows, sign * self.delta, after)) for sign in (1, -1))
            gradient -= self.alpha / (2 * self.delta) * (ahead - behind)


def _beside(rows: Vector, rate: float, step: Vector) -> Vector:
    """Return rows + rate step, where learners expect their rows in memory."""
    out = aligned_zeros(rows.shape, rows.dtype)
    np.multiply(step, rate, out=out)
    out += rows
    return out
