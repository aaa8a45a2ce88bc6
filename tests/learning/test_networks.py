"""The hand-written backward pass is autograd's, and the layout says where everything lies."""

import numpy as np
import pytest
import torch
from torch import nn

from p2pfrl.learning.networks import Network

SHAPES = [((8, 6), False), ((8, 6), True), ((5,), False), ((5,), True), ((7, 3, 4), True)]
ACTIVATION = {"tanh": nn.Tanh, "relu": nn.ReLU}


def reference(network: Network, row, x, activation):
    """Return torch's outputs `(outputs, B)` and the leaves by name, for one agent's row."""
    leaves = {}
    for tensor, offset in zip(network.layout.tensors, network.layout.offsets, strict=True):
        values = row[offset : offset + tensor.size].reshape(tensor.shape)
        leaves[tensor.name] = torch.from_numpy(values.copy()).requires_grad_()
    act = ACTIVATION[activation]()
    outputs = []
    for part in ("actor", "critic"):
        trunk = "trunk" if any(name.startswith("trunk") for name in leaves) else part
        h, depth = torch.from_numpy(x.copy()).T, 0
        while f"{trunk}.{depth}.weight" in leaves:
            h = act(h @ leaves[f"{trunk}.{depth}.weight"].T + leaves[f"{trunk}.{depth}.bias"])
            depth += 1
        outputs.append(h @ leaves[f"{part}.head.weight"].T + leaves[f"{part}.head.bias"])
    return torch.cat(outputs, dim=1).T, leaves


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize(("hidden", "shared"), SHAPES)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 2e-5)])
def test_gradients_are_those_of_autograd(hidden, shared, activation, dtype, tolerance):
    network = Network(4, 3, hidden=hidden, activation=activation, shared_trunk=shared, dtype=dtype)
    rng = np.random.default_rng(0)
    rows, gradient = network.layout.zeros(3), network.layout.zeros(3)
    rows[:] = rng.normal(size=rows.shape)
    x = rng.normal(size=(3, 4, 10)).astype(dtype)
    weights = rng.normal(size=(3, 4, 10)).astype(dtype)
    out = np.empty((3, 4, 10), dtype=dtype)
    network.forward(rows, x, out)
    network.backward(rows, x, weights, gradient)
    for agent in range(3):
        expected, leaves = reference(network, rows[agent], x[agent], activation)
        np.testing.assert_allclose(
            out[agent], expected.detach().numpy(), rtol=tolerance, atol=tolerance
        )
        (expected * torch.from_numpy(weights[agent])).sum().backward()
        for tensor, offset in zip(network.layout.tensors, network.layout.offsets, strict=True):
            got = gradient[agent, offset : offset + tensor.size].reshape(tensor.shape)
            want = leaves[tensor.name].grad.numpy()
            np.testing.assert_allclose(
                got, want, rtol=tolerance, atol=10 * tolerance, err_msg=tensor.name
            )


def test_a_shared_trunk_has_4675_parameters_on_cartpole_and_two_networks_9155():
    shared = Network(4, 2, hidden=(64, 64), shared_trunk=True).layout
    separate = Network(4, 2, hidden=(64, 64)).layout
    assert (shared.size, shared.parts) == (4675, ("trunk", "actor", "critic"))
    assert (separate.size, separate.parts) == (
        2 * (4 * 64 + 64 + 64 * 64 + 64) + 3 * 65,
        ("actor", "critic"),
    )


def test_log_standard_deviations_belong_to_the_actor():
    network = Network(3, 2, hidden=(4,), log_std=True)
    rows = network.layout.zeros(2)
    network.log_std(rows)[:] = [[1.0, 2.0], [3.0, 4.0]]
    assert network.layout.tensors[-1].part == "actor"
    assert network.layout.pack(rows, ["actor"])[:, -2:].tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert Network(3, 2, hidden=(4,)).log_std(rows).shape == (2, 0)


@pytest.mark.parametrize("shared", [False, True])
def test_start_weights_are_orthogonal_with_the_gains_of_the_field(shared):
    network = Network(4, 2, hidden=(16, 16), shared_trunk=shared)
    row = network.start(np.random.default_rng(0))
    gains = {"actor.head.weight": 0.01, "critic.head.weight": 1.0}
    for tensor, offset in zip(network.layout.tensors, network.layout.offsets, strict=True):
        values = row[offset : offset + tensor.size].reshape(tensor.shape)
        if tensor.name.endswith("weight"):
            singular = np.linalg.svd(values.astype(np.float64), compute_uv=False)
            np.testing.assert_allclose(singular, gains.get(tensor.name, np.sqrt(2.0)), rtol=1e-5)
        else:
            assert not values.any()


def test_without_a_critic_there_is_an_actor_alone():
    network = Network(4, 2, hidden=(8,), critic=False)
    assert network.layout.parts == ("actor",)
    assert network.outputs == 2
