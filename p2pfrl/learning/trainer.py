"""The trainer: owns what agents learn with, and computes updates of many agents as a batch.

In virtual time an update that starts now matters only when it ends, so the life of an update has
three moments:

    freeze(i)      it starts: its inputs are what they are now, whatever is written later
    compute([..])  any time before the first of them ends: all pending updates are one batch;
                   nobody sees the results
    commit(i)      it ends: parameters, optimizer and environments move on, and the `Update` is
                   handed out

`cancel(i)` before that (a crash) leaves no trace. `update([..])` does all three at once.

A batch is computed in chunks of agents by an executor (executors.py). One that computes elsewhere
gets a chunk as soon as enough updates have started, and `compute` waits for the results, so that
what happens between the two moments goes on meanwhile. Where `compute` runs in a thread of its own
(`overlaps`), what happens goes on anyway, and chunks are submitted there alone.

State arrays are large, and nobody looks at an agent's state during an update. So neighbors are
computed in their rows of these arrays, and what the rows were at the start is kept until the
updates end. If somebody does look, the start is put back, and the results wait in arrays of their
own.

Members of a shared world (environments/shared.py) start together: between the first two moments
comes `begin([..])`, with those members that are present (meetings.py). The others take part as
passengers: they act with the parameters that they have, and only the world moves on for them. A
member that crashes meanwhile becomes a passenger. The world moves with the first commit, for all
members; it never goes back, and neither does its number of updates, which names the random streams
of all members.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.contract import returned
from p2pfrl.core.errors import AgentError
from p2pfrl.core.floats import allow_overflow
from p2pfrl.core.parameters import Vector, aligned_empty
from p2pfrl.core.state import State as Tree
from p2pfrl.core.types import TRANSITIONS, Update
from p2pfrl.learning.executors import Executor, InThisThread, LostChunkError
from p2pfrl.learning.learners.base import Batch, Outcome, Stack, State
from p2pfrl.learning.meetings import whole_worlds


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An agent's parameters `(stride,)`, state rows, and number of updates."""

    parameters: Vector
    state: State
    index: int


def is_finite(values: Vector) -> bool:
    """Whether all numbers are finite."""
    return 0 not in np.isfinite(values).tobytes()  # faster than `all` for short vectors


@dataclass(slots=True)
class _Pending:
    frozen: Vector | None = None  # the parameters at the start, once they have been written over
    outcome: Outcome | None = None
    position: int = 0  # row of the outcome
    has_begun: bool = True  # false while a member of a shared world waits for the others
    has_moved: bool = False  # whether the shared world has moved on
    held: State = field(
        default_factory=dict
    )  # rows of state arrays at the start, once they changed
    chunk: _Chunk | None = None  # with which it was submitted


@dataclass(slots=True, eq=False)
class _Chunk:
    agents: tuple[int, ...]
    handle: Any = None
    outcome: Outcome | None = None
    parameters: Vector | None = None  # of its batch
    rows: State = field(default_factory=dict)  # of the state arrays, if it is computed in them
    start: State = field(default_factory=dict)  # copies of what these rows were
    waiting: set[int] = field(default_factory=set)  # agents whose rows they are still to be


def _apart(outcome: Outcome, state: State, own: Vector | None) -> Outcome:
    """Return an outcome with this state, and copies of whatever may share memory with another.

    The parameters do not, if they are in the batch's `own` array.
    """
    transitions = outcome.transitions
    return Outcome(
        outcome.parameters if outcome.parameters is own else np.array(outcome.parameters),
        state,
        np.array(outcome.env_steps),
        np.array(outcome.loss),
        outcome.returns,
        {name: np.array(values) for name, values in outcome.measures.items()},
        None if transitions is None else np.array(transitions),
    )


def _packed(request: _Pending) -> Tree:
    """Return an update under way as plain values; of its batch's outcome only its own row."""
    outcome, at = request.outcome, request.position
    start = {
        "frozen": request.frozen,
        "has_begun": request.has_begun,
        "has_moved": request.has_moved,
        "heard": dict(request.held),
    }
    if outcome is None:
        return {**start, "outcome": None}
    rows = slice(at, at + 1)
    return {
        **start,
        "outcome": {
            "parameters": outcome.parameters[rows],
            "state": {name: values[rows] for name, values in outcome.state.items()},
            "env_steps": outcome.env_steps[rows],
            "loss": outcome.loss[rows],
            "returns": tuple(map(float, outcome.returns[at])),
            "measures": {name: values[rows] for name, values in outcome.measures.items()},
            "transitions": None if outcome.transitions is None else outcome.transitions[rows],
        },
    }


def _unpacked(packed: Tree) -> _Pending:
    found = packed["outcome"]
    outcome = None if found is None else Outcome(**{**found, "returns": (found["returns"],)})
    return _Pending(
        packed["frozen"],
        outcome,
        has_begun=packed["has_begun"],
        has_moved=packed["has_moved"],
        held=packed["heard"],
    )


class Trainer:
    """The vectors and environments of a population, and the updates that are under way.

    Attributes:
        stack: the learner that computes.
        agents: ids, ascending; row r of every array belongs to agents[r].
        parameters: `(n, stride)`, aligned.
        index: `(n,)` updates committed.
        transitions: agent -> what its last update collected, where it collected instead of
            learning.
        executor: computes the chunks. Another one may take its place between two updates.
        overlaps: whether chunks are submitted before `compute`. False where another thread calls
            it: an executor belongs to one thread.

    Args:
        stack: the learner that computes.
        agents: ids of the agents that live here, or n for all of range(n).
        same_start: whether all agents start at one point.
        executor: computes the chunks; None: this thread does.
    """

    def __init__(
        self,
        stack: Stack,
        agents: Sequence[int] | int,
        *,
        same_start: bool = True,
        executor: Executor | None = None,
    ) -> None:
        self.stack = stack
        self.agents = tuple(range(agents)) if isinstance(agents, int) else tuple(sorted(agents))
        self.parameters = stack.start(self.agents, same=same_start)
        self._state = stack.init(self.agents) | self._extra_state(self.parameters)
        self.index = np.zeros(len(self.agents), dtype=np.int64)
        self.transitions: dict[int, Vector] = {}
        self._same_start = same_start
        self.executor: Executor = executor or InThisThread(self.update_batch)
        self.overlaps = True
        self._rows = {agent: row for row, agent in enumerate(self.agents)}
        self._pending: dict[int, _Pending] = {}
        self._passengers: dict[int, _Pending] = {}
        self._queue: dict[int, None] = {}  # started, but not submitted
        self._world = frozenset(stack.traits.world)
        kept = self._world.union(stack.traits.heard)
        self._learned = tuple(name for name in self._state if name not in kept)
        self._in_place: dict[_Chunk, None] = {}  # computed in the rows of state arrays
        self._computed = self._batches = 0

    @property
    def state(self) -> State:
        """Arrays with leading axis n, as they are now: ask again after the next update."""
        for chunk in (*self._in_place,):
            self._put_back(chunk)
        return self._state

    @property
    def mean_batch(self) -> float:
        """Mean number of updates that were computed together (0 before the first)."""
        return self._computed / self._batches if self._batches else 0.0

    @property
    def pending(self) -> tuple[int, ...]:
        """Agents whose update has started, not computed, committed or cancelled, ascending."""
        return tuple(
            sorted(
                agent
                for agent, request in self._pending.items()
                if request.outcome is None and request.has_begun
            )
        )

    def has_computed(self, agent: int) -> bool:
        """Whether the agent's update, which has started, is computed."""
        return self._pending[agent].outcome is not None

    def row(self, agent: int) -> int:
        """Return the row of `agent` in every array."""
        return self._rows[agent]

    def read(self, agent: int) -> Vector:
        """Return a read-only view `(stride,)` of the agent's current parameters."""
        view: Vector = self.parameters[self._rows[agent]]
        view.setflags(write=False)
        return view

    def write(self, agent: int, vector: Vector, parts: Sequence[str] | None = None) -> None:
        """Set `parts` of the agent's parameters, `(k,)`; an update under way keeps its own.

        All parts are meant where `parts` is None.

        Raises:
            AgentError: they are not finite.
        """
        row = self.parameters[self._rows[agent]]
        if not is_finite(vector):
            values = row.copy()
            self.stack.layout.unpack(vector, values, parts)
            raise AgentError(agent, f"what it received and mixed left {self._first(values)}")
        request = self._pending.get(agent)
        if request is not None and request.frozen is None:
            request.frozen = row.copy()
        self.stack.layout.unpack(vector, row, parts)

    def hear(self, agent: int, received: Mapping[int, Vector], parts: Sequence[str]) -> None:
        """Note the shared parts of others' parameters; an update under way keeps what it knew.

        Args:
            agent: who has heard of them.
            received: by agent, `(k,)` each; those that share no world with it are left out.
            parts: of the parameters, which the vectors hold.
        """
        k = self.stack.traits.companions
        known = {other: vector for other, vector in received.items() if other // k == agent // k}
        for name in self.stack.traits.heard:
            entry = self.entry(agent, name)
            for other, vector in known.items():
                self.stack.layout.unpack(vector, np.asarray(entry[other % k]), parts)

    def values(self, agent: int, name: str) -> Any:
        """Return the agent's row of a state array, as it is now."""
        return self._state_of(agent)[name][self._rows[agent], ...]

    def entry(self, agent: int, name: str) -> Any:
        """Return the agent's row of a state array, to write into.

        An update under way keeps what the row was when it started.
        """
        row = self.values(agent, name)
        request = self._passengers.get(agent) or self._pending.get(agent)
        if request is not None and request.outcome is None and name not in request.held:
            request.held[name] = np.array(row)
        return row

    def freeze(self, agent: int) -> None:
        """Start an update of `agent`: fix its inputs. A member of a shared world waits for `begin`.

        So its parameters are those with which it asked, and its world is that which the others
        left.
        """
        assert agent not in self._pending, f"agent {agent} is training already"
        self._pending[agent] = _Pending(has_begun=self.stack.traits.members == 1)
        if self.stack.traits.members == 1:
            self._queue[agent] = None
            self._advance()

    def begin(self, together: Sequence[int]) -> None:
        """Start the updates of members of one shared world, which have been frozen."""
        for agent in together:
            self._pending[agent].has_begun = True
        for agent in self._companions(together[0]):
            if agent not in together:
                self._passengers[agent] = _Pending(self.parameters[self._rows[agent]].copy())
            self._queue[agent] = None
        self._advance()

    def cancel(self, agent: int) -> None:
        """Forget the agent's update, if one is under way: nothing of it has happened.

        A shared world goes on as long as another member trains in it; the agent is a passenger
        then.
        """
        self._state_of(agent)
        request = self._pending.pop(agent, None)
        if not self._world:
            self._queue.pop(agent, None)
        if not self._world or request is None or not request.has_begun or request.has_moved:
            return
        companions = self._companions(agent)
        pending = [self._pending[other] for other in companions if other in self._pending]
        if any(other.has_begun and not other.has_moved for other in pending):
            if request.frozen is None:
                request.frozen = self.parameters[self._rows[agent]].copy()
            self._passengers[agent] = request
        else:
            for other in companions:
                self._passengers.pop(other, None)
                self._queue.pop(other, None)

    def _companions(self, agent: int) -> range:
        """Return all members of the agent's world."""
        k = self.stack.traits.members
        first = agent - agent % k
        return range(first, first + k)

    def _request(self, agent: int) -> _Pending:
        """Return the update in which the agent takes part, as a passenger or not."""
        return self._passengers.get(agent) or self._pending[agent]

    def compute(self, agents: Iterable[int] | None = None) -> None:
        """Compute the frozen updates of `agents`, by default all pending, as one batch.

        The batch is computed in chunks of `Traits.chunk` agents.

        Raises:
            AgentError: an environment failed, or parameters are not finite.
        """
        wanted = self.pending if agents is None else tuple(sorted(agents))
        if not wanted:
            return
        members = self.stack.traits.members
        rows = wanted if members == 1 else tuple(whole_worlds(wanted, members))
        requests = [self._request(agent) for agent in rows]
        left = [a for a, request in zip(rows, requests, strict=True) if request.chunk is None]
        for agents in self._split(left):
            self._submit(agents)
        lost = [agent for agent in rows if not self._has_arrived(self._request(agent))]
        if lost:
            self._compute_here(lost)
        for request in requests:
            assert request.chunk is not None
            request.outcome = request.chunk.outcome
            if request.chunk not in self._in_place:
                request.chunk = None
        self._computed += len(wanted)
        self._batches += 1

    def _advance(self) -> None:
        """Submit the updates that have started, if there is room, in chunks of full size."""
        if not self.overlaps:
            return
        size = self._size(len(self.agents))
        while len(self._queue) >= size and self.executor.has_room():
            self._submit(sorted(islice(self._queue, size)))
            size = self._size(len(self.agents))

    def _split(self, agents: Sequence[int]) -> list[Sequence[int]]:
        """Return agents, whole worlds of them, in chunks."""
        size = self._size(len(agents))
        return [agents[i : i + size] for i in range(0, len(agents), size)]

    def _size(self, agents: int) -> int:
        """Return how many agents the chunks have if so many are computed, in whole worlds."""
        executor, members = self.executor, self.stack.traits.members
        most = self.stack.traits.chunk if executor.most is None else executor.most
        share = -(-agents // executor.workers) if executor.workers > 1 else most
        whole = -(-share // members) * members
        return max(members, min(whole, most - most % members))

    def _submit(self, agents: Sequence[int]) -> None:
        """Give a chunk away."""
        chunk, batch = _Chunk(tuple(agents)), self._gather(agents)
        try:
            chunk.handle = self.executor.submit(self._in_rows(chunk, batch))
        finally:
            if chunk.handle is None:
                self._put_back(chunk)
        for position, agent in enumerate(agents):
            request = self._request(agent)
            request.chunk, request.position = chunk, position
            self._queue.pop(agent, None)

    def _in_rows(self, chunk: _Chunk, batch: Batch) -> Batch:
        """Return a batch with rows of the state arrays, if neighbors are computed in this thread.

        The copies that it had stay as the start.
        """
        rows = self._places(chunk.agents)
        is_now = self.executor.is_here and self.overlaps and not self._world
        if not is_now or not isinstance(rows, slice) or any(map(self._has_held, chunk.agents)):
            return batch
        chunk.rows = {name: self._state[name][rows] for name in self._learned}
        chunk.parameters, chunk.start = batch.parameters, batch.state
        chunk.waiting.update(chunk.agents)
        self._in_place[chunk] = None
        return Batch(batch.agents, batch.index, batch.parameters, batch.state | chunk.rows)

    def _has_held(self, agent: int) -> bool:
        """Whether rows of the agent's state have changed since its update started."""
        return bool(self._pending[agent].held)

    def _move_in(self, chunk: _Chunk) -> None:
        """Copy what a learner has not left in the rows that it got there."""
        assert chunk.outcome is not None
        found = chunk.outcome.state
        others = {n: np.array(found[n]) for n, rows in chunk.rows.items() if found[n] is not rows}
        if others:
            chunk.outcome = _apart(chunk.outcome, found | others, chunk.parameters)
            for name, values in others.items():
                chunk.rows[name][...] = values

    def _put_back(self, chunk: _Chunk) -> None:
        """Undo what a chunk has changed in place, if it has; its results get arrays of their own.

        Where an error has left it without results, its updates are to be computed again.
        """
        if chunk not in self._in_place:
            return
        del self._in_place[chunk]
        if chunk.outcome is not None:
            state = {name: np.array(values) for name, values in chunk.outcome.state.items()}
            chunk.outcome = _apart(chunk.outcome, state, chunk.parameters)
        for position, agent in enumerate(chunk.agents):
            if agent not in chunk.waiting:
                continue
            for name, rows in chunk.rows.items():
                rows[position] = chunk.start[name][position]
            request = self._pending[agent]
            if request.chunk is chunk:
                request.chunk = None if chunk.outcome is None else chunk
                request.outcome = None if request.outcome is None else chunk.outcome

    def _state_of(self, agent: int) -> State:
        """Return the state arrays, where the row of the agent is as it is now."""
        request = self._pending.get(agent)
        if request is not None and request.chunk is not None:
            self._put_back(request.chunk)
        return self._state

    def _has_arrived(self, request: _Pending) -> bool:
        """Wait for the outcome of an update that was submitted; return whether there is one."""
        chunk = request.chunk
        if chunk is None:
            return False
        if chunk.outcome is None:
            # Some may have been cancelled meanwhile: whatever came of them has not happened.
            found = [self._passengers.get(a) or self._pending.get(a) for a in chunk.agents]
            own = {row: it for row, it in enumerate(found) if it is not None and it.chunk is chunk}
            try:
                outcome = self.executor.result(chunk.handle)
            except LostChunkError:
                for other in own.values():
                    other.chunk = None
                return False
            self._check(chunk.agents, outcome, tuple(own))
            chunk.outcome = outcome
            self._move_in(chunk)
        return True

    def _compute_here(self, agents: Sequence[int]) -> None:
        """Compute updates in this thread, whole worlds of them."""
        executor, self.executor = self.executor, InThisThread(self.update_batch)
        try:
            for some in self._split(agents):
                self._submit(some)
                self._has_arrived(self._request(some[0]))
        finally:
            self.executor = executor

    def update_batch(self, batch: Batch) -> Outcome:
        """Return the updates of a batch. They are checked, so numpy need not warn."""
        with allow_overflow():
            return self.stack.update(batch)

    def _check(self, chunk: Sequence[int], outcome: Outcome, rows: Sequence[int]) -> None:
        """Raise an error if an update is no result of these agents, or not finite in some rows."""
        parts = "an Outcome with an entry of every agent in each array and list"
        fits = self._fits(outcome, len(chunk))
        returned(fits, outcome, parts, self.stack, "update", chunk[0])
        for name, values in (
            ("parameters", outcome.parameters),
            ("experience", outcome.transitions),
        ):
            if values is None or is_finite(values):
                continue
            row = next((row for row in rows if not is_finite(values[row])), None)
            if row is None:
                continue
            found = (
                self._first(values[row])
                if name == "parameters"
                else "experience that is not finite"
            )
            loss = "" if np.isfinite(outcome.loss[row]) else f", and a loss of {outcome.loss[row]}"
            index = int(self.index[self._rows[chunk[row]]])
            fix = "a smaller learner.lr may help, or rewards and observations of a smaller scale"
            raise AgentError(chunk[row], f"update {index}: training left {found}{loss}; {fix}")

    def _fits(self, outcome: object, b: int) -> bool:
        """Whether the results of `b` agents have the shapes of `Outcome`."""
        if not isinstance(outcome, Outcome):
            return False
        shape = (b, self.parameters.shape[1])
        counts = (outcome.env_steps, outcome.loss, outcome.returns, *outcome.measures.values())
        states = [outcome.state[name] for name in self._state if name in outcome.state]
        return (
            np.shape(outcome.parameters) == shape
            and len(states) == len(self._state)
            and all(np.shape(values)[:1] == (b,) for values in states)
            and all(len(values) == b for values in counts)
        )

    def _first(self, row: Vector) -> str:
        """Return the first parameter of `(stride,)` that is not finite, in words."""
        layout = self.stack.layout
        for tensor, offset in zip(layout.tensors, layout.offsets, strict=True):
            values = row[offset : offset + tensor.size]
            if not np.isfinite(values).all():
                bad = values[np.argmin(np.isfinite(values))]
                return f"parameters {tensor.name} that are not finite, such as {bad}"
        return "parameters that are not finite"

    def steps(self, agent: int) -> int:
        """Return the environment steps of the agent's update, which is computed, not committed."""
        request = self._pending[agent]
        assert request.outcome is not None, f"the update of agent {agent} has not been computed"
        return int(request.outcome.env_steps[request.position])

    def commit(self, agent: int) -> Update:
        """End the agent's update: let its result count, and return it; compute it first if needed.

        Where the parameters were written while the update was under way, its change is added to
        what was written: theta <- theta + (result - start), as in asynchronous decentralized SGD
        (Lian, Zhang, Zhang, Liu, Asynchronous decentralized parallel stochastic gradient descent,
        ICML 2018, arXiv 1710.06952, Algorithm 1).
        """
        if self._pending[agent].outcome is None:
            self.compute([agent])
        if self._world and not self._pending[agent].has_moved:
            self._move_world(agent)
        request, row = self._pending.pop(agent), self._rows[agent]
        outcome, position = request.outcome, request.position
        assert outcome is not None
        if request.frozen is None:
            self.parameters[row] = outcome.parameters[position]
        else:
            self.parameters[row] += outcome.parameters[position] - request.frozen
        chunk = request.chunk
        if chunk is not None and chunk in self._in_place:
            chunk.waiting.remove(agent)
            if not chunk.waiting:
                del self._in_place[chunk]
        else:
            for name in self._learned:
                self._state[name][row] = outcome.state[name][position]
        if not self._world:
            self.index[row] += 1
        if outcome.transitions is not None:
            self.transitions[agent] = outcome.transitions[position].copy()
        measures = {name: float(values[position]) for name, values in outcome.measures.items()}
        steps, loss, returns = (
            outcome.env_steps[position],
            outcome.loss[position],
            outcome.returns[position],
        )
        transitions = None if outcome.transitions is None else outcome.transitions[position].copy()
        return Update(
            agent, int(steps), float(loss), tuple(map(float, returns)), measures, transitions
        )

    @contextmanager
    def ahead(self, agent: int) -> Iterator[None]:
        """Show parameters and state of `agent` as the end of its update under way will leave them.

        Nothing of it has happened afterwards. Without an update under way nothing changes.
        """
        request, row = self._pending.get(agent), self._rows[agent]
        if request is None or not request.has_begun:
            yield
            return
        if request.outcome is None:
            self.compute()
        now = self._state_of(agent)
        outcome, position = request.outcome, request.position
        assert outcome is not None
        parameters = self.parameters[row].copy()
        state = {name: np.array(now[name][row]) for name in self._learned}
        self.parameters[row] = outcome.parameters[position]
        if request.frozen is not None:
            self.parameters[row] += parameters - request.frozen
        for name in self._learned:
            now[name][row] = outcome.state[name][position]
        try:
            yield
        finally:
            self.parameters[row] = parameters
            for name, values in state.items():
                now[name][row] = values

    def _move_world(self, agent: int) -> None:
        """Let the shared world of `agent` move on, for all members."""
        for other in self._companions(agent):
            request, row = self._request(other), self._rows[other]
            assert request.outcome is not None
            for name in sorted(self._world):
                self._state[name][row] = request.outcome.state[name][request.position]
            self.index[row] += 1
            request.has_moved = True
            self._passengers.pop(other, None)

    def update(self, agents: Iterable[int]) -> dict[int, Update]:
        """Freeze, compute and commit one update of each of `agents`; return them in order of id."""
        wanted = sorted(agents)
        for agent in wanted:
            self.freeze(agent)
        if self._world:
            for first in dict.fromkeys(self._companions(agent)[0] for agent in wanted):
                self.begin([agent for agent in self._companions(first) if agent in wanted])
        self.compute(wanted)
        return {agent: self.commit(agent) for agent in wanted}

    def reset_moments(self, agent: int) -> None:
        """Set the agent's moments and step counts to zero; an update under way keeps its own."""
        for name in (*self.stack.traits.moments, *self.stack.traits.counts):
            self.entry(agent, name)[...] = 0

    def snapshot(self, agent: int) -> Snapshot:
        """Return a copy of everything the agent learns with; an update under way is not in it."""
        row = self._rows[agent]
        state = {name: values[row].copy() for name, values in self._state_of(agent).items()}
        return Snapshot(self.parameters[row].copy(), state, int(self.index[row]))

    def restore(self, agent: int, snapshot: Snapshot) -> None:
        """Put the agent back to a snapshot and forget its update under way.

        Its shared world does not go back. If it is behind, as in a process that has just started,
        it moves to where the snapshot saw it, for all members.
        """
        self.cancel(agent)
        row = self._rows[agent]
        self.parameters[row] = snapshot.parameters
        for name in self._state:
            if name not in self._world:
                self.entry(agent, name)[...] = snapshot.state[name]
        if not self._world:
            self.index[row] = snapshot.index
        elif snapshot.index > self.index[row]:
            rows = [self._rows[other] for other in self._companions(agent)]
            self.index[rows] = snapshot.index
            for name in self._world:
                self._state[name][rows] = snapshot.state[name]

    def save(self) -> Tree:
        """Return everything, updates under way included. It shares the arrays: write it at once."""
        return {
            "parameters": self.parameters,
            "state": dict(self.state),
            "index": self.index,
            "transitions": dict(self.transitions),
            "pending": {agent: _packed(request) for agent, request in self._pending.items()},
            "passengers": {agent: _packed(request) for agent, request in self._passengers.items()},
            "computed": (self._computed, self._batches),
        }

    def load(self, state: Tree) -> None:
        """Take over what `save` returned, of a trainer of the same agents."""
        self.parameters[:] = state["parameters"]
        for name, values in self.state.items():
            values[:] = state["state"][name]
        self.index[:] = state["index"]
        self.transitions = dict(state["transitions"])
        self._pending = {agent: _unpacked(packed) for agent, packed in state["pending"].items()}
        self._passengers = {
            agent: _unpacked(packed) for agent, packed in state["passengers"].items()
        }
        found = {**self._pending, **self._passengers}
        self._queue = {
            a: None for a in sorted(found) if found[a].has_begun and found[a].outcome is None
        }
        self._computed, self._batches = state["computed"]

    def reset(self, agent: int) -> None:
        """Start the agent anew, as if it had never been there. Its shared world goes on.

        Its first updates draw the same numbers again, as those of a process that was killed before
        its first checkpoint do.
        """
        self.cancel(agent)
        row = self._rows[agent]
        if not self._world:
            self.index[row] = 0
        self.parameters[row] = self.stack.start([agent], same=self._same_start)[0]
        for name, values in (
            self.stack.init([agent]) | self._extra_state(self.parameters[row : row + 1])
        ).items():
            if name not in self._world:
                self.entry(agent, name)[...] = values[0]

    def offer(self, agent: int, name: str) -> Vector:
        """Return the learner's offer `name`, `(k,)`; where it collects, the last transitions."""
        if name == TRANSITIONS and agent in self.transitions:
            return self.transitions[agent]
        row = self._rows[agent]
        state = {key: values[row : row + 1] for key, values in self._state_of(agent).items()}
        return self.stack.exchange.offer(name, agent, self.parameters[row : row + 1], state)

    def receive(self, agent: int, name: str, received: Mapping[int, Vector]) -> None:
        """Let the agent's learner learn from the vectors `name` of others, by sender."""
        row = self._rows[agent]
        if agent in self._pending:
            for key in self._state:
                self.entry(agent, key)  # the learner may write into any of them
        state = {key: values[row : row + 1] for key, values in self._state_of(agent).items()}
        self.stack.exchange.receive(name, agent, state, received)

    def _extra_state(self, start: Vector) -> State:
        """Return what is kept beside parameters `(b, stride)`, at the start.

        Correction and exchange have zeros, and agents that have heard of nobody expect of all
        members of their world what they have themselves.
        """
        traits = self.stack.traits
        zeros: State = {name: self.stack.layout.zeros(len(start)) for name in traits.arrays}
        own = np.repeat(start[:, None], traits.companions, axis=1)
        return zeros | {name: own.copy() for name in traits.heard}

    def _gather(self, agents: Sequence[int]) -> Batch:
        """Return the inputs of a chunk as they were when each update started, as copies."""
        rows = self._places(agents)
        space = self.executor.space(len(agents))
        if space is None:
            layout = self.stack.layout
            parameters = aligned_empty((len(agents), layout.stride), layout.dtype)
            state = {name: _taken(values, rows) for name, values in self._state.items()}
        else:
            parameters, state = space
            for name, values in self._state.items():
                _taken(values, rows, state[name])
        _taken(self.parameters, rows, parameters)
        for position, agent in enumerate(agents):
            request = self._request(agent)
            if request.frozen is not None:
                parameters[position] = request.frozen
            for name, values in request.held.items():
                state[name][position] = values
        return Batch(agents, self.index[rows].tolist(), parameters, state)

    def _places(self, agents: Sequence[int]) -> slice | NDArray[np.intp]:
        """Return the rows of agents, in order; a slice if they are neighbors."""
        first, last = self._rows[agents[0]], self._rows[agents[-1]]
        if last - first == len(agents) - 1:
            return slice(first, last + 1)
        return np.array([self._rows[agent] for agent in agents], dtype=np.intp)


def _taken(
    values: NDArray[Any], rows: slice | NDArray[np.intp], out: NDArray[Any] | None = None
) -> NDArray[Any]:
    """Return a copy of rows, in `out` if there is one."""
    if isinstance(rows, slice):
        if out is None:
            return values[rows].copy()
        out[...] = values[rows]
        return out
    return values.take(rows, axis=0, out=out, mode="clip")  # "raise" copies twice
