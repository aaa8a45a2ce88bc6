"""The contract of shared worlds, as a checker."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.contract import described, require
from p2pfrl.core.errors import ContractError
from p2pfrl.core.rng import Purpose, Streams
from p2pfrl.learning.environments.base import Baseline, Spec
from p2pfrl.learning.environments.random_actions import random_action, wrong_actions
from p2pfrl.learning.environments.shared import SharedEnvironment
from p2pfrl.learning.environments.vary import columns

_WORLDS = (0, 1, 2)
_INSTANCES = 3
_SUBSETS: tuple[list[int], ...] = ([0, 1, 2], [1], [2, 0])

Arrays = tuple[NDArray[Any], ...]
Physics = Mapping[str, NDArray[Any]]


def check_shared(environment: SharedEnvironment, *, steps: int, seed: int) -> None:
    """Raise an error if `environment` breaks the contract of `SharedEnvironment`.

    Checked over `steps` steps of random actions: shapes and dtypes; finite worlds, observations,
    rewards; inputs left unchanged; any subset or order of worlds gives bit-equal results; measures
    as announced; baselines whose actions are valid.

    Raises:
        ContractError: naming the method and what is wrong with it.
    """
    spec = environment.spec
    k = spec.members
    require(k > 1, "spec", f"members of a shared world: expected at least 2, got {k}")
    agents = range(len(_WORLDS) * k)
    vary = columns(environment, {}, seed, agents, len(agents))
    physics = {
        name: values.reshape(len(_WORLDS), k, 1, *values.shape[1:])
        for name, values in environment.physics(seed, agents, vary).items()
    }
    streams = Streams.of(seed, _WORLDS, Purpose.CHECK)
    actions = Streams.of(seed, agents, Purpose.ACTION)
    m = _INSTANCES

    def reset() -> NDArray[Any]:
        start = streams.uniform(m, spec.reset_noise)
        made = _repeat("reset", (start,), lambda x, p: (environment.reset(p, x),), physics)[0]
        _is(made, "reset", (m, spec.state), np.float64)
        return made

    world = reset()
    for _ in range(steps):
        obs = _repeat("observe", (world,), lambda x, p: (environment.observe(x, p),), physics)[0]
        _is(obs, "observe", (k, m, spec.observation), np.float32)
        flat = random_action(spec, obs.reshape(-1, m, spec.observation), actions)
        action = flat.reshape(len(_WORLDS), k, *flat.shape[1:])
        noise = streams.uniform(m, spec.step_noise)
        made: object = environment.step(world, action, physics, noise)
        is_step = isinstance(made, tuple) and len(made) == 4 and isinstance(made[3], Mapping)
        expected = "expected (worlds, rewards, terminated, measures)"
        require(is_step, "step", f"{expected}, got {described(made)}")
        names = sorted(made[3])  # type: ignore[index]  # a tuple
        if names != sorted(spec.measures):
            known = sorted(spec.measures)
            raise ContractError(f"step: measures {names}, but spec.measures has {known}")
        after, reward, terminated, *measures = _repeat(
            "step",
            (world, action, noise),
            lambda s, a, u, p: _flat(environment.step(s, a, p, u), spec),
            physics,
        )
        _is(after, "step: world", (m, spec.state), np.float64)
        _is(reward, "step: reward", (k, m), np.float64)
        _is(terminated, "step: terminated", (m,), np.bool_)
        for name, values in zip(spec.measures, measures, strict=True):
            _is(values, f"step: measure {name!r}", (k, m), np.float64, may_lack=True)
        for name, policy in spec.baselines.items():
            _check_baseline(name, policy, spec, (world, physics))
        world = np.where(terminated[..., None], reset(), after)


def _check_baseline(name: str, policy: Baseline, spec: Spec, at: tuple[Any, Physics]) -> None:
    world, physics = at
    k, m = spec.members, world.shape[1]
    steps = np.zeros(world.shape[:2], dtype=np.int64)
    what = f"baseline {name!r}"
    (action,) = _repeat(what, (world, steps), lambda s, t, p: (policy(s, p, t),), physics)
    expected = f"one for every member, {(len(world), k, m)}"
    if action.shape[:3] == (len(world), k, m):
        expected = wrong_actions(spec, action.reshape(-1, *action.shape[2:]))
    if expected:
        raise ContractError(f"{what}: expected {expected}, got {action.dtype} {action.shape}")


def _flat(result: tuple[Any, Any, Any, Mapping[str, Any]], spec: Spec) -> Arrays:
    return (*result[:3], *(result[3][name] for name in spec.measures))


def _repeat(
    method: str, inputs: Sequence[NDArray[Any]], call: Callable[..., Arrays], physics: Physics
) -> Arrays:
    """Return what `call` gives for all worlds; check that it is pure and independent by world."""
    before = [x.copy() for x in (*inputs, *physics.values())]
    results = call(*inputs, physics)
    for result in results:
        fits = isinstance(result, np.ndarray) and result.shape[:1] == (len(_WORLDS),)
        expected = f"expected an array ({len(_WORLDS)}, ...)"
        require(fits, method, f"{expected}, got {described(result)}")
    if any(
        not np.array_equal(x, y) for x, y in zip((*inputs, *physics.values()), before, strict=True)
    ):
        raise ContractError(f"{method}: changed its inputs or the physics")
    for subset in _SUBSETS:
        own = {name: values[subset] for name, values in physics.items()}
        part = call(*(x[subset] for x in inputs), own)
        for whole, found in zip(results, part, strict=True):
            if not np.array_equal(whole[subset], found, equal_nan=whole.dtype.kind == "f"):
                raise ContractError(
                    f"{method}: worlds {subset} depend on the batch, or on a state of its own"
                )
    return results


def _is(
    values: NDArray[Any],
    what: str,
    tail: tuple[int, ...],
    dtype: type[np.generic],
    *,
    may_lack: bool = False,
) -> None:
    shape = (len(_WORLDS), *tail)
    if values.shape != shape or values.dtype != dtype:
        got = f"{values.dtype} {values.shape}"
        raise ContractError(f"{what}: expected {dtype.__name__} {shape}, got {got}")
    if not (np.isfinite(values) | (may_lack & np.isnan(values))).all():
        raise ContractError(f"{what}: not finite")
