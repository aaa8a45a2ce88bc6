"""Layers and optimizers of the native engine, for losses that Python computes."""

from dataclasses import replace

import numpy as np
import pytest
from learner_worlds import CONTINUOUS, DISCRETE, Corridor, stack, task

from p2pfrl import load, run
from p2pfrl.learning.actor_critics import ActorCritics
from p2pfrl.learning.corrections.prox import Prox
from p2pfrl.learning.learners.base import Task
from p2pfrl.learning.learners.dqn import DQN
from p2pfrl.learning.learners.sac import SAC
from p2pfrl.learning.learners.td3 import TD3
from p2pfrl.learning.native.choice import native_layers, native_members
from p2pfrl.learning.networks import Network
from p2pfrl.learning.optimizers import Adam
from p2pfrl.learning.trainer import Trainer

pytestmark = pytest.mark.usefixtures("native")

REPLAY = {"hidden": (18, 7), "batch_size": 9, "learn_start": 8, "capacity": 400}
CASES = {
    "dqn": (DQN(**REPLAY, steps=16, max_grad_norm=0.5), DISCRETE),
    "dqn, mask, scaled observations": (
        DQN(**REPLAY, steps=16, normalize_observations=True, activation="tanh"),
        Corridor(useless=2, is_masked=True),
    ),
    "sac": (SAC(**REPLAY, steps=8), CONTINUOUS),
    "sac, fixed temperature": (SAC(**REPLAY, steps=8, alpha=0.1, activation="tanh"), CONTINUOUS),
    "td3": (TD3(**REPLAY, steps=8), CONTINUOUS),
}


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_outputs_and_gradients_are_those_of_numpy(activation, shared):
    rng = np.random.default_rng(2)
    for inputs, size in ((4, 9), (16, 64), (37, 1)):
        ours, theirs = (
            Network(inputs, 3, hidden=(20, 33), activation=activation, shared_trunk=shared)
            for _ in range(2)
        )
        native_layers(ours, Adam(0.1), Task(1, 2, engine="native"), 0.0)
        rows = ours.layout.zeros(2)
        for row in rows:
            row[:] = theirs.start(rng)
        x = rng.normal(size=(2, inputs, size)).astype(np.float32)
        slope = rng.normal(size=(2, 4, size)).astype(np.float32)
        found = []
        for network in (ours, theirs):
            out, gradient = np.empty((2, 4, size), np.float32), network.layout.zeros(2)
            network.forward(rows, x, out)
            network.backward(rows, x, slope, gradient)
            found.append((out, gradient))
        for own, other in zip(*found, strict=True):
            np.testing.assert_allclose(own, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("hidden", [(16,), (20, 33)])
def test_gradients_in_actions_are_those_of_numpy(hidden):
    rng, found = np.random.default_rng(3), []
    obs, action = (rng.normal(size=(2, n, 9)).astype(np.float32) for n in (5, 3))
    slope = rng.normal(size=(2, 2, 9)).astype(np.float32)
    for engine in ("native", "torch"):
        network = ActorCritics(5, 3, 6, hidden=hidden, activation="relu", temperature=True)
        native_members(network, [Adam(0.1)], Task(1, 2, engine=engine))
        rows = network.layout.zeros(2)
        for k, row in enumerate(rows):
            row[:] = network.start(np.random.default_rng(k))
        values = network.values(rows, obs, action)
        into = network.values_backward(rows, obs, action, slope, None)
        gradient = network.layout.zeros(2)
        network.values(rows, obs, action)
        network.values_backward(rows, obs, action, slope, gradient)
        head = network.head(rows, obs)
        network.head_backward(rows, obs, np.ones_like(head), gradient)
        found.append((values, into, head, gradient))
    for own, other in zip(*found, strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("learner", "world"), CASES.values(), ids=CASES)
def test_learners_from_replay_learn_as_by_torch_but_for_rounding(learner, world):
    ours, theirs = (Trainer(stack(learner, world, 3, engine=e), 3) for e in ("native", "torch"))
    assert ours.stack.traits.engine == "native"
    for _ in range(2):
        found, wanted = ours.update(range(3)), theirs.update(range(3))
    assert np.abs(ours.parameters - theirs.parameters).max() < 2e-4
    assert found[1].loss == pytest.approx(wanted[1].loss, rel=1e-3)


@pytest.mark.parametrize("name", ["dqn", "sac"])
def test_alone_in_subsets_and_all_together_are_bit_identical(name):
    learner, world = CASES[name]
    results = []
    for groups in ([range(4)], [[3], [0, 2], [1]]):
        trainer = Trainer(stack(learner, world, 4, engine="native"), 4)
        for _ in range(2):
            for group in groups:
                trainer.update(group)
        results.append(trainer)
    assert np.array_equal(results[0].parameters, results[1].parameters)
    for key, values in results[0].state.items():
        assert np.array_equal(values, results[1].state[key]), key


ONE_CALL = {
    "double, mask": (DQN(**REPLAY, steps=16), Corridor(useless=2, is_masked=True)),
    "plain, mask": (DQN(**REPLAY, steps=16, double=False), Corridor(useless=2, is_masked=True)),
    "double, large errors": (DQN(**(REPLAY | {"batch_size": 64}), reward_scale=9.0), DISCRETE),
    "plain, no layer, sgd": (
        DQN(**(REPLAY | {"hidden": ()}), double=False, optimizer="sgd", max_grad_norm=0.1),
        DISCRETE,
    ),
}


@pytest.mark.parametrize(("learner", "world"), ONE_CALL.values(), ids=ONE_CALL)
@pytest.mark.parametrize("is_bent", [False, True])
def test_a_step_of_dqn_in_one_call_has_the_bits_of_one_whose_loss_is_numpys(
    learner, world, is_bent
):
    """A correction takes the gradient alone from the engine."""
    results = []
    for has_one_call in (True, False):
        made = task(world, 3, engine="native")
        made = replace(made, correction=Prox(mu=0.7)) if is_bent else made
        trainer = Trainer(learner.prepare(made), 3)
        if not has_one_call:
            assert trainer.stack._native is not None
            trainer.stack._native = None
        trainer.update([1])
        losses = [update.loss for update in trainer.update(range(3)).values()]
        results.append((trainer, losses))
    (ours, own), (theirs, other) = results
    assert own == other
    assert np.array_equal(ours.parameters, theirs.parameters)
    for key, values in ours.state.items():
        assert np.array_equal(values, theirs.state[key]), key


def test_numbers_that_are_none_go_through_a_step_of_dqn_as_through_numpy():
    """Q is none for two actions of the successor, of which the first is chosen; or all are none."""
    made = stack(DQN(**REPLAY), Corridor(useless=2), 2, engine="native")
    rows, gradient = made.start([0, 1], same=False), made.layout.zeros(2)
    ahead, bias = rows.copy(), made.network.place("actor.head.bias")
    ahead[1] = np.nan
    ahead[0, bias : bias + 4] = 1.0, 2.0, 3.0, 4.0
    rows[0, bias + 1 : bias + 3] = np.nan
    sample = np.zeros((2, 9, made.replay.width), np.float32)
    loss = made._gradient(sample, ahead, rows, gradient)
    assert np.isfinite(loss).tolist() == [True, False]
    made._native, wanted = None, made.layout.zeros(2)
    assert np.array_equal(loss, made._gradient(sample, ahead, rows, wanted), equal_nan=True)
    assert np.array_equal(gradient, wanted, equal_nan=True)


def test_a_correction_bends_the_gradient_of_the_engine():
    found = []
    for engine in ("native", "torch"):
        made = replace(task(DISCRETE, 3, engine=engine), correction=Prox(mu=0.7))
        trainer = Trainer(CASES["dqn"][0].prepare(made), 3)
        trainer.update(range(3))
        trainer.update(range(3))
        found.append(trainer.parameters)
    np.testing.assert_allclose(*found, atol=2e-4)


SCENARIO = """name = "native"
agents = 3
stop = {rounds = 3}
environment = {id = "cartpole"}
learner = {kind = "a2c", hidden = [16]}
evaluation = {episodes = 1}
"""


@pytest.mark.parametrize(
    "overrides",
    [
        {"exchange.payload": "logits"},
        {"correction": {"kind": "guide"}},
        {"learner.shared_trunk": True, "correction": {"kind": "guide"}},
    ],
)
def test_guides_and_distillation_run_on_layers_of_the_engine(tmp_path, overrides):
    file = tmp_path / "native.toml"
    file.write_text(SCENARIO)
    ours, theirs = (
        run(load(file, overrides=overrides | {"compute.engine": engine}))
        for engine in ("native", "torch")
    )
    assert ours.summary["versions"]["engine"] == "native"
    np.testing.assert_allclose(ours.parameters, theirs.parameters, atol=1e-3)
