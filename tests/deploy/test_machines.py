"""Environments that may be machines: a process opens and drives those of its own agents only."""

import os
from collections import Counter
from pathlib import Path

import failing
import pytest

from p2pfrl.cli import main
from p2pfrl.results.record import load

TEXT = """name = "machines"
agents = 2
stop = {rounds = 2}
environment = {id = "failing:Machine-v0", instances = 1, kwargs = {name = "a"}}
learner = {kind = "ppo", steps = 8, num_minibatches = 1}
[[groups]]
agents = [1]
environment = {kwargs = {name = "b"}}
"""


@pytest.mark.slow
def test_a_process_opens_its_own_agents_environments_and_collect_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = (str(Path(failing.__file__).parent), os.environ.get("PYTHONPATH", ""))
    monkeypatch.setenv("FAILING_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, folders)))
    log, file, out = tmp_path / "log", tmp_path / "machines.toml", tmp_path / "out"
    file.write_text(TEXT)
    words = ["scenario", str(file), "--transport", "tcp", "-j", "2", "--quiet", "--out", str(out)]
    assert main(words) == 0
    seen = Counter(tuple(line.split()) for line in log.read_text().splitlines())
    here = str(os.getpid())
    assert not [entry for entry in seen if entry[0] == here and entry[2] == "driven"]
    others = {pid for pid, _, _ in seen} - {here}
    assert len(others) == 2
    assert {name for pid, name, _ in seen if pid in others} == {"a", "b"}
    for pid in others:
        (name,) = {name for one, name, _ in seen if one == pid}
        # One is opened for its sizes and closed at once, and one to train in.
        assert seen[pid, name, "opened"] == seen[pid, name, "closed"] == 2
    record = load(out)
    assert record.summary["evaluation"]["own"] is None
    assert "--evaluate" in record.summary["left_out"]["evaluation_own"]
    assert "evaluation_own" not in record.metrics
    before = log.read_text()
    peers = [str(folder) for folder in sorted((out / "peers").iterdir())]
    again = tmp_path / "again"
    assert main(["collect", *peers, "--out", str(again)]) == 0
    assert log.read_text() == before
    asked = tmp_path / "asked"
    assert main(["collect", *peers, "--out", str(asked), "--evaluate"]) == 0
    assert load(asked).summary["evaluation"]["own"] == 5.0
    after = Counter(line.split()[1] + line.split()[2] for line in log.read_text().splitlines())
    assert after["aopened"] == after["aclosed"]
    assert after["bopened"] == after["bclosed"]
