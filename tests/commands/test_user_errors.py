"""Errors of users: files, keys, values, environments, rules, hosts and directories.

Every one ends with a code and a message of a few lines, and none with a traceback.
"""

import os
import sys
from pathlib import Path

import pytest

from p2pfrl.catalog import TABLES
from p2pfrl.cli import main

QUADRATIC = """
name = "q"
agents = 4
[stop]
rounds = 1
[learner]
kind = "quadratic"
"""
CARTPOLE = """
name = "c"
agents = 2
[stop]
rounds = 1
[environment]
id = "cartpole"
instances = 1
[learner]
kind = "reinforce"
[evaluation]
episodes = 0
"""
OWN = """
import numpy as np
import p2pfrl

@p2pfrl.rule
class Raises(p2pfrl.Mixing):
    def weights(self, graph):
        raise RuntimeError("no weights today")

@p2pfrl.rule
class Lacks(p2pfrl.Mixing):
    pass

class Bare(p2pfrl.Mixing):
    def weights(self, graph):
        return ()

@p2pfrl.rule
class Late(p2pfrl.Gate):
    def decide(self, payload, turn, state):
        raise KeyError("late")

@p2pfrl.rule
class Halves(p2pfrl.Mixing):
    def weights(self, graph):
        return tuple({i: 1.0} for i in range(graph.n))

    def mix(self, turn, received, weights, state):
        return turn.own[:1], state
"""
FILES: dict[str, bytes] = {
    "empty": b"",
    "space": b" \n\t\n",
    "utf16": QUADRATIC.encode("utf-16"),
    "latin": QUADRATIC.encode() + b"# caf\xe9\n",
    "binary": bytes(range(256)),
    "json": b'{"name": "q"}',
    "yaml": b"name: q\nagents: 4\n",
    "open_table": b"[stop\nrounds = 1",
    "open_string": b'name = "q',
    "twice": b"agents = 1\nagents = 2\n",
    "no_learner": b"agents = 1\n[stop]\nrounds = 1\n",
    "no_stop": b'agents = 1\n[learner]\nkind = "quadratic"\n',
    "no_agents": QUADRATIC.replace("agents = 4", "").encode(),
    "date": QUADRATIC.encode() + b"lr = 1979-05-27\n",
    "huge": QUADRATIC.encode() + b"#" * 70_000,
    "deep": QUADRATIC.encode() + b"lr = " + b"[" * 200,
    "circle": b'extends = "circle"\n',
    "orphan": b'extends = "nobody"\n' + QUADRATIC.encode(),
    "extends_number": b"extends = 3\n" + QUADRATIC.encode(),
    "extends_binary": b'extends = "binary"\n' + QUADRATIC.encode(),
    "table_for_value": b"agents = {a = 1}\n",
    "value_for_table": b"stop = 3\nagents = 1\n",
    "list_for_table": b"agents = 1\nstop = [1]\n",
    "flower": b"num_clients = 4\nnum_rounds = 3\nstrategy = 'FedAvg'\n",
}
VALUES = (
    "agents=0", "agents=-1", "agents=1.5", "agents=many", "agents=", "agents", "=4", "agents=1e9",
    "agents=99999999999999999999", "seed=-1", "seed=x", "seed=1e3", "name=../x", "name=", "name=a b",
    "mode=gosip", "mode=3", "stop.rounds=0", "stop.rounds=-3", "stop.rounds=ten", "stop={}",
    "stop.virtual_time=5parsec", "stop.target_return=10", "stop.nothing=1",
    "learner=ppo", "learner.kind=impala", "learner.kind=PPO", "learner.kind=3", "learner.kind=",
    "learner.lr=-1", "learner.lr=fast", "learner.lr=nan", "learner.lr=inf", "learner.lr=1e999",
    "learner.lr=[1]", "learner.lr=true", "learner.learning_rate=0.1", "learner.dimension=0",
    "learner.curvature=[2, 1]", "learner.curvature=[1, 2, 3]", "learner.moments=average",
    "environment.id=cartpole", "environment=3", "environment.instances=2", "exchange.payload=x",
    "exchange.shared=[]", "exchange.shared=['y']", "exchange.shared=3", "exchange.order=never",
    "schedule.kind=async", "schedule.every=0", "schedule.deadline=-1s", "schedule.deadline=soon",
    "schedule=synchronous", "topology.kind=rign",
    "topology={kind='file'}", "topology={kind='file', path='none.graphml'}",
    "topology={kind='file', path='/dev/zero'}", "topology={kind='file', path='.'}",
    "topology={kind='file', path='empty.toml'}", "topology={kind='file', path=''}",
    "topology={kind='watts_strogatz', neighbors=3}", "topology={kind='erdos_renyi', probability=2}",
    "topology={kind='random_regular', degree=9}", "topology.rows=3", "mixing.kind=metropolls",
    "mixing.alpha=1", "mixing={kind='laplacian', alpha=9}", "mixing.on_loss=cry", "mixing=[1]",
    "mixing.kind=own:Raises", "mixing.kind=own:Lacks", "mixing.kind=own:Bare", "mixing.kind=own:X",
    "mixing.kind=own:Late", "mixing.kind=nowhere:X", "mixing.kind=os:path", "mixing.kind=os:getcwd",
    "mixing.kind=broken:X", "mixing.kind=own:np", "gate.kind=own:Late", "mixing.kind=own:Halves",
    "coordinator.aggregator.kind=median3", "coordinator.participation=0.1", "coordinator.at=-1",
    "correction={kind='prox', mu=-1}", "compressor.kind=zip",
    "compressor={kind='topk'}", "compressor={kind='topk', fraction=2}", "compressor.bits=8",
    "privacy.kind=magic", "gate={kind='every', rounds=0}",
    "network.latency=fast", "network.latency=-1ms", "network.latency={kind='uniform', low='9ms'}",
    "network.latency={kind='edge'}", "network.latency=[1, 2]", "network.bandwidth=0",
    "network.bandwidth=100Mbps", "network.loss=2", "network.loss=5%", "network.loss={kind='burst'}",
    "network.links=[{from=0, to=9}]", "network.links=[{from=0, to=0}]", "network.links=3",
    "compute.speed=0", "compute.speed=[1, 2]", "compute.speed={kind='normal'}",
    "compute.seconds_per_env_step=-1", "compute.variation=x", "availability.dropout=1",
    "availability.trace=none.csv", "availability.trace=empty", "availability.trace=binary.toml",
    "availability.trace=.", "evaluation.every=0", "evaluation.episodes=-1", "checkpoint.every=0",
    "checkpoint.every=never", "attacks=[{kind='sign_flip'}]", "faults=3", "faults=[1]",
    "faults=[{kind='crash'}]", "faults=[{kind='crash', at='1s', agents=[9]}]",
    "faults=[{kind='crahs', at='1s', agents=[0]}]", "faults=[{kind='heal', at='1s'}]",
    "faults=[{kind='restart', at='1s', agents=[0]}]", "groups=[{agents=[9]}]", "groups=[{agents=[]}]",
    "groups=[{agents=[0], learner={kind='x'}}]", "groups=[{agents=[0], environment={id='x'}}]",
    "extends=nobody", "extends=3", "extends=circle", "a.b.c.d=1", "..=1",
    "device=cuda", "num_rounds=3", "\u00e9=1", "learner.lr='0.1'", "agents='4'",
)  # fmt: skip
ENVIRONMENTS = (
    "environment.id=", "environment.id=cartpol", "environment.id=NoSuch-v0", "environment.id=3",
    "environment.id=nowhere:X-v0", "environment.id=broken:X-v0", "environment.id=own:NoSuch-v0",
    "environment.id=own:Raises", "environment.instances=0", "environment.gravity=1",
    "environment.vary.gravty=1", "environment.vary.gravity=[1]", "environment.vary.gravity=x",
    "environment.vary=3", "environment.max_steps=0", "environment.kwargs={a=1}",
    "environment={}", "environment.id=garnet", "learner.kind=quadratic", "learner.kind=ucbvi",
    "environment.id=FrozenLake-v1",
)  # fmt: skip
COMMANDS: dict[str, list[str]] = {
    "no command": ["nothing"],
    "no file": ["scenario"],
    "no such file": ["scenario", "nothing.toml"],
    "a directory": ["scenario", "."],
    "a device": ["scenario", "/dev/null"],
    "a NUL": ["scenario", "a\0b"],
    "a long name": ["scenario", "x" * 5000],
    "an option": ["scenario", "q.toml", "--nonsense"],
    "an option without its value": ["scenario", "q.toml", "--seed"],
    "a seed": ["scenario", "q.toml", "--seed", "x"],
    "jobs in memory": ["scenario", "q.toml", "--jobs", "3"],
    "no jobs": ["scenario", "q.toml", "--transport", "tcp", "--jobs", "0"],
    "a transport": ["scenario", "q.toml", "--transport", "udp"],
    "a trace of processes": ["scenario", "q.toml", "--transport", "tcp", "--trace"],
    "a target": ["scenario", "q.toml", "--require-target"],
    "resuming a file": ["scenario", "q.toml", "--resume", "run"],
    "resuming nothing": ["scenario", "--resume", "nothing"],
    "out is a file": ["scenario", "q.toml", "--out", "q.toml"],
    "out is below a file": ["scenario", "q.toml", "--out", "q.toml/run"],
    "out is read-only": ["scenario", "q.toml", "--out", "/proc/run"],
    "out is full": ["scenario", "q.toml", "--out", "."],
    "validate nothing": ["validate", "nothing"],
    "an axis": ["list", "mixin"],
    "a rule": ["list", "mixing", "metropolls"],
    "a rule of scenarios": ["list", "scenarios", "ring_16"],
    "a name": ["new", "../x"],
    "a name that is there": ["new", "q"],
    "new below a file": ["new", "x", "--out", "q.toml"],
    "plot nothing": ["plot"],
    "plot no run": ["plot", "."],
    "report no run": ["report", "nothing"],
    "report a file": ["report", "q.toml"],
    "verify no run": ["verify", "."],
    "verify a file": ["verify", "q.toml"],
    "collect nothing": ["collect"],
    "collect no run": ["collect", "."],
    "calibrate nothing": ["calibrate"],
    "calibrate no run": ["calibrate", "."],
    "sweep nothing": ["sweep", "nothing.toml"],
    "sweep without a value": ["sweep", "q.toml", "--set", "agents="],
    "sweep over a word": ["sweep", "q.toml", "--set", "agents=2,many", "--out", "s"],
    "sweep seeds": ["sweep", "q.toml", "--seeds", "5-1"],
    "sweep seeds twice": ["sweep", "q.toml", "--seeds", "1,1"],
    "compare a mode": ["compare", "q.toml", "--modes", "gosip"],
    "compare twice": ["compare", "q.toml", "--modes", "gossip,gossip"],
    "a key twice": ["validate", "q.toml", "--set", "agents=2", "--set", "agents=3"],
    "peer nothing": ["peer", "nothing.toml"],
    "peer without a lead": ["peer", "q.toml"],
    "peer agents": ["peer", "q.toml", "--lead", "--agents", "x"],
    "peer too many": ["peer", "q.toml", "--lead", "--agents", "0-9"],
    "peer count": ["peer", "q.toml", "--rendezvous", "127.0.0.1:1", "--count", "0"],
    "peer host": ["peer", "q.toml", "--lead", "--agents", "0", "--bind", "nowhere"],
    "peer port": ["peer", "q.toml", "--lead", "--agents", "0", "--bind", "127.0.0.1:99999"],
    "peer everywhere": ["peer", "q.toml", "--lead", "--agents", "0", "--bind", "0.0.0.0:0"],
    "peer table": ["peer", "q.toml", "--agents", "0", "--peers", "0=x"],
    "peer secret": ["peer", "q.toml", "--lead", "--agents", "0", "--secret", "nothing"],
    "peer short secret": ["peer", "q.toml", "--lead", "--agents", "0", "--secret", "empty"],
    "peer certificate": ["peer", "q.toml", "--lead", "--agents", "0", "--tls", "nothing"],
    "pki below a file": ["pki", "init", "q.toml/x"],
    "pki agents": ["pki", "issue", "x", "--authority", "."],
    "pki no authority": ["pki", "issue", "0", "--authority", "nothing"],
    "bench nothing": ["bench", "nothing"],
    "compare no modes": ["compare", "q.toml", "--modes", ""],
    "compare no recipes": ["compare", "q.toml", "--recipes", ""],
    "a series with a seed": ["sweep", "q.toml", "--set", "seed=1,2"],
    "two seeds": ["validate", "q.toml", "--seed", "1", "--set", "seed=2"],
    "a mode beside modes": ["compare", "q.toml", "--set", "mode=pooled"],
    "no name": ["validate", ""],
    "a name of 5,000 letters": ["validate", "x" * 5000],
    "out of 300 letters": ["scenario", "q.toml", "--quiet", "--out", "x" * 300],
    "a link to nothing": ["validate", "link.toml"],
}  # fmt: skip


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    for name in ("own", "broken"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    for name, content in FILES.items():
        Path(f"{name}.toml").write_bytes(content)
    Path("q.toml").write_text(QUADRATIC)
    Path("c.toml").write_text(CARTPOLE)
    Path("empty").write_bytes(b"")
    Path("link.toml").symlink_to("nowhere.toml")
    Path("own.py").write_text(OWN)
    Path("broken.py").write_text("import nothing_of_this_name\n")
    yield
    sys.path_importer_cache.clear()


def ends_with_a_message(capsys, words: list[str]) -> int:
    """Run a command; require a code, and a message without a traceback."""
    code = main(words)
    said = capsys.readouterr()
    assert code in (0, 1, 2), words
    assert "Traceback" not in said.err
    assert "pydantic" not in said.err
    assert "[Errno" not in said.err
    if code:
        assert said.err.strip()
        assert len(said.err) < 4000
    return code


def test_there_are_two_hundred_kinds():
    assert len(FILES) + len(VALUES) + len(ENVIRONMENTS) + len(COMMANDS) >= 200


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_scenario(capsys, name):
    assert ends_with_a_message(capsys, ["scenario", f"{name}.toml", "--quiet"]) == 2


@pytest.mark.parametrize("setting", VALUES)
def test_a_value_that_is_none(capsys, setting):
    code = ends_with_a_message(capsys, ["scenario", "q.toml", "--quiet", "--set", setting])
    assert code in (1, 2)


@pytest.mark.parametrize("setting", ENVIRONMENTS)
def test_an_environment_that_is_none(capsys, setting):
    ends_with_a_message(capsys, ["validate", "c.toml", "--quiet", "--set", setting])


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_cannot_be(capsys, name):
    assert ends_with_a_message(capsys, COMMANDS[name]) in (1, 2)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everything")
def test_files_that_may_not_be_read_or_written(capsys, tmp_path):
    Path("q.toml").chmod(0)
    assert ends_with_a_message(capsys, ["scenario", "q.toml"]) == 2
    Path("q.toml").chmod(0o600)
    tmp_path.chmod(0o500)
    assert ends_with_a_message(capsys, ["scenario", "q.toml", "--out", "run"]) == 1
    tmp_path.chmod(0o700)


@pytest.mark.parametrize("axis", TABLES)
def test_a_kind_that_no_axis_has(capsys, axis):
    assert ends_with_a_message(capsys, ["list", axis, "nothing_like_it"]) == 2
