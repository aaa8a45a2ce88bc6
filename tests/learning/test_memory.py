"""Networks with a memory: the unit is torch's, through time; it remembers what others cannot."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from learner_worlds import CONTINUOUS, DISCRETE, stack

from p2pfrl.core.errors import RecordError, ScenarioError
from p2pfrl.laws.memory import Corridor
from p2pfrl.laws.runs import play, text
from p2pfrl.learning.descent import in_order
from p2pfrl.learning.learners.a2c import A2C
from p2pfrl.learning.learners.base import Batch
from p2pfrl.learning.learners.ppo import PPO
from p2pfrl.learning.recurrent import MEMORY, RecurrentNetwork
from p2pfrl.learning.trainer import Trainer
from p2pfrl.scenario import loads

GRU: dict[str, Any] = {"memory": "gru", "shared_trunk": True, "hidden": (8,)}


def test_outputs_and_gradients_are_those_of_torch_through_time() -> None:
    network = RecurrentNetwork(3, 2, hidden=(7, 5), shared_trunk=True, memory=True, dtype="float64")
    rng, steps, m = np.random.default_rng(0), 6, 3
    rows, gradient = network.layout.zeros(2), network.layout.zeros(2)
    rows[:] = 0.5 * rng.normal(size=rows.shape)
    x = rng.normal(size=(2, 2 + 5 + 3, steps * m))
    x[:, 0], x[:, 1] = np.arange(steps * m) < m, rng.random((2, steps * m)) < 0.3
    weights, out = rng.normal(size=(2, 3, steps * m)), np.empty((2, 3, steps * m))
    network.forward(rows, x, out)
    network.backward(rows, x, weights, gradient)
    for agent in range(2):
        leaves = {
            t.name: torch.tensor(rows[agent, at : at + t.size].reshape(t.shape)).requires_grad_()
            for t, at in zip(network.layout.tensors, network.layout.offsets, strict=True)
        }
        cell = torch.nn.GRUCell(5, 5, dtype=torch.float64)
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        own = ("input.weight", "state.weight", "input.bias", "state.bias")
        values = {a: leaves[f"trunk.gru.{b}"] for a, b in zip(names, own, strict=True)}
        seen = torch.tensor(x[agent])
        state, outputs = seen[2:7, :m].T, []
        for t in range(steps):
            at = slice(t * m, (t + 1) * m)
            h = seen[7:, at].T
            for depth in ("0", "1"):
                h = torch.tanh(
                    h @ leaves[f"trunk.{depth}.weight"].T + leaves[f"trunk.{depth}.bias"]
                )
            state = state * (1.0 - seen[1, at])[:, None]
            state = torch.func.functional_call(cell, values, (h, state))
            heads = [
                state @ leaves[f"{part}.head.weight"].T + leaves[f"{part}.head.bias"]
                for part in ("actor", "critic")
            ]
            outputs.append(torch.cat(heads, dim=1).T)
        expected = torch.cat(outputs, dim=1)
        np.testing.assert_allclose(out[agent], expected.detach().numpy(), atol=1e-12)
        np.testing.assert_allclose(network.memory[agent], state.detach().numpy(), atol=1e-12)
        (expected * torch.tensor(weights[agent])).sum().backward()
        for tensor, offset in zip(network.layout.tensors, network.layout.offsets, strict=True):
            got = gradient[agent, offset : offset + tensor.size].reshape(tensor.shape)
            want = leaves[tensor.name].grad
            assert want is not None
            np.testing.assert_allclose(got, want.numpy(), atol=1e-11, err_msg=tensor.name)


@pytest.mark.parametrize("problem", [DISCRETE, CONTINUOUS], ids=["discrete", "continuous"])
def test_who_shares_a_batch_does_not_matter(problem: Any) -> None:
    results = []
    for groups in ([range(4)], [[3], [0], [1, 2]]):
        learner = PPO(**GRU, steps=12, num_minibatches=2, normalize_observations=True)
        trainer = Trainer(stack(learner, problem, 4), 4)
        for _ in range(3):
            for group in groups:
                trainer.update(group)
        results.append(trainer)
    together, apart = results
    assert not np.array_equal(together.parameters[0], together.parameters[1])
    assert np.array_equal(together.parameters, apart.parameters)
    for key, values in together.state.items():
        assert np.array_equal(values, apart.state[key]), key


def test_learning_sees_the_memory_that_acting_had() -> None:
    """The networks' outputs over the rollout, computed at once, are those of the steps."""
    bound: Any = stack(A2C(**GRU, steps=30), replace(DISCRETE, max_steps=9), 2)
    trainer = Trainer(bound, 2)
    trainer.update([0, 1])
    assert np.abs(trainer.state[MEMORY]).max() > 0
    state = {name: values.copy() for name, values in trainer.state.items()}
    rollout, after = bound._roll_out(Batch([0, 1], [1, 1], trainer.parameters, state))
    assert rollout.finished.any()
    again = np.empty_like(rollout.out)
    bound.network.forward(trainer.parameters, np.ascontiguousarray(rollout.obs), again)
    np.testing.assert_allclose(again, rollout.out, atol=2e-6)
    ended = rollout.finished[:, -1]
    assert (after[MEMORY][ended] == 0).all()
    np.testing.assert_allclose(after[MEMORY][~ended], bound.network.memory[~ended], atol=2e-6)


def test_minibatches_have_all_steps_of_some_instances_in_order() -> None:
    order = np.array([[2, 0, 3, 1]])
    assert in_order(order, 3, 2).tolist() == [[2, 0, 6, 4, 10, 8, 3, 1, 7, 5, 11, 9]]


@pytest.mark.parametrize("learner", [PPO, A2C])
def test_a_t_maze_is_solved_with_a_memory_and_cannot_be_without(learner: Any) -> None:
    options: dict[str, Any] = {"shared_trunk": True, "hidden": (16,), "reward_scale": 1.0}
    options |= {"lr": 1e-2, "steps": 25}
    if learner is PPO:
        options |= {"num_minibatches": 2}
    found = {}
    for memory in ("none", "gru"):
        made = stack(learner(**options, memory=memory), Corridor(), 1, instances=8)
        trainer = Trainer(made, 1)
        for _ in range(3 if memory == "none" else 40 if learner is A2C else 10):
            trainer.update([0])
        value = made.evaluator.evaluate([0], trainer.parameters, 200, 0)
        assert value is not None
        found[memory] = value[0]
    assert found["gru"] > 0.9
    assert found["none"] == pytest.approx(0.5, abs=0.12)


def test_what_a_memory_excludes_is_refused() -> None:
    for options in ({"shared_trunk": False}, {"hidden": ()}, {"encoder": "nature_cnn"}):
        with pytest.raises(ScenarioError, match=r"learner\.memory: 'gru' needs learner\.shared"):
            stack(PPO(**(GRU | options)), DISCRETE, 1)
    with pytest.raises(ScenarioError, match=r"must divide environment\.instances = 4"):
        stack(PPO(**GRU, num_minibatches=8), DISCRETE, 1)
    cart: dict[str, Any] = {"environment": {"id": "CartPole-v1"}}
    learner = {"kind": "a2c", "memory": "gru", "shared_trunk": True, "hidden": [4]}
    with pytest.raises(ScenarioError, match="needs policies without a memory"):
        loads(text(4, 2, **cart, learner=learner, exchange={"payload": "logits"}))
    with pytest.raises(ScenarioError, match="not in mode pooled"):
        loads(text(4, 2, **cart, learner=learner, mode="pooled"))
    record = play(2, 1, **cart, learner=learner, evaluation={"episodes": 1})
    assert record.summary["evaluation"]["own"] > 0
    with pytest.raises(RecordError, match="no policy that acts on one observation"):
        record.policy(0)
