"""Machines with other engines finish a run, and its record says that bits are not promised."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from p2pfrl import verify
from p2pfrl.cli import main
from p2pfrl.results.record import load

TEXT = """name = "engines"
agents = 2
stop = {rounds = 2}
environment = {id = "cartpole"}
evaluation = {episodes = 1}
learner = {kind = "ppo", steps = 16, hidden = [16]}
"""


@pytest.mark.slow
@pytest.mark.usefixtures("native")
def test_a_machine_without_a_compiler_joins_and_verify_names_the_engine(tmp_path: Path) -> None:
    file = tmp_path / "engines.toml"
    file.write_text(TEXT)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{listener.getsockname()[1]}"
    peer = [sys.executable, "-m", "p2pfrl", "peer", str(file), "--rendezvous", place]
    peer += ["--bind", "127.0.0.1:0"]
    runs = [
        subprocess.Popen(
            [*peer, "--agents", agent, "--out", str(tmp_path / agent), *lead],
            env={**os.environ, **env},
            stderr=subprocess.PIPE,
            text=True,
        )
        for agent, lead, env in (("0", ["--lead"], {}), ("1", [], {"CC": "/nowhere/cc"}))
    ]
    said = [one.communicate()[1] for one in runs]
    assert [one.returncode for one in runs] == [0, 0], said
    promise = "this run equals no simulated one, bit for bit"
    assert f"engine agents 1: torch there, native here: {promise}" in said[0]
    assert f"engine agents 0: native there, torch here: {promise}" in said[1]
    assert "torch computes; 'native' cannot be used here: no C compiler was found" in said[1]
    used = [json.loads((tmp_path / a / "peer.json").read_text())["versions"] for a in "01"]
    assert [versions["engine"] for versions in used] == ["native", "torch"]
    both = tmp_path / "both"
    assert main(["collect", str(tmp_path / "0"), str(tmp_path / "1"), "--out", str(both)]) == 0
    assert load(both).summary["versions"]["engine"] == "native and torch"
    verdict = verify(both)
    assert not verdict.is_equal
    assert verdict.changed == {"engine": ("native and torch", "native")}
