"""Gymnasium's own environments behind the simulator's face, and the ids that lead to them."""

import subprocess
import sys

import gymnasium
import numpy as np
import pytest

from p2pfrl.core.distributions.assigned import Values
from p2pfrl.core.distributions.draws import Uniform
from p2pfrl.core.errors import P2PFRLError
from p2pfrl.core.rng import key
from p2pfrl.learning.environments import RULES
from p2pfrl.learning.environments.base import State, Step
from p2pfrl.learning.environments.gym import Gym, GymSimulator
from p2pfrl.learning.environments.heterogeneity import heterogeneity
from p2pfrl.learning.environments.registry import ALIASES, resolve
from p2pfrl.learning.environments.vary import columns


def made(
    problem: Gym, agents: int = 4, instances: int = 2, vary: dict | None = None, **options: int
) -> GymSimulator:
    physics = problem.physics(
        3, range(agents), columns(problem, vary or {}, 3, range(agents), agents)
    )
    simulator = problem.simulator(physics, instances, 3, **options)
    assert isinstance(simulator, GymSimulator)
    return simulator


def act(simulator: GymSimulator, agent: int, t: int) -> np.ndarray:
    spec, rng = simulator.spec, np.random.default_rng([agent, t])
    if spec.actions:
        return rng.integers(spec.actions, size=simulator.instances)
    shape = (simulator.instances, len(spec.action_low))
    return rng.uniform(spec.action_low, spec.action_high, shape).astype(np.float32)


def go(
    simulator: GymSimulator, agents: list[int], state: State, steps: int, index: int = 0
) -> list[Step]:
    simulator.begin(agents, [index] * len(agents))
    simulator.observe(agents, state)
    return [
        simulator.step(state, np.stack([act(simulator, a, t) for a in agents]))
        for t in range(steps)
    ]


@pytest.mark.parametrize("id", ["CartPole-v1", "Pendulum-v1", "FrozenLake-v1", "Blackjack-v1"])
def test_an_agents_rollout_does_not_depend_on_who_shares_the_batch(id: str) -> None:
    together, alone = made(Gym(id=id), max_steps=15), made(Gym(id=id), max_steps=15)
    steps = go(together, [0, 1, 2, 3], together.init([0, 1, 2, 3]), 40)
    own = go(alone, [3, 1], alone.init([3, 1]), 40)
    for ours, theirs in zip(own, steps, strict=True):
        assert np.array_equal(ours.obs, theirs.obs[[3, 1]])
        assert np.array_equal(ours.next_obs, theirs.next_obs[[3, 1]])
        assert np.array_equal(ours.returns, theirs.returns[[3, 1]])
        assert np.array_equal(ours.finished, theirs.finished[[3, 1]])


def test_a_rollout_equals_gymnasiums_own_with_the_same_seed() -> None:
    simulator = made(Gym(id="CartPole-v1"), instances=1)
    state = simulator.init([2])
    env = gymnasium.make("CartPole-v1")
    seed = int.from_bytes(key(3, 2, "gym", "environment", "start", 0)[:4], "little") >> 1
    obs, _ = env.reset(seed=seed)
    assert np.array_equal(simulator.observe([2], state)[0, 0], obs)
    simulator.begin([2], [0])
    total, terminated, t = 0.0, False, 0
    while not terminated:
        action = act(simulator, 2, t)
        step = simulator.step(state, action[None])
        obs, reward, terminated, _, _ = env.step(int(action[0]))
        total, t = total + reward, t + 1
        assert np.array_equal(step.next_obs[0, 0], obs)
        assert step.terminated[0, 0] == terminated
    assert step.returns[0, 0] == total
    assert step.lengths[0, 0] == t
    assert not np.array_equal(step.obs, step.next_obs)
    assert state["episode_return"][0, 0] == 0.0


def test_truncation_is_not_termination_and_keeps_the_true_successor() -> None:
    simulator = made(Gym(id="Pendulum-v1", max_steps=9))
    assert simulator.spec.max_steps == 9
    steps = go(simulator, [0, 1], simulator.init([0, 1]), 20)
    cut = [t for t, step in enumerate(steps) if step.truncated.any()]
    assert cut == [8, 17]
    for t in cut:
        assert steps[t].truncated.all()
        assert not steps[t].terminated.any()
        assert not np.array_equal(steps[t].obs, steps[t].next_obs)


def test_an_episode_that_ends_at_the_time_limit_by_itself_is_terminated_only() -> None:
    free = made(Gym(id="CartPole-v1"), instances=1)
    length = next(s.lengths[0, 0] for s in go(free, [0], free.init([0]), 200) if s.terminated.any())
    cut = made(Gym(id="CartPole-v1"), instances=1, max_steps=int(length))
    ends = [s for s in go(cut, [0], cut.init([0]), int(length)) if s.finished.any()]
    assert len(ends) == 1
    assert ends[0].terminated[0, 0]
    assert not ends[0].truncated[0, 0]


def test_rollouts_continue_episodes_and_updates_name_new_ones() -> None:
    simulator = made(Gym(id="CartPole-v1"))
    state = simulator.init([0, 1])
    first = go(simulator, [0, 1], state, 5)
    second = go(simulator, [0, 1], state, 5, index=1)
    assert not first[-1].finished.any()
    assert (second[0].lengths == 6).all()


def test_a_discarded_update_starts_new_episodes_instead_of_going_on_in_a_lost_future() -> None:
    simulator = made(Gym(id="CartPole-v1"))
    state = simulator.init([0, 1])
    go(simulator, [0, 1], state, 5)
    kept = {name: values.copy() for name, values in state.items()}
    go(simulator, [0], {name: values[:1].copy() for name, values in state.items()}, 3, index=1)
    last = kept["obs"].copy()
    obs = simulator.observe([0, 1], kept)
    assert np.abs(obs[0]).max() <= 0.05
    assert np.array_equal(obs[1], last[1])
    steps = go(simulator, [0, 1], kept, 1, index=1)
    assert steps[0].lengths[0].tolist() == [1, 1]
    assert steps[0].lengths[1].tolist() == [6, 6]


def test_init_starts_the_same_episodes_again() -> None:
    simulator = made(Gym(id="CartPole-v1"))
    first = [step.next_obs for step in go(simulator, [1], simulator.init([1]), 30)]
    again = [step.next_obs for step in go(simulator, [1], simulator.init([1]), 30)]
    assert np.array_equal(first, again)
    other = simulator.observe([1], simulator.init([1], "evaluation-3"))
    assert not np.array_equal(other, simulator.observe([1], simulator.init([1])))


def test_varied_attributes_reach_each_agents_own_copies() -> None:
    problem = Gym(id="Pendulum-v1")
    simulator = made(problem, vary={"g": Values(list=(1.0, 5.0, 10.0, 20.0))})
    go(simulator, [0, 1, 2, 3], simulator.init([0, 1, 2, 3]), 1)
    assert [simulator._copies[agent].envs[1].unwrapped.g for agent in range(4)] == [
        1.0,
        5.0,
        10.0,
        20.0,
    ]
    assert simulator._copies[0].envs[0].unwrapped.max_speed == 8
    physics = problem.physics(
        3, range(4), columns(problem, {"g": Uniform(low=8, high=12)}, 3, range(4), 4)
    )
    assert list(heterogeneity(problem, physics)) == ["variation_g"]


def test_numbers_in_info_become_measures() -> None:
    simulator = made(Gym(id="FrozenLake-v1", kwargs={"is_slippery": True}))
    assert simulator.spec.measures == ()
    steps = go(simulator, [0, 1], simulator.init([0, 1]), 10)
    values = np.concatenate([step.measures["prob"].ravel() for step in steps])
    assert values == pytest.approx(np.full(values.shape, 1 / 3))


@pytest.mark.parametrize(
    ("problem", "complaint"),
    [
        (Gym(id="CartPol-v1"), "Did you mean.*CartPole"),
        (Gym(id="CartPole-v99"), "CartPole-v99"),
        (Gym(id="Pendulum-v1", kwargs={"gravity": 3.0}), "gravity"),
    ],
)
def test_environments_that_gymnasium_cannot_make_say_why(problem: Gym, complaint: str) -> None:
    with pytest.raises(P2PFRLError, match=complaint):
        _ = problem.spec


def test_unknown_physics_are_refused_with_all_that_can_be_varied() -> None:
    for problem, name in ((Gym(id="CartPole-v1"), "gravty"), (RULES["cartpole"](), "gravty")):
        with pytest.raises(
            P2PFRLError,
            match=r"vary\.gravty: this environment can vary .*; did you mean 'gravity'\?",
        ):
            columns(problem, {name: Uniform(low=8.0, high=12.0)}, 1, range(4), 4)


def test_ids_lead_to_arrays_where_there_are_some() -> None:
    assert {resolve(name).rule for name in RULES} == set(RULES.values())
    assert resolve("CartPole-v0").preset == {"max_steps": 200}
    for name in ALIASES:
        found = resolve(name)
        assert found.rule(**found.preset).spec.max_steps == gymnasium.spec(name).max_episode_steps
    for id in ("FrozenLake-v1", "ALE/Pong-v5", "my_module:Mine-v0", "phys2d/CartPole-v1"):
        assert resolve(id).rule is Gym
        assert resolve(id).preset == {"id": id}
    for wrong, meant in (
        ("cartpol", "cartpole"),
        ("CartPole", "cartpole"),
        ("gridwrld", "gridworld"),
    ):
        with pytest.raises(P2PFRLError, match=f"did you mean '{meant}'"):
            resolve(wrong)


def test_names_resolve_without_importing_gymnasium_or_torch() -> None:
    code = (
        "import sys\n"
        "from p2pfrl.learning.environments.registry import resolve\n"
        "resolve('CartPole-v1'); resolve('FrozenLake-v1')\n"
        "sys.exit(bool({'torch', 'gymnasium', 'scipy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
