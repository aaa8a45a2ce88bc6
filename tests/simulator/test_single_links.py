"""Links that are not like the others: what one of them does to the rounds of all."""

import numpy as np
import pytest

import p2pfrl
from p2pfrl.core.types import COORDINATOR
from p2pfrl.scenario import loads


@pytest.mark.parametrize(
    ("mode", "slow"),
    [("gossip", (2, 3)), ("central", (COORDINATOR, 2)), ("central", (2, COORDINATOR))],
)
def test_one_slow_link_sets_the_pace_of_all_rounds(mode: str, slow: tuple[int, int]) -> None:
    """Latency is L on all links and S on one.

    A round of neighbors takes S, one of a coordinator L + S.
    """
    ways = 2 if mode == "central" else 1
    base = {
        "agents": 4,
        "mode": mode,
        "stop.rounds": 6,
        "learner.kind": "quadratic",
        "network.latency": "10ms",
        "network.bandwidth": "100Gbit/s",
        "compute.seconds_per_env_step": 0,
    }
    sender, receiver = slow
    own = {"from": sender, "to": receiver, "latency": "80ms"}
    both = [own, {**own, "from": receiver, "to": sender}]
    for links, seconds in (
        ([], 0.01 * ways),
        ([own] if mode == "central" else both, 0.08 + 0.01 * (ways - 1)),
    ):
        record = p2pfrl.run(loads('name = "slow"', {**base, "network.links": links}))
        np.testing.assert_allclose(
            np.diff(record.metrics["virtual_seconds"])[1:], seconds, rtol=1e-3
        )


def test_a_link_of_its_own_bandwidth_takes_its_own_time() -> None:
    """Two agents and a message of s bytes.

    A round takes the latency, and s over the slower of both rates.
    """
    base = {
        "agents": 2,
        "stop.rounds": 4,
        "learner.kind": "quadratic",
        "network.latency": 0,
        "network.bandwidth": 1e6,
        "compute.seconds_per_env_step": 0,
    }
    for rate, slowest in ((1e5, 1e5), (1e7, 1e6)):
        links = [{"from": i, "to": 1 - i, "bandwidth": rate} for i in range(2)]
        record = p2pfrl.run(loads('name = "rate"', {**base, "network.links": links}))
        size = record.summary["bytes_sent"] / record.summary["messages_sent"]
        np.testing.assert_allclose(
            np.diff(record.metrics["virtual_seconds"]), size / slowest, rtol=0.01
        )


@pytest.mark.parametrize("mode", ["gossip", "central"])
def test_second_copies_are_counted_as_such_and_never_as_late(mode: str) -> None:
    base = {
        "agents": 4,
        "mode": mode,
        "stop.rounds": 40,
        "learner.kind": "quadratic",
        "compute.seconds_per_env_step": 1.0,
        "schedule.deadline": "100s",
    }
    once = p2pfrl.run(loads('name = "copies"', base))
    twice = p2pfrl.run(loads('name = "copies"', {**base, "network.duplicate": 1.0}))
    assert once.summary["messages_duplicate"] == 0
    assert twice.summary["messages_late"] == 0
    assert twice.summary["messages_duplicate"] > 0.9 * twice.summary["messages_delivered"]
    np.testing.assert_array_equal(once.parameters, twice.parameters)
