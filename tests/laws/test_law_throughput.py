"""Without a barrier agents make sum_i 1/t_i updates per second; with one, n / max_i t_i."""

from __future__ import annotations

import pytest

from p2pfrl.bench.laws.runs import FLAT, play

STEP = 0.01
NEARLY_NOTHING = {"latency": "1us", "bandwidth": "100Gbit/s"}


def rate(mode: str, kind: str, times: list[float], steps: int) -> float:
    """Return updates per STEP, within `steps`, of agents that take `times` STEPs; and check that they exchanged."""
    run = play(
        len(times), None, mode=mode, stop={"virtual_time": (steps + 0.5) * STEP}, learner=FLAT,
        schedule={"kind": kind}, topology={"kind": "complete"},
        compute={"seconds_per_env_step": STEP, "speed": [1.0 / t for t in times]}, network=NEARLY_NOTHING,
    )  # fmt: skip
    assert run.metrics["consensus_distance"][-1] < 1e-3 * run.summary["initial_consensus_distance"]
    assert run.staleness.sum() > 0
    return float(run.summary["env_steps"] / steps)


@pytest.mark.parametrize("mode", ["gossip", "central"])
@pytest.mark.parametrize(
    ("times", "gain"), [([1.0, 1.0, 1.0, 4.0], 3.25), ([1.0, 2.0, 3.0, 4.0], 25 / 12), ([1.0, 1.0, 1.0, 100.0], 75.25)]
)
def test_asynchronous_throughput_is_the_sum_of_rates(mode: str, times: list[float], gain: float) -> None:
    asynchronous = rate(mode, "asynchronous", times, steps=1200)
    synchronous = rate(mode, "synchronous", times, steps=1200)
    assert asynchronous == pytest.approx(sum(1 / t for t in times), rel=0.01)
    assert synchronous == pytest.approx(len(times) / max(times), rel=0.01)
    assert asynchronous / synchronous == pytest.approx(gain, rel=0.01)
