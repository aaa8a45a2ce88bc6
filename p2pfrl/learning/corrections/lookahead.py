"""Look-ahead: agents train at the point toward which the coordinator's model moves."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from typing_extensions import override

from p2pfrl.core.needs import Need, Needs, OneOf
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule
from p2pfrl.learning.corrections.base import Correction


@rule
class Lookahead(Correction):
    """The coordinator at x_k sends x_k + ((1 - alpha) / alpha) (x_k - x_(k-1)), and x itself last.

    Implicit gradient transport: Arnold, Manzagol, Babanezhad, Mitliagkas, Le Roux, Reducing the
    variance in online optimization by transporting past gradients, NeurIPS 2019, arXiv 1906.03532;
    in AFedPG: Lan et al., ICLR 2025, arXiv 2404.08003. Gradients at these points, averaged with
    weights alpha, 1 - alpha (server optimizer "normalized_momentum" of the same alpha), have no
    bias from the older ones on a quadratic: with d_k = (1 - alpha) d_(k-1) + alpha grad J(x~_k),
    d_k - grad J(x_k) = (1 - alpha) (d_(k-1) - grad J(x_(k-1))) exactly. That is for a gradient
    applied to the model it was computed for; a stale one leaves an error of the order of the delay.

    While a run goes on the agents' parameters, and what evaluation sees of them, are look-ahead
    points.

    Attributes:
        alpha: weight of the newest gradient in the coordinator's average; 1 looks nowhere.
    """

    needs: ClassVar[Needs] = (
        Need.ONE_COORDINATOR,
        OneOf(
            "exchange.payload", ("gradient", "delta"), "parameters would bring the look-ahead back"
        ),
    )
    alpha: float = Field(default=0.2, gt=0, le=1)

    @property
    @override
    def reckons_with(self) -> tuple[str, float] | None:
        """Return the server optimizer's alpha, with which it must weigh the newest gradient."""
        return ("alpha", self.alpha) if self.alpha < 1.0 else None

    @override
    def point(self, model: Vector, previous: Vector) -> Vector:
        """Return the look-ahead point."""
        return model + ((1.0 - self.alpha) / self.alpha) * (model - previous)
