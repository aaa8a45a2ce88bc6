"""SCAFFOLD in secure sums: changes of variates travel masked beside payloads, and none is lost."""

import numpy as np
import pytest

import p2pfrl
from p2pfrl.build.world import build
from p2pfrl.consensus.schedules.phased import PhasedCoordinator
from p2pfrl.core.errors import ScenarioError
from p2pfrl.exchange.secure.hiding import Hiding
from p2pfrl.laws.restarts import DOWN
from p2pfrl.laws.runs import text
from p2pfrl.scenario import loads

LEARNER = {"noise": 0.3, "spread": 1.0, "steps": 3, "dimension": 3}
COARSE = {"kind": "secure_aggregation", "fraction_bits": 12}
SHARES = {"kind": "secret_shares", "fraction_bits": 12}
LOST = {"schedule": {"deadline": "100ms"}, "network": {**DOWN["network"], "loss": 0.02}}
CRASHES = tuple(
    {"at": at, "kind": kind, "agents": [who]}
    for who, away, back in (("coordinator", "310ms", "700ms"), (2, "900ms", "1300ms"))
    for at, kind in ((away, "crash"), (back, "restart"))
)


def world(secure, **tables):
    """Return a scenario of six agents with SCAFFOLD."""
    known = {"learner": LEARNER, "correction": {"kind": "control_variate"}, **tables}
    return loads(text(6, 12, mode="central", seed=3, secure=secure, **{**DOWN, **known}))


def apart(scenario):
    """Run it; return how far the coordinator's c is from the mean of the agents' c_i, and c."""
    made = build(scenario, on_row=lambda row: False)
    made.simulation.run()
    mean = made.trainer.stack.layout.pack(made.trainer.state["control"]).mean(axis=0)
    found = made.simulation._lives[-1].actor.body._extra
    return np.abs(mean - found).max(), np.abs(found).max(), made.assembly.sums


@pytest.mark.parametrize("kind", ["secure_aggregation", "secret_shares"])
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"coordinator": {"participation": {"kind": "uniform", "fraction": 0.7}}},
        {
            "coordinator": {"aggregator": {"kind": "mean", "weights": "samples"}},
            "work": {"assign": "speed", "most": 3},
        },
    ],
    ids=["all", "some", "samples"],
)
def test_models_are_those_of_plain_scaffold_up_to_rounding(kind, more):
    plain, hidden = (p2pfrl.run(world({"kind": name}, **more)) for name in ("none", kind))
    assert np.abs(hidden.parameters - plain.parameters).max() < 1e-8
    assert hidden.summary["secure"]["sums"] == 12


@pytest.mark.parametrize(
    ("secure", "more"),
    [
        (COARSE, {"schedule": {"deadline": "300ms"}, "faults": CRASHES}),
        (SHARES, LOST),
    ],
    ids=["crashes", "lost"],
)
def test_the_mean_of_the_variates_is_the_coordinators_whichever_sums_are_lost(secure, more):
    """Also on a coarse grid, and where the sum of a round is given up."""
    far, size, sums = apart(world(secure, **more))
    assert sums.made > 3
    assert sum(sums.given_up.values()) > 0
    assert size > 0.01
    assert far < 1e-12


@pytest.mark.parametrize(
    ("secure", "more", "where", "name"),
    [
        (COARSE, {}, Hiding, "arrives"),
        (COARSE, {"schedule": {"deadline": "300ms"}, "faults": CRASHES}, PhasedCoordinator, None),
        (SHARES, LOST, PhasedCoordinator, None),
    ],
    ids=["rounding", "coordinator", "lost"],
)
def test_variates_that_count_otherwise_than_agents_think_are_noticed(
    secure, more, where, name, monkeypatch
):
    """Planted: c_i as it was before rounding; nobody is told of a sum that was given up."""
    monkeypatch.setattr(where, name or "_forget", lambda self, vector: vector)
    far, _, _ = apart(world(secure, **more))
    assert far > 1e-6


def test_parts_of_noise_are_refused_where_a_second_sum_has_the_same_changes():
    noise = {"kind": "distributed_noise", "clip": 1.0, "noise_multiplier": 1.0, "parts": 4}
    secure = {"kind": "secure_aggregation", "minimum": 4}
    with pytest.raises(ScenarioError, match=r"noises one mean or sum alone; use another"):
        world(secure, privacy=noise, exchange={"payload": "delta"})
