"""SCAFFOLD's c stays the mean of the agents' c_i through losses, crashes and restarts.

Agents and the coordinator crash.
"""

import numpy as np
import pytest
from test_law_coordinator_restart import timeline

from p2pfrl.build.world import build
from p2pfrl.laws.restarts import DOWN
from p2pfrl.laws.runs import Table, text
from p2pfrl.scenario import Scenario, loads

WORLDS: dict[str, dict[str, Table]] = {
    "plain": {},
    "loss until the fifth second": {"network": {**DOWN["network"], "duplicate": 0.1}},
    "short deadline": {"schedule": {"deadline": "15ms"}},  # agents would not wait for a coordinator
    "quorum": {"schedule": {"deadline": "300ms", "quorum": 0.5}},
    "half of the agents": {"coordinator": {"participation": {"kind": "uniform", "fraction": 0.5}}},
    "dropout": {"availability": {"dropout": 0.3}},
}
EVERYONE = ("coordinator", 0, 1, 2, 3, 4, 5)


def world(seed: int, name: str, names: tuple[object, ...]) -> Scenario:
    learner: Table = {"noise": 0.3, "spread": 1.0, "steps": 3, "dimension": 3}
    all_tables = {
        **DOWN,
        "schedule": {"deadline": "300ms"},
        "learner": learner,
        "correction": {"kind": "control_variate"},
        **WORLDS[name],
    }
    faults = timeline(seed, names)
    if name.startswith("loss"):
        losses = (("0s", 0.2), ("5s", 0.0))
        faults += tuple({"at": at, "kind": "loss", "probability": p} for at, p in losses)
    return loads(text(6, 120, mode="central", seed=seed, faults=faults, **all_tables))


def variates(scenario: Scenario) -> tuple[np.ndarray, np.ndarray]:
    """Run it; return the mean over all agents of their c_i, and the coordinator's c."""
    made = build(scenario, on_row=lambda row: False)
    made.simulation.run()
    mean = made.trainer.stack.layout.pack(made.trainer.state["control"]).mean(axis=0)
    coordinator = made.simulation._lives[-1].actor
    assert coordinator is not None
    return mean, coordinator.body._extra  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))]
)
@pytest.mark.parametrize("name", WORLDS)
def test_the_mean_of_the_control_variates_is_the_coordinators(name: str, seed: int) -> None:
    names = range(6) if name == "short deadline" else ("coordinator", *range(6))
    mean, found = variates(world(seed, name, tuple(names)))
    assert np.abs(found).max() > 0.01
    np.testing.assert_allclose(mean, found, atol=1e-12)


def test_without_faults_too_an_update_that_is_lost_leaves_the_mean_as_it_is() -> None:
    mean, found = variates(world(1, "loss until the fifth second", ()))
    np.testing.assert_allclose(mean, found, atol=1e-12)
