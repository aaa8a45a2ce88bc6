"""Damaged run directories: every command says what is wrong and where, waits for nothing, and gives
no answer that is false."""

from __future__ import annotations

import json
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
from damage import DAMAGES, Case, cases

import p2pfrl
from p2pfrl.cli import main
from p2pfrl.core.errors import P2PFRLError, RecordError
from p2pfrl.deploy.journal import MAGIC, Reader
from p2pfrl.results.differences import _OF_THE_MACHINE
from p2pfrl.results.directory import content_of
from p2pfrl.watch.sources import Careful, source_of

SCENARIO = """name = "damaged"
agents = 3
stop = {rounds = 4}
environment = {id = "gridworld"}
learner = {kind = "tabular_q"}
evaluation = {every = 2, episodes = 1}
checkpoint = {every = 1}
"""
DEADLINE = 30.0
"""Seconds that a command takes at most; a few of the many processes of this machine are slow."""
FEW = 45
"""Damages of a kind of directory that the quick tests try."""
SLOW = {"report": 60, "plot": 60, "again": 60, "verify": 150, "collect": 60}
"""Damages that are tried on commands that take long; all on the others."""
READING: dict[str, Callable[[Path], list[str]]] = {
    "verify": lambda run: ["verify", str(run), "--quiet"],
    "show": lambda run: ["show", str(run)],
    "runs": lambda run: ["runs", str(run.parent)],
    "status": lambda run: ["status", str(run)],
    "resume": lambda run: ["scenario", "--resume", str(run), "--quiet", "--no-report"],
    "stop": lambda run: ["stop", str(run)],
    "watch": lambda run: [],
}
if find_spec("duckdb") is not None:
    READING["export"] = lambda run: [
        *("export", str(run), "--parquet", str(run.with_suffix(".parquet")))
    ]
DRAWING: dict[str, Callable[[Path], list[str]]] = {
    "report": lambda run: ["report", str(run)],
    "plot": lambda run: ["plot", str(run), "--format", "svg", "--out", str(run.with_suffix(".d"))],
    "render": lambda run: ["render", str(run), "--graph", "--out", str(run.with_suffix(".gif"))],
    "again": lambda run: [
        *("scenario", str(run / "scenario.toml"), "--quiet", "--no-report"),
        *("--out", str(run.with_suffix(".again"))),
    ],
}
OF_PROCESSES: dict[str, Callable[[Path], list[str]]] = {
    **{name: READING[name] for name in ("verify", "show", "status", "stop", "watch")},
    "audit": lambda run: ["audit", str(run)],
    "calibrate": lambda run: ["calibrate", *peers(run)],
    "collect": lambda run: ["collect", *peers(run), "--out", str(run.with_suffix(".collected"))],
    "leave": lambda run: ["leave", peers(run)[0], "--patience", "0.01"],
}
COMMANDS = READING | DRAWING | OF_PROCESSES
SAID_ON_STDOUT = ("status", "stop", "audit", "verify", "runs")
"""Commands whose result is what is wrong."""


def peers(run: Path) -> list[str]:
    return [str(path) for path in sorted((run / "peers").iterdir())]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a finished run and one that was interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    p2pfrl.run(p2pfrl.loads(SCENARIO), out=folder / "finished", trace=True)

    def interrupt(row: dict[str, float]) -> None:
        if row["round"] == 3:
            raise KeyboardInterrupt

    p2pfrl.run(p2pfrl.loads(SCENARIO), out=folder / "stopped", progress=interrupt)
    return folder


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a run of two processes."""
    folder = tmp_path_factory.mktemp("deployed")
    (folder / "q.toml").write_text(SCENARIO)
    words = ["scenario", str(folder / "q.toml"), "--transport", "tcp", "--jobs", "2", "--no-report"]
    assert main([*words, "--quiet", "--out", str(folder / "deployed")]) == 0
    return folder


@dataclass(frozen=True)
class Answer:
    """What a command answered: its exit code, and what it printed on stdout and stderr."""

    code: int
    out: str
    err: str


@contextmanager
def deadline(what: str) -> Iterator[None]:
    def ring(number: int, frame: object) -> None:
        pytest.fail(f"{what}: no end after {DEADLINE:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, DEADLINE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def answer(command: str, run: Path, capsys: pytest.CaptureFixture[str]) -> Answer:
    capsys.readouterr()
    with deadline(f"{command} of {run}"):
        if command != "watch":
            code = main(COMMANDS[command](run))
            return Answer(code, *capsys.readouterr())
        try:
            view = Careful(source_of([run]), str(run)).read()
        except P2PFRLError as error:
            return Answer(1, "", str(error))
        return Answer(0, json.dumps(view), "")


def test_every_kind_of_damage_is_tried() -> None:
    assert len(DAMAGES) >= 14


def check(
    case: Case, command: str, whole: Path, to: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Damage a copy of a directory, and require a true answer of a command, or an error.

    Raises:
        AssertionError: there is neither.
    """
    run = case.make(whole / case.kind, to / "run")
    known = content_of(run)
    found = answer(command, run, capsys)
    said = found.err if command not in SAID_ON_STDOUT else found.out + found.err
    where = f"{command} of {case}: {found}"
    assert found.code in (0, 1, 2), where
    assert "Traceback" not in found.err, where
    assert len(found.err) < 3000, where
    if found.code:
        assert str(to) in said, f"it names no file: {where}"
        return
    before, after = whole / case.kind / case.name, run / case.name
    is_same = (
        after.is_file()
        and after.stat().st_size == before.stat().st_size
        and after.read_bytes() == before.read_bytes()
    )
    files = json.loads((whole / case.kind / "summary.json").read_bytes())["files"]
    is_recorded = case.name in (*files, "summary.json")
    if command == "verify" and case.name == "summary.json":
        assert recorded(after) == recorded(before), f"it is not equal: {where}"
    elif command == "verify":
        assert is_same or not is_recorded, f"it is not equal: {where}"
    elif command in ("export", "report", "plot"):
        assert is_same or case.name not in files, f"a file is not the run's own: {where}"
    elif command == "resume":
        digest = json.loads((whole / "finished" / "summary.json").read_bytes())["digest"]
        assert json.loads((run / "summary.json").read_bytes())["digest"] == digest, (where, known)
    elif command == "collect":
        own, others = (
            json.loads((folder / "summary.json").read_bytes())["parameters_digest"]
            for folder in (whole / case.kind, run.with_suffix(".collected"))
        )
        assert own == others, where


def recorded(summary: Path) -> dict[str, object]:
    """Return what a summary says of a run, without its machine, of which `verify` says the rest."""
    table = json.loads(summary.read_bytes())
    return {key: value for key, value in table.items() if key not in _OF_THE_MACHINE}


def some(kind: str, folder: Path, number: int) -> list[Case]:
    found = [case for case in cases(kind, folder / kind) if not case.name.startswith("figures/")]
    return random.Random(kind).sample(found, min(number, len(found)))


@pytest.mark.parametrize("kind", ["finished", "stopped"])
def test_some_damages_of_a_run(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    commands = [*READING]
    for number, case in enumerate(some(kind, whole, FEW)):
        to = tmp_path / str(number)
        check(case, commands[number % len(commands)], whole, to, capsys)
        shutil.rmtree(to)


@pytest.mark.parametrize("damage", ["pipe", "loop", "directory"])
def test_a_run_goes_on_or_says_why_not_whatever_is_no_file_in_it(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    for number, case in enumerate(cases("stopped", whole / "stopped")):
        if case.damage == damage and not case.name.startswith("figures/"):
            check(case, "resume", whole, tmp_path / str(number), capsys)


@pytest.mark.slow
@pytest.mark.parametrize("command", [*READING, *DRAWING])
@pytest.mark.parametrize("kind", ["finished", "stopped"])
def test_every_damage_of_a_run(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, command: str
) -> None:
    for number, case in enumerate(some(kind, whole, SLOW.get(command, 10**9))):
        to = tmp_path / str(number)
        check(case, command, whole, to, capsys)
        shutil.rmtree(to)


@pytest.mark.slow
@pytest.mark.parametrize("command", OF_PROCESSES)
def test_every_damage_of_a_run_of_processes(
    deployed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    for number, case in enumerate(some("deployed", deployed, SLOW.get(command, 10**9))):
        to = tmp_path / str(number)
        check(case, command, deployed, to, capsys)
        shutil.rmtree(to)


def test_a_journal_with_zeros_without_end_is_refused(tmp_path: Path) -> None:
    journal = tmp_path / "journal.bin"
    journal.write_bytes(MAGIC)
    for size, is_refused in ((2**20, False), (2**34, True)):
        with journal.open("r+b") as file:
            file.truncate(size)
        with deadline("scan"), pytest.raises(RecordError) if is_refused else nullcontext():
            assert [*Reader(journal).scan()] == []
