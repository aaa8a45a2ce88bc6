"""The parallel copies of an agent's Gymnasium environment, and checks of what they return.

`Separate` copies are environments of their own, stepped one after the other. `Together` is one
`gymnasium.vector.VectorEnv` that steps all copies at once. Whatever they raise or return that does
not fit becomes an error with the call in it; the simulator adds agent, moment and copy.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from p2pfrl.core.causes import cause, foreign
from p2pfrl.core.errors import ScenarioWarning
from p2pfrl.core.lazy import LazyModule
from p2pfrl.core.wording import show
from p2pfrl.learning.environments.base import Spec
from p2pfrl.learning.environments.spaces import (
    MASK,
    Actions,
    MismatchError,
    Observations,
    mask_of,
)

if TYPE_CHECKING:
    import gymnasium
else:
    gymnasium = LazyModule("gymnasium")

_OLD = "as Gymnasium since 0.26; wrap an environment of the older interface"
_EXPECTED_STEP = f"expected observation, reward, terminated, truncated, info, {_OLD}"
_EXPECTED_RESET = f"expected observation and info, a dict, {_OLD}"
ERRORS = "environment_errors"
"""The measure of how often environments of an agent have failed since the run began."""


class CopyError(Exception):
    """A copy raised, or returned what does not fit.

    Args:
        copy: which copy.
        what: the call and what came of it, in words.
    """

    def __init__(self, copy: int, what: str) -> None:
        super().__init__(what)
        self.copy = copy


@dataclass(frozen=True)
class View:
    """What an agent sees of its environments, and what it does.

    Attributes:
        observations: vectors of observations.
        actions: actions for the environment.
        is_masked: whether vectors end with a mask.
    """

    observations: Observations
    actions: Actions
    is_masked: bool

    @property
    def choices(self) -> tuple[int, ...]:
        """How many actions each discrete choice has."""
        return self.actions.heads or (self.actions.actions,)

    @property
    def spec(self) -> Spec:
        """Sizes and bounds, without what only the environment says, such as its time limit."""
        return Spec(
            observation=self.observations.size + (sum(self.choices) if self.is_masked else 0),
            state=0,
            actions=self.actions.actions,
            heads=self.actions.heads,
            action_low=self.actions.low,
            action_high=self.actions.high,
            is_masked=self.is_masked,
            image=self.observations.image,
        )

    def vector(self, seen: object, info: Mapping[Any, Any], *, ended: bool) -> NDArray[np.float32]:
        """Return an observation, with its mask at the end.

        Raises:
            MismatchError: one of them does not fit.
        """
        vector = self.observations.vector(seen)
        if not self.is_masked:
            return vector
        source: object = seen if self.observations.has_mask else info
        found = source.get(MASK) if isinstance(source, Mapping) else None
        if ended:  # nobody acts any more
            mask = np.ones(sum(self.choices), dtype=np.float32)
        elif found is None:
            raise MismatchError(f"info without {MASK!r}, and environment.action_mask is true")
        else:
            mask = mask_of(found, self.choices)
        return np.concatenate([vector, mask])


@dataclass(frozen=True)
class Stepped:
    """The result of a step of one copy.

    Attributes:
        obs: the successor.
        reward: finite.
        terminated, truncated: whether the episode ended, and why; never both.
        info: of the environment.
        fresh: the first observation of the next episode, where the copy resets by itself.
        failed: why the copy cannot go on, in words, "" if another copy has the reason; None if it
            can.
    """

    obs: NDArray[np.float32]
    reward: float
    terminated: bool
    truncated: bool
    info: Mapping[Any, Any] = field(default_factory=dict)
    fresh: NDArray[np.float32] | None = None
    failed: str | None = None


class Copies(ABC):
    """The copies of one agent's environment.

    Attributes:
        view: what the agent sees and does.
    """

    view: View

    @abstractmethod
    def reset(self, seeds: Mapping[int, int]) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield the first observations of new episodes, by copy; seeds are by copy.

        Raises:
            CopyError: a copy failed.
        """

    @abstractmethod
    def step(
        self, actions: NDArray[Any], last: NDArray[np.float32] | None = None
    ) -> Iterator[Stepped]:
        """Yield the results of one step of every copy, in order.

        Args:
            actions: by copy.
            last: `(m, o)` what was observed before. With it, a copy that fails ends its episode
                there, and `Stepped.failed` says why.

        Raises:
            CopyError: a copy failed, and there is no `last`.
        """

    @abstractmethod
    def renew(self, j: int) -> None:
        """Close a copy and make it anew; copies that are one object are all made anew."""

    @abstractmethod
    def close(self) -> None:
        """Close all; what cannot be closed is reported, since nothing depends on it."""


class Separate(Copies):
    """Environments of their own.

    Args:
        envs: one for each copy.
        view: what the agent sees and does.
        make: makes another one.
        name: of the agent, for reports.
    """

    def __init__(
        self,
        envs: list[gymnasium.Env[Any, Any]],
        view: View,
        make: Callable[[], gymnasium.Env[Any, Any]],
        name: str,
    ) -> None:
        self.envs = envs
        self.view = view
        self._make = make
        self._name = name

    @override
    def reset(self, seeds: Mapping[int, int]) -> Iterator[tuple[int, NDArray[np.float32]]]:
        for j, seed in seeds.items():
            call = f"reset(seed={seed})"
            with _raising(j, call):
                found: object = self.envs[j].reset(seed=seed)
            seen, info = _checked_reset(j, call, found)
            with _refusing(j, call):
                yield j, self.view.vector(seen, info, ended=False)

    @override
    def step(
        self, actions: NDArray[Any], last: NDArray[np.float32] | None = None
    ) -> Iterator[Stepped]:
        for j in range(len(self.envs)):
            try:
                yield self._step(j, actions[j])
            except CopyError as error:
                if last is None:
                    raise
                yield _failed(last[j], str(error))

    def _step(self, j: int, action: NDArray[Any]) -> Stepped:
        taken = self.view.actions.take(action)
        try:
            found: object = self.envs[j].step(taken)
        except foreign() as error:
            raise CopyError(j, f"{_call(taken)} raised {reason(error)}") from error
        return _stepped(j, partial(_call, taken), found, self.view)

    @override
    def renew(self, j: int) -> None:
        close(self.envs[j], f"{self._name}, instance {j}")
        self.envs[j] = self._make()

    @override
    def close(self) -> None:
        for j, env in enumerate(self.envs):
            close(env, f"{self._name}, instance {j}")


class Together(Copies):
    """One vector environment, which resets in the step that ends an episode or is told to reset.

    Args:
        env: of all copies.
        view: what the agent sees and does.
        make: makes another one.
        name: of the agent, for reports.
    """

    def __init__(
        self,
        env: gymnasium.vector.VectorEnv[Any, Any, Any],
        view: View,
        make: Callable[[], gymnasium.vector.VectorEnv[Any, Any, Any]],
        name: str,
    ) -> None:
        self.env = env
        self.view = view
        self._make = make
        self._name = name
        self._resets_itself = autoreset_of(env) == "SAME_STEP"

    @override
    def reset(self, seeds: Mapping[int, int]) -> Iterator[tuple[int, NDArray[np.float32]]]:
        which, n = [*seeds], self.env.num_envs
        seed = seeds[which[0]]
        options = None
        if len(which) < n:
            options = {"reset_mask": np.isin(np.arange(n), which)}
        call = f"reset(seed={seed})"
        with _raising(which[0], call):
            found: object = self.env.reset(seed=seed, options=options)
        seen, info = _checked_reset(which[0], call, found)
        with _refusing(which[0], call):
            every = self._apart(seen)
        for j in which:
            with _refusing(j, call):
                yield j, self.view.vector(every[j], _of_copy(info, j), ended=False)

    @override
    def step(
        self, actions: NDArray[Any], last: NDArray[np.float32] | None = None
    ) -> Iterator[Stepped]:
        try:
            found = [*self._step(actions)]
        except CopyError as error:
            if last is None:
                raise
            # One object: nobody can go on. One of the copies has the reason.
            found = [
                _failed(obs, str(error) if j == error.copy else "") for j, obs in enumerate(last)
            ]
        yield from found

    def _step(self, actions: NDArray[Any]) -> Iterator[Stepped]:
        space = self.env.action_space
        taken = np.stack([np.asarray(self.view.actions.take(action)) for action in actions])
        call = _call(taken)
        with _raising(0, call):
            found: object = self.env.step(taken.astype(space.dtype))
        if not isinstance(found, tuple) or len(found) != 5:
            raise CopyError(0, f"{call} returned {_count(found)}; {_EXPECTED_STEP}")
        seen, reward, terminated, truncated, info = found
        n = self.env.num_envs
        for name, values in (
            ("rewards", reward),
            ("terminated", terminated),
            ("truncated", truncated),
        ):
            if np.shape(values) != (n,):
                what = f"{name} of shape {np.shape(values)}; expected ({n},)"
                raise CopyError(0, f"{call} returned {what}")
        with _refusing(0, call):
            every = self._apart(seen)
        for j in range(n):
            own = _of_copy(info, j)
            over = bool(terminated[j] or truncated[j])
            first = None
            last, about = every[j], own
            if over and self._resets_itself:
                if "final_obs" not in own:
                    what = f"no info['final_obs'] of copy {j}, whose episode ended"
                    raise CopyError(j, f"{call} returned {what}; autoreset mode SAME_STEP has it")
                with _refusing(j, call):
                    first = self.view.vector(every[j], own, ended=False)
                last, about = own["final_obs"], own.get("final_info", own)
                about = about if isinstance(about, Mapping) else own
            values = (last, reward[j], terminated[j], truncated[j], about)
            yield _stepped(j, partial(_call, taken), values, self.view, fresh=first)

    @override
    def renew(self, j: int) -> None:
        self.close()
        self.env = self._make()

    @override
    def close(self) -> None:
        close(self.env, self._name)

    def _apart(self, seen: Any) -> list[Any]:
        """Return the observations of all copies, one by one.

        Raises:
            MismatchError: they are not of the space of all observations.
        """
        try:
            found = [*gymnasium.vector.utils.iterate(self.env.observation_space, seen)]
        except foreign() as error:
            expected = f"expected one of {show(self.env.observation_space)}"
            raise MismatchError(f"observations {show(seen)}; {expected}") from error
        if len(found) != self.env.num_envs:
            raise MismatchError(f"{len(found)} observations; expected {self.env.num_envs}")
        return found


def autoreset_of(env: gymnasium.vector.VectorEnv[Any, Any, Any]) -> str:
    """Return the name of a vector environment's autoreset mode; unsaid it is Gymnasium's own."""
    mode = env.metadata.get("autoreset_mode", "NEXT_STEP")
    return str(getattr(mode, "name", mode))


def close(env: Any, name: str) -> None:
    """Close an environment; one that cannot be closed is reported, since nothing depends on it."""
    try:
        env.close()
    except foreign() as error:
        warnings.warn(f"{name}: close() raised {reason(error)}", ScenarioWarning, stacklevel=2)


def reason(error: BaseException) -> str:
    """Return what an environment raised, with the user's line."""
    return cause(error, *gymnasium.__path__)


def _stepped(
    j: int,
    call: Callable[[], str],
    found: object,
    view: View,
    fresh: NDArray[np.float32] | None = None,
) -> Stepped:
    """Return the result of one copy's step.

    Raises:
        CopyError: it does not fit.
    """
    if not isinstance(found, tuple) or len(found) != 5:
        raise CopyError(j, f"{call()} returned {_count(found)}; {_EXPECTED_STEP}")
    seen, reward, terminated, truncated, info = found
    try:
        if any(isinstance(part, str | bytes | None) for part in (reward, terminated, truncated)):
            raise TypeError("a text or None, which Python would read as a number or a truth value")
        value, ended, cut = float(reward), bool(terminated), bool(truncated)
    except (TypeError, ValueError, OverflowError) as error:
        what = f"reward {show(reward)}, terminated {show(terminated)}, truncated {show(truncated)}"
        expected = "expected a number and two truth values"
        raise CopyError(j, f"{call()} returned {what}; {expected}") from error
    if not isinstance(info, Mapping):
        raise CopyError(j, f"{call()} returned info {show(info)}; expected a dict")
    if not np.isfinite(value):
        raise CopyError(j, f"{call()} returned reward {value}; expected a finite number")
    try:
        vector = view.vector(seen, info, ended=ended or cut)
    except MismatchError as error:
        raise CopyError(j, f"{call()} returned {error}") from error
    return Stepped(vector, value, ended, cut and not ended, info, fresh)


def _failed(last: NDArray[np.float32], why: str) -> Stepped:
    """Return the end of an episode where a copy failed: what was seen last, and no reward."""
    return Stepped(last, 0.0, False, True, failed=why)


def _checked_reset(j: int, call: str, found: object) -> tuple[Any, Mapping[Any, Any]]:
    if not isinstance(found, tuple) or len(found) != 2 or not isinstance(found[1], Mapping):
        raise CopyError(j, f"{call} returned {_count(found)}; {_EXPECTED_RESET}")
    return found


def _of_copy(info: Any, j: int) -> dict[Any, Any]:
    """Return what the `info` of a vector environment says of one copy."""
    if not isinstance(info, Mapping):
        return {}
    found: dict[Any, Any] = {}
    for name, values in info.items():
        said = info.get(f"_{name}")
        if isinstance(name, str) and name.startswith("_"):
            continue
        if said is not None and not said[j]:
            continue
        if isinstance(values, Mapping):
            found[name] = _of_copy(values, j)
        else:
            found[name] = values[j] if np.ndim(values) or isinstance(values, list) else values
    return found


@contextmanager
def _raising(copy: int, call: str) -> Iterator[None]:
    """In the block, let what an environment raises be an error of its copy."""
    try:
        yield
    except foreign() as error:
        raise CopyError(copy, f"{call} raised {reason(error)}") from error


@contextmanager
def _refusing(copy: int, call: str) -> Iterator[None]:
    """In the block, let what does not fit be an error of its copy."""
    try:
        yield
    except MismatchError as error:
        raise CopyError(copy, f"{call} returned {error}") from error


def _call(taken: Any) -> str:
    return f"step({show(np.asarray(taken).tolist())})"


def _count(found: object) -> str:
    """Return what a call returned, for a message: the number of values, or the value."""
    return f"{len(found)} values" if isinstance(found, tuple) else f"one value, {show(found)}"
