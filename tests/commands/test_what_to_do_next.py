"""Messages that name the command or the fix that helps."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import p2pfrl
from p2pfrl.build.participants import share
from p2pfrl.cli import main
from p2pfrl.core import finder
from p2pfrl.core.errors import RecordError, ScenarioError
from p2pfrl.deploy.local import _is_of
from p2pfrl.net.fleet import show_agents
from p2pfrl.results.directory import going_on
from p2pfrl.results.plots.film import film
from p2pfrl.scenario import load, loads
from p2pfrl.scenario.render import resolved

TEXT = """
name = "q"
agents = 5
mode = "central"
stop = {rounds = 2}
learner = {kind = "quadratic", dimension = 2}
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "q.toml"
    path.write_text(TEXT)
    return path


def test_a_killed_run_names_the_command_that_continues_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "scenario.toml").write_text(resolved(loads(TEXT)))
    for command in ("report", "verify", "show", "plot"):
        assert main([command, str(run)]) == 1
        said = capsys.readouterr().err
        assert "this run was killed or interrupted, and has no record yet" in said
        assert f"to go on: p2pfrl scenario --resume {run}" in said
    assert main(["scenario", "--resume", str(run), "--quiet", "--no-report"]) == 0
    assert main(["show", str(run)]) == 0


def test_an_interrupted_run_of_processes_names_the_command_that_continues_it(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario, run = load(file), tmp_path / "run"
    groups = share(scenario, 2)
    for agents in groups:
        (run / "peers" / show_agents(agents)).mkdir(parents=True)
    (run / "deployed.toml").write_text(resolved(scenario))
    command = going_on(run)
    assert main(["scenario", "--resume", str(run)]) == 1
    assert command in capsys.readouterr().err
    words = command.split()
    again, jobs = load(words[2]), int(words[words.index("--jobs") + 1])
    assert words[-2:] == ["--out", str(run)]
    assert (jobs, share(again, jobs)) == (2, groups)
    assert _is_of(run, resolved(again), [run / "peers" / show_agents(a) for a in groups])


def test_a_run_without_a_report_says_how_to_get_one(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(["scenario", str(file), "--quiet", "--no-report", "--out", str(run)]) == 0
    assert f"not written: --no-report; `p2pfrl report {run}` writes it" in capsys.readouterr().out
    assert not (run / "report.html").exists()
    assert not (run / "figures").exists()


def test_a_scenario_of_the_package_can_be_extended_by_its_name(file: Path) -> None:
    file.write_text("extends = 'ring_16.toml'\nstop.rounds = 3\n")
    found = load(file)
    assert (found.agents, found.stop.rounds) == (16, 3)
    file.write_text("extends = 'rinf_16.toml'\n")
    with pytest.raises(ScenarioError) as caught:
        load(file)
    assert str(caught.value).endswith("did you mean 'ring_16.toml'?")
    file.write_text("extends = 'zzz'\n")
    with pytest.raises(ScenarioError, match="`p2pfrl list recipes` and `list scenarios` name some"):
        load(file)


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("{}", "pip install 'p2pfrl[live]'"),
        ('{"url": "file:///a/b", "dir_info": {}}', "pip install 'p2pfrl[live] @ file:///a/b'"),
        (
            '{"url": "https://h/p.git", "vcs_info": {"vcs": "git", "commit_id": "0"}}',
            "pip install 'p2pfrl[live] @ git+https://h/p.git'",
        ),
    ],
)
def test_an_extra_is_installed_from_where_the_package_came(
    origin: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Known:
        def read_text(self, name: str) -> str:
            return json.dumps(json.loads(origin)) if name == "direct_url.json" else ""

    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Known())
    monkeypatch.setattr(finder, "PACKAGE", tmp_path / "site" / "p2pfrl")
    assert finder.install("live") == expected


def test_no_message_names_an_extra_of_an_index() -> None:
    paths = [*finder.PACKAGE.rglob("*.py"), *(finder.PACKAGE.parent / "docs").glob("*.md")]
    said = [path.name for path in paths if "p2pfrl[" in path.read_text(encoding="utf-8")]
    assert said == ["finder.py"]


def test_messages_say_what_is_wrong(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (file.parent / "own_env_of_mine.py").write_text(
        "import gymnasium\nclass Base(gymnasium.Env):\n    def __init__(self): raise ValueError('no road')\n"
    )
    for words, expected in (
        (
            ["validate", "q.toml", "--set", "stop.virtual_time=-3s"],
            "finite and not negative, got '-3s'",
        ),
        (
            ["validate", "ring_16.toml", "--set", "environment.id=own_env_of_mine:Base"],
            "'own_env_of_mine:Base' cannot be made: ValueError: no road",
        ),
        (
            ["peer", "q.toml", "--agents", "0", "--rendezvous", "nohost.invalid:7999"],
            "--rendezvous nohost.invalid:7999: expected a host that this machine finds",
        ),
    ):
        assert main(words) == 2
        assert expected in capsys.readouterr().err


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (
            {"mixing": {"kind": "clipped_gossip", "radius": 1.0, "attackers": [1]}},
            "mixing: radius and attackers are two ways",
        ),
        (
            {"schedule": {"kind": "buffered", "fresh_only": True, "max_staleness": 2}},
            "schedule: fresh_only = true is max_staleness = 0",
        ),
    ],
)
def test_options_that_exclude_each_other_are_refused_at_their_rule(
    rules: Any, expected: str
) -> None:
    with pytest.raises(ScenarioError) as caught:
        p2pfrl.run(loads(TEXT), **rules)
    assert str(caught.value).startswith(expected)


def test_a_film_that_cannot_be_written_names_its_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordError, match=r"file/deep: cannot be made: Not a directory"):
        film([np.zeros((2, 2, 3), np.uint8)], tmp_path / "file" / "deep" / "a.gif", per_second=8)
