"""Records are one table for other tools, and the questions of the page have one answer in each."""

from __future__ import annotations

import ast
import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factory import record

import p2pfrl
from p2pfrl.cli import main
from p2pfrl.core.errors import P2PFRLError
from p2pfrl.core.finder import install
from p2pfrl.results.export import TABLES, table
from p2pfrl.results.record import save

PAGE = Path(p2pfrl.__file__).parents[1] / "docs" / "analysis.md"
TEXT = PAGE.read_text("utf-8") if PAGE.is_file() else ""
QUESTIONS = re.findall(
    r"^\*\*(.+?)\*\*\n\n```sql\n(.*?)^```\n```pandas\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    home = tmp_path_factory.mktemp("exported") / "series"
    found = []
    for mode, n in (("gossip", 4), ("central", 4)):
        for seed in (1, 2):
            path = home / f"{mode}-s{seed}"
            save(record(n, rounds=20, mode=mode, seed=seed, target=300.0), path)
            found.append(path)
    return found


@pytest.fixture(scope="module")
def of_two_scenarios(runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The same modes and seeds of another scenario, too, of which one mode has one seed."""
    found = list(runs)
    home = tmp_path_factory.mktemp("others")
    for mode, seed in (("gossip", 1), ("gossip", 2), ("central", 1)):
        other = record(3, rounds=20, mode=mode, seed=seed, target=300.0)
        path = home / f"{mode}-s{seed}"
        save(replace(other, summary={**other.summary, "name": "other"}), path)
        found.append(path)
    return found


@pytest.fixture(scope="module")
def exported(of_two_scenarios: list[Path]) -> Path:
    pytest.importorskip("duckdb")
    runs = of_two_scenarios
    for name in ("runs", "rounds", "agents"):
        out = runs[0].parent / f"{name}.parquet"
        assert main(["export", *map(str, runs), "--parquet", str(out), "--table", name]) == 0
    return runs[0].parent


def test_tables_have_every_run_and_its_numbers(runs: list[Path]) -> None:
    own = p2pfrl.load_record(runs[1])
    for name, rows in (("rounds", 80), ("agents", 320), ("runs", 4)):
        found = table(runs, name)
        assert {len(values) for values in found.values()} == {rows}
        assert [*found][:4] == ["run", "name", "mode", "seed"]
    rounds = table(runs)
    mine = rounds["run"] == str(runs[1])
    assert np.array_equal(rounds["return_max"][mine], own.metrics["return_max"], equal_nan=True)
    assert rounds["bytes_sent"].dtype == np.int64
    single = table(runs, "runs")
    assert single["final_return_mean"][1] == own.summary["final_return"]["mean"]
    assert single["scenario_stop_rounds"].tolist() == [20] * 4
    assert single["lambda_2"].tolist()[0] == own.lambda_2
    assert np.isnan(single["lambda_2"][2:]).all()
    assert {name for name in TABLES if len(table(runs, name)["run"])} == set(TABLES)
    with pytest.raises(P2PFRLError, match="expected one of rounds, agents, runs"):
        table(runs, "lines")


def test_a_parquet_file_has_the_columns_and_null_where_nothing_is_defined(exported: Path) -> None:
    import duckdb

    path = exported / "rounds.parquet"
    known = table([exported / "gossip-s1"])
    found = duckdb.sql(f"SELECT * FROM '{path}' WHERE seed = 1 AND run LIKE '%series/gossip%'")
    assert found.columns == [*known]
    first = dict(zip(found.columns, found.fetchall()[0], strict=True))
    assert first["return_mean"] is None
    assert first["consensus_distance"] == known["consensus_distance"][0]
    assert not list(exported.glob(".*.part"))


@pytest.mark.parametrize(("question", "sql", "lines"), QUESTIONS, ids=[q for q, *_ in QUESTIONS])
def test_sql_and_pandas_give_the_same_answer(
    question: str,
    sql: str,
    lines: str,
    exported: Path,
    of_two_scenarios: list[Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import duckdb

    pandas = pytest.importorskip("pandas")
    monkeypatch.chdir(exported)
    expected = duckdb.sql(sql).fetchall()
    names: dict[str, Any] = {}
    for name in ("runs", "rounds", "agents"):
        names[name] = pandas.DataFrame(p2pfrl.load_table(sorted(of_two_scenarios), name))
        # The runs of the files were named as paths from elsewhere.
        names[name]["run"] = [os.path.abspath(run) for run in names[name]["run"]]
    *before, last = ast.parse(lines).body
    exec(compile(ast.Module(before, []), question, "exec"), names)
    assert isinstance(last, ast.Expr)
    found = eval(compile(ast.Expression(last.value), question, "eval"), names)
    rows = [tuple(row) for row in found.to_numpy().tolist()]
    assert len(rows) == len(expected) > 0
    for row, other in zip(rows, expected, strict=True):
        for own, theirs in zip(row, other, strict=True):
            assert own == (theirs if isinstance(theirs, str) else pytest.approx(theirs, rel=1e-9))


@pytest.mark.skipif(not PAGE.is_file(), reason="the page is found in a source checkout")
def test_the_page_has_ten_questions() -> None:
    assert len(QUESTIONS) == 10


def test_a_file_that_is_no_parquet_file_is_not_replaced(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "report.html"
    page.write_text("mine")
    assert main(["export", str(runs[0]), "--parquet", str(page)]) == 2
    assert f"--parquet {page}: expected a new file or a Parquet file" in capsys.readouterr().err
    assert page.read_text() == "mine"


def test_without_duckdb_the_package_to_install_is_named(
    runs: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "duckdb", None)
    assert main(["export", str(runs[0]), "--parquet", str(tmp_path / "o.parquet")]) == 1
    assert install("analysis") in capsys.readouterr().err
    assert main(["export", str(runs[0])]) == 2
    assert "expected --parquet FILE" in capsys.readouterr().err


def test_runs_are_listed_newest_first_and_shown_again(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = runs[0].parent
    for age, run in enumerate(runs):
        os.utime(run / "summary.json", (1e9 - age, 1e9 - age))
    assert main(["runs", str(home), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["directory"] for row in found] == [str(run) for run in runs]
    assert found[0]["written"] == "2001-09-09T01:46:40Z"
    assert main(["runs", str(home.parent), "--most", "1"]) == 0
    told = capsys.readouterr()
    assert f"{runs[0]}  " in told.out
    assert "gossip s1  20 rounds  return " in told.out
    assert "3 older ones" in told.err
    assert main(["runs", str(tmp_path)]) == 0
    assert "no runs" in capsys.readouterr().err
    assert main(["runs", str(tmp_path / "nowhere")]) == 2
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "summary.json").write_text('{"format": "p2pfrl-record-1"}')
    capsys.readouterr()
    assert main(["runs", str(tmp_path)]) == 0
    assert "damaged" in capsys.readouterr().out
    found = {"format": "p2pfrl-record-1", "name": "r", "mode": "gossip", "stopped_by": "failure"}
    (tmp_path / "r" / "summary.json").write_text(json.dumps(found))
    assert main(["runs", str(tmp_path)]) == 0
    assert capsys.readouterr().out.rstrip().endswith("r  failure  gossip")


def test_processes_of_a_deployment_are_listed_and_showing_one_says_what_makes_a_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ended, killed, begun = (tmp_path / name for name in ("ended", "killed", "begun"))
    for age, folder in enumerate((ended, killed, begun)):
        folder.mkdir()
        (folder / "status.json").write_text(json.dumps({"agents": [2 * age, 2 * age + 1]}))
    known = {"name": "x", "mode": "gossip", "agents": [0, 1, -1], "stopped_by": "wall_time"}
    (ended / "peer.json").write_text(json.dumps({**known, "rounds": 7}))
    (begun / "status.json").write_text("[]")
    for age, file in enumerate(
        (ended / "peer.json", begun / "status.json", killed / "status.json")
    ):
        os.utime(file, (3e9 - age, 3e9 - age))
    assert main(["runs", str(tmp_path)]) == 0
    lines = [line.split("  ", 1)[1] for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        f"{ended}  wall time  gossip  7 rounds  process of agents coordinator+0-1",
        f"{begun}  damaged  process",
        f"{killed}  killed  process of agents 2-3",
    ]
    assert main(["runs", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(row["process"], row["rounds"]) for row in found] == [
        ([0, 1, -1], 7),
        ([], None),
        ([2, 3], None),
    ]
    for command in ("show", "plot", "report"):
        assert main([command, str(killed)]) == 1
        assert f"{killed}: expected the directory of a run, got that of one process; " in (
            capsys.readouterr().err
        )
