"""Optimizers of a population, which take one step for every row.

Each row has its own moments and its own step count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.lazy import LazyModule
from p2pfrl.core.parameters import Layout, Vector
from p2pfrl.learning.learners.base import State

if TYPE_CHECKING:
    import torch
else:
    torch = LazyModule("torch")

Apply = Callable[[], None]
Factors = NDArray[np.float64]


class Optimizer(Protocol):
    """Turns gradients into steps.

    Attributes:
        moments: names of its `(b, stride)` state arrays.
        squares: those of them that are means of squares, and so never negative.
        counts: names of its `(b,)` step counts.
    """

    moments: tuple[str, ...]
    squares: tuple[str, ...]
    counts: tuple[str, ...]

    def init(self, layout: Layout, rows: int) -> State:
        """Return the state before the first step."""

    def bind(
        self, parameters: Vector, gradient: Vector, state: State, factors: Factors | None = None
    ) -> Apply:
        """Return a function that takes one step on these very arrays, in place.

        Args:
            parameters: `(b, stride)`.
            gradient: `(b, stride)`; it may be overwritten.
            state: with the optimizer's arrays.
            factors: `(b,)` of the learning rate, per row; None: 1.
        """


class Adam:
    """m <- b1 m + (1 - b1) g; v <- b2 v + (1 - b2) g^2; x -= lr mhat / (sqrt(vhat) + eps).

    Each row counts its steps.

    Kingma, Ba, Adam: a method for stochastic optimization, ICLR 2015, arXiv 1412.6980, Algorithm 1,
    through torch's fused kernel with one entry per row: a row starts on 64 bytes and is whole
    vectors long, so its bits depend on no other.
    """

    moments: tuple[str, ...] = ("adam_m", "adam_v")
    squares: tuple[str, ...] = ("adam_v",)
    counts: tuple[str, ...] = ("adam_steps",)

    def __init__(
        self, lr: float, *, eps: float = 1e-5, betas: tuple[float, float] = (0.9, 0.999)
    ) -> None:
        self.lr, self.eps, self.betas = lr, eps, betas

    def init(self, layout: Layout, rows: int) -> State:
        """Return moments and step counts of zero."""
        counts = np.zeros(rows, dtype=np.float32)
        return {"adam_m": layout.zeros(rows), "adam_v": layout.zeros(rows), "adam_steps": counts}

    def bind(
        self, parameters: Vector, gradient: Vector, state: State, factors: Factors | None = None
    ) -> Apply:
        """Return the fused step on these arrays."""
        steps: NDArray[np.generic] = state["adam_steps"]
        arrays = (parameters, gradient, state["adam_m"], state["adam_v"], steps)
        tensors = [torch.from_numpy(array).unbind(0) for array in arrays]
        b1, b2 = self.betas
        groups = [
            (self.lr * factor, [[each[row] for row in rows] for each in tensors])
            for factor, rows in _groups(factors, len(parameters))
        ]

        def apply() -> None:
            np.add(steps, 1, out=steps)
            for lr, (own, gradients, m, v, counts) in groups:
                torch._fused_adam_(
                    own,
                    gradients,
                    m,
                    v,
                    [],
                    counts,
                    lr=lr,
                    beta1=b1,
                    beta2=b2,
                    weight_decay=0.0,
                    eps=self.eps,
                    amsgrad=False,
                    maximize=False,
                )

        return apply


class RMSprop:
    """v <- a v + (1 - a) g^2; x -= lr g / (sqrt(v) + eps), v from 0.

    Tieleman, Hinton, Lecture 6.5, COURSERA: Neural networks for machine learning, 2012; a = 0.99 as
    in Mnih et al., Asynchronous methods for deep reinforcement learning, ICML 2016, arXiv
    1602.01783.
    """

    moments: tuple[str, ...] = ("rmsprop_v",)
    squares: tuple[str, ...] = ("rmsprop_v",)
    counts: tuple[str, ...] = ()

    def __init__(self, lr: float, *, eps: float = 1e-5, decay: float = 0.99) -> None:
        self.lr, self.eps, self.decay = lr, eps, decay

    def init(self, layout: Layout, rows: int) -> State:
        """Return second moments of zero."""
        return {"rmsprop_v": layout.zeros(rows)}

    def bind(
        self, parameters: Vector, gradient: Vector, state: State, factors: Factors | None = None
    ) -> Apply:
        """Return the step on these arrays; it overwrites the gradient."""
        v: Vector = state["rmsprop_v"]  # type: ignore[assignment]
        scratch, lr = np.empty_like(v), _rates(self.lr, factors, v)

        def apply() -> None:
            np.multiply(gradient, gradient, out=scratch)
            np.multiply(scratch, 1.0 - self.decay, out=scratch)
            np.multiply(v, self.decay, out=v)
            np.add(v, scratch, out=v)
            np.sqrt(v, out=scratch)
            np.add(scratch, self.eps, out=scratch)
            np.divide(gradient, scratch, out=gradient)
            np.multiply(gradient, lr, out=gradient)
            np.subtract(parameters, gradient, out=parameters)

        return apply


class SGD:
    """x -= lr g."""

    moments: tuple[str, ...] = ()
    squares: tuple[str, ...] = ()
    counts: tuple[str, ...] = ()

    def __init__(self, lr: float) -> None:
        self.lr = lr

    def init(self, layout: Layout, rows: int) -> State:
        """Return no state."""
        return {}

    def bind(
        self, parameters: Vector, gradient: Vector, state: State, factors: Factors | None = None
    ) -> Apply:
        """Return the step on these arrays; it overwrites the gradient."""
        lr = _rates(self.lr, factors, parameters)

        def apply() -> None:
            np.multiply(gradient, lr, out=gradient)
            np.subtract(parameters, gradient, out=parameters)

        return apply


class Keep:
    """Takes no step: the gradient stays in the state array "gradient", where others read it."""

    moments: tuple[str, ...] = ()
    squares: tuple[str, ...] = ()
    counts: tuple[str, ...] = ()

    def init(self, layout: Layout, rows: int) -> State:
        """Return no state: the trainer makes the array."""
        return {}

    def bind(
        self, parameters: Vector, gradient: Vector, state: State, factors: Factors | None = None
    ) -> Apply:
        """Return a step that copies the gradient into the state array."""
        kept = state["gradient"]

        def apply() -> None:
            np.copyto(kept, gradient)

        return apply


def _groups(factors: Factors | None, rows: int) -> list[tuple[float, Sequence[int]]]:
    """Return each factor of the learning rate with its rows; a row's bits depend on no other."""
    if factors is None:
        return [(1.0, range(rows))]
    return [
        (float(factor), np.flatnonzero(factors == factor).tolist()) for factor in np.unique(factors)
    ]


def _rates(lr: float, factors: Factors | None, like: Vector) -> float | Vector:
    """Return the learning rate, or those of rows `(b, 1)`."""
    return lr if factors is None else (lr * factors).astype(like.dtype)[:, None]


OPTIMIZERS: dict[str, Callable[[float], Optimizer]] = {"adam": Adam, "rmsprop": RMSprop, "sgd": SGD}
