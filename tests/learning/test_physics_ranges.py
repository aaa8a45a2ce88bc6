"""Native environments state the range of their physics, and refuse what lies outside."""

import numpy as np
import pytest

from p2pfrl import P2PFRLError, loads
from p2pfrl.core.distributions import RULES as DISTRIBUTIONS
from p2pfrl.core.rng import Purpose, Streams
from p2pfrl.learning.environments import RULES
from p2pfrl.learning.environments.random_actions import random_action
from p2pfrl.learning.environments.vary import columns

TEXT = """name = "outside"
agents = 2
stop = {{rounds = 2}}
environment = {{id = "{id}", instances = 1, {key} = {value}}}
learner = {{kind = "a2c", steps = 4, hidden = [4]}}
evaluation = {{episodes = 0}}
"""


@pytest.mark.parametrize("name", RULES)
def test_at_both_ends_of_every_range_an_environment_is_finite(name: str) -> None:
    """Any warning of numpy is an error here."""
    problem = RULES[name]()
    spec = problem.spec
    assert set(spec.ranges) == set(spec.physics)
    assert all(low <= spec.physics[key] <= high for key, (low, high) in spec.ranges.items())
    agents = range(spec.members)
    for key, ends in spec.ranges.items():
        if key == "extra_walls":
            continue  # as many as leave a way, which the environment says itself
        for value in ends:
            drawn = {key: DISTRIBUTIONS["constant"](value=value)}
            table = columns(problem, drawn, 1, agents, spec.members)
            simulator = problem.simulator(problem.physics(1, agents, table), 1, 1)
            state = simulator.init(agents)
            simulator.begin(agents, [0] * spec.members)
            obs, streams = simulator.observe(agents, state), Streams.of(0, agents, Purpose.PROBE)
            for _ in range(10):
                obs = simulator.step(state, random_action(spec, obs, streams)).obs
                assert np.isfinite(obs).all()


@pytest.mark.parametrize(
    ("id", "name", "value"),
    [
        ("CartPole-v1", "length", 0),
        ("CartPole-v1", "length", -3),
        ("signals", "demand", -5),
        ("signals", "demand", 1e12),
        ("microgrid", "capacity", 0),
        ("glucose", "si", 0),
        ("portfolio", "cost", 2),
    ],
)
def test_impossible_physics_are_refused_with_key_and_range(
    id: str, name: str, value: float
) -> None:
    table = f"{{{name} = [{value}, {value}]}}"
    expected = rf"environment\.vary\.{name}: agent 0: expected a number from .* to .*, got "
    with pytest.raises(P2PFRLError, match=expected):
        loads(TEXT.format(id=id, key="vary", value=table))


def test_physics_that_drift_out_of_their_range_in_the_run_are_refused_with_update_and_range() -> (
    None
):
    table = "{length = {kind = 'ramp', add = -0.6, length = 1}}"
    expected = (
        r"environment\.drift\.length: .*update \d: expected a number from 0\.001 to 1000, got -"
    )
    with pytest.raises(P2PFRLError, match=expected):
        loads(TEXT.format(id="CartPole-v1", key="drift", value=table))
