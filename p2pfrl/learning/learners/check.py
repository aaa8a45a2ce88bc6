"""The contract of learners as a checker that anyone can run on a learner of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.contract import described, name_of, require, require_rule
from p2pfrl.core.errors import AgentError, ContractError
from p2pfrl.core.modules import giving, place_of
from p2pfrl.learning.environments.base import Problem
from p2pfrl.learning.environments.gym_check import Made, made
from p2pfrl.learning.learners.base import Learner, Stack, Task
from p2pfrl.learning.learners.local import Local, LocalLearner
from p2pfrl.learning.trainer import Trainer

_WORLDS, _INSTANCES, _UPDATES, _SEED = 5, 3, 2, 1
_ROWS = "rows must not depend on the batch"
_GROUPS: tuple[tuple[Sequence[int], ...], ...] = (
    ((4,), (3,), (2,), (1,), (0,)),
    ((0, 4), (1, 2, 3)),
    ((3, 1), (4, 0, 2)),
)


def check_learner(
    learner: Learner | type[LocalLearner], environment: Problem | Made | None = None
) -> None:
    """Raise where a learner breaks the contract of `Learner`; return silently where it keeps it.

    Five agents learn two updates each, all together, alone, and in groups; where agents share a
    world, the members of five worlds do, and those of one are never apart. Checked: parameters and
    state are finite; a seed gives one result; an agent's result is the same to the last bit whoever
    shares its batch; what a learner promises as the least steps of an update it takes; evaluation,
    where there is one, is repeatable and does not depend on the batch.

    Args:
        learner: to be checked; a class that is a `LocalLearner` stands for `Local` with it.
        environment: what agents act in: one of arrays, a class or function that makes environments
            of Gymnasium, or an id; None for a learner that has none.

    Raises:
        ContractError: with what was expected and what was got.
    """
    if isinstance(learner, type) and issubclass(learner, LocalLearner):
        acts = f"{learner.__name__} acts in an environment; write check_learner(..., environment)"
        require(environment is not None, "check_learner", acts)
        place = place_of(learner)
        with giving({place: learner}):
            check_learner(Local(make=place), environment)
        return
    require_rule(learner, Learner, "check_learner")
    assert isinstance(learner, Learner)
    with made(environment, "check_learner") as problem:
        if problem is not None:
            require_rule(problem, Problem, "check_learner")
        _check(learner, problem)  # type: ignore[arg-type]  # a problem, if any


def _check(learner: Learner, environment: Problem | None) -> None:
    """Check a learner in an environment that has been made."""
    name = name_of(learner)
    k = 1 if environment is None else environment.spec.members
    together = _train(learner, environment, (range(_WORLDS),))
    for array_name, values in {"parameters": together.parameters, **together.state}.items():
        finite = not np.issubdtype(values.dtype, np.floating) or bool(np.isfinite(values).all())
        require(finite, f"{name}.update", f"{array_name} is not finite")
    again = _train(learner, environment, (range(_WORLDS),))
    _same(together, again, name, "the same run again", "draw random numbers from the seed alone")
    for groups in _GROUPS:
        found = _train(learner, environment, groups)
        _same(together, found, name, f"batches {[_members(group, k) for group in groups]}")
    stack, traits = together.stack, together.stack.traits
    for agent in range(k):
        together.freeze(agent)
    together.compute(range(k))
    steps = together.steps(0)
    message = f"min_steps is {traits.min_steps}, but an update took {steps}"
    is_right = steps == traits.min_steps if traits.fixed_steps else steps >= traits.min_steps
    require(is_right, f"{name}.min_steps", message)
    rows = together.parameters
    evaluate = stack.evaluator.evaluate
    evaluated = evaluate(range(_WORLDS * k), rows, 2, 3)
    if evaluated is not None:
        worlds = [_members([world], k) for world in range(_WORLDS)]
        alone = [evaluate(own, rows[own[0] : own[-1] + 1], 2, 3) for own in worlds]
        expected = np.concatenate([values for values in alone if values is not None])
        where = f"{name}.evaluate"
        require(np.array_equal(evaluated, expected), where, "depends on who shares the batch")


def _train(
    learner: Learner, environment: Problem | None, groups: Sequence[Sequence[int]]
) -> Trainer:
    """Return the trainer after some updates of everyone, computed group of worlds by group."""
    k = 1 if environment is None else environment.spec.members
    stack: object = learner.prepare(_task(environment))
    where = f"{name_of(learner)}.prepare"
    require(isinstance(stack, Stack), where, f"expected a Stack, got {described(stack)}")
    trainer = Trainer(stack, _WORLDS * k, same_start=False)  # type: ignore[arg-type]  # a stack
    try:
        for _ in range(_UPDATES):
            for group in groups:
                trainer.update(_members(group, k))
    except AgentError as error:
        raise ContractError(error.detail) from error
    return trainer


def _task(environment: Problem | None) -> Task:
    if environment is None:
        return Task(_SEED, _WORLDS)
    n = _WORLDS * environment.spec.members
    columns = {name: np.full(n, float(value)) for name, value in environment.spec.physics.items()}
    physics = environment.physics(_SEED, range(n), columns)
    simulator, evaluator = (
        environment.simulator(physics, instances, _SEED) for instances in (_INSTANCES, 2)
    )
    return Task(_SEED, n, simulator, evaluator)


def _members(worlds: Sequence[int], k: int) -> list[int]:
    """Return the agents of worlds of k members."""
    return [world * k + i for world in worlds for i in range(k)]


def _same(a: Trainer, b: Trainer, name: str, what: str, fix: str = _ROWS) -> None:
    pairs: list[tuple[str, NDArray[Any], NDArray[Any]]] = [
        ("parameters", a.parameters, b.parameters)
    ]
    pairs += [(key, values, b.state[key]) for key, values in a.state.items()]
    for key, first, second in pairs:
        for agent in range(len(first)):
            equal = np.array_equal(first[agent], second[agent])
            message = f"{what}: {key} of agent {agent} differs; {fix}"
            require(equal, f"{name}.update", message)
