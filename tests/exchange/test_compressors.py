"""What each compressor promises of its error, its bytes and its memory."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from p2pfrl.core.errors import ScenarioError, WireError
from p2pfrl.core.turn import NoMemory, Turn
from p2pfrl.exchange.compressors import RULES
from p2pfrl.exchange.compressors.bits import (
    pack,
    pack_positions,
    packed_size,
    positions_size,
    unpack,
    unpack_positions,
    width,
)
from p2pfrl.exchange.compressors.memory import Difference, ErrorFeedback
from p2pfrl.laws.runs import text
from p2pfrl.scenario import loads

SEEDS = (1, 2, 3)


def turn(seed, count=0):
    nothing = np.zeros(1)
    return Turn(0, count, "update", nothing, nothing, 1, 0.0, (), 0.0, (seed, 0, count), NoMemory())


def gaussian(seed, size=200, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal(size).astype(dtype)


def errors(rule, seed, draws=400, size=200):
    """Return E||Q(x) - x||^2 / ||x||^2 over `draws` messages, and the mean of Q(x)."""
    x = gaussian(seed, size)
    known = np.array([rule.encode(x, turn(seed, count), ()).known for count in range(draws)])
    return (
        float(np.square(known - x).sum(axis=1).mean() / np.square(x).sum()),
        known.mean(axis=0),
        x,
    )


@pytest.mark.parametrize("bits", range(1, 34))
@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 1000])
def test_integers_are_packed_in_exactly_the_bits_they_need(bits, count):
    values = np.random.default_rng(bits).integers(0, 2**bits, size=count, dtype=np.uint64)
    data = pack(values, bits)
    assert len(data) == packed_size(count, bits) == math.ceil(count * bits / 8)
    assert np.array_equal(unpack(data, count, bits), values)


@pytest.mark.parametrize("size", [1, 2, 9, 200, 4097])
@pytest.mark.parametrize("part", [0.0, 0.01, 0.1, 0.5, 1.0])
def test_places_take_the_shorter_of_numbers_and_one_bit_each(size, part):
    count = round(part * size)
    places = np.sort(np.random.default_rng(size).permutation(size)[:count])
    data = pack_positions(places, size)
    assert len(data) == positions_size(size, count) == math.ceil(min(count * width(size), size) / 8)
    assert np.array_equal(unpack_positions(data, size, count), places)


def test_places_that_are_no_set_are_refused():
    size, count = 4096, 3
    for places in ([5, 5, 7], [7, 5, 9], [0, 0, 0]):
        with pytest.raises(WireError):
            unpack_positions(pack(np.array(places), width(size)), size, count)
    with pytest.raises(WireError):
        unpack_positions(pack(np.array([1, 2, 3000]), width(2500)), 2500, count)
    bitmap = np.full(2, 0xFF, dtype=np.uint8)
    with pytest.raises(WireError):
        unpack_positions(bitmap, 9, 9)  # bits beyond the ninth
    with pytest.raises(WireError):
        unpack_positions(np.packbits(np.ones(8, dtype=np.uint8)), 8, 7)


def test_bits_that_mean_nothing_are_refused():
    with pytest.raises(WireError, match="left over"):
        unpack(np.array([0, 0b10], dtype=np.uint8), 3, 3)
    with pytest.raises(WireError, match="ascending"):
        unpack_positions(
            np.array([0xFF, 0b10], dtype=np.uint8), 9, 9
        )  # nine places, the last of them the tenth
    qsgd = RULES["qsgd"](levels=16)
    good = qsgd.encode(gaussian(1, 4), turn(1), ()).data
    bad = np.concatenate([good[:8], pack(np.array([16, 16, 33, 16]), 6)])
    with pytest.raises(WireError, match="levels up to 32"):
        qsgd.decode(memoryview(bad.tobytes()), 4, np.dtype("<f8"))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("size", "fraction"), [(200, 0.1), (200, 0.01), (37, 0.3), (1, 0.1)])
def test_top_k_keeps_the_largest_and_loses_no_more_than_its_share(seed, size, fraction):
    rule, x = RULES["topk"](fraction=fraction), gaussian(seed, size)
    count = max(1, round(fraction * size))
    made = rule.encode(x, turn(seed), ())
    kept = np.argsort(-np.abs(x))[:count]
    expected = np.zeros(size)
    expected[kept] = x[kept]
    assert np.array_equal(made.known, expected)
    assert np.square(made.known - x).sum() <= (1 - count / size) * np.square(x).sum() * (1 + 1e-12)
    assert (
        made.data.nbytes
        == rule.limit(size, 8)
        == count * 8 + math.ceil(min(count * width(size), size) / 8)
    )


def test_top_k_of_a_gaussian_loses_what_is_computed_for_it_and_ties_go_to_the_first():
    lost = np.mean([errors(RULES["topk"](), seed, draws=1, size=2000)[0] for seed in range(30)])
    assert lost == pytest.approx(0.564, abs=0.01)  # 1 - 2 (c phi(c) + Q(c)), c = 1.6449
    made = RULES["topk"](count=2).encode(np.array([0.0, 1.0, -1.0, 1.0]), turn(1), ())
    assert made.known.tolist() == [0.0, 1.0, -1.0, 0.0]
    assert RULES["topk"](count=9).encode(np.arange(3.0), turn(1), ()).known.tolist() == [
        0.0,
        1.0,
        2.0,
    ]


@pytest.mark.parametrize("seed", SEEDS)
def test_random_k_loses_its_share_in_the_mean_and_is_unbiased_where_it_says_so(seed):
    lost, _, _ = errors(RULES["randk"](), seed, draws=1000)
    assert lost == pytest.approx(0.9, abs=0.01)
    lost, mean, x = errors(RULES["randk"](unbiased=True), seed, draws=1000)
    assert lost == pytest.approx(9.0, abs=0.35)
    assert np.abs(mean - x).max() < 6 * 3 * np.abs(x).max() / 1000**0.5
    assert RULES["randk"]().limit(200, 4) == 20 * 4 + 8


def test_random_k_chooses_every_place_equally_often():
    rule, draws = RULES["randk"](count=3), 5000
    hits = sum(rule.encode(np.ones(10), turn(1, count), ()).known for count in range(draws))
    assert hits.sum() == 3 * draws
    assert np.abs(hits - 0.3 * draws).max() < 5 * (draws * 0.21) ** 0.5


@pytest.mark.parametrize("seed", SEEDS)
def test_threshold_sends_what_is_above_it(seed):
    x = gaussian(seed)
    made = RULES["threshold"](epsilon=0.5).encode(x, turn(seed), ())
    assert np.array_equal(made.known, np.where(np.abs(x) > 0.5, x, 0.0))
    assert np.linalg.norm(made.known - x) <= 0.5 * 200**0.5
    count = int((np.abs(x) > 0.5).sum())
    assert made.data.nbytes == 4 + 8 * count + positions_size(200, count)
    assert RULES["threshold"](epsilon=9.0).encode(x, turn(seed), ()).data.nbytes == 4


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("bits", [1, 4, 8, 12, 16])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_quantized_numbers_are_off_by_at_most_half_a_level(seed, bits, dtype):
    x = gaussian(seed, dtype=dtype)
    step = float(x.max() - x.min()) / (2**bits - 1)
    rounding = 4 * np.finfo(dtype).eps * np.abs(x).max()
    near = RULES["quantize"](bits=bits).encode(x, turn(seed), ())
    assert np.abs(near.known - x).max() <= step / 2 + rounding
    assert near.data.nbytes == 2 * x.itemsize + math.ceil(200 * bits / 8)
    either = RULES["quantize"](bits=bits, stochastic=True)
    known = np.array(
        [either.encode(x, turn(seed, count), ()).known for count in range(300)], dtype=np.float64
    )
    assert np.abs(known - x).max() <= step + rounding
    assert np.abs(known.mean(axis=0) - x).max() <= 5 * step / 2 / 300**0.5 + rounding


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("size", "levels"), [(200, 16), (200, 4), (50, 1)])
def test_qsgd_keeps_its_bounds(seed, size, levels):
    w = min(size / levels**2, size**0.5 / levels)
    lost, mean, x = errors(RULES["qsgd"](levels=levels), seed, draws=500, size=size)
    assert lost <= w
    assert np.abs(mean - x).max() <= 6 * 0.5 * np.linalg.norm(x) / levels / 500**0.5
    shrunk, _, _ = errors(
        RULES["qsgd"](levels=levels, contractive=True), seed, draws=500, size=size
    )
    assert shrunk <= w / (1 + w)
    assert RULES["qsgd"](levels=levels).limit(size, 8) == 8 + math.ceil(
        size * math.ceil(math.log2(2 * levels + 1)) / 8
    )


def test_qsgd_of_a_gaussian_loses_what_was_computed_for_it():
    lost = np.mean([errors(RULES["qsgd"](), seed, draws=100)[0] for seed in range(20)])
    assert lost == pytest.approx(0.130, abs=0.005)
    shrunk = np.mean(
        [errors(RULES["qsgd"](contractive=True), seed, draws=100)[0] for seed in range(20)]
    )
    assert shrunk == pytest.approx(0.233, abs=0.01)


@pytest.mark.parametrize("seed", SEEDS)
def test_signs_lose_what_the_formula_says(seed):
    x = gaussian(seed)
    x[3] = 0.0
    made = RULES["sign"]().encode(x, turn(seed), ())
    square = np.square(x).sum()
    assert np.square(made.known - x).sum() == pytest.approx(
        square - np.abs(x).sum() ** 2 / 200, rel=1e-12
    )
    assert made.data.nbytes == 8 + 25


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("size", [1, 7, 100, 203])
def test_low_rank_never_lengthens_the_error_and_learns_a_matrix_of_its_rank(seed, size):
    rule, state = RULES["low_rank"](rank=2), ()
    for count in range(4):
        made = rule.encode(gaussian(seed + count, size), turn(seed, count), state)
        state = made.state
        assert np.linalg.norm(made.known - gaussian(seed + count, size)) <= np.linalg.norm(
            gaussian(seed + count, size)
        )
    rows, columns, rank = rule.shape(size)
    rng = np.random.default_rng(seed)
    x = np.zeros(rows * columns)
    x += (rng.standard_normal((rows, rank)) @ rng.standard_normal((rank, columns))).reshape(-1)
    made = rule.encode(x, turn(seed), ())
    assert np.linalg.norm(made.known - x) <= 1e-10 * np.linalg.norm(x)
    assert made.data.nbytes == (rows + columns) * rank * 8
    zero = rule.encode(np.zeros(size), turn(seed), ())
    assert not zero.known.any()
    assert rule.encode(gaussian(seed, size), turn(seed, 1), zero.state).known.any()


def test_low_rank_comes_to_the_best_rank_of_a_matrix_that_stays():
    rule, state, x = RULES["low_rank"](rank=2), (), gaussian(1, 400)
    best = np.linalg.norm(np.linalg.svd(x.reshape(20, 20), compute_uv=False)[2:])
    for count in range(200):
        made = rule.encode(x, turn(1, count), state)
        state = made.state
    assert np.linalg.norm(made.known - x) == pytest.approx(best, rel=1e-3)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "kind", ["topk", "randk", "threshold", "quantize", "qsgd", "sign", "low_rank"]
)
def test_error_feedback_sends_everything_in_the_end(kind, seed):
    rule = ErrorFeedback(compressor=RULES[kind]())
    xs = [gaussian(100 * seed + count) for count in range(50)]
    state, sent = rule.init(np.zeros(200)), np.zeros(200)
    for count, x in enumerate(xs):
        made = rule.encode(x, turn(seed, count), state)
        state, sent = made.state, sent + made.known
    assert np.abs(sent + state[0] - sum(xs)).max() <= 1e-12


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", ["topk", "randk", "threshold", "quantize", "qsgd", "sign"])
def test_difference_comes_to_know_a_vector_that_stays(kind, seed):
    inner = RULES[kind](contractive=True) if kind == "qsgd" else RULES[kind]()
    rule, x = Difference(compressor=inner), gaussian(seed)
    state, first = rule.init(x), None
    for count in range(400):
        made = rule.encode(x, turn(seed, count), state)
        state, first = made.state, first if first is not None else np.linalg.norm(made.known - x)
    least = 1e-3 * 200**0.5 if kind == "threshold" else 1e-6
    assert np.linalg.norm(made.known - x) <= max(least, 1e-2 * first if kind == "sign" else 0.0)


class Wire:
    """A sender and what one receiver makes of what it is given."""

    def __init__(self, rule, size=30, dtype=np.float64):
        self.rule, self.size, self.dtype = rule, size, np.dtype(dtype)
        self.state, self.remembered, self.count = rule.init(np.zeros(size, dtype=dtype)), None, 0

    def send(self, x):
        made = self.rule.encode(x.astype(self.dtype), turn(1, self.count), self.state)
        self.state, self.count, self.known = made.state, self.count + 1, made.known
        return made.data.tobytes()

    def hear(self, raw):
        payload = self.rule.decode(memoryview(raw), self.size, self.dtype)
        return self.hear_vector(payload, self.rule.encoding)

    def hear_vector(self, payload, encoding="raw"):
        payload.flags.writeable = False
        vector, self.remembered = self.rule.receive(
            SimpleNamespace(payload=payload, encoding=encoding), self.remembered
        )
        return vector


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["topk", "qsgd", "low_rank"])
def test_who_missed_a_difference_knows_that_it_does_not_know_until_it_is_told_everything(
    kind, dtype
):
    wire = Wire(Difference(compressor=RULES[kind]()), dtype=dtype)
    for seed in range(3):
        heard = wire.hear(wire.send(gaussian(seed, 30)))
        assert heard.tobytes() == wire.known.tobytes()
    wire.send(gaussian(3, 30))
    for seed in range(4, 8):
        assert wire.hear(wire.send(gaussian(seed, 30))) is None
    assert wire.hear_vector(wire.known.copy()) is not None  # the same once more, raw
    assert wire.hear(wire.send(gaussian(9, 30))).tobytes() == wire.known.tobytes()


def test_a_difference_that_comes_twice_or_before_another_is_not_counted():
    wire = Wire(Difference(compressor=RULES["topk"]()))
    wire.hear(wire.send(gaussian(1, 30)))
    second, third = wire.send(gaussian(2, 30)), None
    after_second = wire.known.copy()
    third = wire.send(gaussian(3, 30))
    assert wire.hear(third) is None
    assert np.array_equal(wire.hear(second), after_second)
    assert wire.hear(second) is None
    assert np.array_equal(wire.hear(third), wire.known)


def test_a_sender_that_begins_again_is_understood_at_once():
    wire = Wire(Difference(compressor=RULES["topk"]()))
    for seed in range(3):
        wire.hear(wire.send(gaussian(seed, 30)))
    wire.state = wire.rule.init(np.zeros(30))
    assert np.array_equal(wire.hear(wire.send(gaussian(7, 30))), wire.known)
    assert np.array_equal(wire.hear(wire.send(gaussian(8, 30))), wire.known)


def test_refresh_sends_everything_every_so_many_messages():
    rule = Difference(compressor=RULES["topk"](), refresh=4)
    wire = Wire(rule)
    for count in range(9):
        x = gaussian(count, 30)
        raw = wire.send(x)
        heard = wire.hear(raw) if count not in (1, 5) else None
        assert len(raw) == 5 + (240 if count % 4 == 0 else rule.compressor.limit(30, 8))
        assert (heard is not None) == (count % 4 == 0)
        assert np.array_equal(wire.known, x) == (count % 4 == 0)
    whole = Wire(rule).send(gaussian(1, 30))
    with pytest.raises(WireError):
        Difference(compressor=RULES["topk"]()).decode(memoryview(whole), 30, np.dtype("<f8"))


def test_memories_are_not_put_around_memories():
    inner = '{kind = "error_feedback", compressor = {kind = "topk"}}'
    scenario = text(4, 3).replace(
        "[stop]", f'[compressor]\nkind = "difference"\ncompressor = {inner}\n[stop]'
    )
    with pytest.raises(
        ScenarioError, match=r"compressor\.compressor\.kind: no 'error_feedback' among compressors"
    ):
        loads(scenario)


@pytest.mark.parametrize(
    "options",
    [{"fraction": 0.0}, {"fraction": 1.1}, {"count": 0}],
)
def test_no_part_or_more_than_all_is_refused(options):
    with pytest.raises(ScenarioError):
        RULES["topk"](**options)


@pytest.mark.parametrize("kind", ["quantize", "qsgd", "sign"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_near_the_end_of_their_range_stay_in_it(kind, dtype):
    most = np.finfo(dtype).max
    x = np.array([most, -most, most / 3, 0.0], dtype=dtype) / dtype(2)
    made = RULES[kind]().encode(x, turn(1), ())
    assert np.isfinite(made.known).all()
    tiny = np.array([0.0, np.finfo(dtype).smallest_subnormal, 0.0], dtype=dtype)
    assert np.isfinite(RULES[kind]().encode(tiny, turn(1), ()).known).all()


@pytest.mark.parametrize(
    "kind", [kind for kind in RULES if kind not in ("none", "low_rank", "error_feedback")]
)
def test_numbers_that_are_none_reach_receivers_as_such_or_are_refused(kind):
    rule = RULES[kind]()
    for bad in (np.nan, np.inf, -np.inf):
        x = gaussian(1, 12)
        x[4] = bad
        made = rule.encode(x, turn(1), rule.init(np.zeros(12)))
        try:
            decoded = rule.decode(memoryview(made.data.tobytes()), 12, np.dtype("<f8"))
        except WireError:
            continue
        assert kind == "randk"
        assert np.isfinite(decoded).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bits", [1, 4])
def test_numbers_whose_levels_are_too_close_to_halve_are_quantized_without_a_warning(dtype, bits):
    least = np.finfo(dtype).smallest_subnormal
    x = np.array([0, 1, 2, 2**bits - 1], dtype=dtype) * least
    with np.errstate(all="raise", under="ignore"):
        known = RULES["quantize"](bits=bits).encode(x, turn(1), ()).known
    assert np.abs(known - x).max() <= x.max()


def fixed(bits=8, **options):
    return RULES["quantize"](bits=bits, grid="fixed", **options)


@pytest.mark.parametrize("bits", [1, 4, 8, 16])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_on_the_fixed_grid_are_off_by_at_most_half_a_step(bits, dtype):
    x = np.concatenate([gaussian(1, dtype=dtype), np.arange(-3, 4, dtype=dtype) / 2 ** (bits + 1)])
    made = fixed(bits).encode(x, turn(1), ())
    exact, known = x.astype(np.float64), made.known.astype(np.float64)
    assert np.array_equal(known, np.round(exact * 2**bits) / 2**bits)
    assert np.abs(known - exact).max() == 2.0 ** -(bits + 1)  # the halves between two steps
    assert np.array_equal(fixed(bits).encode(made.known, turn(2), ()).known, made.known)
    levels = known * 2**bits
    w = next(w for w in range(64) if -(2**w) <= 2 * levels.min() and 2 * levels.max() < 2**w)
    assert made.data.nbytes == 1 + math.ceil(len(x) * w / 8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_on_the_fixed_grid_are_right_on_average_where_they_are_rounded_at_random(dtype):
    x, rule, step = gaussian(1, dtype=dtype), fixed(4, stochastic=True), 2.0**-4
    known = np.array([rule.encode(x, turn(1, c), ()).known for c in range(400)], dtype=np.float64)
    assert np.abs(known - x).max() < step
    assert not np.any(known * 16 % 1)
    assert np.abs(known.mean(axis=0) - x).max() <= 5 * step / 2 / 400**0.5
    there = known[0].astype(dtype)
    assert np.array_equal(rule.encode(there, turn(7), ()).known, there)


@pytest.mark.parametrize("stochastic", [False, True])
@pytest.mark.parametrize("dtype", ["<f4", "<f8"])
@pytest.mark.parametrize("most", [0.0, 1e-3, 3.0, 1e4, 1e9, 1e18, 1e38])
def test_messages_on_the_fixed_grid_are_decoded_however_large_their_numbers_are(
    most, dtype, stochastic
):
    dtype = np.dtype(dtype)
    x = (gaussian(2, 40) / 3 * most).astype(dtype)
    x[0] = most
    rule = fixed(12, stochastic=stochastic)
    made = rule.encode(x, turn(1), ())
    raw = made.data.tobytes()
    assert rule.decode(memoryview(raw), 40, dtype).tobytes() == made.known.tobytes()
    assert len(raw) <= rule.limit(40, dtype.itemsize) == 1 + 40 * dtype.itemsize
    assert (len(raw) == 1) == (most == 0)
    error = np.abs(made.known.astype(np.float64) - x)
    assert error.max() <= 2.0**-12 / (2 - stochastic)
    assert rule.encode(-x, turn(1), ()).known.dtype == dtype


def test_bytes_that_are_no_message_on_the_fixed_grid_are_refused():
    rule, x = fixed(), gaussian(1, 12)
    good = rule.encode(x, turn(1), ()).data.tobytes()
    whole = rule.encode(x * 1e300, turn(1), ()).data.tobytes()
    assert (good[0], whole[0], len(whole)) == (10, 64, 97)
    for bad in (b"", good[:-1], good + b"\0", whole[:-1], whole + b"\0", bytes([65]) + good[1:]):
        with pytest.raises(WireError):
            rule.decode(memoryview(bad), 12, np.dtype("<f8"))
    x[3] = np.nan
    sent = rule.encode(x, turn(1), ()).data.tobytes()
    with pytest.raises(WireError, match="NaN"):
        rule.decode(memoryview(sent), 12, np.dtype("<f8"))
