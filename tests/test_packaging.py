"""The package as it is installed: one version, all its data, and commands that answer quickly."""

import importlib.metadata
import os
import re
import resource
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import p2pfrl

ROOT = Path(p2pfrl.__file__).parents[1]
in_checkout = pytest.mark.skipif(
    not (ROOT / "pyproject.toml").is_file(), reason="needs a source checkout"
)


def test_the_version_is_one():
    assert importlib.metadata.version("p2pfrl") == p2pfrl.__version__
    done = subprocess.run(
        [sys.executable, "-m", "p2pfrl", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == p2pfrl.__version__


@in_checkout
def test_the_newest_release_of_the_changelog_is_this_version():
    newest = re.search(
        r"^## (?!Unreleased$)(\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), flags=re.MULTILINE
    )
    assert newest
    assert newest[1] == p2pfrl.__version__


def test_without_arguments_help_is_printed():
    done = subprocess.run(
        [sys.executable, "-m", "p2pfrl"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage: p2pfrl COMMAND" in done.stdout
    assert "scenario" in done.stdout


def cpu_seconds(*arguments):
    """Return the processor time of one run of the interpreter."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.slow
def test_quick_commands_take_little_longer_than_the_imports_they_need():
    imports = ("-c", "import numpy, pydantic.dataclasses")
    quick = [
        ("-m", "p2pfrl", *words)
        for words in (["--help"], ["list", "learners"], ["validate", "ring_16.toml"])
    ]
    rounds = [[cpu_seconds(*command) for command in (imports, *quick)] for _ in range(2)]
    least, *commands = (min(seconds) for seconds in zip(*rounds, strict=True))
    assert max(commands) < 6 * least, "importing torch takes about ten times as long"


@pytest.mark.slow
@in_checkout
def test_the_wheel_holds_the_package_its_scenarios_and_graphs_and_nothing_else(tmp_path):
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(tmp_path),
        str(ROOT),
    ]
    subprocess.run(command, check=True, env=os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"})
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name == f"p2pfrl-{p2pfrl.__version__}-py3-none-any.whl"
    held = set(zipfile.ZipFile(wheel).namelist())
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    data = {
        f"p2pfrl/data/{name}" for name in tracked if name.startswith(("scenarios/", "topologies/"))
    }
    package = {name for name in tracked if name.startswith("p2pfrl/")}
    assert any(name.endswith("ring_16.toml") for name in data)
    assert held >= data | package
    assert all(
        name.startswith(("p2pfrl/", f"p2pfrl-{p2pfrl.__version__}.dist-info/")) for name in held
    )
    assert any(name.endswith("licenses/LICENSE") for name in held)
