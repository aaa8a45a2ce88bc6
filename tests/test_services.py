"""The files in docs/services are true: their commands are of this version, and run."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import p2pfrl
from p2pfrl.cli import app, main

ROOT = Path(p2pfrl.__file__).parents[1]
SERVICES = ROOT / "docs" / "services"
QUADRATIC = ROOT / "tests" / "hosts" / "quadratic_ring.toml"
pytestmark = pytest.mark.skipif(
    not SERVICES.is_dir(), reason="the files are found in a source checkout"
)


def composed() -> dict[str, list[str]]:
    """Return the command of every peer of compose.yaml."""
    text = (SERVICES / "compose.yaml").read_text()
    found = re.findall(r"^  (\w): *\n.*?command: >-\n(.*?)    networks", text, re.S | re.M)
    return {name: shlex.split(command) for name, command in found}


def served() -> list[str]:
    """Return the command of the systemd unit, with its variables filled in as its comment says."""
    text = (SERVICES / "p2pfrl@.service").read_text()
    options = re.search(r"OPTIONS=(.*?)\\n", text)
    command = re.search(r"^ExecStart=\S+ -m p2pfrl (.*)$", text, re.M)
    assert options
    assert command
    return shlex.split(command[1].replace("$OPTIONS", options[1]).replace("%i", "0-3"))


@pytest.mark.parametrize("words", [*composed().values(), served()], ids=" ".join)
def test_commands_of_services_have_options_of_this_version(words: list[str]) -> None:
    command, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
    assert command.__name__ == "peer"
    assert bound.arguments["out"]


def test_peers_of_compose_run_every_agent_once_under_their_own_addresses() -> None:
    text = (SERVICES / "compose.yaml").read_text()
    agents = []
    for number, (name, words) in enumerate(composed().items(), start=1):
        first, last = words[words.index("--agents") + 1].split("-")
        agents += range(int(first), int(last) + 1)
        assert words[words.index("--bind") + 1] == f"10.77.0.{number}:0"
        assert f"authority/agents-{first}-{last}.crt" in words
        assert re.search(rf"^  {name}:.*?ipv4_address: 10\.77\.0\.{number}}}", text, re.S | re.M)
    assert agents == list(range(p2pfrl.load("ring_16.toml").agents))
    made = re.search(r"for a in (.*?); do p2pfrl pki issue", text)
    assert made
    assert made[1].split() == [w[w.index("--agents") + 1] for w in composed().values()]


def tools(folder: Path, **scripts: str) -> dict[str, str]:
    """Return an environment in which these scripts stand for the tools of a cluster."""
    folder.mkdir()
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/usr/bin/env bash\n{script}\n")
        (folder / name).chmod(0o755)
    path = f"{folder}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHON": sys.executable, "PYTHONPATH": str(ROOT)}


def call(name: str, *words: str, cwd: Path, env: dict[str, str]) -> str:
    done = subprocess.run(
        ["bash", str(SERVICES / name), *words],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_slurm_array_runs_its_seed_once(tmp_path: Path) -> None:
    env = tools(tmp_path / "bin", srun='exec "$@"') | {"SLURM_ARRAY_TASK_ID": "7"}
    call("slurm_seeds.sh", str(QUADRATIC), cwd=tmp_path, env=env)
    run = tmp_path / "runs" / "seed-7"
    summary = json.loads((run / "summary.json").read_text())
    assert summary["seed"] == 7
    assert "is done" in call("slurm_seeds.sh", str(QUADRATIC), cwd=tmp_path, env=env)


@pytest.mark.slow
def test_slurm_runs_one_peer_per_node(tmp_path: Path) -> None:
    nodes = (
        'for i in 0 1 2; do SLURM_PROCID=$i "$@" & done; for i in 0 1 2; do wait -n || exit 1; done'
    )
    env = tools(
        tmp_path / "bin", srun=nodes, scontrol="echo 127.0.0.1", hostname="echo 127.0.0.1"
    ) | {"SLURM_JOB_NODELIST": "n[1-3]", "SLURM_NTASKS": "3", "P2PFRL_PORT": "7353"}
    call("slurm_peers.sh", str(QUADRATIC), "4", cwd=tmp_path, env=env)
    runs = [str(tmp_path / "runs" / f"peer-{i}") for i in range(3)]
    assert main(["collect", *runs, "--out", str(tmp_path / "all")]) == 0
    assert main(["verify", str(tmp_path / "all"), "--quiet"]) == 0


@pytest.mark.slow
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not here")
    text = (SERVICES / "p2pfrl@.service").read_text().replace("/opt/p2pfrl/bin/python", "/bin/true")
    (tmp_path / "p2pfrl@.service").write_text(text)
    words = ["systemd-analyze", "verify", str(tmp_path / "p2pfrl@0-3.service")]
    shutil.copy(tmp_path / "p2pfrl@.service", tmp_path / "p2pfrl@0-3.service")
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
