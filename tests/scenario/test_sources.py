"""Files and modules that a scenario names: where they are found, and that they are part of it."""

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import p2pfrl
from p2pfrl.cli import main
from p2pfrl.core.errors import ScenarioError
from p2pfrl.learning.learners.local import Local
from p2pfrl.scenario import hash8
from p2pfrl.scenario.sources import differences, sources

SCENARIO = """
name = "here"
agents = 4
[stop]
rounds = 2
[topology]
kind = "file"
path = "graphs/net.graphml"
[availability]
trace = "there.csv"
[learner]
kind = "quadratic"
"""
NODES = "".join(f'<node id="{name}"/>' for name in "abcd")
PATH4 = "".join(f'<edge source="{a}" target="{b}"/>' for a, b in ("ab", "bc", "cd"))
STAR4 = "".join(f'<edge source="{a}" target="{b}"/>' for a, b in ("ab", "bc", "bd"))
GRAPH = '<graphml><graph edgedefault="undirected">{nodes}{edges}</graph></graphml>'
TRACE = "agent,from,until\n0,0s,1h\n"
ENVIRONMENT = """
import gymnasium as gym
import numpy as np


class Plain(gym.Env):
    observation_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        return np.zeros(2, np.float32), 1.0, True, False, {}


gym.register(id="Plain-v0", entry_point=Plain)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A scenario with its files beside it; the working directory is another one."""
    home = tmp_path / "home"
    (home / "graphs").mkdir(parents=True)
    (home / "graphs" / "net.graphml").write_text(GRAPH.format(nodes=NODES, edges=PATH4))
    (home / "there.csv").write_text(TRACE)
    (home / "here.toml").write_text(SCENARIO)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return home


def test_every_path_is_found_beside_the_scenario_file(folder):
    scenario = p2pfrl.load(folder / "here.toml")
    assert p2pfrl.run(scenario).summary["rounds"] == 2
    (folder / "child.toml").write_text('extends = "here"\nname = "child"\n')
    assert p2pfrl.load(folder / "child.toml").topology.folder == folder
    deeper = folder / "more"
    deeper.mkdir()
    (deeper / "deep.toml").write_text('extends = "../here.toml"\nname = "deep"\n')
    assert p2pfrl.load(deeper / "deep.toml").topology.folder.resolve() == folder
    Path("near.graphml").write_text(GRAPH.format(nodes=NODES, edges=STAR4))
    near = p2pfrl.load(folder / "here.toml", {"topology.path": "near.graphml"})
    assert p2pfrl.run(near).graph.successors[1] == (0, 2, 3)
    with pytest.raises(ScenarioError, match="no graph file 'none' beside the scenario"):
        p2pfrl.load(folder / "here.toml", {"topology.path": "none"})


def test_a_run_directory_holds_what_it_names_and_is_verified_anywhere(folder, tmp_path):
    p2pfrl.run(p2pfrl.load(folder / "here.toml"), out=tmp_path / "run")
    shutil.rmtree(folder)
    shutil.move(tmp_path / "run", tmp_path / "moved")
    verdict = p2pfrl.verify(tmp_path / "moved")
    assert verdict.is_equal
    assert not verdict.changed
    (tmp_path / "moved" / "inputs" / "net.graphml").write_text(
        GRAPH.format(nodes=NODES, edges=STAR4)
    )
    verdict = p2pfrl.verify(tmp_path / "moved")
    assert not verdict.is_equal
    assert list(verdict.changed) == ["file graphs/net.graphml"]


def test_the_identity_of_a_scenario_has_the_contents_of_its_files(folder):
    before = hash8(p2pfrl.load(folder / "here.toml"))
    assert hash8(p2pfrl.load(folder / "here.toml")) == before
    (folder / "graphs" / "net.graphml").write_text(GRAPH.format(nodes=NODES, edges=STAR4))
    after = hash8(p2pfrl.load(folder / "here.toml"))
    (folder / "there.csv").write_text(TRACE + "1,0s,1h\n")
    assert len({before, after, hash8(p2pfrl.load(folder / "here.toml"))}) == 3
    plain = p2pfrl.loads(SCENARIO, {"topology": {}, "availability": {}})
    assert sources(plain) == {}
    assert hash8(plain) == "d27cc28b"


def test_a_checkpoint_of_other_contents_is_refused_by_name(folder, tmp_path):
    scenario = p2pfrl.load(folder / "here.toml", {"checkpoint.every": 1, "stop.rounds": 4})

    def interrupt(row):
        if row["round"] == 2:
            raise KeyboardInterrupt

    p2pfrl.run(scenario, out=tmp_path / "run", progress=interrupt)
    graph = tmp_path / "run" / "checkpoints" / "inputs" / "net.graphml"
    graph.write_text(GRAPH.format(nodes=NODES, edges=STAR4))
    with pytest.raises(p2pfrl.P2PFRLError, match=r"file graphs/net\.graphml: expected"):
        p2pfrl.resume(tmp_path / "run")


MODULE = """
name = "module"
agents = 1
[stop]
rounds = 1
[environment]
id = "plain_environment:Plain-v0"
instances = 1
[learner]
kind = "reinforce"
[evaluation]
episodes = 0
"""


def test_the_script_finds_modules_here_and_in_the_folder_of_the_scenario(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (home / "plain_environment.py").write_text(ENVIRONMENT)
    (home / "module.toml").write_text(MODULE)
    script = [
        sys.executable,
        "-c",
        "import sys; del sys.path[0]; from p2pfrl.cli import main; sys.exit(main())",
    ]
    for where in (home, tmp_path):
        command = [*script, "validate", str(home / "module.toml"), "--json"]
        done = subprocess.run(command, cwd=where, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_the_module_of_an_environment_is_part_of_the_scenario(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "identity_environment.py").write_text(ENVIRONMENT.replace("Plain-v0", "Other-v0"))
    path = tmp_path / "module.toml"
    path.write_text(MODULE.replace("plain_environment:Plain", "identity_environment:Other"))
    scenario = p2pfrl.load(path)
    assert list(sources(scenario)) == ["module identity_environment"]
    before = hash8(scenario)
    with (tmp_path / "identity_environment.py").open("a") as file:
        file.write("# changed\n")
    assert hash8(scenario) != before


def test_a_module_in_a_run_directory_is_not_imported(tmp_path, capsys):
    (tmp_path / "evil_environment.py").write_text("raise SystemExit('executed')")
    (tmp_path / "scenario.toml").write_text(MODULE.replace("plain_environment", "evil_environment"))
    (tmp_path / "journal.bin").write_bytes(b"")
    assert main(["collect", str(tmp_path), "--out", str(tmp_path / "out")]) != 0
    assert "executed" not in capsys.readouterr().err


LEARNER = """
from p2pfrl import LocalLearner

class Constant(LocalLearner):
    def __init__(self, env, lr):
        self.env = env

    def parameters(self):
        return []

    def learn(self, env, steps, rng):
        return None

    def act(self, obs):
        return [0] * len(obs)
"""


def test_the_module_of_a_learner_of_ones_own_is_part_of_the_scenario(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    (tmp_path / "constant_learner.py").write_text(LEARNER)
    rule = Local(make="constant_learner:Constant", lr=0.1)
    scenario = dataclasses.replace(p2pfrl.load("ring_16"), learner=rule)
    before = sources(scenario)
    assert list(before) == ["module constant_learner"]
    with (tmp_path / "constant_learner.py").open("a") as file:
        file.write("# changed\n")
    assert differences(before, sources(scenario)).keys() == before.keys()
    assert differences({}, before) == {}  # earlier versions did not record it
