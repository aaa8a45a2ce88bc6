"""Energy and bandwidth per agent: what is counted, and what a slow interface does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from network_bench import Wired
from written import Written, quadratic

import p2pfrl
from p2pfrl.build.preview import preview
from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.units import SECOND
from p2pfrl.deploy.collect import collect
from p2pfrl.laws.runs import text
from p2pfrl.scenario import loads

ENERGY = {"per_step": ["1mJ", "2mJ", 0.003, "4000uJ"], "per_byte": "2uJ"}


def test_energy_is_joules_per_step_and_per_byte_of_each_agent() -> None:
    record = p2pfrl.run(loads(text(4, 5, energy=ENERGY)))
    agents, per_step = record.agents, np.array([0.001, 0.002, 0.003, 0.004])
    expected = per_step[agents["agent"]] * agents["env_steps"] + 2e-6 * agents["bytes_sent"]
    np.testing.assert_allclose(agents["joules"], expected, rtol=1e-14)
    last = agents["round"] == 5
    assert agents["env_steps"][last].tolist() == [5, 5, 5, 5]
    total = agents["joules"][last].sum()
    assert record.metrics["joules"][-1] == pytest.approx(total, rel=1e-14)
    found = record.summary["energy"]
    assert found["joules"] == pytest.approx(total)
    assert found["training"] == pytest.approx(5 * per_step.sum())
    assert found["sending"] == pytest.approx(2e-6 * record.summary["bytes_sent"])
    assert (found["min"], found["max"]) == (agents["joules"][last].min(), agents["joules"].max())
    assert found["mean"] == pytest.approx(total / 4)
    assert "joules" not in record.summary["fairness"]


def test_energy_changes_nothing_else() -> None:
    plain, counted = p2pfrl.run(loads(text(4, 3))), p2pfrl.run(loads(text(4, 3, energy=ENERGY)))
    assert plain.summary["digest"] == counted.summary["digest"]
    assert {*counted.agents} - {*plain.agents} == {"env_steps", "joules"}
    assert {*counted.metrics} - {*plain.metrics} == {"joules"}
    assert "energy" not in plain.summary


def test_an_asynchronous_run_counts_energy_too() -> None:
    tables = {"compute": {"speed": [1.0, 2.0, 4.0]}, "schedule": {"kind": "asynchronous"}}
    record = p2pfrl.run(loads(text(3, 6, energy={"per_step": 0.5}, **tables)))
    assert record.summary["energy"]["joules"] == pytest.approx(0.5 * record.summary["env_steps"])
    assert record.summary["energy"]["max"] > record.summary["energy"]["min"]


def test_processes_count_energy_from_their_journals(tmp_path: Path) -> None:
    scenario = quadratic(**{"energy.per_step": [0.5, 2.0], "energy.per_byte": "10mJ"})
    homes = [
        Written(scenario, tmp_path / str(agent), agent).rounds(0, 4).ends() for agent in (0, 1)
    ]
    record = collect(homes, tmp_path / "out")
    last = record.agents["round"] == 5
    assert record.agents["joules"][last].tolist() == [5 * 0.5 + 5.0, 5 * 2.0 + 5.0]
    assert record.summary["energy"]["joules"] == 22.5


def test_joules_are_drawn_per_agent_whatever_their_number() -> None:
    table = {"per_step": {"kind": "lognormal", "median": "1mJ", "sigma": 0.5}}
    few, many = (p2pfrl.run(loads(text(n, 1, energy=table))).agents["joules"] for n in (2, 4))
    assert few.tolist() == many[:2].tolist()
    assert len({*many.tolist()}) == 4


def test_validate_says_the_joules_of_a_round_and_a_message() -> None:
    found = preview(loads(text(4, 5, energy=ENERGY, schedule={"every": 3})))
    assert found["joules_per_round_of_updates"] == pytest.approx(3 * 0.010)
    assert found["joules_per_message"] == pytest.approx(2e-6 * found["bytes_per_message"])


@pytest.mark.parametrize(
    ("tables", "what"),
    [
        ({"energy": {"per_step": "1ms"}}, r"an energy such as '2mJ'"),
        ({"energy": {"per_byte": [1.0, 2.0]}}, r"one value per agent \(4\), got a list of 2"),
        ({"energy": {"per_step": -1.0}}, r"not negative"),
        ({"network": {"bandwidth": [1e6, 1e6]}}, r"one value per agent \(4\), got a list of 2"),
        ({"network": {"bandwidth": 0}}, r"above 0"),
    ],
)
def test_what_cannot_be_is_refused(tables: dict[str, dict[str, object]], what: str) -> None:
    with pytest.raises(ScenarioError, match=what):
        loads(text(4, 3, **tables))


def test_a_link_is_as_fast_as_the_slower_of_its_ends() -> None:
    wired = Wired(bandwidth=1e6, slower={1: 1e5})
    size = wired.send(0, 0, [1]).nbytes
    wired.send(0, 2, [3])
    wired.send(0, 1, [2])
    wired.run()
    found = {node: time for time, node, _ in wired.got}
    expected = {node: size / rate * SECOND for node, rate in ((1, 1e5), (2, 1e5), (3, 1e6))}
    assert found == pytest.approx(expected, rel=1e-6)


def test_slow_interfaces_and_a_slow_coordinator_take_time() -> None:
    def seconds(**network: object) -> float:
        run = p2pfrl.run(loads(text(3, 4, mode="central", network=network)))
        return float(run.summary["virtual_seconds"])

    even, uneven = seconds(bandwidth=1e5), seconds(bandwidth=[1e5, 1e5, 1e4])
    slow = seconds(bandwidth=1e5, coordinator_bandwidth=1e4)
    assert even < uneven < slow
    assert seconds(bandwidth=[1e5, 1e5, 1e5]) == even
