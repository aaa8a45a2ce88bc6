"""Distributed noise: every agent adds a part, and only secure sums have all of it."""

import numpy as np
import pytest

import p2pfrl
from p2pfrl.build.preview import preview
from p2pfrl.core.errors import ScenarioError
from p2pfrl.exchange.privacy.distributed import DistributedNoise
from p2pfrl.exchange.privacy.gaussian import ClipNoise
from p2pfrl.exchange.privacy.ledger import Ledger, simulated
from p2pfrl.scenario import loads

BASE = """
name = "parts"
agents = 5
mode = "central"
stop = {rounds = 2}
exchange = {payload = "delta"}
learner = {kind = "quadratic", dimension = 4, noise = 0.1, initial_spread = 1.0, lr = 0.1}
privacy = {kind = "distributed_noise", clip = 1.0, noise_multiplier = 2.0, parts = 4}
"""
SECURE = 'secure = {kind = "secure_aggregation", minimum = 4}\n'


def test_an_agent_adds_its_part_and_pays_for_the_whole():
    whole = ClipNoise(clip=0.5, noise_multiplier=2.0)
    part = DistributedNoise(clip=0.5, noise_multiplier=2.0, parts=4)
    one, other = Ledger(simulated(1, 0)), Ledger(simulated(1, 0))
    zero = np.zeros(50)
    of_whole, of_part = whole.protect(zero, one, 0), part.protect(zero, other, 0)
    assert of_part * 2.0 == pytest.approx(of_whole)
    assert one.spent == other.spent == 0.25


def test_a_run_has_the_epsilon_of_the_sum_and_says_whom_agents_trust():
    found = p2pfrl.run(loads(BASE + SECURE)).summary["privacy"]
    local = p2pfrl.run(
        loads(BASE.replace("distributed_noise", "clip_noise").replace(", parts = 4", ""))
    )
    assert found["epsilon"] == local.summary["privacy"]["epsilon"]
    assert found["guarantee"].startswith("distributed: ")
    plans = [
        preview(loads(toml))["privacy"]
        for toml in (BASE + SECURE, BASE.replace("parts = 4", "parts = 3") + SECURE)
    ]
    ratio = plans[1]["expected_noise"] / plans[0]["expected_noise"]
    assert ratio == pytest.approx((4 / 3) ** 0.5)


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        (BASE, "needs sums that nobody sees in part"),
        (BASE.replace("central", "gossip").replace("delta", "parameters"), "nobody sees in part"),
        (BASE + SECURE.replace(", minimum = 4", ""), "there may be sums of 3: set minimum = 4"),
        (BASE.replace('{payload = "delta"}', "{}") + SECURE, "releases whose size can be bounded"),
        (BASE.replace("parts = 4", "parts = 2") + SECURE, "parts"),
        (
            BASE + SECURE + 'compressor = {kind = "error_feedback", '
            'compressor = {kind = "randk", common = true}}\n',
            "what it kept of several rounds",
        ),
    ],
)
def test_less_noise_than_promised_is_refused(toml, said):
    with pytest.raises(ScenarioError, match=said):
        loads(toml)
