"""What a newcomer met from outside: names, streams, files and values that ended badly."""

import errno
import io
import os
import subprocess
import sys
import warnings
from pathlib import Path

import gymnasium
import numpy as np
import pytest

import p2pfrl
from p2pfrl.cli import main
from p2pfrl.commands.failures import notes_on_stderr
from p2pfrl.commands.streams import Dropping, Naming, UnwrittenError
from p2pfrl.commands.values import grid, seeds
from p2pfrl.core.errors import AgentError, RecordError, ScenarioError, ScenarioWarning
from p2pfrl.results.plots import FIGURES

QUADRATIC = """
name = "q"
agents = 4
[stop]
rounds = 1
[learner]
kind = "quadratic"
"""
OWN = """
import p2pfrl

@p2pfrl.rule
class Shrunk(p2pfrl.Mixing):
    factor: float = 0.5
    def weights(self, graph):
        return tuple({i: 2.0} for i in range(graph.n))
"""


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "rules_from_outside", raising=False)
    Path("q.toml").write_text(QUADRATIC)
    Path("rules_from_outside.py").write_text(OWN)
    yield
    sys.path_importer_cache.clear()


def said(capsys, *words: str) -> str:
    """Return the one line of a command that is refused as bad usage."""
    assert main(list(words)) == 2
    return capsys.readouterr().err.strip()


@pytest.mark.parametrize(
    "words",
    [("scenario", "q.toml"), ("sweep", "q.toml"), ("compare", "q.toml"), ("new", "x")],
)
@pytest.mark.parametrize("out", ["q.toml", "q.toml/run", "r/w\udcffx"])
def test_a_directory_that_cannot_be_is_refused_before_the_run(capsys, words, out):
    line = said(capsys, *words, "--out", out)
    expected = "a name in UTF-8" if "\udcff" in out else "a directory, but q.toml is a file"
    assert line.startswith("--out")
    assert f"expected {expected}" in line
    assert "\n" not in line
    assert not Path("r").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["stop", ""], "stop: expected a value after it, got ''; is a variable of the shell not"),
        (["plot", "run", "--figure", ""], "--figure: expected a value after it, got ''"),
        (["plot", "run", "--format="], "--format: expected a value after it, got ''"),
        (["scenario", "q.toml", "--out", ""], "--out: expected a value after it, got ''"),
        (["compare", "q.toml", "--jobs", "0"], "--jobs: expected at least 1 process, got 0"),
        (
            ["sweep", "q.toml", "--out", "s", "--resume", "--overwrite"],
            "--resume, --overwrite: expected one of them, got both",
        ),
        (
            ["leave", "run", "--patience", "nan"],
            "--patience: expected seconds from 0 on, got 'nan'",
        ),
        (["leave", "run", "--patience", "-1"], "--patience: expected seconds from 0 on, got '-1'"),
        (["leave", "run", "--patience", "x"], "--patience: expected seconds from 0 on, got 'x'"),
        (
            ["peer", "q.toml", "--lead", "--agents", "0-3", "--start-timeout", "inf"],
            "--start-timeout: expected seconds from 0 on, got 'inf'",
        ),
    ],
)
def test_values_that_mean_nothing_are_refused(capsys, words, says):
    assert said(capsys, *words).startswith(says)


@pytest.mark.slow  # starts interpreters
@pytest.mark.parametrize("more", [[], ["--json"]])
@pytest.mark.parametrize(
    ("stdout", "unbuffered"), [("/dev/full", ""), ("/dev/full", "1"), (None, "")]
)
def test_a_stdout_that_takes_nothing_is_one_line(stdout, unbuffered, more):
    command = [sys.executable, "-m", "p2pfrl", "validate", "q.toml", *more]
    close = f'exec {">" + stdout if stdout else ">&-"}; exec "$@"'
    root = str(Path(p2pfrl.__file__).parents[1])
    done = subprocess.run(
        ["sh", "-c", close, "sh", *command],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": root, "PYTHONUNBUFFERED": unbuffered},
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("stdout: ")
    assert done.stderr.count("\n") == 1


def test_a_network_that_loses_all_has_a_note(capsys):
    assert main(["validate", "q.toml", "--set", "network.loss=1"]) == 0
    assert "note: network.loss is 1: no message arrives" in capsys.readouterr().err


def test_a_working_directory_that_was_removed_is_said(capsys, tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert said(capsys, "list").startswith("working directory: expected one that exists")


def test_what_is_no_file_is_said(capsys):
    os.mkfifo("pipe")
    for name in ("/dev/null", "pipe"):
        assert "expected a regular file" in said(capsys, "scenario", name)
    assert main(["scenario", "--resume", "none"]) == 1
    assert "no such directory" in capsys.readouterr().err
    assert main(["scenario", "--resume", "q.toml"]) == 1
    assert capsys.readouterr().err == "q.toml: expected a run directory to resume, got a file\n"
    for command in ("status", "stop"):
        assert main([command, "none"]) == 1
        assert capsys.readouterr().out == "none: no run\n"


def test_a_class_that_is_not_there_is_said_with_those_that_are(capsys):
    set_ = "--set", "mixing.kind=rules_from_outside:Nope"
    assert "rules_from_outside has no class Nope; it has Shrunk" in said(
        capsys, "validate", "q.toml", *set_
    )
    line = said(capsys, "validate", "q.toml", "--set", "mixing.kind=rules_from_outside")
    assert line.endswith('a rule of your own is named "module:Class"')
    line = said(capsys, "validate", "q.toml", "--set", "mixing.kind=metropolls")
    assert line.endswith("did you mean 'metropolis'?")
    set_ = "--set", "mixing.kind=rules_from_outside:Shrunk"
    assert "Shrunk.weights: row 0 sums to 2" in said(capsys, "validate", "q.toml", *set_)


def test_options_are_given_by_name():
    from rules_from_outside import Shrunk

    with pytest.raises(p2pfrl.ScenarioError, match=r"Shrunk: options are given by name, such as"):
        Shrunk(0.3)


@pytest.mark.parametrize("agent", ["a", None, 1.0, True, 4, -1])
def test_an_agent_of_a_record_is_one_of_its_numbers(agent):
    record = p2pfrl.run(p2pfrl.loads(QUADRATIC))
    for method in (record.policy, record.state_dict):
        with pytest.raises(RecordError, match=f"expected an agent from 0 to 3, got {agent!r}"):
            method(agent)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("learner.lr=1e-3,0.001", "--set learner.lr: the value 0.001 is given twice"),
        ("learner.lr=1e-3,,", "--set learner.lr: expected a value between commas, got '1e-3,,'"),
    ],
)
def test_values_of_a_sweep_differ(text, says):
    with pytest.raises(p2pfrl.ScenarioError, match=f"^{says}$"):
        grid([text])
    assert grid(["a=1,true"]) == {"a": [1, True]}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("5-2", "expected ascending seeds, got '5-2'; write 2-5"),
        ("0-999999999", "expected at most 10000 seeds, got '0-999999999'"),
        ("0-5000,6000-12000", "expected at most 10000 seeds"),
    ],
)
def test_ranges_of_seeds_ascend_and_are_not_too_long(text, says):
    with pytest.raises(p2pfrl.ScenarioError, match=says):
        seeds(text)


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("stop.virtual_time=0", "stop.virtual_time: must be above 0 s"),
        ("learner.hidden=[8,0]", "learner.hidden: expected layers of at least 1 unit, got [8, 0]"),
    ],
)
def test_values_without_a_meaning_are_refused(setting, says):
    given = setting if "hidden" not in setting else "learner.kind=reinforce"
    key, _, value = given.partition("=")
    overrides = {key: 0 if value == "0" else value}
    if "hidden" in setting:
        overrides |= {"environment.id": "cartpole", "learner.hidden": [8, 0]}
    with pytest.raises(p2pfrl.ScenarioError) as caught:
        p2pfrl.loads(QUADRATIC, overrides)
    assert says in str(caught.value)


class Column(gymnasium.Env):
    """Returns observations of shape (2, 1) for a space of shape (2,)."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        return np.zeros((2, 1), np.float32), {}

    def step(self, action):
        return np.zeros((2, 1), np.float32), 0.0, False, False, {}


def test_an_observation_of_another_shape_than_its_space_is_refused():
    if "Column-v0" not in gymnasium.registry:
        gymnasium.register("Column-v0", entry_point=Column, disable_env_checker=True)
    scenario = p2pfrl.loads(
        QUADRATIC,
        {
            "environment.id": "Column-v0",
            "learner": {"kind": "reinforce"},
            "environment.instances": 1,
        },
    )
    with pytest.raises(AgentError, match=r"observation of shape \(2, 1\); expected one of"):
        p2pfrl.run(scenario)


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ("name=\udcff", "--set name: expected text in UTF-8, got '\\udcff'"),
        ("\udcff=3", "--set ?: expected a key in UTF-8"),
        ("checkpoint.every=0", "--set checkpoint.every: must be at least 1 or above 0, got 0"),
        ("groups=[{agents=[]}]", "--set groups.0.agents: expected at least 1 value, got []"),
    ],
)
def test_a_value_that_cannot_be_is_one_plain_line(capsys, setting, line):
    assert said(capsys, "validate", "q.toml", "--set", setting) == line


def test_the_same_setting_from_python_is_no_option_of_the_command_line():
    with pytest.raises(ScenarioError, match=r"^overrides: stop.rounds: must be at least 1, got 0$"):
        p2pfrl.load("q.toml", overrides={"stop.rounds": 0})


def test_new_takes_the_name_of_the_file_too(capsys):
    assert main(["new", "mine.toml"]) == 0
    assert capsys.readouterr().out == "mine.toml\n"
    assert main(["validate", "mine.toml", "--quiet"]) == 0
    assert said(capsys, "pki", "issue").startswith("pki issue: expected AGENTS, got nothing")


class Gone(io.StringIO):
    """A stream whose reader has gone, or whose disk is full."""

    def __init__(self, error: int) -> None:
        super().__init__()
        self.error = error

    def write(self, text: str) -> int:
        raise OSError(self.error, os.strerror(self.error))


def test_progress_without_a_reader_is_dropped_and_a_full_stdout_is_named():
    progress = Dropping.of(Gone(errno.EPIPE))
    print("round 1", file=progress, flush=True)
    assert not progress.isatty()
    with pytest.raises(UnwrittenError, match=r"^stdout: No space left on device$"):
        print("digest", file=Naming.of(Gone(errno.ENOSPC)))
    with pytest.raises(BrokenPipeError):
        print("digest", file=Naming.of(Gone(errno.EPIPE)))


@pytest.mark.slow  # starts an interpreter
def test_a_run_goes_on_when_nobody_reads_its_progress():
    command = f"{sys.executable} -m p2pfrl scenario q.toml --out run 2>&1 | head -c 1"
    root = str(Path(p2pfrl.__file__).parents[1])
    subprocess.run(["sh", "-c", command], env={**os.environ, "PYTHONPATH": root}, check=True)
    assert p2pfrl.load_record("run").summary["stopped_by"] == "rounds"


def test_an_update_that_is_not_finite_is_said_once_and_without_warnings_of_numpy(capsys):
    words = ["scenario", "q.toml", "--quiet", "--out", "run", "--set", "learner.lr=1e38"]
    assert main([*words, "--set", "learner.steps=9"]) == 1
    first, *_ = capsys.readouterr().err.splitlines()
    assert first.startswith("agent 0, round 1, update 0: training left parameters x that are not")


@pytest.mark.parametrize("mode", ["gossip", "central", "independent"])
def test_numbers_of_a_run_that_grows_without_bound_are_no_warnings_of_numpy(mode):
    settings = {"mode": mode, "stop.rounds": 182, "learner.lr": 5.0, "learner.dimension": 2}
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        record = p2pfrl.run(p2pfrl.loads(QUADRATIC, settings))
    assert [str(one.message) for one in found] == []
    assert not np.isfinite(record.metrics["error"]).all()


def test_warnings_of_gymnasium_are_notes_and_not_printed_if_it_shall_be_quiet(capsys):
    for quiet in (False, True):
        with notes_on_stderr(quiet=quiet):
            gymnasium.logger.warn("the space is odd")
            gymnasium.logger.warn("the space is odd")
        found = capsys.readouterr().err
        assert found == ("" if quiet else "note: Gymnasium: the space is odd\n")


def test_what_an_environment_returns_that_looks_wrong_is_a_note_even_when_quiet(capsys):
    with notes_on_stderr(quiet=True):
        warnings.warn("own_envs:Far: number 1 is 57", ScenarioWarning, stacklevel=1)
    assert capsys.readouterr().err == "note: own_envs:Far: number 1 is 57\n"


def test_a_report_that_no_longer_fits_the_sweep_is_removed(capsys, monkeypatch):
    monkeypatch.setattr("p2pfrl.results.plots.FIGURES", {"problem": FIGURES["problem"]})
    words = ["sweep", "q.toml", "--seeds", "0", "-q", "--out", "s"]
    assert main([*words, "--set", "learner.lr=0.1,0.2"]) == 0
    assert [*Path("s/figures").glob("*.svg")]
    monkeypatch.setattr("p2pfrl.commands.runs._MOST_DRAWN", 2)
    assert main([*words, "--set", "learner.lr=0.1,0.2,0.3", "--resume"]) == 0
    assert (
        "report: not drawn: no run is done, or there are more than 2 set" in capsys.readouterr().out
    )
    assert not Path("s/report.html").exists()
    assert not [*Path("s/figures").glob("*.svg")]


@pytest.mark.parametrize(
    ("command", "shown"), [("sweep", "table: s/sweep.csv"), ("compare", "consensus distance")]
)
def test_a_series_whose_report_does_not_fit_on_the_disk_shows_its_table(
    capsys, monkeypatch, command, shown
):
    def full(*_: object) -> None:
        raise RecordError("s/figures/modes.svg: cannot be written: No space left on device")

    monkeypatch.setattr("p2pfrl.results.report.report", full)
    words = [command, "q.toml", "--seeds", "0", "-q", "--out", "s", "--set", "learner.lr=0.1,0.2"]
    assert main(words) == 1
    told = capsys.readouterr()
    assert shown in told.out
    assert told.err.splitlines() == [
        "s/figures/modes.svg: cannot be written: No space left on device",
        "s has the runs and their table; `p2pfrl report s` writes its report and figures",
    ]


@pytest.mark.slow
def test_a_run_that_shall_be_longer_is_refused_with_the_command_that_makes_it(capsys):
    assert main(["scenario", "q.toml", "--quiet", "--out", "a"]) == 0
    line = said(capsys, "scenario", "--resume", "a", "--set", "stop.rounds=3")
    start, _, command = line.partition(": p2pfrl ")
    assert start.endswith("a longer run begins anew, and its first rounds equal those of this one")
    assert main([*command.replace("ANOTHER", "b").split(), "--quiet"]) == 0
    short, long = (p2pfrl.load_record(name).metrics["consensus_distance"] for name in "ab")
    assert (len(short), len(long)) == (1, 3)
    assert short[0] == long[0]
    assert main(["scenario", "--resume", "a"]) == 1
    assert "this run has finished; a longer one begins anew: p2pfrl" in capsys.readouterr().err
