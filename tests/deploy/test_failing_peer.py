"""A process whose environment fails over TCP: it ends with 1, and its neighbors know why."""

import json
from pathlib import Path

import processes

from p2pfrl.deploy.collect import collect
from p2pfrl.scenario import loads

TEXT = """name = "failing_peer"
agents = 2
stop = {rounds = 12}
environment = {id = "failing:Plain-v0", instances = 1}
learner = {kind = "ppo", steps = 8, num_minibatches = 1}
schedule = {deadline = "20s"}
evaluation = {episodes = 0}
[[groups]]
agents = [1]
environment = {id = "failing:Raising-v0", kwargs = {updates = 4}}
"""


def test_a_process_whose_environment_raises_ends_with_1_and_says_why_to_its_neighbor(
    tmp_path: Path,
) -> None:
    healthy, failed = processes.run(loads(TEXT), [[0], [1]], tmp_path, failing=[1])
    cause = "agent 1, round 5, update 4, step 2, instance 0 of environment 'failing:Raising-v0'"
    summary = json.loads((failed / "peer.json").read_text())
    assert summary["stopped_by"] == "failure"
    assert summary["failure"].startswith(cause)
    assert summary["rounds"] == 4
    noted = [json.loads(line) for line in (healthy / "log.jsonl").read_text().splitlines()]
    lost = [entry for entry in noted if entry["what"] == "lost"]
    assert [entry["agents"] for entry in lost] == [[1]]
    assert cause in lost[0]["detail"]
    other = json.loads((healthy / "peer.json").read_text())
    assert (other["stopped_by"], other["rounds"]) == ("rounds", 12)
    assert other["deadlines_expired"] <= 1
    record = collect([healthy, failed], tmp_path / "record")
    assert record.summary["stopped_by"] == "failure"
    assert record.metrics["round"][-1] == 12
