"""The native engine acts and evaluates as numpy does, and CartPole in C is the one of numpy."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from learner_worlds import CONTINUOUS, DISCRETE, Constant, Corridor, Dials, stack, task

from p2pfrl import load, run
from p2pfrl.core.errors import AgentError
from p2pfrl.deploy.local import run_processes
from p2pfrl.exchange.attacks.experience import RandomAction
from p2pfrl.learning.environments.cartpole import CartPole
from p2pfrl.learning.learners.a2c import A2C
from p2pfrl.learning.learners.base import Batch
from p2pfrl.learning.learners.ppo import PPO
from p2pfrl.learning.learners.reinforce import REINFORCE
from p2pfrl.learning.native import acting
from p2pfrl.learning.native.library import Engine
from p2pfrl.learning.rollout import explained_variance
from p2pfrl.learning.tampered import TamperedSimulator
from p2pfrl.learning.trainer import Trainer

pytestmark = pytest.mark.usefixtures("native")

WORLDS = {
    "cartpole": CartPole(max_steps=9),
    "pendulum": CONTINUOUS,
    "dials": Dials(),
    "dials with a mask": Dials(heads=(18, 3), is_masked=True),
    "corridor with a mask": Corridor(useless=17, is_masked=True),
    "cut episodes": Constant(),
}
LEARNERS = {
    "ppo": PPO(hidden=(20, 12), steps=12, shared_trunk=True),
    "a2c": A2C(hidden=(16,), steps=12, normalize_observations=True),
    "reinforce": REINFORCE(hidden=(16,), steps=12, baseline="none", discounted=True),
}
ROLLOUT = ("value", "reward", "next_value", "finished", "elapsed")


def rollout(bound, agents=(0, 1, 2)):
    """Return a rollout of two updates on, and its samples."""
    trainer = Trainer(bound, 3)
    trainer.update(range(3))
    state = {name: values[list(agents)].copy() for name, values in trainer.state.items()}
    rows = trainer.parameters[list(agents)]
    found, _ = bound._roll_out(Batch(agents, [1] * len(agents), rows, state))
    return found, bound.acting.pack(rows, found)


@pytest.mark.parametrize("learner", ["ppo", "reinforce"])
@pytest.mark.parametrize("world", ["cartpole", "pendulum", "dials with a mask"])
def test_divergence_of_vectors_is_that_of_rows_to_the_last_bit(learner, world):
    bound = stack(replace(LEARNERS[learner], same_start=False), WORLDS[world], 7, engine="native")
    trainer = Trainer(bound, 7, same_start=False)
    trainer.update(range(7))
    agents, vectors = range(7), list(bound.layout.pack(trainer.parameters))
    found = bound.evaluator.divergence_of(agents, vectors, trainer.state)
    assert found == bound.evaluator.divergence(agents, trainer.parameters, trainer.state) > 0


def test_divergence_of_an_actor_beside_a_critic_needs_rows():
    bound = stack(PPO(hidden=(16,)), DISCRETE, 2, engine="native")
    vectors = list(bound.layout.pack(bound.start(range(2), same=True)))
    assert bound.evaluator.divergence_of(range(2), vectors, bound.init(range(2))) is None


@pytest.mark.parametrize("learner", LEARNERS)
@pytest.mark.parametrize("world", WORLDS)
def test_rollouts_are_those_of_numpy_but_for_rounding(learner, world):
    pair = [stack(LEARNERS[learner], WORLDS[world], 3, engine=e) for e in ("native", "torch")]
    (found, samples), (wanted, exact) = (rollout(bound) for bound in pair)
    np.testing.assert_allclose(samples, exact, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.obs, wanted.obs, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.action, wanted.action, rtol=1e-4, atol=1e-5)
    for name in ROLLOUT:
        np.testing.assert_allclose(
            getattr(found, name), getattr(wanted, name), rtol=1e-4, atol=1e-5, err_msg=name
        )
    for ours, theirs in zip(found.returns, wanted.returns, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)
    assert found.measures.keys() == wanted.measures.keys()


@pytest.fixture
def by_numpy(monkeypatch):
    """Return a rollout whose environment is not the engine's own."""

    def rolled(*args):
        with monkeypatch.context() as patch:
            patch.setattr(acting, "is_cartpole", lambda network, simulator: False)
            return rollout(*args)

    return rolled


@pytest.mark.parametrize("learner", ["ppo", "reinforce"])
def test_cartpole_of_the_engine_is_that_of_numpy(learner, by_numpy):
    bound = stack(LEARNERS[learner], CartPole(max_steps=9), 3, engine="native")
    same(rollout(bound), by_numpy(bound))


def same(found, wanted):
    """Require two rollouts and their samples to be equal up to rounding."""
    (found, samples), (wanted, exact) = found, wanted
    assert any(found.returns)
    assert found.returns == wanted.returns
    np.testing.assert_allclose(samples, exact, rtol=1e-6, atol=1e-6)
    for name in ROLLOUT:
        np.testing.assert_allclose(getattr(found, name), getattr(wanted, name), atol=1e-6)


KEPT = {
    "a2c": A2C(hidden=(20, 16), steps=12),
    "a2c with one trunk": A2C(hidden=(16, 24), steps=12, shared_trunk=True, ent_coef=0.1),
    "reinforce": REINFORCE(hidden=(17,), steps=12, baseline="none"),
    "ppo": PPO(hidden=(20,), steps=12, num_minibatches=1, update_epochs=3),
}


@pytest.mark.parametrize("learner", KEPT)
@pytest.mark.parametrize("world", WORLDS)
def test_layers_kept_from_acting_are_those_of_the_first_step(learner, world, monkeypatch):
    keeping, other = (stack(KEPT[learner], WORLDS[world], 3, engine="native") for _ in range(2))
    monkeypatch.setattr(other.acting, "_keeps_layers", False)
    room = Engine.layers
    monkeypatch.setattr(Engine, "layers", lambda *args: np.full_like(room(*args), np.nan))
    trainers = [Trainer(bound, 3) for bound in (keeping, other)]
    losses = [
        [update.loss for _ in range(3) for update in trainer.update(range(3)).values()]
        for trainer in trainers
    ]
    assert losses[0] == losses[1]
    np.testing.assert_array_equal(*(trainer.parameters for trainer in trainers))


def test_the_first_step_is_taken_on_layers_from_acting():
    bound = stack(KEPT["a2c"], CartPole(), 3, engine="native")
    rows, state = bound.start(range(3), same=True), bound.init(range(3))
    found, _ = bound._roll_out(Batch(range(3), [0] * 3, rows, state))
    samples = bound.acting.pack(rows, found)
    losses = [
        bound._descent.learn(
            rows.copy(), {n: v.copy() for n, v in state.items()}, samples, None, layers=layers
        )
        for layers in (None, found.layers, np.zeros_like(found.layers))
    ]
    np.testing.assert_array_equal(losses[0], losses[1])
    assert (losses[0] != losses[2]).all()


@pytest.mark.parametrize(
    "learner",
    [
        A2C(hidden=(16,), steps=12, normalize_observations=True),
        REINFORCE(hidden=(16,), episodes=2),
        PPO(hidden=(16,), steps=12, num_minibatches=2),
    ],
    ids=["scaled observations", "episodes", "minibatches"],
)
def test_layers_are_kept_only_where_the_first_step_needs_just_them(learner):
    bound = stack(learner, CartPole(), 3, instances=1, engine="native")
    found, _ = rollout(bound, (0,))
    assert found.layers is None


def test_large_layers_are_computed_again(monkeypatch):
    bound = stack(KEPT["a2c"], CartPole(), 3, engine="native")
    numbers = bound._descent.engine.numbers_of_layers(12 * 4)
    assert numbers == 12 * 4 * 2 * (32 + 16 + 16)
    for most, kept in ((3 * 4 * numbers, True), (3 * 4 * numbers - 1, False)):
        monkeypatch.setattr(acting, "_MOST_KEPT", most)
        found, _ = rollout(bound)
        assert (found.layers is not None) == kept


@pytest.mark.parametrize("limit", [12, 500])
@pytest.mark.parametrize("baseline", ["none", "value"])
def test_whole_episodes_of_the_engine_are_those_of_numpy(baseline, limit, by_numpy):
    learner = REINFORCE(hidden=(16,), episodes=3, baseline=baseline, discounted=True)
    bound = stack(learner, CartPole(max_steps=limit), 3, instances=1, engine="native")
    found = rollout(bound, (0,))
    assert len(found[0].returns[0]) == 3
    assert found[0].finished[0, -1, 0]
    same(found, by_numpy(bound, (0,)))


@pytest.mark.parametrize("mask", [0, 1])
def test_random_actions_in_the_engine_are_those_of_numpy(mask, by_numpy):
    learner = REINFORCE(hidden=(16,), episodes=3, baseline="none")
    free = task(CartPole(), 3, instances=1, engine="native")
    tampered = TamperedSimulator(free.simulator, [RandomAction(agents=(0,))], {0: mask}, 7)
    bound = learner.prepare(replace(free, simulator=tampered))
    found = rollout(bound, (0,))
    same(found, by_numpy(bound, (0,)))
    assert (rollout(learner.prepare(free), (0,))[0].returns == found[0].returns) == (mask == 0)


@pytest.mark.parametrize("world", WORLDS)
def test_greedy_episodes_and_single_actions_are_those_of_numpy(world):
    ours, theirs = (stack(PPO(), WORLDS[world], 3, engine=e) for e in ("native", "torch"))
    rows = theirs.start(range(3), same=False)
    values = [bound.evaluator.evaluate(range(3), rows, 2, 0) for bound in (ours, theirs)]
    np.testing.assert_allclose(*values, rtol=1e-4)
    obs = ours.simulator.observe(range(3), ours.simulator.init(range(3)))
    acts = [bound.evaluator.act(range(3), rows, obs) for bound in (ours, theirs)]
    np.testing.assert_allclose(*acts, atol=1e-5)
    assert acts[0].dtype == acts[1].dtype


INDEPENDENT = {
    "ppo": (PPO(hidden=(64, 64), steps=16, shared_trunk=True, ent_coef=0.01), DISCRETE),
    "odd sizes": (PPO(hidden=(13, 7), steps=15, num_minibatches=5, activation="relu"), DISCRETE),
    "a2c in a world of numpy": (A2C(hidden=(9,), steps=5, optimizer="rmsprop"), CONTINUOUS),
    "reinforce": (REINFORCE(hidden=(11,), baseline="none", optimizer="sgd"), Dials()),
}


@pytest.mark.parametrize(("learner", "world"), INDEPENDENT.values(), ids=INDEPENDENT)
def test_alone_in_subsets_and_all_together_are_bit_identical(learner, world):
    results = []
    for groups in ([range(5)], [[4], [0, 2], [1, 3]], [[i] for i in range(5)]):
        trainer = Trainer(stack(learner, world, 5, engine="native"), 5)
        for _ in range(2):
            for group in groups:
                trainer.update(group)
        results.append(trainer)
    for other in results[1:]:
        assert np.array_equal(other.parameters, results[0].parameters)
        for name, values in other.state.items():
            assert np.array_equal(values, results[0].state[name]), name


def test_episodes_end_where_they_would_end_alone():
    learner = REINFORCE(hidden=(16,), episodes=2)
    ours, theirs = (
        Trainer(stack(learner, DISCRETE, 3, instances=1, engine=e), 3) for e in ("native", "torch")
    )
    found, wanted = (trainer.update(range(3)) for trainer in (ours, theirs))
    assert [found[i].returns for i in range(3)] == [wanted[i].returns for i in range(3)]
    assert np.abs(ours.parameters - theirs.parameters).max() < 1e-5


def test_a_state_that_is_not_finite_names_its_agent():
    trainer = Trainer(stack(LEARNERS["ppo"], DISCRETE, 3, engine="native"), 3)
    trainer.state["state"][1, 2] = np.nan
    with pytest.raises(AgentError, match=r"agent 1, update 0.*CartPole: .* not finite"):
        trainer.update(range(3))


@pytest.mark.parametrize("episodes", [None, 2])
def test_a_state_that_is_none_after_some_steps_names_its_agent(episodes):
    learner = REINFORCE(hidden=(16,), steps=12, episodes=episodes)
    bound = stack(learner, CartPole(), 3, instances=1, engine="native")
    bound.simulator.physics["gravity"][1] = np.nan
    trainer = Trainer(bound, 3)
    with pytest.raises(AgentError, match=r"agent 1, update 0.*CartPole: .* not finite"):
        trainer.update(range(3))


@pytest.mark.parametrize("size", [1, 2, 7, 8, 100, 129, 257, 1000])
def test_the_explained_variance_of_the_engine_has_the_bits_of_numpy(size):
    bound = stack(KEPT["a2c"], CartPole(), 4, engine="native")
    rng = np.random.default_rng(size)
    samples = rng.normal(size=(4, size, 4 + 1 + 3)).astype(np.float32)
    value = rng.normal(size=(4, size, 1)).astype(np.float32)
    samples[2, :, -1], samples[3, size // 2, -1] = 3.0, np.inf
    found = bound._descent.engine.explained_variance(value, samples)
    with np.errstate(invalid="ignore"):
        wanted = explained_variance(value[:, :, 0], samples[:, :, -1].astype(np.float64))
    np.testing.assert_array_equal(found, wanted)
    assert np.isnan(found[2:]).all()


SCENARIO = """name = "native"
agents = 4
stop = {rounds = 3}
environment = {id = "cartpole"}
learner = {kind = "ppo", steps = 32, shared_trunk = true}
evaluation = {episodes = 1}
compute = {engine = "native"}
"""


@pytest.mark.slow
def test_processes_with_the_native_engine_end_as_the_simulator_does(tmp_path):
    file = tmp_path / "native.toml"
    file.write_text(SCENARIO)
    simulated = run(load(file))
    deployed = run_processes(load(file), tmp_path / "run", 2, quiet=True)
    assert np.array_equal(deployed.parameters, simulated.parameters)


@pytest.mark.slow
def test_kernels_do_not_change_the_digest_and_torch_is_not_even_imported(tmp_path):
    file = tmp_path / "native.toml"
    file.write_text(SCENARIO)
    code = (
        "import json, sys, p2pfrl; record = p2pfrl.run(p2pfrl.load(sys.argv[1]));"
        "assert 'torch' not in sys.modules;"
        "mine = [record.summary['digest'], *record.metrics['evaluation_own'].tolist()];"
        "print(json.dumps([str(mine), record.summary['versions']['kernels']]))"
    )
    found = set()
    for name, value in (
        ("OMP_NUM_THREADS", "1"),
        ("OPENBLAS_CORETYPE", "Haswell"),
        ("NPY_DISABLE_CPU_FEATURES", "X86_V3,X86_V4,AVX512_ICL,AVX512_SPR"),
    ):
        environment = os.environ | {name: value}
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code, str(file)],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        found.add(tuple(json.loads(done.stdout)))
    assert len({digest for digest, _ in found}) == 1
    assert len({kernels for _, kernels in found}) > 1
