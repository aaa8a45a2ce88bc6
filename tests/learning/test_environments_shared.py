"""Shared worlds: their simulator, their contract, and the spectrum."""

from dataclasses import replace

import numpy as np
import pytest

from p2pfrl.core.errors import AgentError, ContractError
from p2pfrl.core.rule import rule
from p2pfrl.learning.environments.base import Spec
from p2pfrl.learning.environments.check import check_environment
from p2pfrl.learning.environments.shared import SharedSimulator, shared_reward
from p2pfrl.learning.environments.spectrum import Spectrum, rates, wmmse
from p2pfrl.learning.environments.vary import columns


def simulator(environment=None, agents: int = 8, instances: int = 3, **options) -> SharedSimulator:
    environment = environment or Spectrum(members=2, max_steps=5)
    table = columns(environment, {}, 5, range(agents), agents)
    physics = environment.physics(5, range(agents), table)
    return SharedSimulator(environment, physics, instances, 5, **options)


def roll(made: SharedSimulator, agents: list[int], steps: int = 12):
    state, index = made.init(agents), [3] * len(agents)
    made.begin(agents, index)
    found = []
    for t in range(steps):
        action = np.array([[(agent * 7 + t * 3 + i) % 5 for i in range(3)] for agent in agents])
        found.append(made.step(state, action))
    return state, found


@pytest.mark.parametrize(
    "share",
    ["externality", *(pytest.param(share, marks=pytest.mark.slow) for share in ("own", "team"))],
)
def test_the_spectrum_keeps_the_contract(share):
    check_environment(Spectrum(members=3, share=share))


def test_a_world_does_not_depend_on_who_shares_the_batch():
    made = simulator()
    state, steps = roll(made, list(range(8)))
    assert any(step.truncated.any() for step in steps)
    for agents in ([2, 3], [6, 7, 0, 1]):
        own, found = roll(made, agents)
        for name in state:
            assert np.array_equal(own[name], state[name][agents])
        for ours, all_ in zip(found, steps, strict=True):
            for name in ("obs", "next_obs", "reward", "returns", "lengths", "finished"):
                assert np.array_equal(getattr(ours, name), getattr(all_, name)[agents]), name


def test_members_hold_equal_copies_of_their_world_and_see_it_differently():
    made = simulator()
    state, steps = roll(made, [4, 5])
    for name in made.world:
        assert np.array_equal(state[name][0], state[name][1])
    assert not np.array_equal(steps[-1].obs[0], steps[-1].obs[1])
    assert set(made.world) == set(state)


def test_any_agent_can_be_asked_what_it_sees():
    made = simulator()
    state, steps = roll(made, list(range(8)))
    some = [5, 2, 4]
    rows = {name: values[some] for name, values in state.items()}
    assert np.array_equal(made.shown(some, rows), steps[-1].obs[some])
    start = made.init(list(range(8)))
    assert np.array_equal(made.init(some)["state"], start["state"][some])


def test_half_a_world_does_not_step():
    made = simulator()
    with pytest.raises(AssertionError, match="worlds of 2 step whole"):
        made.begin([0, 1, 2], [0, 0, 0])


def test_returns_are_those_of_the_episode_of_each_member():
    made = simulator()
    _, steps = roll(made, [0, 1], 5)
    total = sum(step.reward for step in steps)
    assert steps[-1].finished.all()
    assert np.allclose(steps[-1].returns, total, rtol=0, atol=1e-12)


def breaking(spoil, **changes):
    @rule
    class Spoiled(Spectrum):
        members: int = 2

        @property
        def spec(self) -> Spec:
            return replace(super().spec, **changes)

        def step(self, world, action, physics, noise):
            out, reward, terminated, measures = super().step(world, action, physics, noise)
            return spoil(world, out, reward), reward, terminated, measures

    return Spoiled()


def playing(actions):
    def policy(world, physics, t):
        return actions((len(world), 2, world.shape[1]))

    return breaking(lambda w, o, r: o, baselines={"bad": policy})


def to_input(world, out, reward):
    world[0, 0, 0] += 1.0
    return out


@pytest.mark.parametrize(
    ("environment", "complaint"),
    [
        (breaking(to_input), "step: changed its inputs"),
        (breaking(lambda w, o, r: o + 1e-15 * len(o)), "step: worlds .* depend on the batch"),
        (breaking(lambda w, o, r: o * np.nan), "step: world: not finite"),
        (breaking(lambda w, o, r: o[..., 1:]), "step: world: expected float64"),
        (breaking(lambda w, o, r: o, measures=("height",)), "step: measures"),
        (breaking(lambda w, o, r: o, observation=3), "observe: expected float32"),
        (breaking(lambda w, o, r: o, members=1), "expected at least 2"),
        (playing(lambda shape: np.full(shape, 5)), "baseline 'bad': expected integers from 0 to 4"),
        (
            playing(lambda shape: np.zeros(shape[1:], dtype=int)),
            "baseline 'bad': expected an array",
        ),
        (
            playing(lambda shape: np.zeros((*shape[:2], 1), dtype=int)),
            "baseline 'bad': expected one for every member, .3, 2, 3., got int64 .3, 2, 1.",
        ),
    ],
)
def test_the_checker_finds_what_breaks_the_contract(environment, complaint):
    with pytest.raises(ContractError, match=complaint):
        check_environment(environment, steps=2)


def test_numbers_that_are_not_finite_name_agent_update_step_and_environment():
    def spoil(world, out, reward):
        reward[1, 1, 2] = np.inf
        return out

    made = simulator(breaking(spoil))
    expected = (
        r"update 3, step 0, instance 2 of shared environment Spoiled: step returned reward inf"
    )
    with pytest.raises(AgentError, match=expected) as caught:
        roll(made, [4, 5, 6, 7])
    assert caught.value.agent == 7


def test_rewards_are_shared_as_they_say():
    own, harm = np.array([[[1.0], [4.0]]]), np.array([[[0.5], [1.0]]])
    assert np.array_equal(shared_reward("own", own), own)
    assert np.array_equal(shared_reward("team", own), [[[2.5], [2.5]]])
    assert np.array_equal(shared_reward("externality", own, harm), [[[0.5], [3.0]]])


# --- the spectrum ---------------------------------------------------------------------------------


def channels(links: int, count: int = 400) -> np.ndarray:
    """Return gains `(count, links, links)` of as many channels at random places."""
    made = simulator(Spectrum(members=links), agents=links, instances=count)
    return made.environment.gains(made.init(list(range(links)))["state"][:1])[0]


def test_of_two_links_a_corner_of_the_powers_is_best():
    """Gjendemsjoe, Gesbert, Oien, Kiani, Binary power control for sum rate maximization over
    multiple interfering links, IEEE Transactions on Wireless Communications 2008.
    """
    gains = channels(2)
    grid = np.stack(np.meshgrid(*[np.linspace(0, 1, 41)] * 2), axis=-1).reshape(-1, 2)
    sums = rates(gains[:, None], grid)[0].sum(axis=-1)
    corners = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    best = rates(gains[:, None], corners)[0].sum(axis=-1).max(axis=1)
    assert np.array_equal(sums.max(axis=1), best)


def test_wmmse_reaches_nearly_the_best_of_two_links_and_is_a_fixed_point():
    gains = channels(2)
    corners = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    best = rates(gains[:, None], corners)[0].sum(axis=-1).max(axis=1).mean()
    reached = rates(gains, wmmse(gains))[0].sum(axis=-1)
    assert 0.95 * best < reached.mean() <= best + 1e-9
    full = rates(gains, np.ones((len(gains), 2)))[0].sum(axis=-1)
    assert (reached >= full - 1e-9).all()


def test_the_externality_of_a_link_is_what_the_others_gain_without_it():
    environment = Spectrum(members=3, share="externality")
    made, plain = simulator(environment, agents=3), simulator(Spectrum(members=3, share="own"), 3)
    state, physics = (
        made.init([0, 1, 2]),
        {name: values.reshape(1, 3, 1) for name, values in made.physics.items()},
    )
    world, noise = state["state"][:1], np.full((1, 3, 18), 0.3)
    action = np.array([[[4, 2, 1], [3, 4, 0], [1, 4, 4]]])
    reward = environment.step(world, action, physics, noise)[1]
    own = plain.environment.step(world, action, physics, noise)[1]
    for member in range(3):
        silent = action.copy()
        silent[:, member] = 0
        without = plain.environment.step(world, silent, physics, noise)[1]
        others = [other for other in range(3) if other != member]
        harm = (without - own)[:, others].sum(axis=1)
        assert np.allclose(reward[:, member], own[:, member] - harm, rtol=0, atol=1e-12)


def test_fading_keeps_its_variance_and_has_the_correlation_that_is_asked_for():
    environment = Spectrum(members=2)
    made = simulator(environment, agents=2, instances=4000)
    state = made.init([0, 1])
    before = state["state"][0, :, :8].copy()
    made.begin([0, 1], [0, 0])
    made.step(state, np.zeros((2, 4000), dtype=np.int64))
    after = state["state"][0, :, :8]
    assert abs(after.var() - 1) < 0.03
    assert abs((before * after).mean() - 0.64) < 0.03


def test_wmmse_as_a_baseline_knows_gains_and_powers():
    environment = Spectrum(members=4, share="own")
    made = simulator(environment, agents=8, instances=50)
    state = made.init(list(range(8)))
    made.begin(list(range(8)), [0] * 8)
    rewards = {}
    for name in ("full_power", "wmmse"):
        played = {key: values.copy() for key, values in state.items()}
        rewards[name] = made.step(played, made.baselines[name](played)).reward
    assert rewards["wmmse"].mean() > 1.1 * rewards["full_power"].mean()
    world, physics = state["state"][::4], {"power": np.full((2, 4, 1), 0.5)}
    share = environment.spec.baselines["wmmse"](world, physics, state["elapsed"][::4]) / 4
    exact = wmmse(environment.gains(world) * 0.5)
    assert np.abs(share.swapaxes(1, 2) - exact).max() <= 1 / 8 + 1e-12
