"""Behaviors of tabular learners, the rules that choose actions.

`RULES` maps the names of scenario files to classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field, field_validator
from typing_extensions import override

from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.members import Members
from p2pfrl.core.rule import rule
from p2pfrl.learning.environments.base import Array


class Behavior:
    """The source of samples; by default a policy that takes every action equally often.

    Attributes:
        is_generative: a simulator gives one sample of every (s, a) per step; else a policy walks.
    """

    is_generative: ClassVar[bool] = False

    def check(self, actions: int) -> None:
        """Refuse an environment whose number of actions does not fit.

        Raises:
            ScenarioError: the number of actions does not fit.
        """

    def policy(self, values: Array, agents: Sequence[int]) -> Array:
        """Return action probabilities `(b, m, A)`, given action values `(b, m, A)`."""
        return np.full(values.shape, 1.0 / values.shape[-1])


@rule
class Generative(Behavior):
    """One sample of every (s, a) per step and instance, from a generative simulator.

    Such a simulator can be set to any state.
    """

    is_generative: ClassVar[bool] = True


@rule
class Uniform(Behavior):
    """Every action equally often."""


@rule
class EpsilonGreedy(Behavior):
    """The best action (the first of equals) with probability 1 - epsilon, else any action.

    Watkins, PhD thesis, 1989.

    Attributes:
        epsilon: probability of any action.
    """

    epsilon: float = Field(default=0.1, ge=0, le=1)

    @override
    def policy(self, values: Array, agents: Sequence[int]) -> Array:
        """Return epsilon / A everywhere, and 1 - epsilon more at the best."""
        best = np.arange(values.shape[-1]) == values.argmax(axis=-1)[..., None]
        chances: Array = np.where(best, 1.0 - self.epsilon, 0.0) + self.epsilon / values.shape[-1]
        return chances


@rule
class Given(Behavior):
    """Fixed action probabilities, the same in every state.

    Agent i follows `policies[i mod their number]`, so agents can be made to see different parts of
    the table. With [[1, 0], [0, 1]] even agents only ever take the first action, odd ones only the
    second.

    Attributes:
        policies: each a list of one probability per action.
    """

    policies: tuple[tuple[float, ...], ...] = Field(min_length=1)

    @field_validator("policies")
    @classmethod
    def _sums(cls, policies: tuple[tuple[float, ...], ...]) -> tuple[tuple[float, ...], ...]:
        for row in policies:
            if min(row, default=-1.0) < 0 or abs(sum(row) - 1.0) > 1e-9:
                raise ValueError(f"expected lists of probabilities that sum to 1, got {list(row)}")
        return policies

    @override
    def check(self, actions: int) -> None:
        """Refuse another number of actions."""
        for row in self.policies:
            if len(row) != actions:
                raise ScenarioError(
                    [
                        f"learner.behavior.policies: expected {actions} probabilities per policy, got {list(row)}"
                    ]
                )

    @override
    def policy(self, values: Array, agents: Sequence[int]) -> Array:
        """Return each agent's own probabilities."""
        rows = np.array([self.policies[agent % len(self.policies)] for agent in agents])
        return np.broadcast_to(rows[:, None, :], values.shape)


RULES: Members[Behavior] = Members(
    __name__,
    {
        "generative": "Generative",
        "uniform": "Uniform",
        "epsilon_greedy": "EpsilonGreedy",
        "given": "Given",
    },
)
