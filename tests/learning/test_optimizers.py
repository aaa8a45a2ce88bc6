"""Optimizers are torch's, row by row, each row with its own count of steps."""

import numpy as np
import pytest
import torch

from p2pfrl.core.parameters import Layout, Tensor
from p2pfrl.learning.optimizers import OPTIMIZERS, SGD, Adam, RMSprop

LAYOUT = Layout((Tensor("x.w", (5, 7)), Tensor("x.b", (3,))))
TORCH = {
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, eps=1e-5),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, alpha=0.99, eps=1e-5),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.01),
}


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_steps_are_those_of_torch_also_where_rows_have_made_different_numbers_of_steps(name):
    optimizer, rng = OPTIMIZERS[name](0.01), np.random.default_rng(0)
    rows, gradient = LAYOUT.zeros(3), LAYOUT.zeros(3)
    state = optimizer.init(LAYOUT, 3)
    rows[:] = rng.normal(size=rows.shape)
    mirror = [torch.from_numpy(row.copy()).requires_grad_() for row in rows]
    references = [TORCH[name]([leaf]) for leaf in mirror]
    gradients = rng.normal(size=(6, *rows.shape)).astype(np.float32)
    for number in range(6):
        active = (
            slice(0, 3) if number % 2 else slice(0, 2)
        )  # the last row takes every second step only
        part = {key: value[active] for key, value in state.items()}
        gradient[active] = gradients[number, active]
        optimizer.bind(rows[active], gradient[active], part)()
        for agent in range(*active.indices(3)):
            mirror[agent].grad = torch.from_numpy(gradients[number, agent].copy())
            references[agent].step()
    np.testing.assert_allclose(
        rows, [leaf.detach().numpy() for leaf in mirror], rtol=2e-6, atol=1e-7
    )


@pytest.mark.parametrize(
    "optimizer", [Adam(0.01), RMSprop(0.01), SGD(0.01)], ids=lambda o: type(o).__name__
)
def test_moments_and_counts_name_all_of_the_state(optimizer):
    state = optimizer.init(LAYOUT, 2)
    assert set(state) == {*optimizer.moments, *optimizer.counts}
    assert all(state[name].shape == (2, LAYOUT.stride) for name in optimizer.moments)
    assert all(state[name].shape == (2,) for name in optimizer.counts)
