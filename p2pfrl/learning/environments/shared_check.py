"""The contract of shared worlds, as a checker."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.contract import require
from p2pfrl.core.errors import ContractError
from p2pfrl.core.rng import Purpose, Streams
from p2pfrl.learning.environments.array_checks import Physics, Rows, check_step, flat
from p2pfrl.learning.environments.base import Baseline, Spec
from p2pfrl.learning.environments.random_actions import random_action, wrong_actions
from p2pfrl.learning.environments.shared import SharedEnvironment
from p2pfrl.learning.environments.vary import columns

_WORLDS = (0, 1, 2)
_INSTANCES = 3
_ROWS = Rows((len(_WORLDS),), ([1], [2, 0]), "worlds")


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
        made = _ROWS.repeat("reset", (start,), lambda x, p: (environment.reset(p, x),), physics)[0]
        _ROWS.expect(made, "reset", (m, spec.state), np.float64)
        return made

    world = reset()
    for _ in range(steps):
        obs = _ROWS.repeat("observe", (world,), lambda x, p: (environment.observe(x, p),), physics)[
            0
        ]
        _ROWS.expect(obs, "observe", (k, m, spec.observation), np.float32)
        drawn = random_action(spec, obs.reshape(-1, m, spec.observation), actions)
        action = drawn.reshape(len(_WORLDS), k, *drawn.shape[1:])
        noise = streams.uniform(m, spec.step_noise)
        made: object = environment.step(world, action, physics, noise)
        check_step(made, spec, "worlds")
        after, reward, terminated, *measures = _ROWS.repeat(
            "step",
            (world, action, noise),
            lambda s, a, u, p: flat(environment.step(s, a, p, u), spec),
            physics,
        )
        _ROWS.expect(after, "step: world", (m, spec.state), np.float64)
        _ROWS.expect(reward, "step: reward", (k, m), np.float64)
        _ROWS.expect(terminated, "step: terminated", (m,), np.bool_)
        for name, values in zip(spec.measures, measures, strict=True):
            _ROWS.expect(values, f"step: measure {name!r}", (k, m), np.float64, may_lack=True)
        for name, policy in spec.baselines.items():
            _check_baseline(name, policy, spec, (world, physics))
        world = np.where(terminated[..., None], reset(), after)


def _check_baseline(name: str, policy: Baseline, spec: Spec, at: tuple[Any, Physics]) -> None:
    world, physics = at
    k, m = spec.members, world.shape[1]
    steps = np.zeros(world.shape[:2], dtype=np.int64)
    what = f"baseline {name!r}"
    (action,) = _ROWS.repeat(what, (world, steps), lambda s, t, p: (policy(s, p, t),), physics)
    expected = f"one for every member, {(len(world), k, m)}"
    if action.shape[:3] == (len(world), k, m):
        expected = wrong_actions(spec, action.reshape(-1, *action.shape[2:]))
    if expected:
        raise ContractError(f"{what}: expected {expected}, got {action.dtype} {action.shape}")
