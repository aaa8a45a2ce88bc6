"""Networks of a user's own, computed for many agents at a time by `torch.func.vmap`.

Rows of stacked products may differ in their last bits with the size of the stack, and an agent's
result must not depend on who shares its batch. So every stack has the same number of rows: what is
missing is filled with copies of its first row. Whether a row is then the same alone, among others
and in any place is a matter of the module's operations; so it is tried, and the module refused if
it is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from typing_extensions import override

from p2pfrl.core.causes import cause, foreign
from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.lazy import LazyModule
from p2pfrl.core.parameters import Vector, aligned_zeros
from p2pfrl.core.rng import generator
from p2pfrl.learning.modules import ModuleNetwork
from p2pfrl.learning.networks import Chain

if TYPE_CHECKING:
    import torch
else:
    torch = LazyModule("torch")

_WIDTH = 16  # rows of a stack
_TRIED = (1, 5, 64)  # observations per row in the trial

_EQUAL: set[tuple[type, bool, int, int]] = set()
"""Classes and sizes whose trial has passed in this process."""
Inputs = dict[str, "torch.Tensor"]
"""The parameters of a stack by name, `(_WIDTH, ...)` each."""


class StackedModule(ModuleNetwork):
    """A `torch.nn.Module` of one agent, run for `_WIDTH` agents at a time. Arguments as there.

    Raises:
        ScenarioError: as there; or the module cannot be stacked, or a row of it depends on others.
    """

    @override
    def _check_more(self, inputs: int) -> None:
        """Try whether rows are the same alone, among others and in any place."""
        place, key = self._place, (self._cls, self.has_critic, inputs, self.policy)
        if key in _EQUAL:
            return
        try:
            differs = self._differs(inputs)
        except foreign() as error:
            raise _refused(place, f"torch.func.vmap cannot run it: {cause(error)}") from error
        if differs:
            raise _refused(place, f"{differs} of an agent depend on who shares its batch")
        _EQUAL.add(key)

    @override
    def forward(
        self, rows: Vector, x: Vector, out: Vector, chains: Sequence[Chain] | None = None
    ) -> None:
        """Write all outputs for `x` `(b, in, B)` into `out`."""
        x = self._scaled(rows, x)
        with torch.no_grad():
            for at, filled in _stacks(len(rows)):
                found = self._run(self._gathered(rows, filled), x[filled])
                out[at] = found[: len(at)].numpy()

    @override
    def backward(self, rows: Vector, x: Vector, output_gradient: Vector, gradient: Vector) -> None:
        """Write the gradient at these rows and inputs into `gradient` `(b, stride)`."""
        x = self._scaled(rows, x)
        for at, filled in _stacks(len(rows)):
            parameters = self._gathered(rows, filled)
            trained = [parameters[name].requires_grad_() for name in self._names]
            slopes = torch.autograd.grad(
                self._run(parameters, x[filled]),
                trained,
                _tensor(output_gradient[filled]),
                allow_unused=True,
            )
            for name, slope in zip(self._names, slopes, strict=True):
                place = slice(self._offset[name], self._offset[name] + parameters[name][0].numel())
                own = 0.0 if slope is None else slope[: len(at)].reshape(len(at), -1).numpy()
                gradient[at, place] = own
        gradient[:, self.fixed] = 0.0

    def _run(self, parameters: Inputs, x: Vector) -> torch.Tensor:
        """Return all outputs `(_WIDTH, outputs, B)` of a stack at `(_WIDTH, in, B)`."""
        seen = _tensor(x.transpose(0, 2, 1))
        found: torch.Tensor = torch.func.vmap(self._joined)(parameters, seen)
        return found

    def _gathered(self, rows: Vector, filled: Sequence[int]) -> Inputs:
        """Return the parameters of a stack, as copies."""
        chosen, found = rows[list(filled)], {}
        for name, values in self._module.named_parameters():
            offset = self._offset[name]
            own = _tensor(chosen[:, offset : offset + values.numel()])
            found[name] = own.view(len(filled), *values.shape)
        return found

    def _differs(self, inputs: int) -> str:
        """Return what of a row is another number alone, or in another place; "" if nothing is."""
        rng, n = generator(0, "stacked"), 2 * _WIDTH + 3
        rows = aligned_zeros((n, self.layout.stride), self.layout.dtype)
        rows[:] = [self.start(rng) for _ in range(n)]
        alone = np.arange(0, n, _WIDTH // 4)[:, None]
        orders = [rng.permutation(n), np.arange(n)[::-1], *alone]
        for size in _TRIED:
            x = rng.standard_normal((n, inputs, size)).astype(rows.dtype)
            slope = rng.standard_normal((n, self.outputs, size)).astype(rows.dtype)
            together = self._both(rows, x, slope)
            for order in orders:
                found = self._both(rows[order], x[order], slope[order])
                for what, own, all_ in zip(("outputs", "gradients"), found, together, strict=True):
                    if not np.array_equal(own, all_[order]):
                        return what
        return ""

    def _both(self, rows: Vector, x: Vector, slope: Vector) -> tuple[Vector, Vector]:
        """Return outputs and gradients."""
        out, gradient = np.empty_like(slope), np.zeros_like(rows)
        self.forward(rows, x, out)
        self.backward(rows, x, slope, gradient)
        return out, gradient


def _stacks(count: int) -> Iterator[tuple[list[int], list[int]]]:
    """Yield the rows of each stack, and the same filled up to `_WIDTH`.

    >>> [(len(at), filled[-2:]) for at, filled in _stacks(18)]
    [(16, [14, 15]), (2, [16, 16])]
    """
    for start in range(0, count, _WIDTH):
        at = list(range(start, min(start + _WIDTH, count)))
        yield at, at + [start] * (_WIDTH - len(at))


def _tensor(values: Vector) -> torch.Tensor:
    """Return a tensor of its own, aligned as those of torch are."""
    return torch.from_numpy(np.ascontiguousarray(values)).clone()


def _refused(place: str, reason: str) -> ScenarioError:
    return ScenarioError([f"learner.stacked: {place}: {reason}; leave it out"])
