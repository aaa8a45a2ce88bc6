"""Learners of a scenario, bound to their environments.

`learning` makes all environments. `outline` makes one, which is enough for sizes and costs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.errors import P2PFRLError, ScenarioError
from p2pfrl.core.wording import did_you_mean
from p2pfrl.exchange.attacks.base import ExperienceAttack
from p2pfrl.exchange.payloads import RULES as PAYLOADS
from p2pfrl.learning.environments.base import ARGUMENTS, Array, Environment, Problem, Simulator
from p2pfrl.learning.environments.drifting import DriftingSimulator, drifted
from p2pfrl.learning.environments.frames import stacked
from p2pfrl.learning.environments.heterogeneity import heterogeneity
from p2pfrl.learning.environments.priced import PricedSimulator
from p2pfrl.learning.environments.vary import columns
from p2pfrl.learning.grouped import Group, GroupedStack, merge
from p2pfrl.learning.learners.base import NO_ENGINE, DeviceName, Stack, Task
from p2pfrl.learning.self_play import SelfPlay
from p2pfrl.learning.started import Match, Started, match
from p2pfrl.learning.tampered import Tampered, TamperedSimulator
from p2pfrl.scenario.byzantine import attacks
from p2pfrl.scenario.environment import EnvironmentSection
from p2pfrl.scenario.groups import Make
from p2pfrl.scenario.modes import MODES
from p2pfrl.scenario.sections import Scenario

Table = dict[str, NDArray[np.generic]]
World = Callable[[EnvironmentSection], tuple[Simulator, Simulator | None]]
"""Environment section -> a simulator for training and another for evaluation."""


@dataclass(frozen=True)
class Learning:
    """The learners and environments of a scenario.

    Attributes:
        stack: the learner, bound to the environments.
        physics: `(n, ...)` arrays by name; empty without an environment.
        instance: arrays of the problem instance, the content of `problem.safetensors`.
        heterogeneity: measures of how different the agents are.
        simulators: the environments, of training and of evaluation.
        worlds: per group its agents, its environment, and the physics `(n, ...)` of all agents in
            it.
        start: what was taken from saved parameters; None without any.
    """

    stack: Stack
    physics: Table
    instance: Table
    heterogeneity: dict[str, float]
    simulators: tuple[Simulator, ...] = ()
    worlds: tuple[tuple[tuple[int, ...], EnvironmentSection, Table], ...] = ()
    start: Match | None = None

    def follow(self, working: Callable[[str], None] | None) -> None:
        """Let slow environments say what they are doing."""
        for simulator in self.simulators:
            simulator.working = working

    def close(self) -> None:
        """Close the environments; those that are needed again are opened anew."""
        for simulator in self.simulators:
            simulator.close()


def simulator_of(section: EnvironmentSection, table: Table, instances: int, seed: int) -> Simulator:
    """Return a simulator of the environment, in which physics drift if the section says so.

    Raises:
        ScenarioError: they would drift in an environment that does not compute on arrays.
    """
    if not section.drift:
        return section.rule.simulator(table, instances, seed)
    return DriftingSimulator(_of_arrays(section), table, instances, seed, section.drift)


def table_at(
    section: EnvironmentSection, table: Table, seed: int, agents: Sequence[int], update: int
) -> Table:
    """Return the physics `(b, ...)` of `agents` in an update, or in the evaluation so numbered."""
    if not section.drift:
        return {name: values[list(agents)] for name, values in table.items()}
    at = [update] * len(agents)
    return drifted(_of_arrays(section), table, section.drift, seed, agents, at)


def _of_arrays(section: EnvironmentSection) -> Environment:
    known = section.rule.spec.physics
    if strays := [name for name in section.drift if name not in known]:
        reason = f"{section.id} has nothing of this name{did_you_mean(strays[0], known)}"
        raise ScenarioError([f"environment.drift.{strays[0]}: {reason}"])
    if isinstance(section.rule, Environment):
        return section.rule
    raise ScenarioError(
        [
            f"environment.drift: {section.id} cannot drift, only environments of arrays can: remove it"
        ]
    )


def learning(scenario: Scenario) -> Learning:
    """Return the learners and environments of a scenario."""
    tables, seed = _Tables(scenario, range(scenario.agents)), scenario.seed
    tries_out = MODES[scenario.mode].mixes and scenario.mixing.tries_out
    episodes = scenario.evaluation.episodes or int(tries_out)
    opened: list[Simulator] = []
    changes = [one for one in attacks(scenario) if isinstance(one, ExperienceAttack)]
    masks: dict[int, int] = {}

    def world(section: EnvironmentSection) -> tuple[Simulator, Simulator | None]:
        table = tables.of(section)
        for drift in section.drift.values():
            drift.refresh()
        evaluator = simulator_of(section, table, episodes, seed) if episodes else None
        simulator = simulator_of(section, table, section.instances, seed)
        opened.extend(filter(None, (simulator, evaluator)))
        if section.privacy_weight:
            simulator = PricedSimulator(simulator, section.privacy_weight)
        if changes:
            simulator = TamperedSimulator(simulator, changes, masks, seed)
        return simulator, evaluator

    stack, start = _started(scenario, _stack(scenario, world))
    if changes:
        stack = Tampered(stack, masks)
    found = [
        (make, tables.of(make.environment))
        for make in scenario.makes
        if make.environment is not None
    ]
    if not found:
        return Learning(stack, {}, stack.objective.problem(), {}, tuple(opened), start=start)
    instance = merge(
        [
            make.environment.rule.instance(table)
            for make, table in found
            if make.environment is not None
        ]
    )
    return Learning(
        stack,
        _columns(found),
        instance | stack.objective.problem(),
        _differences(found),
        tuple(opened),
        tuple(
            (tuple(make.agents), make.environment, table)
            for make, table in found
            if make.environment is not None
        ),
        start,
    )


def start_of(scenario: Scenario, stack: Stack) -> Match | None:
    """Return what the agents take from saved parameters; None if they start as usual.

    Args:
        scenario: with or without a start.
        stack: the learner, or its outline.

    Raises:
        ScenarioError: there is no such file, it is damaged, or nothing matches.
    """
    return _started(scenario, stack)[1]


def _started(scenario: Scenario, stack: Stack) -> tuple[Stack, Match | None]:
    """Return a learner that starts as the scenario says, and what it takes."""
    start = scenario.start
    if start is None:
        return stack, None
    saved = start.read()
    found = match(stack.layout, saved, scenario.agents, models=start.models, parts=start.parts)
    return Started(stack, saved, found), found


def external_environments(scenario: Scenario) -> Iterator[tuple[int, int, Problem, Simulator]]:
    """Yield for each group of agents: how many, the first one, its environment, and one copy.

    Groups whose environments are arrays of this process are left out.
    """
    tables = _Tables(scenario, range(scenario.agents))
    for make in scenario.makes:
        section = make.environment
        if section is not None and section.rule.is_external:
            simulator = section.rule.simulator(tables.of(section), 1, scenario.seed)
            yield len(make.agents), min(make.agents), section.rule, simulator


def is_external(scenario: Scenario) -> bool:
    """Return whether an environment is no arrays of this process."""
    return any(
        make.environment is not None and make.environment.rule.is_external
        for make in scenario.makes
    )


def instance_bytes(scenario: Scenario, stack: Stack) -> tuple[float, float]:
    """Return about how many bytes of the problem an agent has: in memory, and in the record.

    The arrays of the environments of the first agents are made for it.
    """
    tables, found = _Tables(scenario, range(scenario.players)), 0.0
    for make in scenario.makes:
        if make.environment is not None:
            arrays = make.environment.rule.instance(tables.of(make.environment))
            own = sum(values.nbytes for values in arrays.values()) / scenario.players
            found += own * len(make.agents) / scenario.agents
    held, saved = stack.objective.problem_bytes()
    return found + held, found + saved


def outline(scenario: Scenario) -> Stack:
    """Return the learner of a scenario with one environment: for sizes, not for training.

    The environment is that of agent 0, shared or not.

    Raises:
        P2PFRLError: learner and environment do not fit.
    """
    tables = _Tables(scenario, range(scenario.players))

    def world(section: EnvironmentSection) -> tuple[Simulator, Simulator]:
        simulator = simulator_of(section, tables.of(section), section.instances, scenario.seed)
        return simulator, simulator

    return _stack(scenario, world)


def acting(scenario: Scenario, agent: int) -> tuple[Stack, int | None]:
    """Return the learner of a scenario and the size of what its networks see, None if nothing.

    Environments are opened for their sizes only, and closed.

    Raises:
        P2PFRLError: learner and environment do not fit.
    """
    tables = _Tables(scenario, range(scenario.players))
    made: list[tuple[EnvironmentSection, Simulator]] = []

    def world(section: EnvironmentSection) -> tuple[Simulator, Simulator]:
        simulator = simulator_of(section, tables.of(section), section.instances, scenario.seed)
        made.append((section, simulator))
        return simulator, simulator

    stack = _stack(scenario, world)
    make = next(make for make in scenario.makes if agent in make.agents)
    spec = next((known.spec for section, known in made if section == make.environment), None)
    size = None if spec is None else stacked(spec, make.learner.frames).observation
    for _, simulator in made:
        simulator.close()
    return stack, size


def beside(scenario: Scenario, make: Make, task: Task) -> Stack:
    """Return the learner of `make`, bound to an environment that belongs to no agent.

    Args:
        scenario: of the run.
        make: learner and environment, which is that of agent 0 with other random numbers.
        task: its seed is that of the environment.
    """
    assert make.environment is not None, "episodes need an environment"
    table = _Tables(scenario, range(scenario.agents)).of(make.environment)
    simulator = simulator_of(make.environment, table, make.environment.instances, task.seed)
    if make.environment.privacy_weight:
        simulator = PricedSimulator(simulator, make.environment.privacy_weight)
    return make.learner.prepare(replace(task, simulator=simulator))


def differences(scenario: Scenario) -> dict[str, float]:
    """Return how different the agents' environments are.

    If groups have their own environments, agents are compared within each group.
    """
    tables = _Tables(scenario, range(scenario.agents))
    return _differences(
        [(make, tables.of(make.environment)) for make in scenario.makes if make.environment]
    )


def task_of(scenario: Scenario) -> Task:
    """Return the task of the learner, without its environments."""
    payload = PAYLOADS.get(scenario.exchange.payload)
    gradient_only = payload is not None and payload.needs_gradient and payload.is_for(scenario.mode)
    return Task(
        scenario.seed,
        scenario.agents,
        correction=scenario.correction,
        gradient_only=gradient_only,
        offer=None if payload is None else payload.offer,
        engine=scenario.compute.engine,
        device=_device(scenario),
    )


def _device(scenario: Scenario) -> DeviceName:
    """Return the device of a scenario; the processor where none is chosen (build/devices.py)."""
    device = scenario.compute.device
    return "cpu" if device == "auto" else device


def needs_environment(scenario: Scenario) -> bool:
    """Return whether the learner needs an environment."""
    try:
        scenario.learner.prepare(Task(scenario.seed, scenario.agents))
    except P2PFRLError:
        return True
    return False


def drawn(
    section: EnvironmentSection, seed: int, agents: Sequence[int], total: int
) -> dict[str, Array]:
    """Return the arguments of constructors that differ between agents, `(b,)` by column.

    Agent i's drawn value depends on (seed, i, name) alone.
    """
    return {
        ARGUMENTS + name: values.values(seed, agents, total, f"kwargs-{name}")
        for name, values in section.kwargs_vary.items()
    }


class _Tables:
    """Physics of `agents` in the environments of a scenario, computed once per environment."""

    def __init__(self, scenario: Scenario, agents: Sequence[int]) -> None:
        self._scenario = scenario
        self._agents = agents
        self._made: list[tuple[EnvironmentSection, Table]] = []

    def of(self, section: EnvironmentSection) -> Table:
        """Return the physics in an environment, `(b, ...)` arrays."""
        for known, table in self._made:
            if known == section:
                return table
        rule, seed, agents = section.rule, self._scenario.seed, self._agents
        total = self._scenario.agents
        arguments = drawn(section, seed, agents, total)
        table = rule.physics(
            seed, agents, columns(rule, section.vary, seed, agents, total) | arguments
        )
        self._made.append((section, table))
        return table


def _is_one(found: Sequence[tuple[Make, Table]]) -> bool:
    return all(make.environment == found[0][0].environment for make, _ in found)


def _columns(found: Sequence[tuple[Make, Table]]) -> Table:
    """Return the physics of each agent in its own environment: those that all environments have."""
    first = found[0][1]
    if _is_one(found):
        return first
    out: Table = {}
    for name, values in first.items():
        if all(name in table and table[name].shape == values.shape for _, table in found):
            out[name] = values.copy()
            for make, table in found:
                out[name][list(make.agents)] = table[name][list(make.agents)]
    return out


def _differences(found: Sequence[tuple[Make, Table]]) -> dict[str, float]:
    """Return the heterogeneity of all agents, or that within each group."""
    if not found:
        return {}
    if _is_one(found):
        make, table = found[0]
        assert make.environment is not None
        return heterogeneity(make.environment.rule, table)
    out: dict[str, float] = {}
    for number, (make, table) in enumerate(found):
        assert make.environment is not None
        own = {name: values[sorted(make.agents)] for name, values in table.items()}
        out |= {
            f"group{number}.{name}": value
            for name, value in heterogeneity(make.environment.rule, own).items()
        }
    return out


def _stack(scenario: Scenario, world: World) -> Stack:
    """Return the learner of all groups, with personal models if the scenario has them."""

    def bind(task: Task, number: int) -> Stack:
        make = scenario.makes[number]
        if make.environment is None:
            return make.learner.prepare(task)
        simulator, evaluator = world(make.environment)
        stack = make.learner.prepare(replace(task, simulator=simulator, evaluator=evaluator))
        return _together(stack, simulator, make)

    def prepare(task: Task) -> Stack:
        if not scenario.groups:
            return bind(task, 0)
        groups = [
            Group(frozenset(make.agents), bind(task, k)) for k, make in enumerate(scenario.makes)
        ]
        return GroupedStack(groups, may_differ=task.offer is not None)

    engine, device = scenario.compute.engine, _device(scenario)
    if (engine, device) == ("native", "cuda"):
        raise ScenarioError(
            ["compute.engine: 'native' computes on the processor; 'cuda' needs 'torch' or 'auto'"]
        )
    stack = scenario.personal.wrap(prepare, task_of(scenario))
    if device != "cpu" and stack.traits.engine != f"torch on {device}":
        what = "only ppo, a2c and reinforce with dense layers take their steps there"
        raise ScenarioError([f"compute.device: {device!r}: {what}; use 'cpu'"])
    if engine == "native" and stack.traits.engine != engine:
        fix = "has no networks; remove it" if stack.traits.engine == NO_ENGINE else "choose 'torch'"
        reason = "'native' has no code for this learner"
        raise ScenarioError([f"compute.engine: {reason}, which {fix}"])
    return stack


def _together(stack: Stack, simulator: Simulator, make: Make) -> Stack:
    """Return a learner whose updates are computed in whole worlds, if agents share them.

    In self-play every agent has a world to itself.

    Raises:
        ScenarioError: its updates do not take the same number of steps for all members, or it
            remembers what is in no state array, and would stand in for opponents.
    """
    k, traits = simulator.spec.members, stack.traits
    if k == 1:
        return stack
    if not traits.fixed_steps:
        raise ScenarioError(
            [
                f"learner: {k} agents share a world, so their updates must take equally many steps: "
                "give steps, not episodes"
            ]
        )
    chunk = max(k, traits.chunk - traits.chunk % k)
    if make.environment is not None and make.environment.is_self_play:
        if not traits.is_saved_whole:
            raise ScenarioError(
                [
                    "learner: with environment.opponents an agent's learner acts for its opponents, too, and this one "
                    "does not say all that it remembers (`state` of a LocalLearner; a smaller buffer_size): remove "
                    "opponents"
                ]
            )
        stack.traits = replace(traits, chunk=chunk)
        return SelfPlay(stack, k)
    stack.traits = replace(traits, members=k, world=simulator.world, chunk=chunk)
    return stack
