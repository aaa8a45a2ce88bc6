"""Episodes of a run's final policies, or of baselines, as pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.errors import RecordError, ScenarioError
from p2pfrl.learning.environments.base import Problem, Simulator, State, longest
from p2pfrl.learning.environments.gym import Gym
from p2pfrl.learning.environments.zoo import PettingZoo
from p2pfrl.learning.learners.base import Task
from p2pfrl.learning.learners.networked import Encoded
from p2pfrl.learning.meetings import whole_worlds
from p2pfrl.results.plots.film import Frame, film
from p2pfrl.results.record import Record, is_index
from p2pfrl.scenario import loads
from p2pfrl.scenario.bind import acting, learning, simulator_of

OWN = "own"
"""The agents' own parameters, as the policy to play."""
Act = Callable[[NDArray[np.float32], State], NDArray[Any]]


def render(
    record: Record,
    path: Path,
    *,
    agent: int,
    policy: str = OWN,
    steps: int | None = None,
    per_second: int = 8,
) -> float:
    """Write the first evaluation episode of an agent as a GIF; return the agent's return in it.

    All members of a shared world act.

    Args:
        record: the run.
        path: of the GIF.
        agent: whose environment.
        policy: "own", greedy as in evaluation, or the name of a baseline.
        steps: at most so many; None: the whole episode.
        per_second: frames.

    Raises:
        RecordError: there is no such agent, its learner has no policy, or its environment no
            pictures.
        ScenarioError: the policy is not known.
    """
    n = len(record.parameters)
    if not is_index(agent, n):
        raise RecordError(f"--agent: expected an agent from 0 to {n - 1}, got {agent!r}")
    scenario = loads(record.scenario)
    bound = learning(scenario)
    bound.close()
    found = next((world for world in bound.worlds if agent in world[0]), None)
    if found is None:
        raise RecordError("render: the learner has no environment")
    _, section, table = found
    section = replace(section, rule=_seen(section.rule))
    simulator = simulator_of(section, table, 1, scenario.seed)
    agents = whole_worlds([agent], simulator.spec.members)
    learner = next(make.learner for make in scenario.makes if agent in make.agents)
    if policy == OWN and isinstance(learner, Encoded):
        task = learner.seen(Task(scenario.seed, n, simulator=simulator))
        simulator = task.simulator or simulator
    try:
        act = _acting(record, simulator, agents, policy)
        most = steps or longest(simulator.spec)
        frames, total = _play(simulator, agents, act, most, _lacking(section.rule))
    finally:
        simulator.close()
    film(frames, path, per_second=per_second)
    return float(total[agents.index(agent)])


def _seen(problem: Problem) -> Problem:
    """Return the environment as one that gives pictures."""
    if isinstance(problem, Gym):
        known = problem.parameters()
        takes_all = known is None or any(each.kind is each.VAR_KEYWORD for each in known.values())
        if not takes_all and known is not None and "render_mode" not in known:
            raise RecordError(_lacking(problem))
    if isinstance(problem, Gym | PettingZoo):
        return replace(problem, kwargs={**problem.kwargs, "render_mode": "rgb_array"})
    return problem


def _lacking(problem: Problem) -> str:
    """Return that an environment has no pictures, and what gives it some."""
    what = "render: the environment has no pictures"
    if isinstance(problem, Gym | PettingZoo):
        keeps = "its constructor takes and keeps render_mode, here 'rgb_array'"
        what += f"; it has if {keeps}, and render() returns pixels, bytes (height, width, 3)"
    return what


def _acting(record: Record, simulator: Simulator, agents: list[int], policy: str) -> Act:
    if policy != OWN:
        known = simulator.spec.baselines
        if policy not in known:
            names = ", ".join((OWN, *known))
            raise ScenarioError([f"--policy: expected one of {names}; got {policy!r}"])
        return lambda obs, state: simulator.baselines[policy](state)
    stack, _ = acting(loads(record.scenario), agents[0])
    layout = stack.layout
    rows = layout.zeros(len(agents))
    for row, agent in zip(rows, agents, strict=True):
        layout.unpack(np.asarray(record.parameters[agent], dtype=layout.dtype), row)

    def act(obs: NDArray[np.float32], state: State) -> NDArray[Any]:
        action = stack.evaluator.act(agents, rows, obs)
        if action is None:
            raise RecordError("render: the learner has no policy; give --policy a baseline")
        return action

    return act


def _play(
    simulator: Simulator, agents: list[int], act: Act, most: int, lacking: str
) -> tuple[list[Frame], NDArray[np.float64]]:
    """Return the frames of an episode and the returns of the agents."""
    state = simulator.init(agents, purpose="evaluation-0")
    simulator.begin(agents, [0] * len(agents), purpose="evaluation")
    obs = simulator.observe(agents, state)
    frames: list[Frame] = []
    for _ in range(most):
        frame = simulator.picture(state)
        if frame is None:
            raise RecordError(lacking)
        frames.append(frame)
        step = simulator.step(state, act(obs, state))
        if step.finished[0, 0]:
            break
        obs = step.obs
    return frames, step.returns[:, 0]
