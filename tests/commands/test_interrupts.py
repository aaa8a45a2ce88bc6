"""Ctrl-C, SIGTERM and SIGHUP end every command with code 130: at once, or after a run was saved."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from p2pfrl.core.interrupts import SIGNALS, postponed

LONG = """
name = "long"
agents = 4
[stop]
rounds = 10_000_000
[learner]
kind = "quadratic"
[checkpoint]
every = "1s"
"""
AT_IMPORT = """
import os, signal, sys
class Finder:
    def find_spec(name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.{name})
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # tests may run under nohup
sys.meta_path.insert(0, Finder)
from p2pfrl.__main__ import main
sys.exit(main())
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize(
    "module",
    [
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("p2pfrl.cli", "cyclopts")),
        "numpy",
        pytest.param("numpy._core.multiarray", marks=pytest.mark.slow),
        pytest.param("torch", marks=pytest.mark.slow),
    ],
)
def test_an_interrupt_in_an_import_ends_at_once_without_traceback(
    module: str, name: str, tmp_path: Path
) -> None:
    if name != "SIGINT" and module != "numpy":
        pytest.skip("one module will do")
    program = AT_IMPORT.format(module=module, name=name)
    words = ["scenario", "ring_16", "--out", "run", "--json", "--quiet"]
    words += ["--set", "compute.engine=torch"]
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert (done.returncode, done.stderr) == (130, "interrupted\n")
    assert json.loads(done.stdout)["error"]["code"] == 130


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a command; whatever of it runs after the test is killed."""
    started = []

    def begin(*words: str) -> subprocess.Popen[str]:
        (tmp_path / "long.toml").write_text(LONG)
        process = subprocess.Popen(
            [sys.executable, "-m", "p2pfrl", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def wait_for(found: object, process: subprocess.Popen[str]) -> None:
    assert callable(found)
    deadline = time.monotonic() + 120
    while not found():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(number, marks=[pytest.mark.slow] if number != signal.SIGINT else [])
        for number in SIGNALS
    ],
)
def test_an_interrupted_run_is_saved(number: signal.Signals, start: Start, tmp_path: Path) -> None:
    process = start("scenario", "long.toml", "--out", "run")
    wait_for(lambda: "round" in os.read(process.stderr.fileno(), 1000).decode(), process)  # type: ignore[union-attr]
    process.send_signal(number)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "to go on: p2pfrl scenario --resume run" in said
    assert "Traceback" not in said
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["stopped_by"] == "interrupt"
    assert summary["rounds"] > 0


@pytest.mark.slow  # starts an interpreter
def test_three_interrupts_at_once_say_how_the_run_goes_on(start: Start) -> None:
    process = start("scenario", "long.toml", "--out", "run")
    assert process.stderr is not None
    assert any(line.startswith("round 1/") for line in process.stderr), "after notes"
    for _ in range(3):
        process.send_signal(signal.SIGINT)
        time.sleep(0.02)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.endswith("to go on: p2pfrl scenario --resume run\n")


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGKILL]
)
def test_runs_of_a_sweep_end_with_it(number: signal.Signals, start: Start, tmp_path: Path) -> None:
    process = start("sweep", "long.toml", "--seeds", "0-2", "-j", "2", "--out", "sw")
    wait_for(lambda: len(list(tmp_path.glob("sw/*/checkpoints/run.state"))) == 2, process)
    children = [int(pid) for pid in descendants(process.pid)]
    assert len(children) >= 2
    process.send_signal(number)
    _, said = process.communicate(timeout=120)
    if number == signal.SIGTERM:
        assert process.returncode == 130
        assert "the same command with --out sw --resume keeps the runs" in said
        assert "Traceback" not in said
    deadline = time.monotonic() + 60
    while any(is_running(pid) for pid in children):
        assert time.monotonic() < deadline, children
        time.sleep(0.1)
    stopped = [json.loads(path.read_text()) for path in tmp_path.glob("sw/*/summary.json")]
    assert [summary["stopped_by"] for summary in stopped] == ["interrupt"] * 2


def descendants(parent: int) -> list[str]:
    found = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [*found, *(pid for child in found for pid in descendants(int(child)))]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_nohup_keeps_ignoring_a_hangup(tmp_path: Path) -> None:
    program = (
        "import signal, os; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "from p2pfrl.core.interrupts import end_at_once; end_at_once(print)\n"
        "os.kill(os.getpid(), signal.SIGHUP); print('alive')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "alive\n"


def test_an_interrupt_waits_until_files_are_written() -> None:
    written = []

    def write() -> None:
        with postponed():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
            written.append(1)

    with pytest.raises(KeyboardInterrupt):
        write()
    assert written == [1]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


IGNORED = """
import signal, sys, time
from p2pfrl.core.interrupts import raised

class Finalized:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

hook = sys.unraisablehook
with raised():
    Finalized()
    try:
        time.sleep(30)
    except KeyboardInterrupt:
        print("raised", sys.unraisablehook is not hook)
print(sys.unraisablehook is hook)
"""


@pytest.mark.slow
def test_an_interrupt_that_python_ignores_is_raised_again() -> None:
    # In a process of its own: the timer of tests that take too long is the same as that of this.
    done = subprocess.run(
        [sys.executable, "-c", IGNORED], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.split("\n") == ["raised True", "True", ""], done.stderr


def test_an_ascii_terminal_gets_tables_and_names_without_other_characters(tmp_path: Path) -> None:
    (tmp_path / "q.toml").write_text(LONG.replace("10_000_000", "3"))
    for words in (
        ["compare", "q.toml", "--modes", "gossip,central", "--seeds", "0-1", "-q", "--out", "c"],
        ["list", "mixing"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "p2pfrl", *words],
            capture_output=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONIOENCODING": "ascii"},
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout.isascii()
