"""Smaller messages of secure sums: fewer bits of an element, and places in common."""

import numpy as np
import pytest

import p2pfrl
from p2pfrl.build.preview import preview
from p2pfrl.core.errors import ScenarioError, WireError
from p2pfrl.exchange.compressors.memory import ErrorFeedback
from p2pfrl.exchange.compressors.sparse import RandK, TopK
from p2pfrl.exchange.secure.ring import Elements, FixedPoint, ring_sum
from p2pfrl.scenario import loads

BASE = """
name = "sizes"
agents = 5
mode = "central"
stop = {rounds = 3}
learner = {kind = "quadratic", dimension = 40, noise = 0.1, initial_spread = 1.0, lr = 0.1}
exchange = {payload = "delta"}
"""
RANDK = 'compressor = {kind = "randk", fraction = 0.25, common = true}\n'
FEEDBACK = 'compressor = {kind = "error_feedback", compressor = {kind = "randk", common = true}}\n'


def secure(kind="secure_aggregation", **options):
    more = "".join(f", {name} = {value}" for name, value in options.items())
    return f'secure = {{kind = "{kind}", clip = 8.0, fraction_bits = 10{more}}}\n'


@pytest.mark.parametrize("width", range(2, 9))
def test_sums_in_fewer_bits_are_those_in_all(width):
    """Modulo 2^b of masked elements of 64 bits, of which b travel; up to the largest sum."""
    ring = FixedPoint(1.0, 8 * width - 4, width)
    n, rng = ring.capacity(), np.random.default_rng(width)
    assert n == 7
    signs = np.where(rng.random(50) < 0.5, -1.0, 1.0)
    vectors = [ring.encode(signs if i else rng.uniform(-1, 1, 50)) for i in range(n)]
    masks = rng.integers(0, 2**64, (n, 50), dtype=np.uint64)
    masks[-1] = 0 - ring_sum(list(masks[:-1]))
    codec = Elements(width=width)
    sent = [ring.packed(v + m).tobytes() for v, m in zip(vectors, masks, strict=True)]
    assert {len(data) for data in sent} == {codec.limit(50, 8)} == {width * 50}
    heard = [codec.decode(memoryview(data), 50, np.dtype("<f8")) for data in sent]
    exact = FixedPoint(1.0, ring.bits).decode(ring_sum(vectors))
    assert ring.decode(ring_sum(heard)).tolist() == exact.tolist()
    assert ring.decode(ring_sum([*heard, heard[0] - masks[0]])).tolist() != exact.tolist()


@pytest.mark.parametrize("size", [0, 3, 5, 8])
def test_elements_of_another_width_are_refused(size):
    with pytest.raises(WireError, match="expected 2 ring elements of 2 bytes"):
        Elements(width=2).decode(memoryview(bytes(size)), 2, np.dtype("<f8"))


@pytest.mark.parametrize("kind", ["secure_aggregation", "secret_shares", "neighborhood_masks"])
def test_a_run_with_fewer_bits_ends_with_the_same_models_for_fewer_bytes(kind):
    base = BASE
    if kind == "neighborhood_masks":
        base = BASE.replace("central", "gossip").replace('"delta"', '"parameters"')
        base += 'topology = {kind = "complete"}\n'
    whole, narrow = (p2pfrl.run(loads(base + secure(kind, ring_bits=b))) for b in (64, 24))
    assert narrow.parameters.tolist() == whole.parameters.tolist()
    vectors = 3 * 5 * (4 if kind == "neighborhood_masks" else 1)
    saved = whole.summary["bytes_sent"] - narrow.summary["bytes_sent"]
    assert saved == pytest.approx(5 * 40 * vectors, abs=4 * vectors)
    plans = [preview(loads(base + secure(kind, ring_bits=b)))["bytes_per_round"] for b in (64, 24)]
    assert plans[0] - plans[1] == pytest.approx(saved / 3, rel=0.02)


def test_too_few_bits_are_refused_with_what_would_fit():
    with pytest.raises(ScenarioError, match=r"overflow 16 bits .*, or raise ring_bits"):
        loads(BASE + secure(ring_bits=16))
    loads(BASE + secure(ring_bits=16).replace("= 10", "= 9"))
    with pytest.raises(ScenarioError, match="ring_bits"):
        loads(BASE + secure(ring_bits=20))


def test_weights_by_steps_count_also_where_numbers_are_small():
    more = 'coordinator = {aggregator = {kind = "mean", weights = "samples"}}\n'
    base = BASE + more + 'work = {assign = "speed", most = 3}\n'
    base += "compute = {seconds_per_env_step = 0.01, speed = {kind = 'cycle', list = [1.0, 3.0]}}\n"
    small = base.replace("lr = 0.1", "lr = 1e-5")
    ring = 'secure = {kind = "secret_shares", clip = 0.005}\n'
    plain, hidden = (p2pfrl.run(loads(small + masks)) for masks in ("", ring))
    assert np.abs(hidden.parameters - plain.parameters).max() < 3 * 2.0**-31


@pytest.mark.parametrize("more", [RANDK, FEEDBACK], ids=["randk", "error_feedback"])
@pytest.mark.parametrize("kind", ["secure_aggregation", "secret_shares"])
def test_places_in_common_give_the_models_without_masks(kind, more):
    plain = p2pfrl.run(loads(BASE + more))
    hidden = p2pfrl.run(loads(BASE + more + secure(kind, ring_bits=32)))
    assert np.abs(hidden.parameters - plain.parameters).max() <= 3 * 2.0**-11
    assert hidden.summary["secure"]["sums"] == 3
    assert np.abs(hidden.parameters - plain.parameters).max() > 0, "rounded"
    whole = preview(loads(BASE + secure(kind, ring_bits=32)))["bytes_per_round"]
    sparse = preview(loads(BASE + more + secure(kind, ring_bits=32)))["bytes_per_round"]
    assert whole - sparse == pytest.approx(4 * (40 - (10 if more == RANDK else 4)) * 5, abs=20)
    assert 0 < hidden.summary["bytes_sent"] - 3 * sparse < 5 * 600, "and five last models"


def test_agents_with_common_places_have_them_in_a_round_and_others_in_the_next():
    for rule in (RandK(fraction=0.2, common=True), ErrorFeedback(compressor=RandK(common=True))):
        rows = np.random.default_rng(1).standard_normal((3, 50))
        gathered = [rule.gather(row, 7, 0) for row in rows]
        total = rule.scatter(np.sum(gathered, axis=0), 50, 7, 0)
        kept = np.flatnonzero(total)
        assert len(kept) == rule.kept(50) == len(gathered[0])
        assert total[kept].tolist() == rows.sum(axis=0)[kept].tolist()
        assert kept.tolist() != np.flatnonzero(rule.scatter(gathered[0], 50, 7, 1)).tolist()
        assert kept.tolist() != np.flatnonzero(rule.scatter(gathered[0], 50, 8, 0)).tolist()


def test_a_sum_that_is_put_in_other_places_is_noticed(monkeypatch):
    """Planted: the coordinator takes the places of another round."""
    scatter = RandK.scatter
    monkeypatch.setattr(RandK, "scatter", lambda self, x, n, s, r: scatter(self, x, n, s, r + 1))
    plain, hidden = (p2pfrl.run(loads(BASE + RANDK + more)) for more in ("", secure()))
    assert np.abs(hidden.parameters - plain.parameters).max() > 0.01


@pytest.mark.parametrize(
    "kind", ["topk", "randk", "threshold", "quantize", "qsgd", "sign", "low_rank", "error_feedback"]
)
def test_compressors_whose_numbers_do_not_add_up_are_refused(kind):
    said = (
        r"add up without being opened: .* each agent's own; use kind = 'randk' with common = true"
    )
    with pytest.raises(ScenarioError, match=said):
        loads(BASE + f'compressor = {{kind = "{kind}"}}\n' + secure())
    assert not ErrorFeedback(compressor=TopK()).adds_up
