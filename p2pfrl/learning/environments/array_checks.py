"""Checks of what pure functions on arrays return, for the checkers of environments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.contract import described, require
from p2pfrl.core.errors import ContractError
from p2pfrl.learning.environments.base import Spec

Arrays = tuple[NDArray[Any], ...]
Physics = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Rows:
    """The rows with which an environment is checked.

    Attributes:
        lead: first sizes of every array: rows, and what else all arrays have.
        subsets: of the rows, which must give the same alone.
        noun: what rows are, in messages.
    """

    lead: tuple[int, ...]
    subsets: Sequence[list[int]]
    noun: str

    def repeat(
        self,
        method: str,
        inputs: Sequence[NDArray[Any]],
        call: Callable[..., Arrays],
        physics: Physics,
    ) -> Arrays:
        """Return what `call` gives for all rows; check that it is pure and row-independent."""
        before = [x.copy() for x in inputs]
        kept = {name: values.copy() for name, values in physics.items()}
        results = call(*inputs, physics)
        for result in results:
            fits = np.shape(result)[: len(self.lead)] == self.lead
            expected = f"expected an array ({', '.join(map(str, self.lead))}, ...)"
            is_right = fits and isinstance(result, np.ndarray)
            require(is_right, method, f"{expected}, got {described(result)}")
        if any(not np.array_equal(x, y) for x, y in zip(inputs, before, strict=True)):
            raise ContractError(f"{method}: changed its inputs")
        if any(not np.array_equal(values, kept[name]) for name, values in physics.items()):
            raise ContractError(f"{method}: changed the physics")
        for subset in (list(range(self.lead[0])), *self.subsets):
            own = {name: values[subset] for name, values in physics.items()}
            part = call(*(x[subset] for x in inputs), own)
            for whole, found in zip(results, part, strict=True):
                if not np.array_equal(whole[subset], found, equal_nan=whole.dtype.kind == "f"):
                    raise ContractError(
                        f"{method}: {self.noun} {subset} depend on the batch, or on a state of its "
                        "own"
                    )
        return results

    def expect(
        self,
        values: NDArray[Any],
        what: str,
        tail: tuple[int, ...],
        dtype: type[np.generic],
        *,
        may_lack: bool = False,
    ) -> None:
        """Raise an error if values have another shape or type, or are not finite.

        Args:
            values: `(*lead, *tail)`.
            what: they are.
            tail: further sizes.
            dtype: their type.
            may_lack: whether nan is right, too.
        """
        shape = (*self.lead, *tail)
        if values.shape != shape or values.dtype != dtype:
            got = f"{values.dtype} {values.shape}"
            raise ContractError(f"{what}: expected {dtype.__name__} {shape}, got {got}")
        if not (np.isfinite(values) | (may_lack & np.isnan(values))).all():
            raise ContractError(f"{what}: not finite")


def check_step(made: object, spec: Spec, state: str) -> None:
    """Raise an error if a step is no tuple of four with the measures that were announced.

    Args:
        made: what `step` returned.
        spec: with the measures.
        state: what its first part is called.
    """
    is_step = isinstance(made, tuple) and len(made) == 4 and isinstance(made[3], Mapping)
    expected = f"expected ({state}, rewards, terminated, measures)"
    require(is_step, "step", f"{expected}, got {described(made)}")
    names = sorted(made[3])  # type: ignore[index]  # a tuple
    if names != (known := sorted(spec.measures)):
        raise ContractError(f"step: measures {names}, but spec.measures has {known}")


def flat(result: tuple[Any, Any, Any, Mapping[str, Any]], spec: Spec) -> Arrays:
    """Return the arrays of a step, its measures one by one."""
    return (*result[:3], *(result[3][name] for name in spec.measures))
