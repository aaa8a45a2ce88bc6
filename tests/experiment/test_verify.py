"""A run is compared with a new run of its scenario, and everything a digest depends on is named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from runs import write_scenario

from p2pfrl.cli import main
from p2pfrl.experiment.run import simulate
from p2pfrl.experiment.verify import verify
from p2pfrl.results.versions import kernels, processor, versions
from p2pfrl.scenario import load


@pytest.fixture
def run(tmp_path: Path) -> Path:
    simulate(load(write_scenario(tmp_path)), out=tmp_path / "run")
    return tmp_path / "run"


def edit(run: Path, **changes: object) -> None:
    path = run / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_run_lists_processor_and_kernels(run: Path) -> None:
    listed = json.loads((run / "summary.json").read_text())["versions"]
    assert listed == versions()
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
    other = versions() | {"processor": "Another 9000", "kernels": "torch NEON"}
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
    old = {name: version for name, version in versions().items() if name != "processor"}
    edit(run, versions=old)
    assert verify(run).changed == {"processor": ("not recorded", processor())}
    edit(run, versions=versions(), digest="0" * 32)
    assert main(["verify", str(run), "--quiet"]) == 1
    assert "versions, processor and kernels are those" in capsys.readouterr().err
