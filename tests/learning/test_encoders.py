"""Images and several observations at once: convolutions are torch's, frames are an episode's."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from learner_worlds import DISCRETE, stack, task
from numpy.typing import NDArray

from p2pfrl.core.errors import RecordError, ScenarioError
from p2pfrl.core.rule import rule
from p2pfrl.laws.runs import play, text
from p2pfrl.learning.environments.base import Array, Environment, Spec
from p2pfrl.learning.environments.frames import FRAMES, FrameStack
from p2pfrl.learning.learners.a2c import A2C
from p2pfrl.learning.learners.dqn import DQN
from p2pfrl.learning.learners.ppo import PPO
from p2pfrl.learning.learners.reinforce import REINFORCE
from p2pfrl.learning.networks import Network
from p2pfrl.learning.trainer import Trainer
from p2pfrl.scenario import loads
from p2pfrl.scenario.checks.notes import notes


@rule
class Square(Environment):
    """An image with a bright square on the left or on the right: say where; one step."""

    @property
    def spec(self) -> Spec:
        return Spec(
            observation=36 * 36, state=1, actions=2, reset_noise=1, max_steps=1, image=(36, 36, 1)
        )

    def reset(self, physics: Mapping[str, NDArray[Any]], noise: Array) -> Array:
        return (noise > 0.5).astype(np.float64)

    def observe(self, state: Array, physics: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        out = np.zeros((*state.shape[:2], 36, 36), dtype=np.float32)
        right = state[..., 0] > 0.5
        out[..., 10:20, 22:32] = right[..., None, None]
        out[..., 10:20, 4:14] = ~right[..., None, None]
        return out.reshape(*state.shape[:2], -1)

    def step(
        self, state: Array, action: NDArray[Any], physics: Mapping[str, NDArray[Any]], noise: Array
    ) -> tuple[Array, Array, NDArray[np.bool_], dict[str, Array]]:
        reward = (action == state[..., 0]).astype(np.float64)
        return state, reward, np.ones(reward.shape, dtype=np.bool_), {}


@rule
class Cue(Environment):
    """A cue of -1 or 1 is shown, then hidden; the second action must name it.

    Observation (cue or 0, step). The best policy without memory has a return of 0.5.
    """

    @property
    def spec(self) -> Spec:
        return Spec(observation=2, state=2, actions=2, reset_noise=1)

    def reset(self, physics: Mapping[str, NDArray[Any]], noise: Array) -> Array:
        return np.concatenate([np.where(noise > 0.5, 1.0, -1.0), np.zeros_like(noise)], axis=-1)

    def observe(self, state: Array, physics: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        cue, clock = state[..., 0], state[..., 1]
        return np.stack([np.where(clock == 0, cue, 0.0), clock], axis=-1).astype(np.float32)

    def step(
        self, state: Array, action: NDArray[Any], physics: Mapping[str, NDArray[Any]], noise: Array
    ) -> tuple[Array, Array, NDArray[np.bool_], dict[str, Array]]:
        out = state + np.array([0.0, 1.0])
        is_last = state[..., 1] == 1
        reward = is_last * ((2.0 * action - 1.0) == state[..., 0])
        return out, reward.astype(np.float64), is_last, {}


# --- convolutions -------------------------------------------------------------------------------


def reference(network: Network, row: Any, x: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return outputs `(outputs, B)` of separate actor and critic, by torch."""
    leaves = {
        t.name: torch.tensor(row[at : at + t.size].reshape(t.shape)).requires_grad_()
        for t, at in zip(network.layout.tensors, network.layout.offsets, strict=True)
    }
    outputs = []
    for part in ("actor", "critic"):
        h = torch.tensor(x.T.reshape(-1, 37, 40, 2)).permute(0, 3, 1, 2)
        for number, (size, stride) in enumerate(((8, 4), (4, 2), (3, 1))):
            weight = leaves[f"{part}.conv{number}.weight"]
            kernel = weight.reshape(len(weight), size, size, -1).permute(0, 3, 1, 2)
            bias = leaves[f"{part}.conv{number}.bias"]
            h = torch.relu(torch.nn.functional.conv2d(h, kernel, bias, stride=stride))
        h = h.flatten(1)
        h = torch.tanh(h @ leaves[f"{part}.0.weight"].T + leaves[f"{part}.0.bias"])
        outputs.append(h @ leaves[f"{part}.head.weight"].T + leaves[f"{part}.head.bias"])
    return torch.cat(outputs, dim=1).T, leaves


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-11), ("float32", 3e-5)])
def test_outputs_and_gradients_are_those_of_torch(dtype: str, tolerance: float) -> None:
    network = Network(37 * 40 * 2, 3, hidden=(8,), image=(37, 40, 2), dtype=dtype)
    rng = np.random.default_rng(0)
    rows, gradient = network.layout.zeros(2), network.layout.zeros(2)
    rows[:] = 0.1 * rng.normal(size=rows.shape)
    x = rng.normal(size=(2, 37 * 40 * 2, 5)).astype(dtype)
    weights, out = rng.normal(size=(2, 4, 5)).astype(dtype), np.empty((2, 4, 5), dtype=dtype)
    network.forward(rows, x, out)
    network.backward(rows, x, weights, gradient)
    for agent in range(2):
        expected, leaves = reference(network, rows[agent], x[agent])
        np.testing.assert_allclose(
            out[agent], expected.detach().numpy(), rtol=tolerance, atol=tolerance
        )
        (expected * torch.from_numpy(weights[agent])).sum().backward()
        for tensor, offset in zip(network.layout.tensors, network.layout.offsets, strict=True):
            got = gradient[agent, offset : offset + tensor.size].reshape(tensor.shape)
            want = leaves[tensor.name].grad
            assert want is not None
            scale = max(1.0, want.abs().max().item())
            assert np.abs(got - want.numpy()).max() < 10 * tolerance * scale, tensor.name


def test_the_network_is_that_of_the_paper_on_four_frames_of_84_by_84() -> None:
    network = Network(84 * 84 * 4, 4, hidden=(512,), critic=False, image=(84, 84, 4))
    sizes = {tensor.name: tensor.shape for tensor in network.layout.tensors}
    assert sizes["actor.conv0.weight"] == (32, 8 * 8 * 4)
    assert sizes["actor.conv1.weight"] == (64, 4 * 4 * 32)
    assert sizes["actor.conv2.weight"] == (64, 3 * 3 * 64)
    assert sizes["actor.0.weight"] == (512, 64 * 7 * 7)
    assert network.layout.size == 1_686_180


QUICK: dict[str, Any] = {"encoder": "nature_cnn", "hidden": (8,), "steps": 4}


@pytest.mark.parametrize(
    "learner",
    [
        PPO(**QUICK, num_minibatches=2, update_epochs=1, shared_trunk=True, frame_stack=2),
        A2C(**QUICK, normalize_observations=True),
        DQN(**QUICK, learn_start=4, batch_size=4, capacity=12),
    ],
    ids=["ppo", "a2c", "dqn"],
)
def test_who_shares_a_batch_does_not_matter(learner: Any) -> None:
    results = []
    for chunk, groups in ((3, [range(3)]), (1, [[2, 0], [1]])):
        bound = stack(learner, Square(), 3, instances=2)
        assert bound.traits.chunk == 1
        bound.traits = replace(bound.traits, chunk=chunk)
        trainer = Trainer(bound, 3)
        for _ in range(2):
            for group in groups:
                trainer.update(group)
        results.append(trainer)
    together, apart = results
    assert not np.array_equal(together.parameters[0], together.parameters[1])
    assert np.array_equal(together.parameters, apart.parameters)
    for key, values in together.state.items():
        assert np.array_equal(values, apart.state[key]), key


def test_a_policy_learns_to_tell_images_apart() -> None:
    learner = PPO(
        encoder="nature_cnn", hidden=(16,), steps=16, lr=1e-3, shared_trunk=True, reward_scale=1.0
    )
    trainer = Trainer(stack(learner, Square(), 1, instances=2), 1)
    for _ in range(8):
        trainer.update([0])
    found = trainer.stack.evaluator.evaluate([0], trainer.parameters, 40, 0)
    assert found is not None
    assert found[0] == 1.0


def test_what_is_no_image_or_too_small_is_refused() -> None:
    with pytest.raises(ScenarioError, match="at least 36 x 36 pixels; the environment has none"):
        stack(PPO(encoder="nature_cnn"), DISCRETE, 1)

    @rule
    class Small(Square):
        @property
        def spec(self) -> Spec:
            return replace(super().spec, observation=35 * 36, image=(35, 36, 1))

    with pytest.raises(ScenarioError, match="pixels; got 35 x 36 x 1"):
        stack(DQN(encoder="nature_cnn"), Small(), 1)


# --- frames -------------------------------------------------------------------------------------


def test_stacked_observations_are_the_last_ones_of_the_episode() -> None:
    known = task(replace(DISCRETE, max_steps=7), 2, instances=2)
    plain, inner = known.simulator, task(replace(DISCRETE, max_steps=7), 2, instances=2).simulator
    assert plain is not None
    assert inner is not None
    stacked = FrameStack(inner, 3)
    assert stacked.spec.observation == 12
    a, b = plain.init([0, 1]), stacked.init([0, 1])
    plain.begin([0, 1], [0, 0])
    stacked.begin([0, 1], [0, 0])
    first = plain.observe([0, 1], a)
    history = [first, first, first]
    assert np.array_equal(stacked.observe([0, 1], b), np.concatenate(history, axis=-1))
    for t in range(20):
        action = np.full((2, 2), t % 2)
        one, many = plain.step(a, action), stacked.step(b, action)
        successors = [*history[1:], one.next_obs]
        assert np.array_equal(many.next_obs, np.concatenate(successors, axis=-1))
        over = one.finished[..., None]
        history = [np.where(over, one.obs, frame) for frame in [*history[1:], one.obs]]
        assert np.array_equal(many.obs, np.concatenate(history, axis=-1))
        assert np.array_equal(many.reward, one.reward)
        assert np.array_equal(stacked.shown([0, 1], b), many.obs)
    b["state"] = b["state"] + 1.0
    anew = stacked.observe([0, 1], b)
    assert np.array_equal(anew, np.tile(plain.observe([0, 1], {"state": b["state"]}), 3))


def test_frames_leave_all_else_to_the_simulator_that_steps() -> None:
    inner = task(DISCRETE, 2, instances=2).simulator
    assert inner is not None
    inner.world = ("state",)
    stacked = FrameStack(inner, 3)
    assert stacked.world == ("state",)
    assert stacked.baselines == inner.baselines
    said: list[str] = []
    stacked.working = said.append
    assert inner.working is not None
    inner.working("agent 0")
    assert said == ["agent 0"]
    stacked.note_open(4, 2)
    assert inner.open_episodes == (4, 2)


def test_frames_of_images_become_channels_and_masks_are_not_stacked() -> None:
    known = task(Square(), 1, instances=1).simulator
    assert known is not None
    stacked = FrameStack(known, 2)
    assert stacked.spec.image == (36, 36, 2)
    state = stacked.init([0])
    state[FRAMES][:, :, 0] = 5.0
    image = stacked.shown([0], state).reshape(36, 36, 2)
    assert (image[..., 0] == 5.0).all()
    assert np.array_equal(image[..., 1].ravel(), known.shown([0], state)[0, 0])
    masked = replace(DISCRETE.spec, observation=6, is_masked=True)

    class Masked(FrameStack):
        pass

    known.spec = masked
    obs = np.arange(6, dtype=np.float32)[None, None]
    found = Masked(known, 2)
    frames = np.stack([obs[..., :4] - 1, obs[..., :4]], axis=2)
    assert found.spec.observation == 10
    assert found._together(frames, obs).ravel().tolist() == [-1, 0, 1, 2, 0, 1, 2, 3, 4, 5]


@pytest.mark.slow
@pytest.mark.parametrize("learner", [PPO, A2C, REINFORCE, DQN])
def test_a_cue_is_remembered_with_two_frames_and_cannot_be_with_one(learner: Any) -> None:
    options: dict[str, Any] = {"hidden": (16,), "lr": 1e-2, "reward_scale": 1.0, "steps": 32}
    if learner is DQN:
        options |= {"learn_start": 64, "batch_size": 32, "epsilon_steps": 300, "target_every": 20}
    found = {}
    for frames in (1, 2):
        made = stack(learner(**options, frame_stack=frames), Cue(), 1, instances=2)
        trainer = Trainer(made, 1)
        for _ in range(20):
            trainer.update([0])
        value = made.evaluator.evaluate([0], trainer.parameters, 100, 0)
        assert value is not None
        found[frames] = value[0]
    assert found[2] == 1.0
    assert found[1] < 0.7


# --- in scenarios -------------------------------------------------------------------------------


@rule
class Wide(Square):
    """A larger image."""

    @property
    def spec(self) -> Spec:
        return replace(super().spec, observation=72 * 72, image=(72, 72, 1))


def test_a_policy_acts_on_stacked_observations_and_a_note_names_the_encoder() -> None:
    learner = {"kind": "a2c", "hidden": [4], "frame_stack": 2}
    cart = {"environment": {"id": "CartPole-v1"}, "learner": learner}
    policy = play(2, 1, **cart).policy(1)  # type: ignore[arg-type]
    assert policy.act(np.zeros(8)) in (0, 1)
    with pytest.raises(RecordError, match="expected an observation of 8 numbers"):
        policy.act(np.zeros(4))
    for encoder, expected in (("none", 1), ("nature_cnn", 0)):
        wide = {"environment": {"id": f"{__name__}:Wide"}}
        scenario = loads(text(2, 1, **wide, learner={"kind": "a2c", "encoder": encoder}))
        found = [note for note in notes(scenario) if 'set learner.encoder = "nature_cnn"' in note]
        assert len(found) == expected
