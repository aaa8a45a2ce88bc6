"""The projection keeps norms on average and nearly always, is linear, and needs little memory."""

import tracemalloc

import numpy as np

from p2pfrl.core.parameters import Layout, Tensor
from p2pfrl.deploy.projection import DIMENSION, Projection, project


def test_norms_are_unbiased_with_the_known_spread() -> None:
    rng = np.random.default_rng(1)
    ratios = []
    for seed in range(300):
        x = rng.normal(size=3_000) * rng.exponential(size=3_000) ** 2
        ratios.append(np.square(project(seed, "x", x)).sum() / np.square(x).sum())
    ratios = np.array(ratios)
    deviation = (2 / DIMENSION) ** 0.5
    assert abs(ratios.mean() - 1) < 4 * deviation / len(ratios) ** 0.5
    assert 0.8 * deviation < ratios.std() < 1.2 * deviation
    assert np.abs(ratios**0.5 - 1).max() < 0.1


def test_it_is_linear_and_repeatable_across_blocks() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(2, 150_000))
    np.testing.assert_allclose(
        project(1, "a", x) - project(1, "a", y), project(1, "a", x - y), atol=1e-10
    )
    np.testing.assert_array_equal(project(1, "a", x), project(1, "a", x))
    assert abs(np.corrcoef(project(1, "a", x), project(1, "b", x))[0, 1]) < 0.15
    assert (
        abs(np.corrcoef(project(1, "a", x[:65_536]), project(1, "a", x[65_536:131_072]))[0, 1])
        < 0.15
    )


def test_parts_are_projected_apart() -> None:
    layout = Layout(
        (Tensor("actor.w", (300,)), Tensor("critic.w", (500,)), Tensor("actor.b", (7,)))
    )
    projection = Projection(3, layout)
    assert projection.layout.parts == layout.parts == ("actor", "critic")
    only_critic = np.zeros(807, dtype=np.float32)
    only_critic[300:800] = 1.0
    projected = projection.parameters(only_critic)
    assert projected.shape == (projection.layout.size,) == (2 * DIMENSION,)
    assert not projected[:DIMENSION].any()
    np.testing.assert_allclose(np.linalg.norm(projected), 500**0.5, rtol=0.1)


def test_memory_stays_small() -> None:
    x = np.ones(2_000_000, dtype=np.float32)
    tracemalloc.start()
    project(1, "x", x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8_000_000
