"""The contract of array environments, as a checker for environments of one's own."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.contract import described, require, require_rule
from p2pfrl.core.errors import ContractError
from p2pfrl.core.rng import Purpose, Streams
from p2pfrl.learning.environments.array_checks import Physics, Rows, check_step, flat
from p2pfrl.learning.environments.base import Baseline, Environment, Problem, Spec
from p2pfrl.learning.environments.gym_check import Made, check_external, made
from p2pfrl.learning.environments.random_actions import random_action, wrong_actions
from p2pfrl.learning.environments.shared import SharedEnvironment
from p2pfrl.learning.environments.shared_check import check_shared
from p2pfrl.learning.environments.vary import columns

_AGENTS = (0, 1, 2, 3, 4)
_INSTANCES = 3
_SUBSETS: tuple[list[int], ...] = ([0], [4], [1, 3], [4, 2, 0])
_ROWS = Rows((len(_AGENTS), _INSTANCES), _SUBSETS, "rows of agents")


def check_environment(
    environment: Environment | SharedEnvironment | Made,
    *,
    steps: int = 50,
    seed: int = 1,
) -> None:
    """Raise an error if `environment` breaks the contract of its class.

    A class or function that makes environments of Gymnasium, or an id, is checked for what runs
    need (gym_check.py). Of environments of arrays is checked, over `steps` steps of random actions:
    shapes and dtypes; finite states, observations, rewards; inputs left unchanged; equal results
    for equal inputs; any subset or order of agents gives bit-equal rows; tables depend on the agent
    and not on its position; measures as announced, nan where there is nothing to report; baselines
    whose actions are valid; an optimum per agent; a specification that makes sense.

    Raises:
        ContractError: naming the method and what is wrong with it.
        ScenarioError: there is no such environment, or its spaces are not supported.
    """
    with made(environment, "check_environment") as problem:
        if isinstance(problem, SharedEnvironment):
            check_shared(problem, steps=steps, seed=seed)
        elif isinstance(problem, Problem) and not isinstance(problem, Environment):
            check_external(problem, steps=steps, seed=seed)
        else:
            require_rule(problem, Environment, "check_environment")
            assert isinstance(problem, Environment)
            _check_arrays(problem, steps=steps, seed=seed)


def _check_arrays(environment: Environment, *, steps: int, seed: int) -> None:
    spec = environment.spec
    _check_spec(spec)
    vary = columns(environment, {}, seed, _AGENTS, len(_AGENTS))
    physics = environment.physics(seed, _AGENTS, vary)
    _check_physics(environment, seed, vary, physics)
    _check_optimum(environment, physics)
    rows = {name: values[:, None] for name, values in physics.items()}
    streams = Streams.of(seed, _AGENTS, Purpose.CHECK)
    start = streams.uniform(_INSTANCES, spec.reset_noise)
    state = _ROWS.repeat("reset", (start,), lambda x, p: (environment.reset(p, x),), rows)[0]
    _ROWS.expect(state, "reset", (spec.state,), np.float64)
    for _ in range(steps):
        obs = _ROWS.repeat("observe", (state,), lambda x, p: (environment.observe(x, p),), rows)[0]
        _ROWS.expect(obs, "observe", (spec.observation,), np.float32)
        _check_mask(spec, obs)
        action = random_action(spec, obs, streams)
        noise = streams.uniform(_INSTANCES, spec.step_noise)
        made: object = environment.step(state, action, rows, noise)
        check_step(made, spec, "states")
        after, reward, terminated, *measures = _ROWS.repeat(
            "step",
            (state, action, noise),
            lambda s, a, u, p: flat(environment.step(s, a, p, u), spec),
            rows,
        )
        _ROWS.expect(after, "step: state", (spec.state,), np.float64)
        _ROWS.expect(reward, "step: reward", (), np.float64)
        _ROWS.expect(terminated, "step: terminated", (), np.bool_)
        for name, values in zip(spec.measures, measures, strict=True):
            _ROWS.expect(values, f"step: measure {name!r}", (), np.float64, may_lack=True)
        for name, policy in spec.baselines.items():
            _check_baseline(name, policy, spec, (state, rows))
        fresh = environment.reset(rows, streams.uniform(_INSTANCES, spec.reset_noise))
        state = np.where(terminated[..., None], fresh, after)


def _check_spec(spec: Spec) -> None:
    kinds = (spec.actions > 0, bool(spec.heads), bool(spec.action_low))
    if sum(kinds) != 1 or len(spec.action_low) != len(spec.action_high):
        raise ContractError(
            "spec: expected either discrete actions, or heads, or equally many action_low and "
            "action_high"
        )
    if any(not low < high for low, high in zip(spec.action_low, spec.action_high, strict=True)):
        raise ContractError(
            f"spec: actions need bounds, low below high: {spec.action_low}, {spec.action_high}"
        )
    if any(actions < 1 for actions in spec.heads):
        raise ContractError(f"spec: every head needs an action: {spec.heads}")
    if spec.is_masked and (spec.states or not 0 < spec.mask < spec.observation):
        raise ContractError(
            "spec: a mask is the end of an observation, one number for each discrete action: it "
            f"has {spec.mask} of {spec.observation} numbers, and {spec.states} states are one-hot"
        )
    if spec.image and math.prod(spec.image) != spec.observation - spec.mask:
        raise ContractError(
            f"spec: an image {spec.image} has {math.prod(spec.image)} numbers, and an observation "
            f"{spec.observation - spec.mask}"
        )
    if taken := sorted({"own", "mean_parameters", "optimum"} & set(spec.baselines)):
        raise ContractError(
            f"spec: {taken[0]!r} is no name for a baseline: it means another policy in records"
        )
    if spec.states and spec.observation != spec.states:
        raise ContractError(
            f"spec: a tabular observation is one-hot, but {spec.observation} is not {spec.states}"
        )


def _check_mask(spec: Spec, obs: NDArray[np.float32]) -> None:
    if not spec.is_masked:
        return
    mask = obs[..., -spec.mask :]
    if not np.isin(mask, (0.0, 1.0)).all():
        raise ContractError("observe: the mask at the end of an observation has 0 and 1 only")
    parts = np.split(mask, np.cumsum(spec.choices)[:-1], axis=-1)
    if not all(part.any(axis=-1).all() for part in parts):
        raise ContractError("observe: a mask allows no action")


def _check_physics(environment: Environment, seed: int, vary: Physics, physics: Physics) -> None:
    for subset in _SUBSETS:
        part = environment.physics(
            seed, [_AGENTS[i] for i in subset], {k: v[subset] for k, v in vary.items()}
        )
        for name, values in part.items():
            if not np.array_equal(values, physics[name][subset]):
                raise ContractError(
                    f"physics: {name!r} of agents {subset} depends on which agents are asked for together"
                )


def _check_optimum(environment: Environment, physics: Physics) -> None:
    best = environment.optimum(physics)
    if best is None:
        return
    is_there = isinstance(best, np.ndarray) and best.shape == (len(_AGENTS),)
    require(
        is_there, "optimum", f"expected an array ({len(_AGENTS)},) or None, got {described(best)}"
    )
    part = environment.optimum({name: values[[3, 1]] for name, values in physics.items()})
    if part is None or not np.array_equal(part, best[[3, 1]]):
        raise ContractError(
            "optimum: that of an agent depends on which agents are asked for together"
        )


def _check_baseline(
    name: str, policy: Baseline, spec: Spec, at: tuple[NDArray[Any], Physics]
) -> None:
    state, rows = at
    steps = np.zeros(state.shape[:2], dtype=np.int64)
    what = f"baseline {name!r}"
    (action,) = _ROWS.repeat(what, (state, steps), lambda s, t, p: (policy(s, p, t),), rows)
    if (expected := wrong_actions(spec, action)) or action.shape[:2] != state.shape[:2]:
        expected = expected or f"{state.shape[:2]} actions"
        raise ContractError(f"{what}: expected {expected}, got {action.dtype} {action.shape}")
