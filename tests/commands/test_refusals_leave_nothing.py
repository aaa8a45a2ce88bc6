"""A command that is refused leaves no directory behind that it made for itself."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

import p2pfrl
from p2pfrl.cli import main
from p2pfrl.core.errors import ScenarioError
from p2pfrl.results.directory import drop_empty, new_directory

GOOD = """name = "good"
agents = 3
stop = {rounds = 1}
learner = {kind = "quadratic", dimension = 2}
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("good.toml").write_text(GOOD)
    Path("bad.toml").write_text(GOOD.replace("dimension = 2", 'dimension = "two"'))
    return tmp_path


def left(here: Path) -> list[str]:
    return sorted(str(path.relative_to(here)) for path in here.rglob("*"))


@pytest.mark.parametrize(
    "command",
    [
        "scenario bad.toml --out a/b/c",
        "scenario good.toml --executor ray --transport tcp --out a/b/c",
        "sweep bad.toml",
        "sweep nothing.toml",
        "sweep good.toml --set learner.lr=x,y",
        "sweep good.toml --seeds 3-1",
        "sweep good.toml --shard 9/3",
        "sweep bad.toml --out a/b/c",
        "compare bad.toml",
        "compare good.toml --modes gossip,gossip",
        "compare good.toml --set learner.lr=x,y --out a/b/c",
        "fuzz bad.toml",
        "fuzz good.toml --set learner.lrr=1 --out a/b/c",
        "collect nothing --out a/b/c",
        "peer good.toml --lead --agents 7 --rendezvous 127.0.0.1:0",
    ],
)
def test_nothing_is_left(here: Path, command: str) -> None:
    before = left(here)
    assert main(shlex.split(command)) in (1, 2)
    assert left(here) == before


@pytest.mark.parametrize("transport", ["memory", "tcp"])
def test_a_run_that_is_too_large_for_this_machine_leaves_nothing(
    here: Path, monkeypatch: pytest.MonkeyPatch, transport: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ScenarioError(["too large"])

    monkeypatch.setattr("p2pfrl.commands.progress.price", refuse)
    monkeypatch.setattr("p2pfrl.deploy.local.run_processes", refuse)
    before = left(here)
    assert main(["scenario", "good.toml", "--transport", transport]) == 2
    assert left(here) == before


def test_in_python_nothing_is_left_either(here: Path) -> None:
    before = left(here)
    with pytest.raises(ScenarioError):
        p2pfrl.compare("good.toml", settings={"learner.lr": ["x", "y"]})
    with pytest.raises(ScenarioError):
        p2pfrl.sweep("good.toml", settings={"learner.lr": ["x", "y"]})
    assert left(here) == before


def test_directories_with_something_in_them_and_those_of_others_stay(here: Path) -> None:
    mine = new_directory(Path("runs/good/mine"))
    other = new_directory(Path("runs/good/other"))
    (mine / "file").touch()
    drop_empty(mine)
    drop_empty(other)
    assert left(here) == [
        "bad.toml",
        "good.toml",
        "runs",
        "runs/good",
        "runs/good/mine",
        "runs/good/mine/file",
    ]
    Path("a/b").mkdir(parents=True)
    drop_empty(Path("a/b"))
    assert Path("a").is_dir()
