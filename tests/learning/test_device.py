"""Minibatch steps on a device: what they compute, and that nothing in between is made elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from p2pfrl import loads
from p2pfrl.core.errors import ScenarioError
from p2pfrl.experiment.workforce import why_not
from p2pfrl.learning.device import DeviceDescent
from p2pfrl.learning.environments import RULES as ENVIRONMENTS
from p2pfrl.learning.environments.vary import columns
from p2pfrl.learning.learners.a2c import A2C
from p2pfrl.learning.learners.base import Batch, Task
from p2pfrl.learning.learners.on_policy import OnPolicyStack
from p2pfrl.learning.learners.ppo import PPO
from p2pfrl.learning.learners.reinforce import REINFORCE
from p2pfrl.learning.trainer import Trainer
from p2pfrl.scenario.bind import outline

LEARNERS = {
    "ppo": ("cartpole", PPO(steps=8, shared_trunk=True, update_epochs=2, num_minibatches=4)),
    "ppo, continuous": ("pendulum", PPO(steps=8, update_epochs=2, num_minibatches=2)),
    "a2c": ("cartpole", A2C(steps=8, activation="relu", ent_coef=0.01, optimizer="adam")),
    "reinforce": ("cartpole", REINFORCE(steps=8, optimizer="sgd")),
}
AGENTS = 5


class Unread(DeviceDescent):
    """A descent on a device whose tensors have no content: nothing comes back."""

    moved = 0

    def _there(self, values: np.ndarray) -> torch.Tensor:
        self.moved += 1
        return super()._there(values)

    def _back(self, values: torch.Tensor) -> np.ndarray:
        assert values.device == self._device
        return np.zeros(tuple(values.shape), dtype=np.float32)


class Devices(TorchDispatchMode):
    """Notes the devices of all tensors that are made."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, int] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        for one in found if isinstance(found, tuple | list) else (found,):
            if isinstance(one, torch.Tensor):
                self.seen[one.device.type] = self.seen.get(one.device.type, 0) + 1
        return found


def stack_of(name: str) -> OnPolicyStack:
    kind, learner = LEARNERS[name]
    problem = ENVIRONMENTS[kind]()
    table = problem.physics(1, range(AGENTS), columns(problem, {}, 1, range(AGENTS), AGENTS))
    task = Task(1, AGENTS, problem.simulator(table, 4, 1), problem.simulator(table, 1, 1))
    stack = learner.prepare(task)
    assert isinstance(stack, OnPolicyStack)
    return stack


def on_device(stack: OnPolicyStack, device: str, kind: type[DeviceDescent] = DeviceDescent) -> None:
    """Let the steps of a stack be taken on a device."""
    parts = (stack.network, stack.policy, stack.optimizer, stack.plan, stack.task, None)
    stack._descent = kind(*parts, device=device)


def updated(stack: OnPolicyStack, agents: list[int], times: int = 2) -> tuple[Batch, np.ndarray]:
    """Return a batch after updates, and the losses of the last one."""
    rows, state = stack.start(agents, same=False), stack.init(agents)
    for index in range(times):
        found = stack.update(Batch(agents, [index] * len(agents), rows, state))
        rows, state = found.parameters, found.state
    return Batch(agents, [times] * len(agents), rows, state), found.loss


@pytest.mark.parametrize("name", LEARNERS)
def test_steps_on_a_device_are_those_of_numpy_and_autograd(name):
    expected, loss = updated(stack_of(name), [0, 1, 2, 3, 4])
    stack = stack_of(name)
    on_device(stack, "cpu")
    found, other = updated(stack, [0, 1, 2, 3, 4])
    np.testing.assert_allclose(found.parameters, expected.parameters, rtol=0, atol=3e-5)
    np.testing.assert_allclose(other, loss, rtol=2e-4, atol=1e-5)
    for moment in stack.optimizer.moments + stack.optimizer.counts:
        np.testing.assert_allclose(
            found.state[moment], expected.state[moment], rtol=0.02, atol=2e-4
        )
    start = stack.start([0, 1, 2, 3, 4], same=False)
    assert np.abs(found.parameters - start).max() > 1e-3, "there were steps"


def test_equal_batches_have_equal_results_on_a_device():
    results = []
    for _ in range(2):
        stack = stack_of("ppo")
        on_device(stack, "cpu")
        results.append(updated(stack, [0, 1, 2, 3, 4])[0].parameters)
    np.testing.assert_array_equal(*results)


@pytest.mark.slow  # torch imports what it knows of tensors without content, for seconds
@pytest.mark.parametrize("name", LEARNERS)
def test_every_tensor_is_made_on_the_device(name):
    stack = stack_of(name)
    on_device(stack, "meta", Unread)
    agents = list(range(AGENTS))
    rows, state = stack.start(agents, same=False), stack.init(agents)
    rollout, state = stack._roll_out(Batch(agents, [0] * AGENTS, rows, state))
    packed = stack.acting.pack(rows, rollout)
    streams = stack_streams(agents)
    with Devices() as devices:
        stack._descent.learn(rows, state, packed, streams)
    assert devices.seen["meta"] > 20
    # Each array that goes to the device is a tensor here first, in its own memory.
    assert devices.seen["cpu"] == stack._descent.moved
    assert set(devices.seen) == {"cpu", "meta"}


def stack_streams(agents: list[int]):
    from p2pfrl.core.rng import Purpose, Streams

    return Streams.of(1, agents, Purpose.MINIBATCH, [0] * len(agents))


TEXT = """
name = "on_a_device"
agents = 2
stop = {rounds = 1}
environment = {id = "cartpole"}
learner = {kind = "KIND"}
compute = {device = "cuda", ENGINE}
"""


def _text(kind: str = "ppo", engine: str = 'engine = "torch"') -> str:
    return TEXT.replace("KIND", kind).replace("ENGINE", engine)


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(
        ScenarioError, match=r"compute\.device: 'cuda' cannot be used: torch sees no"
    ):
        outline(loads(_text()))


def test_learners_without_code_for_a_device_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(
        ScenarioError, match=r"compute\.device: 'cuda': only ppo, a2c and reinforce"
    ):
        outline(loads(_text("dqn")))
    with pytest.raises(ScenarioError, match=r"compute\.engine: 'native' computes on the processor"):
        outline(loads(_text(engine='engine = "native"')))
    with pytest.raises(ScenarioError, match="has no code for optimizer rmsprop"):
        outline(loads(_text("a2c"), {"learner.optimizer": "rmsprop"}))


def test_a_scenario_on_a_gpu_takes_large_batches_and_says_what_computes(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    stack = outline(loads(_text(engine='engine = "auto"')))
    assert stack.traits.engine == "torch on cuda"
    assert stack.traits.chunk == 16_384
    assert "one device" in why_not(loads(_text()), Trainer(stack, 1))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("name", LEARNERS)
def test_steps_on_a_gpu_are_those_of_numpy_and_autograd(name):
    expected, _ = updated(stack_of(name), [0, 1, 2, 3, 4])
    stack = stack_of(name)
    on_device(stack, "cuda")
    found, _ = updated(stack, [0, 1, 2, 3, 4])
    np.testing.assert_allclose(found.parameters, expected.parameters, rtol=0, atol=2e-4)
