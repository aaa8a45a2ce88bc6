"""Compressed messages through agents, codec and network, for every compressor.

Memory of errors makes a difference.
"""

import numpy as np
import pytest

from p2pfrl.core.errors import ScenarioError
from p2pfrl.exchange.compressors import RULES
from p2pfrl.laws.runs import play, text
from p2pfrl.scenario import loads

LEARNER = {"dimension": 40, "lr": 0.05, "curvature": [1.0, 1.0], "spread": 1.0}


@pytest.mark.parametrize("kind", [kind for kind, cls in RULES.items() if not cls.is_difference])
def test_a_coordinator_reads_deltas_of_every_compressor(kind):
    record = play(
        4,
        5,
        mode="central",
        learner=LEARNER,
        exchange={"payload": "delta"},
        compressor={"kind": kind},
    )
    plain = play(4, 5, mode="central", learner=LEARNER, exchange={"payload": "delta"})
    assert np.isfinite(record.parameters).all()
    assert np.array_equal(record.parameters, plain.parameters) == (kind == "none")
    assert record.summary["messages_dropped"] == 0
    assert record.metrics["objective"][-1] < record.metrics["objective"][0]


@pytest.mark.parametrize(
    "inner", [kind for kind in RULES if kind not in ("none", "error_feedback", "difference")]
)
def test_neighbors_read_differences_of_every_compressor(inner):
    code = {"kind": "difference", "compressor": {"kind": inner}}
    record = play(6, 30, learner=LEARNER, compressor=code, mixing={"kind": "choco", "gamma": 0.1})
    assert np.isfinite(record.parameters).all()
    assert record.metrics["mean_drift"][-1] < 1e-12
    assert record.metrics["objective"][-1] < record.metrics["objective"][0]


def test_a_whole_message_at_times_reaches_neighbors_too():
    code = {"kind": "difference", "compressor": {"kind": "topk"}, "refresh": 5}
    plain = play(
        6, 20, learner=LEARNER, compressor={**code, "refresh": 0}, mixing={"kind": "choco"}
    )
    record = play(6, 20, learner=LEARNER, compressor=code, mixing={"kind": "choco"})
    assert record.metrics["mean_drift"][-1] < 1e-12
    assert record.metrics["consensus_distance"][5] < plain.metrics["consensus_distance"][5]
    # six agents send each of two neighbors 40 numbers whole instead of 4 numbers and their places
    places = -(-min(4 * 6, 40) // 8)
    more = record.metrics["bytes_sent"][0] - plain.metrics["bytes_sent"][0]
    assert more == pytest.approx(12 * (36 * 8 - places), abs=24)


def test_differences_without_choco_are_what_the_neighbors_mix():
    """With nothing left out, whoever mixes y mixes x."""
    code = {"kind": "difference", "compressor": {"kind": "threshold", "epsilon": 0.0}}
    plain, record = play(6, 20, learner=LEARNER), play(6, 20, learner=LEARNER, compressor=code)
    np.testing.assert_allclose(record.parameters, plain.parameters, rtol=1e-12, atol=1e-13)


def test_small_steady_changes_are_lost_for_ever_unless_what_was_left_out_is_kept():
    learner = {**LEARNER, "lr": 0.04, "spread": 0.1}
    tables = {"mode": "central", "learner": learner, "exchange": {"payload": "delta"}}
    threshold = {"kind": "threshold", "epsilon": 0.04}
    plain = play(4, 200, **tables)
    lost = play(4, 200, compressor=threshold, **tables)
    kept = play(4, 200, compressor={"kind": "error_feedback", "compressor": threshold}, **tables)
    assert plain.metrics["error"][-1] < 0.05
    assert lost.metrics["error"][-1] > 1.0
    assert kept.metrics["error"][-1] < 0.1
    assert kept.metrics["bytes_sent"][-1] < plain.metrics["bytes_sent"][-1]


@pytest.mark.parametrize("kind", ["topk", "sign", "low_rank", "error_feedback"])
def test_parameters_of_which_too_little_would_arrive_are_refused(kind):
    with pytest.raises(ScenarioError, match="payload of changes"):
        loads(text(4, 3, compressor={"kind": kind}))


def test_who_may_lose_messages_may_not_build_on_what_others_heard():
    with pytest.raises(ScenarioError, match="needs every message"):
        loads(text(4, 3, compressor={"kind": "difference"}, network={"loss": 0.1}))


def test_changes_below_the_fixed_grid_are_lost_unless_they_are_kept_or_rounded_at_random():
    learner = {**LEARNER, "lr": 0.1, "spread": 0.1}
    tables = {"mode": "central", "learner": learner, "exchange": {"payload": "delta"}}
    grid = {"kind": "quantize", "grid": "fixed", "bits": 2}
    lost = play(4, 40, compressor=grid, **tables)
    kept = play(4, 40, compressor={"kind": "error_feedback", "compressor": grid}, **tables)
    rounded = play(4, 40, compressor={**grid, "stochastic": True}, **tables)
    assert lost.metrics["error"][-1] > 0.7 * lost.metrics["error"][0]
    assert kept.metrics["error"][-1] < 0.2 * lost.metrics["error"][0]
    assert rounded.metrics["error"][-1] < 0.2 * lost.metrics["error"][0]
    plain = play(4, 40, **tables)
    saved = plain.metrics["bytes_sent"][-1] - lost.metrics["bytes_sent"][-1]
    assert saved > 0.95 * 4 * 40 * 40 * 8  # a message of zeros is one byte instead of 40 numbers


def test_errors_are_kept_of_payloads_that_are_longer_than_the_parameters():
    tables = {
        "mode": "central",
        "learner": {"kind": "tabular_q"},
        "environment": {"id": "gridworld"},
        "exchange": {"payload": "table"},
    }
    exact = {"kind": "error_feedback", "compressor": {"kind": "topk", "fraction": 1.0}}
    plain, kept = play(3, 4, **tables), play(3, 4, compressor=exact, **tables)
    assert np.array_equal(plain.parameters, kept.parameters)
    few = {"kind": "error_feedback", "compressor": {"kind": "topk", "fraction": 0.2}}
    assert not np.array_equal(plain.parameters, play(3, 4, compressor=few, **tables).parameters)
