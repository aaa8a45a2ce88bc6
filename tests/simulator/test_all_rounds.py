"""A run has all the rounds that were asked for, or its summary says why not."""

import pytest

from p2pfrl.build.world import build
from p2pfrl.laws.runs import play, text
from p2pfrl.results.record import Record
from p2pfrl.scenario import loads

PPO = {
    "learner": {"kind": "ppo", "steps": 16},
    "environment": {"id": "pendulum"},
    "evaluation": {"episodes": 0},
}
MODES: dict[str, dict[str, object]] = {
    "central": {},
    "hierarchical": {"hierarchy": {"edges": 2, "edge_rounds": 2}},
    "pooled": PPO,
}


def run(mode: str, rounds: int, *, agents: int = 4, **tables: object) -> Record:
    common = {"network": {"latency": "5ms"}, "schedule": {"deadline": "1s"}, **MODES[mode]}
    return play(agents, rounds, mode=mode, **{**common, **tables})  # type: ignore[arg-type]


@pytest.mark.parametrize("loss", [0.05, 0.9])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_losses_take_no_round(mode, loss, seed):
    record = run(mode, 7, seed=seed, network={"latency": "5ms", "loss": loss})
    assert (record.summary["rounds"], record.summary["stopped_by"]) == (7, "rounds")
    assert record.metrics["round"].tolist() == list(range(1, 8))


@pytest.mark.parametrize("kind", ["asynchronous", "buffered"])
def test_losses_take_no_round_of_an_asynchronous_coordinator(kind):
    record = run("central", 5, network={"latency": "5ms", "loss": 0.5}, schedule={"kind": kind})
    assert record.summary["stopped_by"] == "rounds"
    assert record.summary["rounds"] >= 5


def test_the_round_ends_with_whoever_is_there_where_an_agent_is_cut_off_for_good():
    cut = {"kind": "partition", "at": 0.03, "groups": [[0, 1, 2], [3]]}
    record = run("central", 12, faults=(cut,))
    assert (record.summary["rounds"], record.summary["stopped_by"]) == (12, "rounds")
    assert record.metrics["active"][-1] == 3


def test_whoever_is_cut_off_before_the_last_model_takes_no_round_from_the_others():
    whole = run("central", 3)
    end = whole.metrics["virtual_seconds"][-1] - 0.001
    cut = {"kind": "partition", "at": float(end), "groups": [[0, 1, 2], [3]]}
    record = run("central", 3, faults=(cut,))
    assert (record.summary["rounds"], record.summary["stopped_by"]) == (3, "rounds")
    assert record.metrics["active"].tolist() == [4, 4, 3]


def test_the_last_model_reaches_whoever_was_cut_off_when_it_was_sent():
    end = float(run("central", 3).metrics["virtual_seconds"][-1])
    faults = (
        {"kind": "partition", "at": end - 0.001, "groups": [[0, 1, 2], [3]]},
        {"kind": "heal", "at": end + 2.0},
    )
    record = run("central", 3, faults=faults)
    assert record.metrics["active"].tolist() == [4, 4, 4]
    assert (record.parameters == record.parameters[0]).all()


@pytest.mark.parametrize(
    ("mode", "faults", "reason"),
    [
        (
            "central",
            ({"kind": "crash", "at": 0.03, "agents": ["coordinator"]},),
            "coordinator_gone",
        ),
        (
            "hierarchical",
            ({"kind": "crash", "at": 0.03, "agents": ["coordinator"]},),
            "coordinator_gone",
        ),
        ("central", ({"kind": "crash", "at": 0.03, "agents": [0, 1, 2, 3]},), "agents_gone"),
        ("pooled", ({"kind": "crash", "at": 0.03, "agents": [0, 1, 2, 3]},), "agents_gone"),
        ("central", ({"kind": "loss", "at": 0.03, "probability": 1.0},), "unreachable"),
        ("hierarchical", ({"kind": "loss", "at": 0.03, "probability": 1.0},), "unreachable"),
    ],
)
def test_where_rounds_are_missing_the_summary_says_why(mode, faults, reason):
    record = run(mode, 12, faults=faults)
    assert record.summary["stopped_by"] == reason
    assert record.summary["rounds"] < 12


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"kind": "loss", "at": 0.03, "probability": 1.0}, "unreachable"),
        ({"kind": "crash", "at": 0.03, "agents": ["coordinator"]}, "coordinator_gone"),
    ],
)
def test_a_restored_simulation_knows_why_it_ended(fault, reason):
    tables = {"network": {"latency": "5ms"}, "schedule": {"deadline": "1s"}}
    scenario = loads(text(4, 12, mode="central", faults=(fault,), **tables))
    with (
        build(scenario, on_row=lambda row: False) as ended,
        build(scenario, on_row=lambda row: False) as restored,
    ):
        ended.simulation.run()
        restored.simulation.restore(ended.simulation.save())
        assert (ended.simulation.end(), restored.simulation.end()) == (reason, reason)


def test_an_asynchronous_run_ends_where_every_message_is_lost():
    loss = {"kind": "loss", "at": 0.03, "probability": 1.0}
    record = run("central", 12, faults=(loss,), schedule={"kind": "asynchronous"})
    assert record.summary["stopped_by"] == "unreachable"


def test_the_summary_of_neighbors_that_are_all_gone_says_so():
    crash = {"kind": "crash", "at": 0.03, "agents": [0, 1, 2, 3]}
    record = play(4, 100, faults=(crash,), network={"latency": "5ms"})
    assert record.summary["stopped_by"] == "agents_gone"
