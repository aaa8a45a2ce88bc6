import inspect
from collections.abc import Callable

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from p2pfrl.core.errors import P2PFRLError
from p2pfrl.core.rule import rule
from p2pfrl.learning.environments import RULES
from p2pfrl.learning.environments.base import ArraySimulator, Environment, Spec, State, Step
from p2pfrl.learning.environments.check import check_environment
from p2pfrl.learning.environments.drift import Drift
from p2pfrl.learning.environments.garnet import Garnet
from p2pfrl.learning.environments.gridworld import GridWorld
from p2pfrl.learning.environments.lqr import LQR
from p2pfrl.learning.environments.vary import columns
from p2pfrl.learning.environments.vector import ArrayVectorEnv

VARIANTS = {
    "gridworld with walls": GridWorld(rows=3, columns=4, walls=((1, 1),), start=(0, 0)),
    "small garnet": Garnet(states=5, actions=3, branching=5),
    "large lqr": LQR(dimension=7, controls=1),
    "drift in six dimensions": Drift(dimension=6),
}
MEMBERS = {name: cls() for name, cls in RULES.items()} | VARIANTS


def simulator(
    environment: Environment, agents: int = 6, instances: int = 3, **options: int
) -> ArraySimulator:
    columns_ = columns(environment, {}, 5, range(agents), agents)
    physics = environment.physics(5, range(agents), columns_)
    return ArraySimulator(environment, physics, instances, 5, **options)


def act(spec: Spec, agents: list[int], instances: int, step: int) -> np.ndarray:
    rows = []
    for agent in agents:
        rng = np.random.default_rng([agent, step])
        if spec.actions:
            rows.append(rng.integers(spec.actions, size=instances))
        else:
            shape = (instances, len(spec.action_low))
            rows.append(rng.uniform(spec.action_low, spec.action_high, shape).astype(np.float32))
    return np.stack(rows)


def roll(made: ArraySimulator, agents: list[int], steps: int) -> tuple[State, list[Step]]:
    state = made.init(agents)
    made.begin(agents, [0] * len(agents))
    return state, [
        made.step(state, act(made.spec, agents, made.instances, t)) for t in range(steps)
    ]


@pytest.mark.parametrize("name", MEMBERS)
def test_every_environment_keeps_the_contract(name: str) -> None:
    check_environment(MEMBERS[name])


OWN = [name for name, member in MEMBERS.items() if isinstance(member, Environment)]
"""Environments that agents have to themselves; test_environments_shared.py has those they share."""


@pytest.mark.parametrize("name", OWN)
def test_an_agents_rollout_does_not_depend_on_who_shares_the_batch(name: str) -> None:
    made = simulator(MEMBERS[name], max_steps=20)
    everyone = list(range(6))
    state, steps = roll(made, everyone, 60)
    for agents in ([3], [5, 0, 2]):
        alone, own = roll(made, agents, 60)
        for key in state:
            assert np.array_equal(alone[key], state[key][agents])
        for ours, theirs in zip(own, steps, strict=True):
            assert np.array_equal(ours.obs, theirs.obs[agents])
            assert np.array_equal(ours.reward, theirs.reward[agents])
            assert np.array_equal(ours.returns, theirs.returns[agents])


@pytest.mark.parametrize("name", OWN)
def test_chunks_of_any_size_give_the_rows_of_the_whole_population(name: str) -> None:
    made = simulator(MEMBERS[name], agents=130, max_steps=10)
    state, steps = roll(made, list(range(130)), 12)
    for agents in ([129], list(range(64)), list(range(64, 128)), list(range(129, 0, -3))):
        own, chunk = roll(made, agents, 12)
        assert np.array_equal(own["state"], state["state"][agents])
        assert np.array_equal(chunk[-1].reward, steps[-1].reward[agents])


@pytest.mark.parametrize("name", OWN)
def test_episodes_are_cut_at_the_limit_with_the_true_successor_at_hand(name: str) -> None:
    made = simulator(MEMBERS[name], max_steps=7)
    _, steps = roll(made, list(range(6)), 30)
    cut = [step for step in steps if step.truncated.any()]
    assert cut
    for step in steps:
        assert not (step.truncated & step.terminated).any()
        assert (step.lengths <= 7).all()
        assert (step.lengths[step.truncated] == 7).all()
        assert np.array_equal(step.obs[~step.finished], step.next_obs[~step.finished])


def test_every_episode_of_a_rollout_starts_elsewhere() -> None:
    made = simulator(RULES["pendulum"](), max_steps=2)
    _, steps = roll(made, [0, 1], 10)
    starts = np.concatenate([step.obs[step.finished] for step in steps])
    assert len(starts) == 5 * 2 * 3
    assert len(np.unique(starts, axis=0)) == len(starts)


@pytest.mark.parametrize("name", RULES)
def test_every_option_and_every_physical_quantity_is_described(name: str) -> None:
    text = inspect.getdoc(RULES[name]) or ""
    assert len(text.splitlines()[0]) > 30
    assert RULES[name]().spec.physics


def breaking(spoil: Callable[[np.ndarray, np.ndarray], None], **changes: object) -> Environment:
    @rule
    class Spoiled(Drift):
        @property
        def spec(self) -> Spec:
            own = super().spec
            return Spec(**{**{k: getattr(own, k) for k in own.__dataclass_fields__}, **changes})

        def step(self, state, action, physics, noise):  # type: ignore[no-untyped-def]
            out, reward, terminated, measures = super().step(state, action, physics, noise)
            spoil(state, out)
            return out, reward, terminated, measures

    return Spoiled()


def to_input(state: np.ndarray, out: np.ndarray) -> None:
    state[0, 0, 0] += 1.0


def to_nan(state: np.ndarray, out: np.ndarray) -> None:
    out[..., 0] = np.nan


def by_batch(state: np.ndarray, out: np.ndarray) -> None:
    out += 1e-15 * len(out)


@pytest.mark.parametrize(
    ("environment", "complaint"),
    [
        (breaking(to_input), "step: changed its inputs"),
        (breaking(to_nan), "depend on the batch|not finite"),
        (breaking(by_batch), "step: rows of agents"),
        (breaking(lambda s, o: None, measures=("height",)), "step: measures"),
        (breaking(lambda s, o: None, observation=3), "observe: expected float32"),
        (breaking(lambda s, o: None, actions=0), "spec: expected either"),
    ],
)
def test_the_checker_finds_each_breach(environment: Environment, complaint: str) -> None:
    with pytest.raises(P2PFRLError, match=complaint):
        check_environment(environment)


@pytest.mark.parametrize("name", ["cartpole", "pendulum", "gridworld"])
def test_the_vector_environment_gives_other_libraries_the_same_steps(name: str) -> None:
    agents = [1, 4]
    env = ArrayVectorEnv(simulator(MEMBERS[name], max_steps=9), agents)
    assert env.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    assert env.num_envs == 6
    first, _ = env.reset()
    assert env.observation_space.contains(first)
    ended = 0
    for t in range(30):
        action = act(env._simulator.spec, agents, 3, t).reshape(env.action_space.shape)
        assert env.action_space.contains(action.astype(env.action_space.dtype))
        obs, reward, terminated, truncated, infos = env.step(action)
        assert env.observation_space.contains(obs)
        assert reward.shape == terminated.shape == truncated.shape == (6,)
        done = terminated | truncated
        ended += done.sum()
        if done.any():
            assert np.array_equal(infos["_final_obs"], done)
            assert not np.array_equal(infos["final_obs"][done], obs[done])
    assert ended >= 12
    again, _ = env.reset()
    assert not np.array_equal(first, again) or name == "gridworld"
    with pytest.raises(ValueError, match="own seed"):
        env.reset(seed=3)
