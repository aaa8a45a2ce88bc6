"""Groups of agents with different networks or environments in one run.

They share what they have in common.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.parameters import Layout, Tensor, Vector
from p2pfrl.learning.learners.base import (
    Batch,
    Evaluator,
    Exchange,
    Objective,
    Outcome,
    Stack,
    State,
    Traits,
)

PART = "group"


@dataclass(frozen=True)
class Group:
    """Agents of one make.

    Attributes:
        agents: their ids.
        stack: their learner, bound to their environments.
    """

    agents: frozenset[int]
    stack: Stack


class GroupedStack(Stack, Evaluator, Exchange, Objective):
    """Several learners as one, whose rows hold the tensors of all groups.

    A row has first the tensors that all groups have by name and shape, then the other tensors of
    each group. The common tensors travel. The others have the parts "group0", "group1", ...; an
    agent uses those of its own group, those of other groups stay zero. Every group computes on rows
    of its own layout, so that its results are, to the last bit, what they would be in a run of its
    own. State arrays are prefixed by group.

    `min_steps` is the least that any group takes; agents that take more end later. `rate` is 0
    where groups differ.

    Args:
        groups: every agent is in exactly one.
        may_differ: whether no tensor needs to be common, because the payload is a vector that the
            learners offer.

    Raises:
        ScenarioError: numbers of different precision, or nothing in common.
    """

    def __init__(self, groups: Sequence[Group], *, may_differ: bool = False) -> None:
        self.groups = tuple(groups)
        stacks = [group.stack for group in groups]
        self.traits = _traits(
            [stack.traits for stack in stacks],
            _layout([stack.layout for stack in stacks], may_differ=may_differ),
        )
        self.error_is = stacks[0].objective.error_is
        self.is_greedy = all(stack.evaluator.is_greedy for stack in stacks)
        self.evaluator = self.exchange = self.objective = self
        self._columns = [_columns(self.layout, stack.layout, k) for k, stack in enumerate(stacks)]
        self._group_of = {agent: k for k, group in enumerate(groups) for agent in group.agents}

    @override
    def start(self, agents: Sequence[int], *, same: bool) -> Vector:
        """Return start parameters; with `same`, common tensors start as those of group 0."""
        rows = self.layout.zeros(len(agents))
        for k, group in enumerate(self.groups):
            at = self._rows(agents, k)
            if at:
                self._widen(rows, at, k, group.stack.start([agents[row] for row in at], same=same))
        if same:
            one = self.layout.zeros(1)
            self._widen(
                one, [0], 0, self.groups[0].stack.start([min(self.groups[0].agents)], same=True)
            )
            common = self.traits.common
            self.layout.unpack(self.layout.pack(one[0], common), rows, common)
        return rows

    @override
    def init(self, agents: Sequence[int]) -> State:
        """Return the state of all groups, in every row.

        A group's state stays zero in the rows of other groups' agents.
        """
        state: State = {}
        for k, group in enumerate(self.groups):
            at = self._rows(agents, k)
            made = group.stack.init([agents[row] for row in at])
            for name, values in made.items():
                whole = np.zeros((len(agents), *values.shape[1:]), dtype=values.dtype)
                if at:
                    whole[at] = values
                state[_prefix(k) + name] = whole
        return state

    @override
    def update(self, batch: Batch) -> Outcome:
        """Update each group's agents by the group's learner."""
        b, rows, state = len(batch.agents), batch.parameters, batch.state
        steps, loss = np.zeros(b, dtype=np.int64), np.zeros(b)
        returns: list[Sequence[float]] = [()] * b
        measures: dict[str, NDArray[np.float64]] = {}
        for k, at, stack in self._present(batch.agents):
            own = Batch(
                [batch.agents[row] for row in at],
                [batch.index[row] for row in at],
                self._narrow(rows, at, k),
                self._own_state(state, at, k),
            )
            outcome = stack.update(own)
            self._widen(rows, at, k, outcome.parameters)
            self._put_state(state, at, k, outcome.state)
            steps[at], loss[at] = outcome.env_steps, outcome.loss
            for row, found in zip(at, outcome.returns, strict=True):
                returns[row] = found
            for name, values in outcome.measures.items():
                measures.setdefault(name, np.full(b, np.nan))[at] = values
        return Outcome(rows, state, steps, loss, returns, measures)

    @override
    def evaluate(
        self, agents: Sequence[int], parameters: Vector, episodes: int, index: int
    ) -> NDArray[np.float64] | None:
        out = np.zeros(len(agents))
        for k, at, stack in self._present(agents):
            found = stack.evaluator.evaluate(
                [agents[row] for row in at], self._narrow(parameters, at, k), episodes, index
            )
            if found is None:
                return None
            out[at] = found
        return out

    @override
    def act(
        self, agents: Sequence[int], parameters: Vector, obs: NDArray[np.float32]
    ) -> NDArray[np.generic] | None:
        out: list[NDArray[np.generic]] = [np.empty(0)] * len(agents)
        for k, at, stack in self._present(agents):
            own = self._narrow(parameters, at, k)
            found = stack.evaluator.act([agents[row] for row in at], own, obs[at])
            if found is None:
                return None
            for row, actions in zip(at, found, strict=True):
                out[row] = actions
        return np.stack(out)

    @override
    def average(self, agents: Sequence[int], parameters: Vector) -> Vector:
        """Return the mean of common tensors over all agents, of others over their group's."""
        common = self.traits.common
        mean = self.layout.pack(super().average(agents, parameters), common)
        out = self.layout.zeros(len(agents))
        for k, at, stack in self._present(agents):
            own = stack.evaluator.average(
                [agents[row] for row in at], self._narrow(parameters, at, k)
            )
            self._widen(out, at, k, own)
        self.layout.unpack(mean, out, common)
        return out

    @override
    def divergence(self, agents: Sequence[int], parameters: Vector, state: State) -> float | None:
        """Return the mean over agents of the divergence from their group's mean policy."""
        total = 0.0
        for k, at, stack in self._present(agents):
            rows, own = self._narrow(parameters, at, k), self._own_state(state, at, k)
            found = stack.evaluator.divergence([agents[row] for row in at], rows, own)
            if found is None:
                return None
            total += found * len(at)
        return total / len(agents)

    @override
    def error(self, parameters: Vector) -> tuple[float, float] | None:
        """Return (objective, error) where groups have one problem and no tensors of their own."""
        if self.traits.personal:
            return None
        found = {group.stack.objective.error(parameters) for group in self.groups}
        return found.pop() if len(found) == 1 else None

    @override
    def offer_size(self, name: str) -> int | None:
        """Return how many numbers the vector `name` has in every group.

        Raises:
            ScenarioError: the groups do not agree, or one learner offers nothing of that name.
        """
        found = {group.stack.exchange.offer_size(name) for group in self.groups}
        if len(found) > 1:
            sizes = " and ".join(map(str, sorted(found, key=str)))
            raise ScenarioError(
                [f"exchange.payload: groups would send {sizes} numbers of {name}, not as many"]
            )
        return found.pop()

    @override
    def offer(self, name: str, agent: int, parameters: Vector, state: State) -> Vector:
        k = self._group_of[agent]
        rows, own = self._narrow(parameters, [0], k), self._own_state(state, [0], k)
        return self.groups[k].stack.exchange.offer(name, agent, rows, own)

    @override
    def receive(self, name: str, agent: int, state: State, received: Mapping[int, Vector]) -> None:
        k = self._group_of[agent]
        own = self._own_state(state, [0], k)
        self.groups[k].stack.exchange.receive(name, agent, own, received)
        self._put_state(state, [0], k, own)

    @override
    def problem(self) -> dict[str, NDArray[np.generic]]:
        """Return the learners' instances, named by group where they differ."""
        return merge([group.stack.objective.problem() for group in self.groups])

    def _rows(self, agents: Sequence[int], k: int) -> list[int]:
        return [row for row, agent in enumerate(agents) if self._group_of[agent] == k]

    def _present(self, agents: Sequence[int]) -> Iterator[tuple[int, list[int], Stack]]:
        """Yield (number, rows, learner) of every group that has agents here."""
        for k, group in enumerate(self.groups):
            at = self._rows(agents, k)
            if at:
                yield k, at, group.stack

    def _narrow(self, rows: Vector, at: Sequence[int], k: int) -> Vector:
        """Return copies of the rows `at` in the layout of group k."""
        out = self.groups[k].stack.layout.zeros(len(at))
        chosen = rows[list(at)]
        for wide, narrow in self._columns[k]:
            out[:, narrow] = chosen[:, wide]
        return out

    def _widen(self, rows: Vector, at: Sequence[int], k: int, own: Vector) -> None:
        """Write rows of group k into the rows `at`; columns of other groups keep their values."""
        where = np.asarray(at, dtype=np.intp)
        for wide, narrow in self._columns[k]:
            rows[where, wide] = own[:, narrow]

    def _own_state(self, state: State, at: Sequence[int], k: int) -> State:
        """Return copies of group k's state of the rows `at`, under its own names."""
        prefix, rows = _prefix(k), list(at)
        own: State = {
            name.removeprefix(prefix): values[rows]
            for name, values in state.items()
            if name.startswith(prefix)
        }
        for name in self.groups[k].stack.traits.arrays:
            own[name] = self._narrow(state[name], at, k)  # type: ignore[arg-type]
        return own

    def _put_state(self, state: State, at: Sequence[int], k: int, own: State) -> None:
        """Write group k's state of the rows `at` back, in place."""
        arrays = self.groups[k].stack.traits.arrays
        for name, values in own.items():
            if name in arrays:
                self._widen(state[name], at, k, values)  # type: ignore[arg-type]
            elif _prefix(k) + name in state:
                state[_prefix(k) + name][list(at)] = values


def merge(tables: Sequence[Mapping[str, NDArray[np.generic]]]) -> dict[str, NDArray[np.generic]]:
    """Return one table of all groups' arrays, named "group0.name" and so on where they differ."""
    first = tables[0]
    if all(_is_equal(table, first) for table in tables[1:]):
        return dict(first)
    return {
        _prefix(k) + name: values
        for k, table in enumerate(tables)
        for name, values in table.items()
    }


def _is_equal(
    table: Mapping[str, NDArray[np.generic]], other: Mapping[str, NDArray[np.generic]]
) -> bool:
    return table.keys() == other.keys() and all(
        np.array_equal(values, other[name]) for name, values in table.items()
    )


def _names(groups: int) -> list[str]:
    return [f"{PART}{k}" for k in range(groups)]


def _prefix(k: int) -> str:
    return f"{PART}{k}."


def _traits(own: Sequence[Traits], layout: Layout) -> Traits:
    """Return the traits of all groups together, given those of each and the common layout."""
    min_steps, rate = min(traits.min_steps for traits in own), own[0].rate
    known = [most for traits in own if (most := traits.most_steps) is not None]
    return Traits(
        layout=layout,
        min_steps=min_steps,
        fixed_steps=all(traits.fixed_steps and traits.min_steps == min_steps for traits in own),
        max_steps=max(known) if len(known) == len(own) else None,
        chunk=min(traits.chunk for traits in own),
        moments=tuple(_prefix(k) + name for k, traits in enumerate(own) for name in traits.moments),
        squares=tuple(_prefix(k) + name for k, traits in enumerate(own) for name in traits.squares),
        counts=tuple(_prefix(k) + name for k, traits in enumerate(own) for name in traits.counts),
        arrays=tuple(dict.fromkeys(name for traits in own for name in traits.arrays)),
        rate=rate if all(traits.rate == rate for traits in own) else 0.0,
        takes_corrections=all(traits.takes_corrections for traits in own),
        gives_gradients=all(traits.gives_gradients for traits in own),
        takes_guides=all(traits.takes_guides for traits in own),
        takes_episodes=all(traits.takes_episodes for traits in own),
        gives_returns=all(traits.gives_returns for traits in own),
        only_payload=next((traits.only_payload for traits in own if traits.only_payload), None),
        personal=tuple(
            part
            for part in layout.parts
            if part in _names(len(own)) or any(part in traits.personal for traits in own)
        ),
        is_saved_whole=all(traits.is_saved_whole for traits in own),
        members=own[0].members,
        engine=" and ".join(sorted({traits.engine for traits in own})),
        world=tuple(_prefix(k) + name for k, traits in enumerate(own) for name in traits.world),
    )


def _layout(layouts: Sequence[Layout], *, may_differ: bool) -> Layout:
    """Return the tensors that all layouts have by name and shape, then the others of each."""
    types = sorted({layout.dtype for layout in layouts})
    if len(types) > 1:
        raise ScenarioError([f"groups: learners of {' and '.join(types)} cannot share numbers"])
    shapes = [{tensor.name: tensor.shape for tensor in layout.tensors} for layout in layouts]
    first = layouts[0].tensors
    common = [
        tensor
        for tensor in first
        if all(found.get(tensor.name) == tensor.shape for found in shapes)
    ]
    if not common and not may_differ:
        raise ScenarioError(
            ["groups: nothing would travel: no tensor is in all groups by name and shape"]
        )
    shared = {tensor.name for tensor in common}
    own = [
        replace(tensor, name=_prefix(k) + tensor.name, aligned=True)
        for k, layout in enumerate(layouts)
        for tensor in layout.tensors
        if tensor.name not in shared
    ]
    return Layout((*common, *own), types[0])


def _columns(wide: Layout, narrow: Layout, k: int) -> list[tuple[slice, slice]]:
    """Return (slice of the whole row, slice of group k's row) of each of the group's tensors."""
    places = dict(zip((tensor.name for tensor in wide.tensors), wide.offsets, strict=True))

    def place(tensor: Tensor) -> int:
        return places.get(_prefix(k) + tensor.name, places.get(tensor.name, -1))

    return [
        (slice(place(tensor), place(tensor) + tensor.size), slice(offset, offset + tensor.size))
        for tensor, offset in zip(narrow.tensors, narrow.offsets, strict=True)
    ]
