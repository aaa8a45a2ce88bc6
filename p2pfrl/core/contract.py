"""Common parts of all contract checkers: require a law, compare arrays and calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.causes import cause, foreign
from p2pfrl.core.errors import AgentError, ContractError, P2PFRLError
from p2pfrl.core.turn import Memory, NoMemory, Turn

T = TypeVar("T")
ARRAY_AND_STATE = "(array, state)"
ANSWER_AND_STATE = "(True or False, state)"


def require(holds: bool, where: str, message: str) -> None:
    """Raise a `ContractError` that says where a law is broken, unless it holds."""
    if not holds:
        raise ContractError(f"{where}: {message}")


def name_of(rule: object) -> str:
    """Return how messages call a rule: its class."""
    return type(rule).__name__


def require_rule(rule: object, contract: type, check: str) -> None:
    """Require that what a checker got is a rule of its contract, and not its class or name."""
    if isinstance(rule, contract):
        cls = type(rule)
        fix = f"{cls.__name__} is no rule; decorate class {cls.__name__} with @p2pfrl.rule"
        require("__pydantic_fields__" in vars(cls), check, fix)
        return
    got, fix = f"{described(rule)}", ""
    if isinstance(rule, type):
        got = f"the class {rule.__name__}"
        fix = f"; write {check}({rule.__name__}(...))" if issubclass(rule, contract) else ""
    raise ContractError(
        f"{check}: expected a rule, an instance of {contract.__name__}, got {got}{fix}"
    )


def described(value: object) -> str:
    """Return what a rule returned, in words.

    >>> described(None), described((True, ())), described(np.zeros(3))
    ('None', '(True, ())', 'an array (3,) of float64')
    """
    if isinstance(value, np.ndarray):
        kind = "an array" if type(value) is np.ndarray else f"a {type(value).__name__}"
        return f"{kind} {value.shape} of {value.dtype}"
    if isinstance(value, tuple):
        return f"({', '.join(map(described, value))})"
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    return type(value).__name__


def is_pair(value: object) -> bool:
    """Return whether a rule returned two values, of which the second is a state: not None."""
    return isinstance(value, tuple) and len(value) == 2 and value[1] is not None


def is_answer(value: object) -> bool:
    """Return whether a gate returned True or False and a state."""
    return is_pair(value) and isinstance(value[0], bool | np.bool_)  # type: ignore[index]  # a pair


def is_vector(value: object) -> bool:
    """Return whether a rule returned a vector of floating-point numbers."""
    return isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind == "f"


def require_pair(value: object, where: str) -> None:
    """Require two values, of which the second is a state."""
    require(is_pair(value), where, f"expected {ARRAY_AND_STATE}, got {described(value)}")


def returned(fits: bool, value: T, expected: str, rule: object, method: str, agent: int) -> T:
    """Return what a rule returned, in a run.

    Raises:
        AgentError: it does not fit; the message has the rule, the method and what it returned.
    """
    if fits:
        return value
    detail = f"{name_of(rule)}.{method}: expected {expected}, got {described(value)}"
    raise AgentError(agent, detail)


def require_array(
    value: object, where: str, shape: tuple[int, ...], dtype: np.dtype[Any], *, finite: bool = True
) -> None:
    """Require a finite array of this shape and dtype."""
    expected = f"expected an array {shape} of {dtype}"
    require(isinstance(value, np.ndarray), where, f"{expected}, got {described(value)}")
    assert isinstance(value, np.ndarray)
    got = f"{expected}, got {value.shape} of {value.dtype}"
    require(value.shape == shape and value.dtype == dtype, where, got)
    require(not finite or bool(np.isfinite(value).all()), where, "expected finite numbers")


def require_like(value: object, like: NDArray[Any], rule: object, method: str, agent: int) -> None:
    """Require an array of the shape and kind of another one, in a run.

    Raises:
        AgentError: it is another; the message has the rule, the method and both shapes.
    """
    if type(value) is np.ndarray and value.shape == like.shape and value.dtype.kind == "f":
        return
    got = described(value)
    if type(value) is np.ndarray:
        got = f"{value.shape} of {value.dtype}"
    raise AgentError(
        agent,
        f"{name_of(rule)}.{method}: expected an array {like.shape} of {like.dtype}, got {got}",
    )


def frozen(vector: NDArray[Any]) -> NDArray[Any]:
    """Return a copy that cannot be written to."""
    copy = np.array(vector)
    copy.setflags(write=False)
    return copy


@contextmanager
def naming(where: str) -> Iterator[None]:
    """Turn what a rule raises in the block into an error with the method and the user's line."""
    try:
        yield
    except P2PFRLError:
        raise
    except foreign() as error:
        fix = "; inputs are not changed: make a new array" if "read-only" in str(error) else ""
        if isinstance(error, KeyError):
            fix = "; tables by agent have the neighbors, and only those that were heard"
        raise ContractError(f"{where} raised {cause(error)}{fix}") from error


def pure(where: str, call: Callable[[], T], inputs: Sequence[NDArray[Any]]) -> T:
    """Call twice; require that no input is written to and that both results are the same bytes."""
    before = [array.copy() for array in inputs]
    with naming(where):
        first, second = call(), call()
    kept = all(np.array_equal(a, b, equal_nan=True) for a, b in zip(inputs, before, strict=True))
    require(kept, where, "changed its inputs; make a new array")
    require(same(first, second), where, "gave two results for equal inputs; draw from `turn` alone")
    return first


def same(a: Any, b: Any) -> bool:
    """Whether two results are equal, arrays byte for byte."""
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and a.tobytes() == b.tobytes()
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    return bool(a == b)


def turn_of(
    agent: int,
    own: NDArray[Any],
    start: NDArray[Any] | None = None,
    *,
    round: int = 0,
    to: Sequence[int] = (),
    memory: Memory | None = None,
) -> Turn:
    """Return an exchange of one agent, whose neighbors know it exactly."""
    return Turn(
        agent=agent,
        round=round,
        kind="update",
        start=own if start is None else start,
        own=own,
        env_steps=1,
        loss=0.0,
        returns=(),
        rate=0.0,
        key=(0, agent, round),
        memory=NoMemory() if memory is None else memory,
        sent=own,
        to=to,
    )
