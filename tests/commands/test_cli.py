"""The command line: exit codes, what goes where, and how fast the quick commands answer."""

import csv
import json
import os
import subprocess
import sys
from datetime import datetime, tzinfo
from pathlib import Path

import pytest

from p2pfrl.catalog import TABLES
from p2pfrl.cli import main
from p2pfrl.commands import values as settings
from p2pfrl.commands.progress import run_directory
from p2pfrl.core.errors import ScenarioError
from p2pfrl.results.plots import FIGURES
from p2pfrl.scenario import hash8, loads
from p2pfrl.scenario.checks.notes import without_effect

QUADRATIC = """
name = "q"
agents = 4
[stop]
rounds = 5
[learner]
kind = "quadratic"
"""
HEAVY = ("torch", "gymnasium", "matplotlib", "scipy", "networkx", "pandas", "cryptography")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "q.toml").write_text(QUADRATIC)
    return "q.toml"


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave figures out, which take longer than the runs."""
    monkeypatch.setattr("p2pfrl.results.plots.FIGURES", {})


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> object:
    assert main(words) == 0
    return json.loads(capsys.readouterr().out)


def test_validate_tells_sizes_and_rates(file, capsys):
    found = printed(capsys, "validate", file, "--json", "--set", "agents=16")
    assert found["agents"] == 16
    assert found["parameters"] == 32
    assert found["lambda_2"] == pytest.approx(0.949253, abs=1e-6)
    assert found["spectral_gap"] == pytest.approx(1 - 0.949253, abs=1e-6)
    assert found["rounds_to_1e-6"] == 266
    assert found["messages_per_round"] == 32
    assert found["bytes_per_round"] == 32 * found["bytes_per_message"]
    assert found["bytes_per_message"] > 32 * 8


@pytest.mark.usefixtures("undrawn")
def test_validate_counts_the_bytes_that_a_run_sends(file, capsys):
    for mode in ("gossip", "central", "independent"):
        predicted = printed(
            capsys, "validate", file, "--json", "--set", f"mode={mode}", "--set", "stop.rounds=2"
        )
        sent = printed(
            capsys,
            "scenario",
            file,
            "--json",
            "-q",
            "--set",
            f"mode={mode}",
            "--set",
            "stop.rounds=2",
        )
        extra = 4 if mode == "central" else 0  # the final model
        assert sent["messages_sent"] == 2 * predicted["messages_per_round"] + extra
        assert sent["bytes_sent"] == pytest.approx(
            sent["messages_sent"] * predicted["bytes_per_message"], rel=0.02
        )


def test_validate_in_words_and_silently(file, capsys):
    assert main(["validate", file]) == 0
    assert "lambda_2" in capsys.readouterr().out
    assert main(["validate", file, "--quiet"]) == 0
    assert capsys.readouterr().out == ""


def test_a_run_ends_with_summary_figures_and_report(file, capsys):
    assert main(["scenario", file, "--out", "run", "--seed", "3"]) == 0
    told = capsys.readouterr()
    assert "digest" in told.out
    assert "round 5/5" in told.err
    summary = json.loads(Path("run/summary.json").read_text())
    assert (summary["seed"], summary["rounds"]) == (3, 5)
    assert Path("run/report.html").is_file()
    assert {path.suffix for path in Path("run/figures").iterdir()} == {".svg"}
    assert main(["verify", "run", "-q"]) == 0
    assert capsys.readouterr().out == f"equal: {summary['digest']}\n"


@pytest.mark.usefixtures("undrawn")
def test_a_run_that_does_not_replay_fails(file, capsys):
    assert main(["scenario", file, "--out", "run", "-q"]) == 0
    resolved = Path("run/scenario.toml")
    text = resolved.read_text()
    assert main(["scenario", file, "--out", "other", "-q", "--seed", "9"]) == 0
    Path("other/scenario.toml").write_text(text)
    capsys.readouterr()
    assert main(["verify", "other", "-q"]) == 1


@pytest.mark.usefixtures("undrawn")
def test_runs_without_out_get_a_directory_of_their_own(file, capsys):
    for _ in range(2):
        assert main(["scenario", file, "--json", "-q"]) == 0
    names = sorted(path.name for path in Path("runs/q").iterdir())
    assert len(names) == 2
    assert all("-gossip-s0-" in name for name in names)


@pytest.mark.slow
def test_two_runs_in_one_second_get_two_directories(tmp_path, monkeypatch):
    class Stopped(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime(2026, 1, 2, 3, 4, 5, tzinfo=tz)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("p2pfrl.commands.progress.datetime", Stopped)
    monkeypatch.setattr("p2pfrl.results.directory.datetime", Stopped)
    scenario = loads(QUADRATIC)
    first = run_directory(scenario)
    assert str(first) == f"runs/q/20260102T030405Z-gossip-s0-{hash8(scenario)}"
    assert first.is_dir()
    assert run_directory(scenario) == first.with_name(f"{first.name}-2")
    Path("q.toml").write_text(QUADRATIC)
    for command in (["sweep", "q.toml"], ["compare", "q.toml", "--modes", "gossip"]):
        for _ in range(2):
            assert main([*command, "--seed", "0", "-q"]) == 0
        name = f"20260102T030405Z-{command[0]}"
        assert {path.name for path in Path("runs/q").glob(f"{name}*")} == {name, f"{name}-2"}


@pytest.mark.usefixtures("undrawn")
def test_a_missed_target_is_code_3_only_when_required(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = [
        "scenario",
        "ring_16",
        "-q",
        "--json",
        "--set",
        "stop.rounds=1",
        "--set",
        "agents=2",
        "--out",
        "run",
    ]
    assert main(words) == 0
    assert main(words) == 2
    assert "run: expected an empty directory, got a finished run" in capsys.readouterr().err
    words.append("--overwrite")
    assert main([*words, "--require-target"]) == 3
    assert main([*words, "--require-target", "--set", "stop.target_return=1.0"]) == 0


def test_require_target_needs_a_target(file, capsys):
    assert main(["scenario", file, "--require-target"]) == 2
    assert "--require-target needs one" in capsys.readouterr().err


@pytest.mark.usefixtures("undrawn")
def test_an_interrupted_run_is_saved_and_is_code_130(file, monkeypatch, capsys):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("p2pfrl.commands.progress.Lines.__call__", interrupt)
    assert main(["scenario", file, "--out", "run"]) == 130
    assert json.loads(Path("run/summary.json").read_text())["stopped_by"] == "interrupt"


def test_bad_usage_is_code_2_without_traceback(file, capsys):
    bad = {
        ("scenaro", file): 'Did you mean "scenario"?',
        ("list", "mixin"): "did you mean 'mixing'?",
        ("validate", "nosuch"): "no such file",
        ("validate", file, "--set", "learner.lr='x'"): "--set learner.lr: expected a number",
        ("validate", file, "--set", "learner.lr"): "expected key=value",
        ("validate", file, "--set", f"agents={'9' * 5000}"): "a number longer than",
        ("validate", file, "--seed", "-1"): "--set seed: must be at least 0",
        ("validate", file, "--bogus"): "--bogus",
        ("validate",): "validate: expected FILE, got nothing\nTry: p2pfrl validate --help",
        ("new",): "new: expected NAME, got nothing",
        ("list", "mixing", "extra", "more"): "expected nothing more, got 'more'",
        ("report",): "expected at least one run directory",
        ("report", "run", "--out", "x.html"): "--out x.html: expected a directory",
        ("compare", file, "--seed", "1", "--seeds", "0-2"): "--seed: expected either",
        ("sweep", file, "--seed", "1", "--seeds", "0-2"): "--seed: expected either",
        ("compare", file, "--modes", "gosip"): "did you mean 'gossip'?",
        ("compare", file, "--seeds", "4-1"): "expected ascending seeds",
        ("sweep", file, "--set", "learner.lr"): "expected key=value",
        ("new", "../x"): "expected 1 to 64 letters",
    }
    for words, expected in bad.items():
        assert main(words) == 2, words
        told = capsys.readouterr()
        assert expected in told.err
        assert told.out == ""
        assert "Traceback" not in told.err


def failed(capsys, *words):
    code = main([*words, "--json"])
    told = capsys.readouterr()
    error = json.loads(told.out)["error"]
    assert error["code"] == code
    assert error["message"] == told.err.strip()
    assert "\n".join(problem["message"] for problem in error["problems"]) == error["message"]
    return code, error["problems"]


def test_with_json_a_failure_is_one_object_on_stdout_that_names_place_expectation_and_fix(
    file, capsys
):
    Path("bad.toml").write_text(
        QUADRATIC.replace("agents = 4", 'agents = "4"') + "dimensions = 3\n"
    )
    code, problems = failed(capsys, "validate", "bad.toml")
    assert code == 2
    assert {(p["where"], p["expected"], p["got"], p["fix"]) for p in problems} == {
        ("bad.toml:3:1: agents", "an integer", "'4'", "write it without quotes"),
        ("bad.toml:8:1: learner.dimensions", None, None, "did you mean 'dimension'?"),
    }
    code, (problem,) = failed(capsys, "sweep", file, "--seeds", "4-1")
    assert (code, problem["where"], problem["got"]) == (2, "--seeds", "'4-1'")
    code, (problem,) = failed(capsys, "validate", file, "--bogus")
    assert code == 2
    assert "--bogus" in problem["message"]
    code, (problem,) = failed(capsys, "verify", "nosuch")
    assert code == 1
    assert set(problem) == {"message", "where", "expected", "got", "fix"}


def test_failures_are_code_1_without_traceback(file, capsys):
    assert main(["new", "fresh"]) == 0
    assert loads(Path("fresh.toml").read_text()).name == "fresh"
    assert main(["new", "fresh"]) == 1
    assert "exists already" in capsys.readouterr().err
    assert main(["new", "fresh", "--out", "sub/fresh.toml"]) == 2
    assert "expected a directory, got the name of a scenario" in capsys.readouterr().err
    assert not Path("sub").exists()
    Path("taken").touch()
    assert main(["new", "other", "--out", "taken/sub"]) == 2
    assert "--out taken/sub: expected a directory, but taken is a file" in capsys.readouterr().err
    assert main(["report", "nosuch"]) == 1
    assert main(["verify", "nosuch"]) == 1
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("axis", [*TABLES, "recipes", "scenarios", "graphs", "figures", ""])
def test_list_names_summarizes_and_cites(axis: str, capsys):
    found = printed(capsys, "list", *filter(None, [axis]), "--json")
    assert all(
        set(entry) == {"name", "summary", "reference"} and entry["summary"] for entry in found
    )
    assert found


def test_published_rules_cite_their_source(capsys):
    for axis in ("topologies", "mixing", "schedules", "aggregators", "server_optimizers"):
        assert all(entry["reference"] for entry in printed(capsys, "list", axis, "--json")), axis


def test_schema_is_json(capsys):
    found = printed(capsys, "schema")
    assert found["properties"]["agents"]["minimum"] == 1


@pytest.mark.usefixtures("undrawn")
def test_compare_puts_modes_side_by_side(file, capsys):
    words = (
        "compare",
        file,
        "--modes",
        "gossip,independent",
        "--seeds",
        "0-1",
        "--out",
        "c",
        "--json",
        "-q",
    )
    found = printed(capsys, *words)
    assert found["modes"] == ["gossip", "independent"]
    assert found["seeds"] == [0, 1]
    assert Path("c/report.html").is_file()


@pytest.mark.usefixtures("undrawn")
def test_sweep_runs_every_combination_and_resumes(file, capsys):
    words = ("sweep", file, "--seeds", "0,2", "--set", "learner.lr=0.1,0.2", "--out", "s", "--json")
    found = printed(capsys, *words)
    assert [(row["learner.lr"], row["seed"], row["state"]) for row in found] == [
        (0.1, 0, "done"),
        (0.1, 2, "done"),
        (0.2, 0, "done"),
        (0.2, 2, "done"),
    ]
    assert {row["state"] for row in printed(capsys, *words, "--resume")} == {"kept"}


@pytest.mark.usefixtures("undrawn")
def test_a_sweep_without_returns_prints_error_and_consensus_distance(file, capsys):
    assert main(["sweep", file, "--seed", "0", "--out", "s", "-q"]) == 0
    line = capsys.readouterr().out.splitlines()[0]
    assert line.startswith("seed=0  state=done  final_error=")
    assert "  consensus_distance=" in line
    assert "nan" not in line
    assert main(["sweep", file, "--seed", "0", "--out", "s", "-q"]) == 2
    assert (
        "s: expected none of these 1 runs, got 1, such as run-s0; --resume keeps"
        in capsys.readouterr().err
    )
    assert main(["sweep", file, "--seed", "0", "--out", "s", "-q", "--overwrite"]) == 0


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("command", ["sweep", "compare"])
def test_an_interrupted_series_says_how_to_go_on(command: str, file, capsys):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("p2pfrl.commands.progress.counting", interrupt)
        assert main([command, file, "--seeds", "0-1", "--out", "s"]) == 130
    assert (
        "interrupted: the same command with --out s --resume keeps the runs"
        in capsys.readouterr().err
    )
    assert main([command, file, "--seeds", "0-1", "--out", "s", "--resume", "-q"]) == 0


def test_settings_are_toml_or_plain_words():
    assert settings.overrides(["a.b=[1, {c = 2}]", "x=word", 'y="1"', "z=1\nw=2"]) == {
        "a.b": [1, {"c": 2}],
        "x": "word",
        "y": "1",
        "z": "1\nw=2",
    }
    assert settings.grid(["k='a,b',c", "v={p=1,q=2},[3,4]"]) == {
        "k": ["a,b", "c"],
        "v": [{"p": 1, "q": 2}, [3, 4]],
    }
    with pytest.raises(ScenarioError, match="a seed appears twice"):
        settings.seeds("0-3,2")


def test_quick_commands_import_nothing_heavy():
    commands = (
        ["--help"],
        ["list", "learners"],
        ["list", "topologies"],
        ["validate", "ring_16"],
        ["scenario", "-h"],
    )
    program = (
        "import sys; from p2pfrl.cli import main\n"
        f"for words in {commands!r}:\n"
        f"    heavy = main(words) or [name for name in {HEAVY!r} if name in sys.modules]\n"
        "    if heavy: sys.exit(f'{words}: {heavy}')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    said = [line for line in done.stderr.splitlines() if "no C compiler was found" not in line]
    assert (done.returncode, said) == (0, [])


def test_a_command_looks_for_garbage_seldom_and_not_at_its_end():
    program = (
        "import gc, sys; from p2pfrl.__main__ import main\n"
        "sys.argv = ['p2pfrl', 'list']; code = main()\n"
        "sys.exit(code or gc.get_threshold()[0] < 10_000 or len(gc.get_objects()) > 1_000)"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True).returncode == 0


def test_objects_of_code_of_others_end_before_a_command_does(tmp_path):
    (tmp_path / "mine.py").write_text(
        "class Log:\n"
        "    def __init__(self):\n"
        "        self.me = self\n"
        "    def __del__(self):\n"
        "        open('log.txt', 'w').write('all of it')\n"
        "def begin():\n"
        "    Log()\n"
    )
    program = (
        "import sys, mine; from p2pfrl.__main__ import main\n"
        "sys.argv = ['p2pfrl', 'list']; mine.begin(); sys.exit(main())"
    )
    path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
    )
    assert done.returncode == 0
    assert (tmp_path / "log.txt").read_text() == "all of it"


def test_processes_do_not_pretend_to_have_the_faults_of_a_simulation(tmp_path, capsys):
    words = ["peer", "faults_ring", "--lead", "--agents", "0", "--out", str(tmp_path)]
    assert main(words) == 2
    assert "faults: only the simulator makes them happen" in capsys.readouterr().err
    lie = ["--set", "faults=[]", "--set", 'attacks=[{kind = "zero", agents = [0]}]']
    assert main([*words, *lie]) == 2
    assert "attacks: only agents of the simulator make them" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_processes_say_in_one_line_what_has_no_effect_on_them(file, capsys):
    words = [
        "scenario",
        file,
        "--transport",
        "tcp",
        "-j",
        "1",
        "--out",
        "run",
        "--set",
        "stop.rounds=1",
    ]
    assert main([*words, "--set", "network.latency=20ms", "--set", "compute.speed=2.0"]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "no effect" in line]
    assert said == [
        "[network] and [compute] have no effect over TCP: messages and training take real time"
    ]
    assert without_effect(loads(QUADRATIC)) == ""
    assert without_effect(loads(QUADRATIC, {"compute.speed": 2.0})).startswith(
        "[compute] has no effect over TCP"
    )
    assert main([*words, "--set", 'faults=[{kind = "crash", at = 1.0, agents = [0]}]']) == 2
    assert "faults: only the simulator makes them happen" in capsys.readouterr().err


def test_json_is_printed_even_for_an_error_of_ours_which_keeps_its_traceback(
    file, monkeypatch, capsys
):
    def broken(scenario):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr("p2pfrl.build.preview.preview", broken)
    with pytest.raises(ZeroDivisionError):
        main(["validate", file, "--json"])
    message = json.loads(capsys.readouterr().out)["error"]["message"]
    assert message.startswith("an error in p2pfrl itself: ZeroDivisionError: ours")


@pytest.mark.slow
def test_the_directory_of_a_series_has_tables_and_a_report(file, capsys, monkeypatch):
    monkeypatch.setattr("p2pfrl.results.plots.FIGURES", {"problem": FIGURES["problem"]})
    words = ["--seeds", "0-4", "-q", "--set", "learner.noise=0.1"]
    assert main(["sweep", file, *words, "--set", "learner.lr=0.1,0.2", "--out", "s"]) == 0
    told = capsys.readouterr().out
    assert "IQM" in told
    assert "learner.noise=0.1" in told
    assert told.count("[") >= 6
    assert "report: s/report.html" in told
    (row, *_) = csv.DictReader(Path("s/sweep.csv").read_text().splitlines())
    assert (row["uploads"], float(row["lambda_2"])) == ("40", pytest.approx(1 / 3))
    assert r"\toprule" in Path("s/sweep.tex").read_text()
    assert main(["compare", file, *words, "--modes", "gossip,central", "--out", "c"]) == 0
    rows = list(csv.DictReader(Path("c/comparison.csv").read_text().splitlines()))
    errors = [row for row in rows if row["measure"] == "error at the end"]
    assert [row["member"] for row in errors] == ["gossip", "central"]
    assert float(errors[1]["low"]) < float(errors[1]["mean"]) < float(errors[1]["high"])
    assert r"\caption{Against gossip." in Path("c/comparison.tex").read_text()
    for folder, heading in (("s", "Settings"), ("c", "Comparison")):
        page = Path(folder, "report.html")
        assert f"<h2>{heading}</h2>" in page.read_text()
        page.unlink()
        capsys.readouterr()
        assert main(["report", folder]) == 0
        assert capsys.readouterr().out == f"{page}\n"
        assert f"<h2>{heading}</h2>" in page.read_text()
