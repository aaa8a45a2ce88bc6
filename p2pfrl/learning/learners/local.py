"""Learners of one agent: any program that trains parameters of its own in an environment.

A `LocalLearner` is written as for one agent alone, with torch and Gymnasium and without knowledge
of this package. `Local` puts one into every agent; `sb3.py` does so with those of
Stable-Baselines3.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import override

from p2pfrl.core.causes import cause, foreign
from p2pfrl.core.contract import described
from p2pfrl.core.errors import AgentError, P2PFRLError, ScenarioError
from p2pfrl.core.lazy import LazyModule
from p2pfrl.core.located import Located
from p2pfrl.core.modules import find_class
from p2pfrl.core.parameters import Layout, Tensor, Vector
from p2pfrl.core.rng import Purpose, key
from p2pfrl.core.rule import rule
from p2pfrl.core.wording import show
from p2pfrl.learning.environments.base import Simulator, Step
from p2pfrl.learning.learners.actions import ActionError, fitting
from p2pfrl.learning.learners.base import (
    OWN_ENGINE,
    Batch,
    Evaluator,
    Learner,
    Outcome,
    Stack,
    State,
    Task,
    Traits,
)
from p2pfrl.learning.learners.kept import Arrays
from p2pfrl.learning.learners.seeding import seeded
from p2pfrl.learning.learners.turns import Turns
from p2pfrl.learning.rollout import Act, Kept, play

if TYPE_CHECKING:
    import gymnasium
    import torch

    from p2pfrl.learning.learners.one_agent import OneAgentEnv
else:
    torch = LazyModule("torch")

_TICK = "learner_tick"
"""State array: updates that the agent's learner has made. One that is elsewhere is made anew."""
_KEPT = "learner."
"""Beginning of the names of the state arrays that hold what learners remember."""


class LocalLearner(ABC):
    """The learner of one agent: parameters, and a way to train them.

    Its constructor takes `(env, lr, **kwargs)`: a `gymnasium.vector.VectorEnv` of the agent's
    copies of its environment, the learning rate, and the options of the scenario's
    `learner.kwargs`. The spaces are `env.single_observation_space` and `env.single_action_space`.

    In a shared world every step of `env` waits for those of the other members, whose learners run
    meanwhile, by turns.

    What it draws from torch, numpy and Python's `random` is seeded by (seed, agent, update). What
    else it remembers from one update to the next, such as an optimizer, stays in the object. After
    a crash, and in a run that is resumed, the object is made anew and gets the parameters, and what
    `state` returned.

    Attributes:
        IN_A_SCENARIO: how a scenario names one, for messages.
        is_saved_whole: whether parameters and `state` are all that it remembers.
    """

    IN_A_SCENARIO: ClassVar[str] = 'kind = "local", make = "{place}"'
    is_saved_whole: bool = True

    @abstractmethod
    def named_parameters(self) -> Iterable[tuple[str, torch.Tensor]]:
        """Return the parameters that travel, with names, always in one order; float32.

        The name up to its first dot is the part that `exchange.shared` may name. The tensors are
        read after an update and written in place before the next one.
        """

    @abstractmethod
    def learn(
        self, env: gymnasium.vector.VectorEnv[Any, Any, Any], steps: int, rng: np.random.Generator
    ) -> float | None:
        """Train for exactly `steps` steps of each copy of `env`; return the mean loss, if any.

        Args:
            env: `reset` returns the current observations and starts no episode: episodes go on from
                update to update. It resets in the same step (`AutoresetMode.SAME_STEP`).
            steps: of each copy.
            rng: random numbers of (seed, agent, update).
        """

    @abstractmethod
    def act(self, obs: NDArray[np.float32]) -> NDArray[Any]:
        """Return the best actions `(m,)` or `(m, a)` at observations `(m, o)`."""

    def loaded(self) -> None:
        """Called after the parameters have been written from outside."""
        return

    def state(self) -> Arrays | None:
        """Return what it remembers beside its parameters, as arrays by name.

        Names, shapes and types are those of the first call, when nothing has been learned. None:
        it is not saved. `p2pfrl.OptimizerArray` makes an array of an optimizer of torch.
        """
        return None

    def load_state(self, state: Arrays) -> None:
        """Remember what `state` returned; called before every update, after `loaded`."""
        return


Make = Callable[["gymnasium.vector.VectorEnv[Any, Any, Any]", float], LocalLearner]


@rule
class Local(Learner, Located):
    """A learner of one's own, written for one agent: a class that is a `LocalLearner`.

    Agents are computed one after the other, each with an object of that class. Those that share a
    world take their steps together, and each learns from its own observations and rewards.

    Attributes:
        lr: given to the constructor.
        make: the class, as "module:Class".
        steps: of each instance per update.
        kwargs: further options of the constructor.
    """

    make: str
    steps: int = Field(default=64, ge=1)
    kwargs: dict[str, Any] = Field(default_factory=dict)

    @override
    def modules(self) -> tuple[str, ...]:
        """Return the module of the class."""
        return (self.make.partition(":")[0],)

    @override
    def prepare(self, task: Task) -> Stack:
        try:
            found = find_class(self.make)
        except (ValueError, TypeError) as error:
            raise ScenarioError([f"learner.make: {error}"]) from error
        if not issubclass(found, LocalLearner):
            reason = f"expected a class that is a p2pfrl.LocalLearner, got {show(found.__name__)}"
            raise ScenarioError([f"learner.make: {reason}"])
        cls: Any = found
        kwargs = dict(self.kwargs)
        return LocalStack(task, lambda env, lr: cls(env, lr, **kwargs), self.lr, self.steps)


class LocalStack(Stack):
    """A learner of one agent, in every agent.

    Args:
        task: with a simulator.
        make: (environments of an agent, learning rate) -> its learner.
        lr: learning rate.
        steps: of each instance per update.
        engine: what computes its networks.
    """

    def __init__(
        self, task: Task, make: Make, lr: float, steps: int, engine: str = OWN_ENGINE
    ) -> None:
        if task.simulator is None:
            raise ScenarioError(["learner: this kind needs an environment"])
        self.simulator = task.simulator
        self._task, self._make, self._lr, self._steps = task, make, lr, steps
        self._agents: dict[int, _Agent] = {}
        self.evaluator = _Greedy(self, task.evaluator)
        try:
            first = self._fresh(0, 0)
        except AgentError as error:
            raise ScenarioError([f"learner: {error.detail}"]) from error.__cause__
        try:
            kept = self._kept(first, 0)
        except AgentError as error:
            raise ScenarioError([f"learner: {error.detail}"]) from error.__cause__
        self._like = kept or {}
        self.traits = Traits(
            layout=_layout(first.learner),
            min_steps=steps * task.simulator.instances,
            is_saved_whole=kept is not None and first.learner.is_saved_whole,
            engine=engine,
        )
        self._agents[0] = first

    @override
    def start(self, agents: Sequence[int], *, same: bool) -> Vector:
        """Return the parameters with which learners are made; with `same`, those of one of them."""
        rows = self.layout.zeros(len(agents))
        if same:
            rows[:] = self._read(self._fresh(min(agents, default=0), 0, same=True))
            return rows
        for row, agent in zip(rows, agents, strict=True):
            row[:] = self._read(self._fresh(agent, 0))
        return rows

    @override
    def init(self, agents: Sequence[int]) -> State:
        """Return the environments, how many updates learners have made, and what they remember."""
        state: State = {_TICK: np.zeros(len(agents), dtype=np.int64)}
        for name, like in self._like.items():
            state[_KEPT + name] = np.zeros((len(agents), *like.shape), dtype=like.dtype)
        for row, agent in enumerate(agents if self._like else ()):
            own = self._agents.get(agent)
            if own is None or own.tick:
                own = self._agents[agent] = self._fresh(agent, 0)
            for name, values in (self._kept(own, agent) or {}).items():
                state[_KEPT + name][row] = values
        return state | self.simulator.init(agents)

    @override
    def update(self, batch: Batch) -> Outcome:
        """Let one learner after the other train; those of a shared world by turns, step by step."""
        b, k = len(batch.agents), self.simulator.spec.members
        loss = np.full(b, np.nan)
        state = {name: values.copy() for name, values in batch.state.items()}
        agents = list[_Agent]()
        for first in range(0, b, k):
            rows = range(first, first + k)
            members = [self._ready(batch, state, row) for row in rows]
            loss[first : first + k] = self._learn(members, batch.index[first], state, first)
            for row, own in zip(rows, members, strict=True):
                for name, values in (self._kept(own, batch.agents[row]) or {}).items():
                    state[_KEPT + name][row] = values
                batch.parameters[row] = self._read(own)
                own.tick += 1
                state[_TICK][row] = own.tick
            agents += members
        measures = [own.env.measures() for own in agents]
        steps = np.full(b, self.traits.min_steps, dtype=np.int64)
        names = dict.fromkeys(name for found in measures for name in found)
        columns = {
            name: np.array([found.get(name, np.nan) for found in measures]) for name in names
        }
        returns = [own.env.returns for own in agents]
        return Outcome(batch.parameters, state, steps, loss, returns, columns)

    def _ready(self, batch: Batch, state: State, row: int) -> _Agent:
        """Return the learner of a row, with its parameters and what it remembers."""
        agent, index = batch.agents[row], batch.index[row]
        own = self.with_parameters(agent, int(state[_TICK][row]), batch.parameters[row])
        if self._like:
            with self._named(own, agent, f"update {index}: load_state"):
                kept = {name: state[_KEPT + name][row].copy() for name in self._like}
                own.learner.load_state(kept)
        return own

    def with_parameters(self, agent: int, tick: int, row: Vector) -> _Agent:
        """Return the learner of `agent` after `tick` updates, with these parameters."""
        own = self._agents.get(agent)
        if own is None or own.tick != tick:
            own = self._agents[agent] = self._fresh(agent, tick)
        self._write(own, row)
        return own

    def greedy(self, agent: int, row: Vector, obs: NDArray[np.float32]) -> NDArray[Any]:
        """Return the best actions of an agent with these parameters at observations `(m, o)`."""
        tick = self._agents[agent].tick if agent in self._agents else 0
        own, spec = self.with_parameters(agent, tick, row), self.simulator.spec
        with self._seeded(agent, "act", 0), self._named(own, agent, "act"):
            found: object = own.learner.act(obs)
        try:
            return fitting(found, spec, len(obs))
        except ActionError as error:
            raise AgentError(agent, f"{type(own.learner).__name__}.act: {error}") from error

    def _kept(self, own: _Agent, agent: int) -> Arrays | None:
        """Return what a learner remembers beside its parameters; None if it does not say.

        Raises:
            AgentError: it is no mapping of arrays, or not of the shapes that it had at first.
        """
        with self._named(own, agent, "state"):
            found: object = own.learner.state()
        if found is None:
            return None
        is_table = isinstance(found, Mapping) and all(isinstance(name, str) for name in found)
        kept = {name: np.asarray(values) for name, values in found.items()} if is_table else None  # type: ignore[attr-defined]
        where = f"{type(own.learner).__name__}.state"
        if kept is None or any(values.dtype == object for values in kept.values()):
            raise AgentError(agent, f"{where}: expected arrays by name, got {described(found)}")
        known, now = (
            {name: (values.dtype.str, values.shape) for name, values in arrays.items()}
            for arrays in (getattr(self, "_like", kept), kept)
        )
        if known != now:
            name = next(name for name in {**known, **now} if known.get(name) != now.get(name))
            had, has = known.get(name, "nothing"), now.get(name, "nothing")
            raise AgentError(agent, f"{where}: {name!r} was {had} at first and is {has} now")
        return kept

    def _learn(
        self, members: Sequence[_Agent], index: int, state: State, first: int
    ) -> NDArray[np.float64]:
        """Let the learners of a world train once; return their losses.

        The rows of the environment in `state`, from `first` on, move on.
        """
        agents = [own.env.agent for own in members]
        rows = slice(first, first + len(members))
        world = {
            name: values[rows]
            for name, values in state.items()
            if name != _TICK and not name.startswith(_KEPT)
        }
        self.simulator.begin(agents, [index] * len(members))
        obs = self.simulator.observe(agents, world)

        def together(actions: list[NDArray[Any]]) -> list[Step]:
            step = self.simulator.step(world, np.stack(actions))
            return [step] if len(members) == 1 else [_row(step, i) for i in range(len(members))]

        turns = Turns(together)
        loss = np.full(len(members), np.nan)

        def learn(number: int) -> None:
            loss[number] = self._learn_one(members[number], agents[number], index)

        for number, own in enumerate(members):
            own.env.begin(
                index,
                self._steps,
                obs[number : number + 1],
                partial(turns.meet, number)
                if len(members) > 1
                else lambda action: together([action])[0],
            )
        if len(members) > 1:
            turns.run([partial(learn, number) for number in range(len(members))])
        else:
            learn(0)
        for name, values in world.items():
            state[name][rows] = values
        return loss

    def _learn_one(self, own: _Agent, agent: int, index: int) -> float:
        """Let a learner train once; return its loss."""
        rng = np.random.Generator(np.random.PCG64(self._seed(agent, "rng", index)))
        name = type(own.learner).__name__
        with self._seeded(agent, "learn", index), self._named(own, agent, f"update {index}: learn"):
            loss: object = own.learner.learn(own.env, self._steps, rng)
        if own.env.taken != self._steps:
            raise AgentError(
                agent,
                f"update {index}: {name}.learn took {own.env.taken} steps of each copy; expected "
                f"{self._steps} (learner.steps)",
            )
        if loss is None:
            return float("nan")
        if not isinstance(loss, float | int | np.floating):
            got = described(loss)
            raise AgentError(agent, f"{name}.learn: expected a loss or None, got {got}")
        return float(loss)

    def _fresh(self, agent: int, tick: int, *, same: bool = False) -> _Agent:
        """Return a learner that has learned nothing, in the environments of `agent`."""
        from p2pfrl.learning.learners.one_agent import OneAgentEnv

        torch.set_num_threads(1)
        env = OneAgentEnv(self.simulator, agent)
        path = (Purpose.START,) if same else (agent, Purpose.START)
        with seeded(_number(self._task.seed, *path)):
            try:
                learner = self._make(env, self._lr)
            except foreign() as error:
                raise AgentError(agent, f"its learner cannot be made: {cause(error)}") from error
        return _Agent(env, learner, tick)

    def _read(self, own: _Agent) -> Vector:
        """Return the parameters of a learner as a row `(stride,)`."""
        row: Vector = self.layout.zeros(1)[0]
        for (_, values), tensor, offset in self._tensors(own):
            row[offset : offset + tensor.size] = values.detach().cpu().numpy().ravel()
        return row

    def _write(self, own: _Agent, row: Vector) -> None:
        """Set the parameters of a learner to those of a row."""
        with torch.no_grad():
            for (_, values), tensor, offset in self._tensors(own):
                values.copy_(
                    torch.from_numpy(row[offset : offset + tensor.size].copy()).view(*tensor.shape)
                )
        own.learner.loaded()

    def _tensors(self, own: _Agent) -> Iterator[tuple[tuple[str, torch.Tensor], Tensor, int]]:
        """Yield the parameters of a learner with their places.

        Raises:
            AgentError: they are not those that it had at first.
        """
        named = list(own.learner.named_parameters())
        now = tuple(Tensor(name, tuple(values.shape)) for name, values in named)
        if now != self.layout.tensors:
            was, has = (
                ", ".join(
                    f"{tensor.name} {tensor.shape}" for tensor in tensors if tensor not in other
                )
                for tensors, other in ((self.layout.tensors, now), (now, self.layout.tensors))
            )
            name = type(own.learner).__name__
            raise AgentError(
                own.env.agent,
                f"{name}.named_parameters: expected {was or 'no more'} as at first, got {has or 'nothing'}; "
                "parameters keep their names and shapes",
            )
        yield from zip(named, self.layout.tensors, self.layout.offsets, strict=True)

    def _seed(self, agent: int, what: str, index: int) -> int:
        return _number(self._task.seed, agent, "local", what, index)

    def _seeded(self, agent: int, what: str, index: int) -> Any:
        return seeded(self._seed(agent, what, index))

    @contextmanager
    def _named(self, own: _Agent, agent: int, method: str) -> Iterator[None]:
        """Turn what a user's method raises into an error that names agent, method and line."""
        try:
            yield
        except P2PFRLError:
            raise
        except foreign() as error:
            name = type(own.learner).__name__
            raise AgentError(agent, f"{method} of {name} raised {cause(error)}") from error


def _row(step: Step, i: int) -> Step:
    """Return one row of a step."""
    own = {
        each.name: getattr(step, each.name)[i : i + 1]
        for each in fields(Step)
        if each.name != "measures"
    }
    return Step(**own, measures={name: v[i : i + 1] for name, v in step.measures.items()})


@dataclass
class _Agent:
    """The learner of one agent, and its environments."""

    env: OneAgentEnv
    learner: LocalLearner
    tick: int


class _Greedy(Evaluator):
    """Plays the best actions of learners."""

    def __init__(self, stack: LocalStack, simulator: Simulator | None) -> None:
        self._stack, self._simulator = stack, simulator

    @override
    def evaluate(
        self, agents: Sequence[int], parameters: Vector, episodes: int, index: int
    ) -> NDArray[np.float64] | None:
        if self._simulator is None:
            return None

        def acting(kept: Kept) -> Act:
            nonlocal agents, parameters
            whose, own = [*np.asarray(agents)[kept].tolist()], parameters[kept]
            agents, parameters = whose, own
            return lambda obs: self.act(whose, own, obs)

        return play(self._simulator, acting, agents=agents, episodes=episodes, index=index)

    @override
    def act(
        self, agents: Sequence[int], parameters: Vector, obs: NDArray[np.float32]
    ) -> NDArray[Any]:
        return np.stack(
            [
                self._stack.greedy(agent, row, seen)
                for agent, row, seen in zip(agents, parameters, obs, strict=True)
            ]
        )


def _layout(learner: LocalLearner) -> Layout:
    """Return the layout of a learner's parameters.

    Raises:
        ScenarioError: it has none, or they are not float32.
    """
    name, tensors = type(learner).__name__, []
    for found in learner.named_parameters():
        is_pair = isinstance(found, tuple) and len(found) == 2 and isinstance(found[0], str)
        if not is_pair or not isinstance(found[1], torch.Tensor):
            got = described(found)
            raise ScenarioError(
                [f"learner: {name}.named_parameters: expected pairs of name and tensor, got {got}"]
            )
        if found[1].dtype != torch.float32:
            dtype = str(found[1].dtype).removeprefix("torch.")
            raise ScenarioError([f"learner: {name}: {found[0]} is {dtype}; expected float32"])
        tensors.append(Tensor(found[0], tuple(found[1].shape)))
    if not tensors:
        raise ScenarioError([f"learner: {name}.named_parameters: it has no parameters"])
    return Layout(tuple(tensors))


def _number(seed: int, *path: int | str) -> int:
    """Return a seed of 32 bits that a path names."""
    return int.from_bytes(key(seed, *path)[:4], "little")
