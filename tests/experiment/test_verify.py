"""A run is compared with a new run of its scenario, and everything a digest depends on is named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from runs import SCENARIO, write_scenario

from p2pfrl.cli import main
from p2pfrl.core.errors import RecordError, ScenarioWarning
from p2pfrl.core.files import checksum
from p2pfrl.experiment.run import resume, simulate
from p2pfrl.experiment.verify import verify
from p2pfrl.results.differences import differences, read_files
from p2pfrl.results.record import Record, load_summary, save
from p2pfrl.results.versions import kernels, processor, versions
from p2pfrl.scenario import load, loads


@pytest.fixture
def run(tmp_path: Path) -> Path:
    simulate(load(write_scenario(tmp_path)), out=tmp_path / "run")
    return tmp_path / "run"


def edit(run: Path, **changes: object) -> None:
    path = run / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_run_lists_processor_and_kernels(run: Path) -> None:
    listed = json.loads((run / "summary.json").read_text())["versions"]
    assert listed == versions("none")
    assert listed["processor"] == processor() != ""
    assert listed["kernels"].startswith("torch ")
    assert "numpy " in listed["kernels"]
    assert verify(run).changed == {}


def test_kernels_are_those_that_compute_and_not_those_of_the_processor() -> None:
    code = (
        "import sys; from p2pfrl.results.versions import kernels; print(kernels());"
        "assert 'torch' not in sys.modules"
    )
    environment = os.environ | {"ATEN_CPU_CAPABILITY": "default"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("torch default,")


def test_verify_names_processor_and_kernels_that_changed(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = versions("none") | {"processor": "Another 9000", "kernels": "torch NEON"}
    edit(run, versions=other, digest="0" * 32)
    assert main(["verify", str(run), "--quiet"]) == 1
    shown = capsys.readouterr()
    assert shown.out.startswith("different: recorded 000")
    assert f"processor was Another 9000, is {processor()}" in shown.err
    assert f"kernels was torch NEON, is {kernels()}" in shown.err
    assert main(["verify", str(run), "--quiet", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["changed"]["kernels"]["then"] == "torch NEON"


def test_verify_says_that_an_old_record_does_not_name_them_or_that_nothing_changed(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = {name: version for name, version in versions("none").items() if name != "processor"}
    edit(run, versions=old)
    assert verify(run).changed == {"processor": ("not recorded", processor())}
    edit(run, versions=versions("none"), digest="0" * 32)
    assert main(["verify", str(run), "--quiet"]) == 1
    assert "versions, processor and kernels are those" in capsys.readouterr().err


@pytest.fixture(scope="module")
def record() -> Record:
    return simulate(loads(SCENARIO), trace=True)


def found(record: Record, run: Path, *, has_changed: bool = False) -> tuple[str, ...]:
    summary = load_summary(run)
    return differences(read_files(run, summary), summary, record, has_changed=has_changed)


def forge(run: Path, name: str, old: bytes, new: bytes) -> None:
    """Change a file and its checksum."""
    content = (run / name).read_bytes()
    assert old in content
    (run / name).write_bytes(content.replace(old, new, 1))
    edit(run, files=load_summary(run)["files"] | {name: checksum((run / name).read_bytes())})


def test_verify_names_every_file_that_is_not_the_run_s(record: Record, tmp_path: Path) -> None:
    run = tmp_path / "run"
    save(record, run)
    assert found(record, run) == ()
    forge(run, "metrics.csv", b"\n2,", b"\n3,")
    forge(run, "agents.csv", (run / "agents.csv").read_bytes().splitlines()[-1] + b"\n", b"")
    forge(run, "timeline.csv", b"train", b"send")
    forge(run, "graph.json", b'"agents": 4', b'"agents": 5')
    forge(run, "events.jsonl", b"deliver", b"drop")
    (run / "staleness.csv").write_text("")
    content = bytearray((run / "parameters.safetensors").read_bytes())
    content[-1] ^= 1
    (run / "parameters.safetensors").write_bytes(content)
    lines = found(record, run)
    assert lines[0] == "metrics.csv: line 3, round: recorded 3, replayed 2"
    assert lines[1] == "agents.csv: recorded 23 rows, replayed 24"
    assert lines[2].startswith("parameters.safetensors: parameters[3, 1]: recorded")
    assert [line.split(":")[0] for line in lines[3:]] == [
        "graph.json",
        "staleness.csv",
        "timeline.csv",
        "events.jsonl",
    ]


def test_verify_names_keys_of_the_summary_and_missing_files(record: Record, tmp_path: Path) -> None:
    run = tmp_path / "run"
    save(record, run)
    mean = load_summary(run)["final_return"] | {"mean": 7.5}
    edit(run, final_return=mean, env_steps=25, wall_seconds=1.5, measured_by="nobody")
    assert found(record, run) == (
        "summary.json: env_steps: recorded 25, replayed 24",
        "summary.json: final_return.mean: recorded 7.5, replayed null",
        "summary.json: measured_by: recorded 'nobody', replayed nothing",
    )
    files = load_summary(run)["files"]
    del files["graph.json"]
    edit(run, files=files)
    assert "graph.json: not listed in summary.json" in found(record, run)
    (run / "metrics.csv").unlink()
    with pytest.raises(RecordError, match=r"metrics.csv: missing"):
        read_files(run, load_summary(run))


def test_other_versions_may_have_more_columns_and_keys(record: Record, tmp_path: Path) -> None:
    run = tmp_path / "run"
    metrics = {name: own for name, own in record.metrics.items() if name != "active"}
    summary = {name: own for name, own in record.summary.items() if name != "mean_batch"}
    save(replace(record, metrics=metrics, summary=summary), run)
    assert found(record, run, has_changed=True) == ()
    assert found(record, run) == (
        "metrics.csv: column active is missing in the recorded file",
        f"summary.json: mean_batch: recorded nothing, replayed {record.summary['mean_batch']}",
    )


def test_a_falsified_record_is_different_though_its_digest_is_equal(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forge(run, "metrics.csv", b"\n2,", b"\n3,")
    assert main(["verify", str(run), "--quiet"]) == 1
    told = capsys.readouterr().out
    assert told.startswith("different: the digest is ")
    assert f"{run}/metrics.csv: line 3, round: recorded 3, replayed 2" in told
    assert main(["verify", str(run), "--quiet", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["different"][0].startswith("metrics.csv: line 3")


def test_a_learner_without_networks_has_no_engine(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = json.loads((run / "summary.json").read_text())["versions"]
    assert listed["engine"] == "none"
    edit(run, versions=listed | {"engine": "torch"})
    assert verify(run).changed == {}, "earlier versions recorded the default of learners"
    scenario = run / "scenario.toml"
    words = ["validate", str(scenario), "--set", "compute.engine=torch"]
    assert main(words) == 0
    assert "without effect: compute.engine; the learner has no" in capsys.readouterr().err
    assert main(["validate", str(scenario), "--set", "compute.engine=native"]) == 2
    assert "no code for this learner, which has no networks; remove it" in capsys.readouterr().err


def test_a_resumed_run_whose_environment_cannot_be_saved_says_so_and_verify_names_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(row: dict[str, float]) -> None:
        if row["round"] == 2:
            raise KeyboardInterrupt

    scenario = loads(
        """name = "poles"
        agents = 4
        stop = {rounds = 3}
        checkpoint = {every = 1}
        environment = {id = "gymnasium.envs.classic_control:CartPoleEnv", instances = 1}
        learner = {kind = "reinforce", steps = 16, hidden = [4]}
        """
    )
    run = tmp_path / "run"
    simulate(scenario, out=run, progress=stop)
    said = "its environments cannot be saved, so that episodes begin anew: the run will differ from"
    with pytest.warns(ScenarioWarning, match=said):
        record = resume(run)
    assert record.summary["episodes_began_anew"]
    assert main(["verify", str(run), "--quiet"]) == 1
    said = capsys.readouterr().err
    assert "course was resumed, with a loss of state, is uninterrupted" in said
    assert "versions, processor and kernels are those" not in said
