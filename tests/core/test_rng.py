import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfrl.core.rng import Purpose, Streams, draw, generator, key


def test_different_paths_have_different_keys_and_equal_ones_the_same():
    paths = [(0,), (1,), (0, 1), (0, "1"), (0, "a", 1), (0, "a1"), (0, 1, "a"), (0, 1, 1), (0, 11)]
    keys = [key(*path) for path in paths]
    assert len(set(keys)) == len(paths)
    assert keys == [key(*path) for path in paths]
    assert {len(k) for k in keys} == {16}


def test_generators_of_one_path_draw_the_same_numbers():
    assert np.array_equal(generator(3, 7, "start").random(5), generator(3, 7, "start").random(5))
    assert not np.array_equal(
        generator(3, 7, "start").random(5), generator(3, 8, "start").random(5)
    )


@given(st.permutations(range(6)), st.integers(1, 6))
def test_a_row_draws_the_same_whoever_shares_the_batch(order, size):
    agents = list(order)[:size]
    alone = {a: Streams.of(5, [a], "x", 2) for a in agents}
    together = Streams.of(5, agents, "x", 2)
    for draws in ("uniform", "normal", "permutation", "bits"):
        batch = getattr(together, draws)(7)
        for row, a in enumerate(agents):
            assert np.array_equal(batch[row], getattr(alone[a], draws)(7)[0])


def test_a_stream_continues_however_it_is_cut():
    whole, pieces = Streams.of(1, [0, 4], "x"), Streams.of(1, [0, 4], "x")
    expected = whole.uniform(10)
    assert np.array_equal(
        np.concatenate([pieces.uniform(3), pieces.uniform(1), pieces.uniform(6)], axis=1), expected
    )
    other = Streams.of(1, [0, 4], "x")
    blocks = other.uniform_at(np.array([1, 0]), np.array([2, 0]), 3)
    assert np.array_equal(blocks, np.stack([expected[1, 6:9], expected[0, :3]]))


def test_index_agent_purpose_and_seed_each_name_another_stream():
    streams = [
        Streams.of(1, [0], "x"),
        Streams.of(2, [0], "x"),
        Streams.of(1, [1], "x"),
        Streams.of(1, [0], "y"),
        Streams.of(1, [0], "x", 1),
    ]
    draws = np.array([s.uniform(2000)[0] for s in streams])
    assert np.abs(np.corrcoef(draws) - np.eye(5)).max() < 5 / 2000**0.5


def test_keys_of_a_batch_are_those_of_single_paths():
    agents, index = [0, np.int64(70_000)], [np.int64(3), 2**40]
    for purpose in (Purpose.ACTION, "environment-reset"):
        wanted = [key(-5, int(a), purpose, int(i)) for a, i in zip(agents, index, strict=True)]
        assert Streams.of(-5, agents, purpose, index).keys.tobytes() == b"".join(wanted)


def test_uniform_and_normal_numbers_have_their_moments_and_permutations_are_fair():
    s = Streams.of(9, range(50), "moments")
    u, z = s.uniform(4000), s.normal(4000)
    n = u.size
    assert u.min() >= 0.0
    assert u.max() < 1.0
    assert abs(u.mean() - 0.5) < 5 * (1 / 12 / n) ** 0.5
    assert abs(z.mean()) < 5 / n**0.5
    assert abs(z.std() - 1.0) < 5 / (2 * n) ** 0.5
    assert abs((np.abs(z) > 1.959964).mean() - 0.05) < 5 * (0.05 * 0.95 / n) ** 0.5
    p = Streams.of(9, range(6000), "orders").permutation(3)
    assert np.array_equal(np.sort(p, axis=1), np.tile(np.arange(3), (6000, 1)))
    counts = np.unique(p @ [9, 3, 1], return_counts=True)[1]
    assert len(counts) == 6
    assert np.abs(counts - 1000).max() < 5 * (6000 / 6 * 5 / 6) ** 0.5


def test_the_two_numbers_of_a_message_are_uniform_independent_and_keyed_by_every_field():
    pairs = np.array([draw(1, 0, 1, k, 2) for k in range(5000)])
    assert abs(pairs.mean(axis=0) - 0.5).max() < 5 * (1 / 12 / 5000) ** 0.5
    assert abs(np.corrcoef(pairs.T)[0, 1]) < 5 / 5000**0.5
    base = (1, 2, 3, 4, 5)
    seen = {draw(*base)} | {draw(*(b + (i == j) for j, b in enumerate(base))) for i in range(5)}
    assert len(seen) == 6
    assert draw(1, -1, 2, 3, 4) == draw(1, -1, 2, 3, 4)


@pytest.mark.parametrize("size", [1, 7, 64])
def test_several_permutations_are_those_of_single_calls(size):
    one, other = (Streams.of(3, [0, 1, 5], Purpose.MINIBATCH, 2) for _ in range(2))
    single = np.stack([one.permutation(size) for _ in range(4)])
    several = other.permutations(4, size)
    assert single.tobytes() == several.tobytes()
    assert (one.bits(3) == other.bits(3)).all()


@pytest.mark.parametrize("size", [1, 2, 3, 31, 32, 33, 257])
def test_permutations_of_every_size_hold_every_index_once(size):
    p = Streams.of(1, [3, 4], "order").permutation(size)
    assert np.array_equal(np.sort(p, axis=1), np.tile(np.arange(size), (2, 1)))
