"""Quadratic problems, the test bed of all laws, with exact gradients or known noise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from typing_extensions import override

from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.parameters import Layout, Tensor, Vector
from p2pfrl.core.rng import Purpose, Streams, generator
from p2pfrl.core.rule import rule
from p2pfrl.learning.learners.base import (
    Batch,
    Learner,
    Objective,
    Outcome,
    PooledTraining,
    Stack,
    State,
    Task,
    Traits,
)

_Matrix = NDArray[np.float64]
_CACHE = 2**17  # numbers of one chunk's matrices: 1 MiB
_LARGEST = 10**8  # numbers of `A` that are still written to a file


@rule
class Quadratic(Learner):
    """f_i(x) = 1/2 (x - x*_i)' A_i (x - x*_i), with steps x -= lr (A_i (x - x*_i) + noise z).

    An update takes `steps` steps, in float64.

    A_i = curvature_growth^i Q_i diag(linspace(low, high, dimension)) Q_i', Q_i Haar (QR of a
    Gaussian matrix, signs of R's diagonal moved into Q; Mezzadri, How to generate random matrices
    from the classical compact groups, Notices of the AMS 54, 2007, arXiv math-ph/0609050), x*_i =
    spread N(0, I), both from (seed, i, "problem"). The common start is one draw of N(0, I) from
    (seed, "start"), so that it is not the optimum even where spread = 0; agent i starts at it plus
    initial_spread N(0, I) from (seed, i, "start").

    Attributes:
        dimension: of x.
        curvature: smallest and largest eigenvalue of A_0, and of every A_i where they do not grow.
        curvature_growth: the eigenvalues of A_i over those of A_(i-1).
        spread: standard deviation of x*_i over agents, per coordinate.
        noise: standard deviation of the gradient noise, per coordinate.
        initial_spread: standard deviation of the start points around the common one, per
            coordinate.
        lr: step size.
        steps: gradient steps of one update; each counts as one environment step.
    """

    dimension: int = Field(default=32, ge=1)
    curvature: tuple[float, float] = (1.0, 10.0)
    curvature_growth: float = Field(default=1.0, gt=0)
    spread: float = Field(default=1.0, ge=0)
    noise: float = Field(default=0.0, ge=0)
    initial_spread: float = Field(default=0.0, ge=0)
    lr: float = Field(default=0.05, ge=0)
    steps: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _check(self) -> Quadratic:
        low, high = self.curvature
        if not 0 < low <= high:
            raise ValueError(
                f"curvature must be [low, high] with 0 < low <= high, got [{low}, {high}]"
            )
        return self

    @property
    @override
    def gradient_steps(self) -> int:
        """The option `steps`."""
        return self.steps

    @override
    def prepare(self, task: Task) -> QuadraticStack:
        """Bind the options to a task; the environment is not used."""
        return QuadraticStack(self, task)


class QuadraticStack(Stack, Objective, PooledTraining):
    """A population of quadratics.

    Where all A_i = low I none is stored, so n = 10,000 and d = 4675 fit.
    """

    pooled_options = MappingProxyType({"steps": 1})

    def __init__(self, learner: Quadratic, task: Task) -> None:
        self.learner = learner
        self.task = task
        d = learner.dimension
        if task.gradient_only and learner.steps != 1:
            raise ScenarioError(
                [
                    f"learner.steps: must be 1 with exchange.payload = 'gradient', got {learner.steps}"
                ]
            )
        low, high = learner.curvature
        self._scalar = low if low == high and learner.curvature_growth == 1.0 else None
        self.traits = Traits(
            layout=Layout((Tensor("x", (d,)),), "float64"),
            min_steps=learner.steps,
            chunk=max(1, min(4096, _CACHE // (d if self._scalar is not None else d * d))),
            arrays=task.arrays,
            rate=0.0 if task.gradient_only else learner.lr * learner.steps,
            takes_corrections=True,
            gives_gradients=True,
            gives_returns=False,
        )
        self.objective = self.pooled = self

    @cached_property
    def x_star(self) -> _Matrix:
        """The agents' own optima `(n, d)`."""
        d, spread = self.learner.dimension, self.learner.spread
        out = np.empty((self.task.agents, d))
        for i, row in enumerate(out):
            generator(self.task.seed, i, Purpose.PROBLEM).standard_normal(out=row)
        out *= spread
        return out

    @cached_property
    def A(self) -> _Matrix:  # noqa: N802  (the field's name)
        """The agents' matrices `(n, d, d)`, symmetric to the last bit."""
        d = self.learner.dimension
        values = np.linspace(*self.learner.curvature, d)
        if self._scalar is not None:
            return np.broadcast_to(np.diag(values), (self.task.agents, d, d))
        out = np.empty((self.task.agents, d, d))
        for i, matrix in enumerate(out):
            rng = generator(self.task.seed, i, Purpose.PROBLEM)
            rng.standard_normal(d)  # x*_i comes first in this stream
            Q, R = np.linalg.qr(rng.standard_normal((d, d)))
            Q *= np.sign(np.diag(R))
            product = (Q * (values * self.learner.curvature_growth**i)) @ Q.T
            matrix[:] = (product + product.T) / 2
        return out

    @override
    def start(self, agents: Sequence[int], *, same: bool) -> Vector:
        """Return start parameters `(b, stride)`; `Quadratic` says what they are."""
        d, seed, spread = self.learner.dimension, self.task.seed, self.learner.initial_spread
        common = generator(seed, Purpose.START).standard_normal(d)
        rows = self.layout.zeros(len(agents))
        for row, agent in zip(rows, agents, strict=True):
            rng = generator(seed, agent, Purpose.START)
            base = common if same else rng.standard_normal(d)
            row[:d] = base + spread * rng.standard_normal(d)
        return rows

    @override
    def init(self, agents: Sequence[int]) -> State:
        """Return no state: gradient descent has none."""
        return {}

    @override
    def update(self, batch: Batch) -> Outcome:
        """Take `steps` gradient steps; the loss is the mean of f_i where each step began."""
        d, learner, task = self.learner.dimension, self.learner, self.task
        x, loss, rows = batch.parameters[:, :d], np.zeros(len(batch.agents)), None
        if task.correction.bends:
            rows = np.zeros_like(batch.parameters)
        for gradient, value in self._gradients(batch, x):
            loss += value
            if rows is not None:
                rows[:, :d] = gradient
                again = partial(self._again, batch.agents, batch.parameters, gradient)
                task.correction.adjust(batch.parameters, rows, batch.state, again)
                gradient = rows[:, :d].astype(np.float64)
            if task.gradient_only:
                batch.state["gradient"][:, :d] = gradient
            else:
                x -= learner.lr * gradient
        return self._outcome(batch, loss / learner.steps)

    def _again(
        self, agents: Sequence[int], rows: Vector, gradient: _Matrix, elsewhere: Vector
    ) -> Vector:
        """Return the gradients `(b, stride)` at other rows, with the same noise."""
        d = self.learner.dimension
        moved = elsewhere[:, :d] - rows[:, :d]
        out = np.zeros_like(rows)
        if self._scalar is not None:
            out[:, :d] = gradient + self._scalar * moved
        else:
            out[:, :d] = (
                gradient + np.matmul(self.A[np.asarray(agents)], moved[:, :, None])[:, :, 0]
            )
        return out

    @override
    def collect(self, batch: Batch) -> Outcome:
        """Gather each agent's gradient at its parameters, `(b, d)`.

        It is that of one step: later ones depend on the first.
        """
        ((gradient, loss),) = self._gradients(batch, batch.parameters[:, : self.learner.dimension])
        return replace(self._outcome(batch, loss), transitions=gradient)

    @override
    def learn(
        self, parameters: Vector, state: State, transitions: Sequence[Vector], index: int
    ) -> float:
        """Take one step along the mean of the gradients; the loss is not known here and is nan."""
        parameters[0, : self.learner.dimension] -= self.learner.lr * np.mean(transitions, axis=0)
        return float("nan")

    def _gradients(self, batch: Batch, x: Vector) -> Iterator[tuple[_Matrix, _Matrix]]:
        """Yield gradients `(b, d)` and values `(b,)` of f_i at the current x, `steps` times."""
        learner = self.learner
        agents = np.asarray(batch.agents, dtype=np.intp)
        x_star = self.x_star[agents]
        scale, A = (1.0, self.A[agents]) if self._scalar is None else (self._scalar, None)
        streams = (
            Streams.of(self.task.seed, batch.agents, Purpose.GRADIENT, batch.index)
            if learner.noise
            else None
        )
        for _ in range(learner.steps):
            difference = x - x_star
            gradient = (
                scale * difference if A is None else np.matmul(A, difference[:, :, None])[:, :, 0]
            )
            value = 0.5 * (difference * gradient).sum(axis=1)
            if streams is not None:
                gradient = gradient + learner.noise * streams.normal(learner.dimension)
            yield gradient, value

    def _outcome(self, batch: Batch, loss: _Matrix) -> Outcome:
        steps = np.full(len(loss), self.learner.steps, dtype=np.int64)
        return Outcome(batch.parameters, batch.state, steps, loss, [()] * len(loss))

    @override
    def problem_bytes(self) -> tuple[int, int]:
        n, d = self.task.agents, self.learner.dimension
        held = 0 if self._scalar is not None else 8 * d * d
        saved = 8 * d * d if n * d * d <= _LARGEST else 0
        return held + 8 * d, saved + 8 * d

    @override
    def problem(self) -> dict[str, NDArray[np.generic]]:
        """Return `A` `(n, d, d)`, left out beyond 1e8 numbers, and `x_star` `(n, d)`."""
        n, d = self.x_star.shape
        out: dict[str, NDArray[np.generic]] = {"x_star": self.x_star}
        if n * d * d <= _LARGEST:
            out["A"] = np.ascontiguousarray(self.A)
        return out

    @override
    def linear(self) -> tuple[_Matrix, _Matrix] | None:
        n, d = self.x_star.shape
        if n * d * d > _LARGEST:
            return None
        return self.A, np.matmul(self.A, self.x_star[:, :, None])[:, :, 0]

    @cached_property
    def optimum(self) -> tuple[_Matrix, _Matrix | float, float]:
        """(x_opt, mean A, mean_i f_i(x_opt)) with x_opt = (sum A_i)^-1 sum A_i x*_i."""
        if self._scalar is not None:
            x_opt = self.x_star.mean(axis=0)
            square = float(np.square(self.x_star - x_opt).sum(axis=1).mean())
            return x_opt, self._scalar, 0.5 * self._scalar * square
        mean = self.A.mean(axis=0)
        x_opt = np.linalg.solve(
            mean, np.matmul(self.A, self.x_star[:, :, None])[:, :, 0].mean(axis=0)
        )
        difference = x_opt - self.x_star
        values = (difference * np.matmul(self.A, difference[:, :, None])[:, :, 0]).sum(axis=1)
        return x_opt, mean, 0.5 * float(values.mean())

    @override
    def error(self, parameters: Vector) -> tuple[float, float]:
        """Return (mean_i f_i(mean theta), sqrt(mean_i ||theta_i - x_opt||^2)) of all rows."""
        x = parameters[:, : self.learner.dimension]
        x_opt, curvature, least = self.optimum
        offset = x.mean(axis=0) - x_opt
        objective = least + 0.5 * float(offset @ np.dot(curvature, offset))
        return objective, float(np.sqrt(np.square(x - x_opt).sum(axis=1).mean()))
