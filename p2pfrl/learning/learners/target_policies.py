"""Policies whose value is learned, for learners that evaluate a policy that stays as it is.

`RULES` maps the names of scenario files to classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import Field, field_validator
from typing_extensions import override

from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.located import Located
from p2pfrl.core.members import Members
from p2pfrl.core.rule import rule
from p2pfrl.core.saved import Saved, find_saved, read_named, read_saved
from p2pfrl.core.softmax import log_softmax
from p2pfrl.core.wording import did_you_mean, show
from p2pfrl.learning.environments.base import Array, ArraySimulator

_KEY = "learner.policy"


class TargetPolicy:
    """A policy that is evaluated.

    Attributes:
        is_uniform: whether it takes every action equally often in every state.
    """

    is_uniform: ClassVar[bool] = False

    def chances(self, simulator: ArraySimulator) -> Array:
        """Return action probabilities `(1, S, A)`, or `(n, S, A)` where agents' policies differ.

        Raises:
            ScenarioError: it is no policy of these environments.
        """
        raise NotImplementedError


@rule
class Uniform(TargetPolicy):
    """pi(a | s) = 1 / A."""

    is_uniform: ClassVar[bool] = True

    @override
    def chances(self, simulator: ArraySimulator) -> Array:
        """Return 1 / A everywhere."""
        states, actions = _sizes(simulator)
        return np.full((1, states, actions), 1.0 / actions)


@rule
class Table(TargetPolicy):
    """pi(a | s) = rows[s][a], the same for all agents.

    Attributes:
        rows: a list of one probability per action for every state; a single list holds in all
            states.
    """

    rows: tuple[tuple[float, ...], ...] = Field(min_length=1)

    @field_validator("rows")
    @classmethod
    def _sums(cls, rows: tuple[tuple[float, ...], ...]) -> tuple[tuple[float, ...], ...]:
        for row in rows:
            if min(row, default=-1.0) < 0 or abs(sum(row) - 1.0) > 1e-9:
                raise ValueError(f"expected lists of probabilities that sum to 1, got {list(row)}")
        return rows

    @override
    def chances(self, simulator: ArraySimulator) -> Array:
        """Return the rows."""
        states = simulator.spec.states
        rows = self.rows * states if len(self.rows) == 1 else self.rows
        return _fitting(rows, simulator, f"{_KEY}.rows")


@rule
class Baseline(TargetPolicy):
    """A policy without learning of the environment, in each agent's own physics.

    Attributes:
        name: one of those that the environment has.
    """

    name: str

    @override
    def chances(self, simulator: ArraySimulator) -> Array:
        """Return 1 for the action that the policy takes, in every state of every agent."""
        known = simulator.spec.baselines
        if self.name not in known:
            has = f"{did_you_mean(self.name, known)}" if known else "; the environment has none"
            raise ScenarioError([f"{_KEY}.name: no baseline {show(self.name)}{has}"])
        states, actions = _sizes(simulator)
        physics = simulator.physics
        n = len(next(iter(physics.values())))
        at = np.tile(np.arange(states, dtype=np.float64)[None, :, None], (n, 1, 1))
        rows = {name: values[:, None] for name, values in physics.items()}
        found = [
            np.asarray(known[self.name](at, rows, np.full((n, states), step)), dtype=np.intp)
            for step in (0, 1, 2)
        ]
        if any((one != found[0]).any() for one in found[1:]):
            reason = f"baseline {self.name!r} acts by the time in the episode, and td knows no time"
            raise ScenarioError([f"{_KEY}.name: {reason}"])
        return np.eye(actions)[np.broadcast_to(found[0], (n, states))]


@rule
class SavedPolicy(TargetPolicy, Located):
    """The policy of a run, or of a file, the same for all agents.

    Of a run it is that of the mean of its final parameters: for `tabular_q` the action with the
    largest value (the first of equals), for `softmax_pg`, `npg` and `tabular_ac` the distribution
    that they draw from. A file is a CSV table of one line per state with a probability per action,
    or safetensors with such a tensor `policy`.

    Attributes:
        path: a run directory or a file; it is searched beside the scenario file, then in the
            working directory.
    """

    path: str

    @override
    def files(self) -> Mapping[str, Path]:
        """Return the file with the policy."""
        return {self.path: self.file}

    @override
    def copy_of(self, path: Path) -> str:
        """Return a name that no other policy's copy has."""
        ending = ".csv" if self.path.endswith(".csv") else ".safetensors"
        return f"policy-{blake2b(self.path.encode(), digest_size=4).hexdigest()}{ending}"

    @property
    def file(self) -> Path:
        """The file with the policy."""
        return find_saved(self.path, self.folder, self.copy_of(Path()))

    @override
    def chances(self, simulator: ArraySimulator) -> Array:
        """Return the policy in the file."""
        file = self.file
        if file.suffix == ".csv":
            rows: object = _lines(file)
        else:
            rows = _policy(read_saved(file, _KEY), file)
        return _fitting(rows, simulator, f"{_KEY}.path: {file}")


def _policy(saved: Saved, file: Path) -> Array:
    """Return the table `(S, A)` that saved parameters hold.

    Raises:
        ScenarioError: they hold none.
    """
    mean = {name: values.mean(axis=0, dtype=np.float64) for name, values in saved.items()}
    if "policy" in mean:
        given: Array = mean["policy"]
        return given
    if "q" in mean and mean["q"].ndim == 2:
        best: Array = np.eye(mean["q"].shape[1])[mean["q"].argmax(axis=1)]
        return best
    if "actor" in mean and mean["actor"].ndim == 2:
        drawn: Array = np.exp(log_softmax(mean["actor"]))
        return drawn
    fix = (
        "the policy of a network as a table: "
        'numpy.savetxt("policy.csv", record.policy(0).table(), delimiter=",")'
    )
    raise ScenarioError([f"{_KEY}.path: {file} has no table q, actor or policy; {fix}"])


def _lines(file: Path) -> Sequence[Sequence[float]]:
    """Return the numbers of a CSV file.

    Raises:
        ScenarioError: there is no such file, or it has other text.
    """
    try:
        text = read_named(file, f"{_KEY}.path").decode()
        lines = [line for line in text.splitlines() if line.strip()]
        return [[float(cell) for cell in line.split(",")] for line in lines]
    except ValueError as error:
        raise ScenarioError([f"{_KEY}.path: {file}: not a table of numbers: {error}"]) from error


def _fitting(rows: object, simulator: ArraySimulator, key: str) -> Array:
    """Return a policy `(1, S, A)`.

    Raises:
        ScenarioError: it is none of these environments.
    """
    states, actions = _sizes(simulator)
    wanted = f"expected {states} rows of {actions} probabilities"
    try:
        table = np.array(rows, dtype=np.float64)
    except ValueError:
        raise ScenarioError([f"{key}: {wanted}, got rows of different lengths"]) from None
    if table.shape != (states, actions):
        got = " x ".join(map(str, table.shape))
        raise ScenarioError([f"{key}: {wanted}, got {got}"])
    is_wrong = ~np.isfinite(table).all(axis=1) | (table < 0).any(axis=1)
    is_wrong |= np.abs(table.sum(axis=1) - 1.0) > 1e-6
    if is_wrong.any():
        state = int(np.argmax(is_wrong))
        got = f"row {state} is {table[state].tolist()}"
        raise ScenarioError([f"{key}: expected probabilities that sum to 1, and {got}"])
    scaled: Array = table / table.sum(axis=1, keepdims=True)
    return scaled[None]


def _sizes(simulator: ArraySimulator) -> tuple[int, int]:
    return simulator.spec.states, simulator.spec.actions


RULES: Members[TargetPolicy] = Members(
    __name__,
    {"uniform": "Uniform", "table": "Table", "baseline": "Baseline", "saved": "SavedPolicy"},
)
