"""Server optimizers that step along the pseudo-gradient Delta = target - x, or along a memory of it."""

from __future__ import annotations

from pydantic import Field

from p2pfrl.consensus.server_optimizers.base import ServerOptimizer, State
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule


@rule
class Sgd(ServerOptimizer):
    """x <- x + lr s Delta with Delta = target - x; with parameters or deltas and lr in (0, 1) it is Reptile.

    Reddi et al., ICLR 2021, arXiv 2003.00295 (server SGD); Nichol, Achiam, Schulman, 2018, arXiv 1803.02999 (Reptile).
    With payload "gradient" Delta is minus the aggregated gradient, and this is distributed gradient descent.

    Attributes:
        lr: length of the step, in units of Delta.
    """

    lr: float = Field(default=1.0, gt=0)

    def step(self, model: Vector, target: Vector, factor: float, state: State) -> tuple[Vector, State]:
        """Return the point lr s of the way."""
        return model + self.lr * factor * (target - model), state
