"""What arrays of a user's environment have to be, looked at in every call of a run.

The package's own environments keep the contract by test, and are called without.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.causes import cause, foreign
from p2pfrl.core.contract import described, name_of
from p2pfrl.core.errors import ContractError, P2PFRLError

Array = NDArray[np.float64]
Physics = Mapping[str, NDArray[Any]]
Stepped = tuple[Array, Array, NDArray[np.bool_], dict[str, Array]]


class Sizes(Protocol):
    """The sizes of a `Spec` that arrays are compared with."""

    @property
    def observation(self) -> int:
        """Of an observation."""

    @property
    def state(self) -> int:
        """Of a state."""

    @property
    def members(self) -> int:
        """Agents of a world, or 1."""


class Functions(Protocol):
    """The functions on arrays that `Environment` and `SharedEnvironment` both have."""

    @property
    def spec(self) -> Sizes:
        """Sizes."""

    def reset(self, physics: Physics, noise: Array, /) -> Array:
        """Return start states."""

    def observe(self, state: Array, physics: Physics, /) -> NDArray[np.float32]:
        """Return observations."""

    def step(
        self, state: Array, action: NDArray[Any], physics: Physics, noise: Array, /
    ) -> Stepped:
        """Advance one step."""


class CheckedFunctions:
    """The functions of a user's environment, with a look at shapes and types of what they return.

    Their inputs cannot be written to. With b rows (agents, or worlds of k members) and m instances,
    states are `(b, m, s)`; what belongs to an agent is `(b, m, ...)`, in worlds `(b, k, m, ...)`.

    Args:
        environment: the functions.

    Raises:
        ContractError: by each function, of what is wrong, with class and method.
    """

    def __init__(self, environment: Functions) -> None:
        self._environment = environment
        self._name = name_of(environment)
        self._spec = environment.spec
        self._members = (self._spec.members,) if self._spec.members > 1 else ()

    @property
    def spec(self) -> Sizes:
        """Sizes."""
        return self._spec

    def reset(self, physics: Physics, noise: Array, /) -> Array:
        """Return start states `(b, m, s)`."""
        made = self._call("reset", self._environment.reset, _all_locked(physics), _locked(noise))
        return self._fit("reset", made, (*noise.shape[:2], self._spec.state), np.float64)

    def observe(self, state: Array, physics: Physics, /) -> NDArray[np.float32]:
        """Return observations `(b, m, o)`, or `(b, k, m, o)`."""
        made = self._call(
            "observe", self._environment.observe, _locked(state), _all_locked(physics)
        )
        shape = (*self._each(state), self._spec.observation)
        return self._fit("observe", made, shape, np.float32)

    def step(
        self, state: Array, action: NDArray[Any], physics: Physics, noise: Array, /
    ) -> Stepped:
        """Return the next states, rewards, what terminated, and measures."""
        inputs = _locked(state), _locked(action), _all_locked(physics), _locked(noise)
        made = self._call("step", self._environment.step, *inputs)
        if not (isinstance(made, tuple) and len(made) == 4 and isinstance(made[3], Mapping)):
            raise ContractError(
                f"{self._name}.step: expected (states, rewards, terminated, measures), "
                f"got {described(made)}"
            )
        after, reward, terminated, measures = made
        each, both = self._each(state), state.shape[:2]
        return (
            self._fit("step: states", after, (*both, self._spec.state), np.float64),
            self._fit("step: rewards", reward, each, np.float64),
            self._fit("step: terminated", terminated, both, np.bool_),
            {
                name: self._fit(f"step: measure {name!r}", values, each, np.float64)
                for name, values in measures.items()
            },
        )

    def _call(self, method: str, function: Callable[..., object], *inputs: object) -> object:
        """Return what a function returns; an error that it raises gets its name and line."""
        try:
            return function(*inputs)
        except P2PFRLError:
            raise
        except foreign() as error:
            fix = "; inputs are not changed: make a new array" if "read-only" in str(error) else ""
            raise ContractError(f"{self._name}.{method} raised {cause(error)}{fix}") from error

    def _each(self, state: Array) -> tuple[int, ...]:
        """Return the shape of one number per agent and instance."""
        return (state.shape[0], *self._members, state.shape[1])

    def _fit(
        self, what: str, values: object, shape: tuple[int, ...], dtype: type[np.generic]
    ) -> NDArray[Any]:
        """Return an array that may be written to, if it has this shape and type."""
        if isinstance(values, np.ndarray) and values.shape == shape and values.dtype == dtype:
            return values if values.flags.writeable else values.copy()
        expected = f"expected an array {shape} of {np.dtype(dtype)}"
        raise ContractError(f"{self._name}.{what}: {expected}, got {described(values)}")


def _locked(values: NDArray[Any]) -> NDArray[Any]:
    """Return a view that cannot be written to."""
    view = values.view()
    view.setflags(write=False)
    return view


def _all_locked(physics: Physics) -> Physics:
    return {name: _locked(values) for name, values in physics.items()}
