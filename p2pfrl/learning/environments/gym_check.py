"""A checker for Gymnasium environments of a user's own: what runs need beyond Gymnasium's check."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.contract import described
from p2pfrl.core.errors import AgentError, ContractError
from p2pfrl.core.modules import giving
from p2pfrl.core.options import construct
from p2pfrl.core.rng import Purpose, Streams
from p2pfrl.learning.environments.base import Problem
from p2pfrl.learning.environments.ids import id_of
from p2pfrl.learning.environments.random_actions import random_action
from p2pfrl.learning.environments.registry import resolve
from p2pfrl.learning.environments.spaces import exact_boxes
from p2pfrl.learning.environments.vary import columns

_INSTANCES = 2


Made = type | Callable[..., object] | str
"""A class or function that makes environments of Gymnasium, or an id."""


@contextmanager
def made(environment: object, check: str) -> Iterator[object]:
    """In the block, have the problem of a class, a function or an id; anything else as it is.

    Args:
        environment: that was given to a checker.
        check: name of the checker, for messages.

    Raises:
        ContractError: it is one environment of Gymnasium.
        ScenarioError: there is no such environment, or its spaces are not supported.
    """
    is_ours = isinstance(environment, type) and issubclass(environment, Problem)
    if isinstance(environment, Problem) or is_ours or environment is None:
        yield environment
        return
    if hasattr(environment, "step") and not isinstance(environment, type):
        got = f"got {described(environment)}, one environment, and every agent needs copies of its own"
        raise ContractError(f"{check}: {got}; give its class, or a function that makes one")
    if not isinstance(environment, str) and not callable(environment):
        yield environment
        return
    names: dict[str, object] = {}
    if not isinstance(environment, str):
        names = {id_of(environment): environment}
    id = environment if isinstance(environment, str) else next(iter(names))
    with giving(names):
        found = resolve(id)
        problem = construct(found.rule, found.preset)
        yield problem


def check_external(problem: Problem, *, steps: int, seed: int) -> None:
    """Raise an error if an environment cannot be part of a repeatable run.

    Two agents, or two shared worlds, with two copies each take `steps` random steps. Checked:
    everything that is returned has the shapes that were announced, is finite, and lies in its box;
    equal seeds give equal episodes; an agent's episodes do not depend on the other agent.

    Raises:
        ContractError: with the step and what is wrong.
    """
    k = problem.spec.members
    everyone = range(2 * k)
    first, again = (_roll(problem, everyone, everyone, steps, seed) for _ in range(2))
    name = getattr(problem, "id", type(problem).__name__)
    if (at := _differs(first, again)) is not None:
        raise ContractError(
            f"{name}: step {at}: the same seeds and actions gave another result; draw random numbers "
            "from self.np_random alone, which reset(seed=...) seeds"
        )
    for own in (everyone[:k], everyone[k:]):
        alone = _roll(problem, own, everyone, steps, seed)
        if (at := _differs([part[list(own)] for part in first], alone)) is not None:
            raise ContractError(
                f"{name}: step {at}: the episodes of agent {own[0]} depend on another agent's; keep "
                "what an environment remembers in self, and not in the class or module"
            )


def _roll(
    problem: Problem, agents: Sequence[int], everyone: Sequence[int], steps: int, seed: int
) -> list[NDArray[np.float64]]:
    """Return what every step showed, `(b, m, o + 2)`: next observation, reward, terminated."""
    table = columns(problem, {}, seed, everyone, len(everyone))
    simulator = problem.simulator(problem.physics(seed, everyone, table), _INSTANCES, seed)
    streams = Streams.of(seed, agents, Purpose.CHECK)
    found: list[NDArray[np.float64]] = []
    try:
        with exact_boxes():
            state = simulator.init(agents)
            simulator.begin(agents, [0] * len(agents))
            obs = simulator.observe(agents, state)
            for _ in range(steps):
                step = simulator.step(state, random_action(simulator.spec, obs, streams))
                parts = (step.next_obs, step.reward[..., None], step.terminated[..., None])
                found.append(np.concatenate(parts, axis=-1, dtype=np.float64))
                obs = step.obs
    except AgentError as error:
        raise ContractError(error.detail) from error
    finally:
        simulator.close()
    return found


def _differs(a: Sequence[NDArray[np.float64]], b: Sequence[NDArray[np.float64]]) -> int | None:
    """Return the first step at which two rollouts differ; None if they do not."""
    pairs = enumerate(zip(a, b, strict=True))
    return next((at for at, (x, y) in pairs if not np.array_equal(x, y)), None)
