from pathlib import Path

import numpy as np
import pytest

import p2pfrl
from p2pfrl.deploy.local import run_processes
from p2pfrl.learning.drifts.base import Drift
from p2pfrl.learning.drifts.trace import Trace
from p2pfrl.learning.drifts.waves import Ramp, Sine, Step
from p2pfrl.learning.environments.base import ArraySimulator
from p2pfrl.learning.environments.drifting import DriftingSimulator, drifted
from p2pfrl.learning.environments.maintenance import Maintenance
from p2pfrl.learning.environments.signals import Signals
from p2pfrl.learning.environments.vary import columns

SIGNALS = """name = "drifting"
agents = 3
stop = {rounds = 4}
environment = {id = "signals", instances = 2, drift = {demand = DEMAND}}
learner = {kind = "reinforce", hidden = [2], steps = 12}
evaluation = {episodes = 2, every = 2}
compute = {speed = [1.0, 0.5, 0.7]}
"""


def scenario(folder: Path, demand: str, **settings: object) -> p2pfrl.Scenario:
    file = folder / "drifting.toml"
    file.write_text(SIGNALS.replace("DEMAND", demand))
    return p2pfrl.load(file, overrides=settings)


def at(drift: Drift, *updates: int, start: float = 10.0) -> list[float]:
    return drift.values(np.full(len(updates), start), range(len(updates)), updates).tolist()


def test_drifts_are_those_of_their_equations():
    assert at(Step(at=3, factor=2.0), 0, 2, 3, 9) == [10.0, 10.0, 20.0, 20.0]
    assert at(Step(at=0, factor=0.5, add=1.0), 0) == [6.0]
    assert at(Ramp(start=2, length=4, add=8.0), 0, 2, 3, 6, 99) == [10.0, 10.0, 12.0, 18.0, 18.0]
    assert at(Sine(period=4, add=3.0), 0, 1, 2, 3) == pytest.approx([10.0, 13.0, 10.0, 7.0])
    assert at(Sine(period=4, factor=1.5, phase=0.25), 0) == pytest.approx([15.0])
    with pytest.raises(p2pfrl.P2PFRLError, match="expected a factor other than 1"):
        Step(at=3)


def test_a_trace_has_values_for_all_and_for_single_agents(tmp_path: Path):
    file = tmp_path / "demand.csv"
    file.write_text("update,value\n# a comment\n2, 5\n0,1,7\n3,1,8  # later\n")
    drift = Trace(path=str(file))
    found = [drift.values(np.full(2, 10.0), [0, 1], [k, k]).tolist() for k in range(4)]
    assert found == [[10.0, 7.0], [10.0, 7.0], [5.0, 7.0], [5.0, 8.0]]


def test_a_trace_that_is_edited_between_two_runs_is_read_again(tmp_path: Path):
    def run(demand: int, *, again: p2pfrl.Scenario | None = None) -> str:
        (tmp_path / "demand.csv").write_text(f"1,{demand}\n")
        chosen = again or scenario(tmp_path, '{kind = "trace", path = "demand.csv"}')
        return str(p2pfrl.run(chosen).summary["digest"])

    first = run(100)
    loaded = scenario(tmp_path, '{kind = "trace", path = "demand.csv"}')
    assert run(9000, again=loaded) != first == run(100, again=loaded)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("1,2\n1,3\n", ":2: a second value in update 1"),
        ("1,nan\n", ":1: expected `update,value`"),
        ("1,-1,3\n", ":1: expected `update,value`"),
        ("1;2\n", ":1: expected `update,value`"),
        ("# nothing\n", "expected lines such as"),
    ],
)
def test_a_trace_that_cannot_be_read_is_refused_with_its_line(
    tmp_path: Path, content: str, complaint: str
):
    (tmp_path / "bad.csv").write_text(content)
    with pytest.raises(p2pfrl.P2PFRLError, match=complaint):
        scenario(tmp_path, '{kind = "trace", path = "bad.csv"}')


def test_physics_and_tables_drift_per_agent_and_not_per_batch():
    environment = Maintenance()
    table = environment.physics(1, range(4), columns(environment, {}, 1, range(4), 4))
    drift = {"wear": Ramp(length=10, factor=2.0)}
    whole = drifted(environment, table, drift, 1, range(4), [0, 5, 10, 3])
    assert whole["wear"] == pytest.approx([0.35, 0.525, 0.7, 0.455])
    assert whole["P"][:, 0, 0, 1] == pytest.approx(whole["wear"])
    part = drifted(environment, table, drift, 1, [3, 1], [3, 5])
    assert all(np.array_equal(part[name], whole[name][[3, 1]]) for name in whole)


def test_an_update_steps_with_its_own_physics_and_says_so():
    environment = Signals()
    table = environment.physics(1, range(2), columns(environment, {}, 1, range(2), 2))
    drifting = DriftingSimulator(environment, table, 3, 1, {"demand": Step(at=2, factor=1.5)})
    changed = {**table, "demand": table["demand"] * [1.0, 1.5]}
    plain = ArraySimulator(environment, changed, 3, 1)
    states = [simulator.init(range(2)) for simulator in (drifting, plain)]
    for simulator in (drifting, plain):
        simulator.begin(range(2), [1, 2])
    for _ in range(20):
        action = np.zeros((2, 3), dtype=np.int64)
        ours, theirs = drifting.step(states[0], action), plain.step(states[1], action)
        assert np.array_equal(ours.obs, theirs.obs)
        assert np.array_equal(ours.reward, theirs.reward)
    assert ours.measures["drift_demand"].tolist() == [[1000.0] * 3, [1500.0] * 3]


@pytest.mark.slow
def test_a_run_drifts_is_recorded_and_has_no_effect_before(tmp_path: Path):
    late, early = (
        p2pfrl.run(scenario(tmp_path, f'{{kind = "step", at = {k}, factor = 1.5}}')) for k in (9, 2)
    )
    plain = p2pfrl.run(scenario(tmp_path, '{kind = "step", at = 9, factor = 1.2}'))
    assert plain.summary["digest"] == late.summary["digest"] != early.summary["digest"]
    assert early.agents["drift_demand"].tolist() == [1000.0] * 6 + [1500.0] * 6
    assert early.summary["evaluation"]["optimum"] < late.summary["evaluation"]["optimum"] - 50
    assert 'drift = {demand = {kind = "step"' in early.scenario


@pytest.mark.slow
def test_physics_drift_over_tcp_as_in_the_simulator(tmp_path: Path):
    made = scenario(tmp_path, '{kind = "sine", period = 3, factor = 1.4}')
    simulated = p2pfrl.run(made)
    collected = run_processes(made, tmp_path / "deployed", 2, quiet=True)
    assert np.array_equal(collected.parameters, simulated.parameters)
    assert np.array_equal(collected.agents["drift_demand"], simulated.agents["drift_demand"])
    assert collected.summary["evaluation"] == simulated.summary["evaluation"]


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"environment.drift": {"demond": {"kind": "step", "at": 1, "add": 1.0}}}, "'demand'"),
        ({"environment.id": "FrozenLake-v1", "environment.drift": {}}, None),
        (
            {"environment": {"id": "gridworld"}, "learner": {"kind": "tabular_q"}},
            "cannot drift",
        ),
    ],
)
def test_what_cannot_drift_is_refused(
    tmp_path: Path, settings: dict[str, object], complaint: str | None
):
    file = tmp_path / "own.toml"
    drift = "drift = {slip = {kind = 'step', at = 1, add = 0.1}}"
    text = SIGNALS.replace(
        "drift = {demand = DEMAND}", "" if "environment.drift" in settings else drift
    )
    text = text.replace(", }", "}")
    if "environment" in settings:
        text = text.replace('id = "signals"', 'id = "gridworld"').replace(
            'kind = "reinforce", hidden = [2], steps = 12', 'kind = "tabular_q"'
        )
        settings = {}
    file.write_text(text)
    if complaint is None:
        settings["environment.drift"] = {"x": {"kind": "step", "at": 1, "add": 0.1}}
        complaint = "nothing of this name|cannot drift"
    with pytest.raises(p2pfrl.P2PFRLError, match=complaint):
        p2pfrl.load(file, overrides=settings)


@pytest.mark.parametrize("last", [0, 2, 5, None])
@pytest.mark.parametrize(
    "drift",
    [
        Step(at=3, factor=2.0),
        Ramp(start=1, length=3, add=-4.0),
        Sine(period=7, add=3.0),
        Sine(period=3, factor=0.5, phase=0.4),
    ],
)
def test_peaks_are_the_ends_of_all_values_until_the_last_update(drift: Drift, last: int | None):
    updates = range(30 if last is None else last + 1)
    values = drift.values(np.full(len(updates), 10.0), [1] * len(updates), updates)
    agents, when = drift.peaks([1], last)
    found = [10.0, *drift.values(np.full(len(when), 10.0), agents, when)]
    assert min(found) == pytest.approx(min(10.0, *values))
    assert max(found) == pytest.approx(max(10.0, *values))
    assert set(when) <= set(updates)


@pytest.mark.parametrize(
    ("drift", "complaint"),
    [
        ('{kind = "step", at = 4, add = -2000.0}', "agent 0 in its update 4: expected a number fr"),
        ('{kind = "step", at = 5, add = -2000.0}', None),  # the run has 4 updates
        ('{kind = "ramp", length = 4, add = -2000.0}', "agent 0 in its update 4: expected a num"),
        ('{kind = "ramp", length = 40, add = -2000.0}', None),
        ('{kind = "sine", period = 4, add = 2000.0}', "agent 0 in its update 3: expected a num"),
        ('{kind = "sine", period = 40, add = 2000.0}', None),
        ('{kind = "trace", path = "low.csv"}', "agent 1 in its update 2: expected a number from"),
        ('{kind = "trace", path = "late.csv"}', None),
        ('{kind = "trace", path = "stray.csv"}', "expected agents from 0 to 2, got agent 3"),
    ],
)
def test_a_drift_that_leaves_its_range_in_the_run_is_refused_before_it(
    tmp_path: Path, drift: str, complaint: str | None
):
    (tmp_path / "low.csv").write_text("0,700\n2,1,-5\n3,1,800\n")
    (tmp_path / "late.csv").write_text("0,700\n5,1,-5\n")
    (tmp_path / "stray.csv").write_text("0,700\n0,3,800\n")
    if complaint is None:
        assert scenario(tmp_path, drift).agents == 3
        text = (tmp_path / "drifting.toml").read_text()
        (tmp_path / "drifting.toml").write_text(text.replace("rounds = 4", "env_steps = 96"))
        with pytest.raises(p2pfrl.P2PFRLError, match=r"no stop\.rounds ends the run before"):
            p2pfrl.load(tmp_path / "drifting.toml")
        return
    with pytest.raises(p2pfrl.P2PFRLError, match=rf"environment\.drift\.demand: .*{complaint}"):
        scenario(tmp_path, drift)
