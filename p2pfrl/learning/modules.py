"""Networks of a user's own: any `torch.nn.Module` as the policy of our learners.

Every agent is computed alone, so its result cannot depend on who shares its batch. stacked.py
computes many at a time, where that is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from typing_extensions import override

from p2pfrl.core.causes import cause, foreign
from p2pfrl.core.contract import described
from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.lazy import LazyModule
from p2pfrl.core.modules import find_class
from p2pfrl.core.parameters import Layout, Tensor, Vector
from p2pfrl.core.wording import show
from p2pfrl.learning.learners.seeding import drawn, seeded
from p2pfrl.learning.networks import Chain, Network
from p2pfrl.learning.normalization import Normalizer

if TYPE_CHECKING:
    import torch
else:
    torch = LazyModule("torch")

_SAMPLES = 3  # of the observation with which a module is tried
_STATEFUL = ("_BatchNorm", "_DropoutNd", "RNNBase")


class ModuleNetwork(Network):
    """A `torch.nn.Module` of one agent, run agent by agent.

    Its constructor takes (size of an observation, outputs of the policy); `forward` takes
    observations `(B, o)` and returns the outputs `(B, k)`, logits or means, and with a critic the
    values too, `(B,)` or `(B, 1)`. The part of a parameter is its name up to the first dot. A
    parameter with `requires_grad = False` travels as the others do, and is not trained.

    Args:
        place: of the class, "module:Class".
        critic: whether there is a value.
        inputs: size of an observation.
        policy: outputs of the policy.
        log_std: learn `policy` log standard deviations, the part `log_std`.
        normalizer: scales observations; None: nothing does.

    Raises:
        ScenarioError: there is no such class, or it does not do as above.
    """

    def __init__(
        self,
        place: str,
        critic: bool,
        inputs: int,
        policy: int,
        log_std: bool = False,
        normalizer: Normalizer | None = None,
    ) -> None:
        self._cls, self._arguments = _module_class(place), (inputs, policy)
        self._place = place
        self.policy, self.outputs, self.has_critic = policy, policy + critic, critic
        self._module = module = self._make(0)
        self._names = [name for name, values in module.named_parameters() if values.requires_grad]
        tensors = [Tensor(name, tuple(values.shape)) for name, values in module.named_parameters()]
        if not tensors or any(values.dtype != torch.float32 for values in module.parameters()):
            raise _refused(self._cls, "expected parameters of float32")
        if not self._names:
            raise _refused(
                self._cls, "requires_grad is False everywhere; there is nothing to train"
            )
        if log_std:
            tensors.append(Tensor("log_std.values", (policy,)))
        self.normalizer = normalizer
        if self.normalizer is not None:
            tensors += self.normalizer.tensors
        self.layout = Layout(tuple(tensors))
        if self.normalizer is not None:
            self.normalizer.place(self.layout)
        self._offset = {
            t.name: offset for t, offset in zip(tensors, self.layout.offsets, strict=True)
        }
        self.chains, self.remembered = (Chain((), 0),), 0
        self.fixed = np.array(
            [
                self._offset[name] + at
                for name, values in module.named_parameters()
                if not values.requires_grad
                for at in range(values.numel())
            ],
            dtype=np.intp,
        )
        self._check(inputs)
        self._check_again(inputs)
        self._check_more(inputs)

    @override
    def start(self, rng: np.random.Generator) -> Vector:
        """Return one row `(stride,)`: what the module's own constructor draws."""
        row: Vector = self.layout.zeros(1)[0]
        module = self._make(int(rng.integers(2**32)))
        for name, values in module.named_parameters():
            offset = self._offset[name]
            row[offset : offset + values.numel()] = values.detach().numpy().ravel()
        return row

    @override
    def log_std(self, rows: Vector) -> Vector:
        offset = self._offset.get("log_std.values")
        return rows[:, :0] if offset is None else rows[:, offset : offset + self.policy]

    @override
    def forward(
        self, rows: Vector, x: Vector, out: Vector, chains: Sequence[Chain] | None = None
    ) -> None:
        """Write all outputs for `x` `(b, in, B)` into `out`."""
        x = self._scaled(rows, x)
        with torch.no_grad():
            for row, seen, result in zip(rows, x, out, strict=True):
                result[:] = self._outputs(self._parameters(row), seen).numpy()

    @override
    def backward(self, rows: Vector, x: Vector, output_gradient: Vector, gradient: Vector) -> None:
        """Write the gradient at these rows and inputs into `gradient` `(b, stride)`."""
        x = self._scaled(rows, x)
        for row, seen, above, found in zip(rows, x, output_gradient, gradient, strict=True):
            parameters = self._parameters(row)
            trained = [parameters[name].requires_grad_() for name in self._names]
            out = self._outputs(parameters, seen)
            slopes = torch.autograd.grad(
                out,
                trained,
                torch.from_numpy(np.ascontiguousarray(above)),
                allow_unused=True,
            )
            for name, slope in zip(self._names, slopes, strict=True):
                place = slice(self._offset[name], self._offset[name] + parameters[name].numel())
                found[place] = 0.0 if slope is None else slope.numpy().ravel()
            found[self.fixed] = 0.0

    def _parameters(self, row: Vector) -> dict[str, torch.Tensor]:
        """Return the module's parameters in a row, as copies."""
        found = {}
        for name, values in self._module.named_parameters():
            offset = self._offset[name]
            own = row[offset : offset + values.numel()].copy()
            found[name] = torch.from_numpy(own).view(values.shape)
        return found

    def _outputs(self, parameters: dict[str, torch.Tensor], seen: Vector) -> torch.Tensor:
        """Return all outputs `(outputs, B)` of one agent at `(in, B)`."""
        return self._joined(parameters, torch.from_numpy(np.ascontiguousarray(seen.T)))

    def _joined(self, parameters: dict[str, torch.Tensor], obs: torch.Tensor) -> torch.Tensor:
        """Return all outputs `(outputs, B)` of one agent at `(B, in)`."""
        found: Any = torch.func.functional_call(self._module, parameters, (obs,))
        if not self.has_critic:
            head = found[0] if isinstance(found, tuple) else found
            return head.T  # type: ignore[no-any-return]  # a tensor, as `_check` saw
        head, value = found
        return torch.cat([head, value.reshape(-1, 1)], dim=1).T

    def _make(self, seed: int) -> torch.nn.Module:
        """Return a new module, drawn from a seed.

        Raises:
            ScenarioError: its constructor fails.
        """
        with seeded(seed):
            try:
                module: torch.nn.Module = self._cls(*self._arguments)
            except foreign() as error:
                size = " and ".join(map(str, self._arguments))
                reason = f"it cannot be made of (inputs, outputs) = {size}: {cause(error)}"
                raise _refused(self._cls, reason) from error
        for each in module.modules():
            names = [base.__name__ for base in type(each).__mro__]
            if any(name in names for name in _STATEFUL):
                reason = f"{type(each).__name__} remembers batches or draws numbers; leave it out"
                raise _refused(self._cls, reason)
        return module

    def _check(self, inputs: int) -> None:
        """Try the module on a few observations.

        Raises:
            ScenarioError: it fails, or returns something else than it should.
        """
        shape, k = (_SAMPLES, inputs), self.policy
        wanted = f"outputs {(_SAMPLES, k)}" + (
            f" and values {(_SAMPLES,)}" if self.has_critic else ""
        )
        try:
            with torch.no_grad():
                found: object = self._module(torch.zeros(shape))
        except foreign() as error:
            raise _refused(self._cls, f"forward of {shape} raised {cause(error)}") from error
        parts = found if isinstance(found, tuple) else (found,)
        is_right = (
            len(parts) >= 1 + self.has_critic
            and all(isinstance(part, torch.Tensor) for part in parts)
            and tuple(parts[0].shape) == (_SAMPLES, k)
            and (not self.has_critic or parts[1].numel() == _SAMPLES)
        )
        if not is_right:
            got = " and ".join(
                str(tuple(part.shape)) if isinstance(part, torch.Tensor) else described(part)
                for part in parts
            )
            raise _refused(self._cls, f"forward of {shape}: expected {wanted}, got {got}")

    def _check_again(self, inputs: int) -> None:
        """Try whether the outputs depend on parameters and observations alone.

        Raises:
            ScenarioError: two calls of `forward` differ, draw numbers or change a buffer.
        """
        module = self._module
        obs = torch.from_numpy(np.linspace(0.0, 1.0, _SAMPLES * inputs, dtype=np.float32))
        obs = obs.view(_SAMPLES, inputs)
        before = {name: values.clone() for name, values in module.named_buffers()}
        with seeded(0), torch.no_grad():
            start = drawn()
            try:
                first, second = (module(obs) for _ in range(2))
            except foreign():
                return  # it takes no such observation; its own errors end the run
            has_drawn = start != drawn()
        fix = "a run could not be repeated; leave it out"
        if has_drawn:
            raise _refused(self._cls, f"forward draws random numbers: {fix}")
        if not _equal(first, second):
            reason = "two calls of forward with equal parameters and observations differ"
            raise _refused(self._cls, f"{reason}: {fix}")
        after = dict(module.named_buffers())
        changed = [
            name
            for name in {**before, **after}
            if name not in before or name not in after or not _equal(before[name], after[name])
        ]
        if changed:
            reason = "buffers neither travel nor are saved: make it a parameter, or leave it out"
            raise _refused(self._cls, f"forward changes the buffer {changed[0]}; {reason}")

    def _check_more(self, inputs: int) -> None:
        """Try what else a subclass needs of the module.

        Raises:
            ScenarioError: with what it does not do.
        """
        return


def _equal(first: Any, second: Any) -> bool:
    """Return whether two tensors, or tuples of them, are equal; nan is equal to nan."""
    if isinstance(first, tuple | list):
        return len(first) == len(second) and all(map(_equal, first, second))
    if not isinstance(first, torch.Tensor) or not isinstance(second, torch.Tensor):
        return first is second or bool(first == second)
    return first.shape == second.shape and np.array_equal(
        first.numpy(), second.numpy(), equal_nan=first.is_floating_point()
    )


def _module_class(place: str) -> Any:
    """Return the class of a module.

    Raises:
        ScenarioError: there is none at this place.
    """
    try:
        found = find_class(place)
    except (ValueError, TypeError) as error:
        raise ScenarioError([f"learner.policy: {error}"]) from error
    if not issubclass(found, torch.nn.Module):
        raise ScenarioError(
            [f"learner.policy: expected a class that is a torch.nn.Module, got {show(place)}"]
        )
    return found


def _refused(cls: type, reason: str) -> ScenarioError:
    return ScenarioError([f"learner.policy: {cls.__name__}: {reason}"])
