"""A simulation says now and then what it looks like, and does not depend on it."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from factory import record as make_record
from runs import write_scenario

import p2pfrl
from p2pfrl.build.world import build
from p2pfrl.core.errors import RecordError
from p2pfrl.experiment import live as live_module
from p2pfrl.experiment.live import LIVE, SHARE, Live
from p2pfrl.results.record import save
from p2pfrl.scenario.render import resolved
from p2pfrl.watch.simulated import Simulated
from p2pfrl.watch.sources import Careful, Local

FAULTS = [
    {"at": "500ms", "kind": "crash", "agents": [2]},
    {"at": "900s", "kind": "restart", "agents": [2]},
]


def seen(tmp_path: Path, round: int = 3, **keys: object) -> dict[str, object]:
    """Return the view of a run in which a round has just ended, as a page reads it."""
    scenario = p2pfrl.load(write_scenario(tmp_path), keys)

    def look(row: dict[str, float]) -> bool:
        if row["round"] == round:
            world.loop.when_idle(live.write)
        return row["round"] > round

    world = build(scenario, on_row=look)
    live = Live(tmp_path, world, lambda: 1.5)
    with world:
        world.simulation.run()
    return json.loads((tmp_path / LIVE).read_text())


def test_a_view_has_rounds_states_messages_and_who_waits_for_whom(tmp_path: Path) -> None:
    view = seen(tmp_path, **{"stop.rounds": 6, "network.latency": "20ms"})
    assert view["rounds"] == [3, 3, 3, 3]
    assert set(view["states"]) <= set("tw")
    assert view["in_flight"] == sum(m[4] == "flying" for m in view["messages"])
    assert {m[4] for m in view["messages"]} <= {"flying", "delivered"}
    assert all(sent <= arrived for sent, arrived, *_ in view["messages"])
    assert {kind for _, kind, _, _ in view["timeline"]} == {"train", "send"}
    assert view["waits"]["0"].startswith("agent 0 waits in round 3 for ")
    assert view["wall_seconds"] == 1.5


def test_a_view_names_who_is_down_and_which_messages_were_lost(tmp_path: Path) -> None:
    crash = [{"at": "1ns", "kind": "crash", "agents": [2]}]
    view = seen(
        tmp_path,
        **{"stop.rounds": 6, "faults": crash, "network.loss": 0.5, "schedule.deadline": "100ms"},
    )
    assert view["states"][2] == "d"
    assert view["down"] == [2]
    assert "lost" in {m[4] for m in view["messages"]}
    assert view["dropped"] > 0


def test_the_graph_and_the_rate_are_those_of_the_record(tmp_path: Path) -> None:
    view = seen(tmp_path)
    record = p2pfrl.run(p2pfrl.load(tmp_path / "bowl.toml"), out=tmp_path / "run")
    assert view["lambda_2"] == record.lambda_2
    assert (tmp_path / "graph.json").read_bytes() == (tmp_path / "run/graph.json").read_bytes()


def test_a_run_that_is_watched_has_the_same_record_and_leaves_no_view(tmp_path: Path) -> None:
    scenario = p2pfrl.load(write_scenario(tmp_path), {"stop.rounds": 40})
    views = set()

    def look(row: object) -> None:
        time.sleep(0.002)
        if (tmp_path / "run" / LIVE).exists():
            views.add(json.loads((tmp_path / "run" / LIVE).read_text())["virtual_seconds"])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live_module, "PERIOD", 0.002)
        patch.setattr(live_module, "SHARE", 0.0)
        patch.setattr(Live.__init__, "__defaults__", (0.002,))
        watched = p2pfrl.run(scenario, out=tmp_path / "run", progress=look)
    assert len(views) >= 2
    assert not (tmp_path / "run" / LIVE).exists()
    assert not any(thread.name == "live view" for thread in threading.enumerate())
    assert watched.summary["digest"] == p2pfrl.run(scenario).summary["digest"]


def busy() -> float:
    """Use the processor for 10 ms."""
    end = time.thread_time() + 0.01
    while time.thread_time() < end:
        pass
    return 0.0


def test_a_view_that_takes_long_makes_the_next_ones_rare(tmp_path: Path) -> None:
    scenario = p2pfrl.load(write_scenario(tmp_path))
    with build(scenario, on_row=lambda row: False) as world:
        live = Live(tmp_path, world, busy)
        live.write()
        assert live._pause >= SHARE * 0.01


def test_a_view_that_cannot_be_written_is_missing_and_the_run_goes_on(tmp_path: Path) -> None:
    scenario = p2pfrl.load(write_scenario(tmp_path))
    with build(scenario, on_row=lambda row: False) as world:
        Live(tmp_path / "no/such", world, lambda: 0.0).write()


def test_a_page_shows_a_run_while_it_runs(tmp_path: Path) -> None:
    seen(tmp_path, **{"stop.rounds": 6, "network.latency": "20ms"})
    (tmp_path / "scenario.toml").write_text((tmp_path / "bowl.toml").read_text())
    (tmp_path / "metrics.csv").write_text("round,consensus_distance,virtual_seconds\n1,4.0,0.1\n2,")
    page = Simulated(tmp_path)
    found = page.read()
    assert found["graph"]["agents"] == 4
    assert found["curves"]["columns"]["consensus_distance"] == [4.0]
    assert found["agents"]["rows"][0][:4] == [0, 3, None, 0]
    assert found["run"]["now"]["rounds"] == 3.0  # of now, and not of the last row that is written
    assert found["run"]["unit"] == "round"
    assert found["waits"]["0"].startswith("agent 0 waits")
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("2.0,0.2\n")
    found = page.read()
    rate = found["curves"]["lambda_2"]
    assert found["curves"]["columns"]["consensus_distance"] == [4.0, 2.0]
    assert found["curves"]["predicted"] == pytest.approx([4.0, 4.0 * rate], rel=1e-5)


def test_a_page_shows_a_record(tmp_path: Path) -> None:
    made = make_record(8, rounds=5)
    save(replace(made, summary={**made.summary, "stopped_by": "rounds"}), tmp_path / "run")
    found = Simulated(tmp_path / "run").read()
    assert found["run"]["state"] == "ended by rounds"
    assert found["run"]["share"] == 1.0
    assert len(found["agents"]["rows"]) == 8
    assert len(found["colors"]["return"]) == 8
    best = max(found["agents"]["rows"], key=lambda row: row[4])
    assert found["agents"]["best"][0] == [best[0], best[4]]


def test_faults_of_the_scenario_have_struck_once_their_time_is_over(tmp_path: Path) -> None:
    scenario = p2pfrl.load(
        write_scenario(tmp_path), {"faults": FAULTS, "schedule.deadline": "100ms"}
    )
    (tmp_path / "scenario.toml").write_text(p2pfrl.scenario.render.resolved(scenario))
    (tmp_path / "live.json").write_text('{"virtual_seconds": 1.0, "refused": {"3": 7}}')
    page = Simulated(tmp_path)
    found = page.read()
    assert [(f["kind"], f["agents"], f["struck"]) for f in found["faults"]] == [
        ("crash", [2], True),
        ("restart", [2], False),
    ]
    assert [line["text"] for line in found["log"]] == ["7 messages of agent 3 refused so far"]
    (tmp_path / "live.json").write_text('{"virtual_seconds": 2.0, "refused": {"3": 9}, "late": 1}')
    assert [line["text"] for line in page.read()["log"]] == [
        "1 message came late",
        "9 messages of agent 3 refused so far",
    ]


def test_of_an_asynchronous_run_agents_have_their_own_updates_and_the_run_their_mean(
    tmp_path: Path,
) -> None:
    keys = {
        "schedule": {"kind": "asynchronous"},
        "compute": {"speed": [1.0, 1.0, 1.0, 0.2], "seconds_per_env_step": "1ms"},
        "stop.rounds": 12,
    }
    scenario = p2pfrl.load(write_scenario(tmp_path), keys)
    world = build(scenario, on_row=lambda row: row["round"] >= 6)
    with world:
        live = Live(tmp_path, world, lambda: 1.5)
        world.simulation.run()
        live.write()
        counted = world.recorder.updates
    (tmp_path / "scenario.toml").write_text(resolved(scenario))
    found = Simulated(tmp_path).read()
    assert found["run"]["unit"] == "updates"
    assert found["agents"]["columns"][:4] == ("agent", "round", "updates", "lag")
    assert {row[1] for row in found["agents"]["rows"]} == {None}
    updates = [row[2] for row in found["agents"]["rows"]]
    assert sum(updates) == counted
    assert 2 * updates[3] < min(updates[:3])
    assert [row[3] for row in found["agents"]["rows"]] == [max(updates) - own for own in updates]
    assert found["run"]["now"]["rounds"] == counted // 4
    assert found["colors"]["updates"] == updates
    made = p2pfrl.run(scenario, out=tmp_path / "run")
    found = Simulated(tmp_path / "run").read()
    last = [row[2] for row in found["agents"]["rows"]]
    assert last == made.agents["updates"][-4:].tolist()
    assert found["agents"]["rows"][3][3] == max(last) - last[3] > 0
    assert found["run"]["now"]["rounds"] == 12.0


def test_the_page_of_a_record_says_who_lagged_who_is_down_and_who_was_absent(
    tmp_path: Path,
) -> None:
    faults = [
        {"at": "2s", "kind": "crash", "agents": [1, 2]},
        {"at": "5s", "kind": "restart", "agents": [2]},
        {"at": "6s", "kind": "join", "agents": [3]},
        {"at": "90s", "kind": "crash", "agents": [0]},
    ]
    keys = {"faults": faults, "schedule.deadline": "100ms"}
    made = make_record(4, rounds=5)
    agents = made.agents["agent"]
    is_there = (agents != 1) | (made.agents["round"] <= 2)
    table = {name: values[is_there] for name, values in made.agents.items()}
    text = resolved(p2pfrl.load(write_scenario(tmp_path), keys))
    summary = {**made.summary, "stopped_by": "rounds", "virtual_seconds": 10.0}
    save(replace(made, summary=summary, agents=table, scenario=text), tmp_path / "run")
    found = Simulated(tmp_path / "run").read()["agents"]
    columns = [found["columns"].index(name) for name in ("agent", "lag", "state", "absent for")]
    assert [[row[place] for place in columns] for row in found["rows"]] == [
        [0, 0, "ended", None],
        [1, 3, "down", 8.0],
        [2, 0, "ended", 3.0],
        [3, 0, "ended", 6.0],
    ]


@pytest.mark.parametrize(
    ("change", "state", "problem"),
    [
        (
            {"format": "p2pfrl-record-99"},
            "ended by rounds",
            "in the format 'p2pfrl-record-99'; this one",
        ),
        (
            {"virtual_seconds": "x"},
            "ended by rounds",
            "virtual_seconds: expected a number, got 'x'",
        ),
        (None, "damaged", "damaged or not a p2pfrl record"),
    ],
)
def test_a_record_of_another_version_or_a_damaged_one_is_shown_with_what_is_wrong(
    tmp_path: Path, change: dict[str, object] | None, state: str, problem: str
) -> None:
    made = make_record(4, rounds=2)
    save(replace(made, summary={**made.summary, "stopped_by": "rounds"}), tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_text())
    wrong = [] if change is None else {**summary, **change}
    (tmp_path / "summary.json").write_text(json.dumps(wrong))
    (tmp_path / "timeline.csv").unlink()
    found = Careful(Local(tmp_path), str(tmp_path)).read()
    assert found["run"]["state"] == state
    assert problem in found["problem"]
    assert str(tmp_path / "summary.json") in found["problem"]
    assert found["problem"].endswith("what is shown may be wrong")
    assert len(found["agents"]["rows"]) == 4
    assert found["notes"][-1] == "Missing in the directory: timeline.csv."


@pytest.mark.parametrize("view", ['{"rounds": "abc"}', '{"refused": [1]}', '{"down": ["x"]}'])
def test_a_view_that_no_run_has_written_is_an_error(tmp_path: Path, view: str) -> None:
    save(make_record(4, rounds=2), tmp_path)
    (tmp_path / "summary.json").unlink()
    (tmp_path / LIVE).write_text(view)
    with pytest.raises(RecordError, match="damaged or not a p2pfrl record"):
        Careful(Local(tmp_path), str(tmp_path)).read()
