"""Memory of the learner of one agent between updates, as arrays: optimizers of torch."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.lazy import LazyModule

if TYPE_CHECKING:
    import torch
else:
    torch = LazyModule("torch")

Arrays = Mapping[str, NDArray[Any]]
"""Arrays by name, of names, shapes and types that do not change."""


class OptimizerArray:
    """The state of a torch optimizer as one array: 0 and zeros before its first step.

    Which numbers an optimizer keeps is seen by a step of a copy of it, with zero gradients.

    Args:
        optimizer: of parameters that are there already.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer
        twin = copy.deepcopy(optimizer)
        for values in _parameters(twin):
            values.grad = torch.zeros_like(values)
        twin.step()
        self._kept: list[list[tuple[str, Any]]] = [
            list(twin.state[values].items()) for values in _parameters(twin)
        ]

    def read(self) -> NDArray[np.float64]:
        """Return the state `(k,)` float64: whether it has begun, then its numbers."""
        state = self._optimizer.state
        has_begun = any(len(state[values]) for values in _parameters(self._optimizer))
        parts = [np.array([float(has_begun)])]
        for values, kept in zip(_parameters(self._optimizer), self._kept, strict=True):
            own = state[values]
            for name, like in kept:
                found = own.get(name)
                known = torch.zeros_like(torch.as_tensor(like)) if found is None else found
                parts.append(torch.as_tensor(known).detach().double().cpu().numpy().ravel())
        return np.concatenate(parts)

    def write(self, array: NDArray[np.float64]) -> None:
        """Set the state to what `read` returned."""
        self._optimizer.state.clear()
        if not array[0]:
            return
        at = 1
        for values, kept in zip(_parameters(self._optimizer), self._kept, strict=True):
            own: dict[str, Any] = {}
            for name, like in kept:
                tensor = torch.as_tensor(like)
                part = torch.from_numpy(array[at : at + tensor.numel()].copy())
                at += tensor.numel()
                is_number = not isinstance(like, torch.Tensor)
                own[name] = (
                    type(like)(part.item())
                    if is_number
                    else part.to(tensor.dtype).view(tensor.shape)
                )
            self._optimizer.state[values] = own


def _parameters(optimizer: torch.optim.Optimizer) -> list[Any]:
    return [values for group in optimizer.param_groups for values in group["params"]]
