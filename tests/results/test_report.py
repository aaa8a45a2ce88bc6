"""The report is one page that needs nothing else, and says what the records say."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from factory import record

from p2pfrl.core.errors import RecordError
from p2pfrl.results.groups import group
from p2pfrl.results.numbers import dig, interval, number
from p2pfrl.results.record import Record, save
from p2pfrl.results.report import Table, _subtitle, physics_table, plot, report, summary_table
from p2pfrl.results.statistics import Estimate


def saved(runs: list[Record], folder: Path) -> list[Path]:
    return [save(run, folder / f"{run.mode}-{run.seed}").directory or folder for run in runs]


SENTENCE = "a sentence that is far too long for one line of a phone, or of anything else " * 2


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Record, Path, str]:
    """Return a run whose text has markup, its directory, and the page written beside it."""
    run = record(4, rounds=4, vary=True)
    evil = replace(
        run,
        summary=run.summary | {"name": "<b>x</b>"},
        scenario=run.scenario + "# <script>1</script>\n",
    )
    (directory,) = saved([evil], tmp_path_factory.mktemp("evil"))
    page = report([directory], tables=[Table("T", "", ("", SENTENCE), ((1.5, SENTENCE),))])
    assert page == directory / "report.html"
    return evil, directory, page.read_text()


def test_the_report_loads_nothing_from_elsewhere(written: tuple[Record, Path, str]) -> None:
    _, _, page = written
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert sources
    assert all(source.startswith(("data:image/svg+xml;base64,", "#")) for source in sources)
    assert "<script" not in page
    assert "@import" not in page
    assert "url(" not in page


def test_the_report_holds_summary_scenario_digest_and_captions(
    written: tuple[Record, Path, str],
) -> None:
    run, directory, page = written
    for text in (
        run.summary["digest"],
        f"p2pfrl verify {directory.resolve()}",
        "Return by physics",
        "difficulty cv",
    ):
        assert text in page, text
    assert "rounds = 4" in page
    names = {p.name for p in (directory / "figures").iterdir()}
    assert {"return.svg", "consensus.svg", "physics.svg"} <= names
    anchors, ids = (
        set(re.findall(r'href="#([^"]*)"', page)),
        set(re.findall(r' id="([^"]*)"', page)),
    )
    assert anchors <= ids


def test_wide_content_scrolls_in_its_own_box_and_sentences_wrap(
    written: tuple[Record, Path, str],
) -> None:
    _, _, page = written
    assert len(re.findall(r'<div class="scroll">\s*<table>', page)) == page.count("<table>")
    assert f'<th class="long">{SENTENCE}' in page
    assert f'<td>1.5</td><td class="long">{SENTENCE}' in page
    assert re.search(r"figure, \.scroll \{ overflow-x: auto; max-width: 100%; \}", page)
    assert page.startswith("<!doctype html>")


def test_every_tag_is_closed_and_names_from_a_record_cannot_inject_markup(
    written: tuple[Record, Path, str],
) -> None:
    open_tags: list[str] = []

    class Checker(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag not in ("meta", "img", "br"):
                open_tags.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert open_tags.pop() == tag

    _, _, page = written
    assert "&lt;b&gt;x" in page
    assert "<b>x" not in page
    assert "<script>" not in page
    Checker().feed(page)
    assert open_tags == []


def test_the_table_by_physics_averages_agents_of_equal_physics() -> None:
    run = record(4, rounds=1, vary=True)
    table = run.agents | {
        "physics_difficulty": np.array([0.5, 0.5, 0.9, 0.9]),
        "return": np.array([100.0, 200.0, 10.0, 30.0]),
    }
    metrics = run.metrics | {"return_mean": np.array([85.0])}
    found = physics_table(group([replace(run, agents=table, metrics=metrics)]))
    assert found is not None
    assert found.header == ("difficulty", "return, gossip")
    assert [row[0] for row in found.rows] == ["0.5", "0.9"]
    assert [row[1].split()[0] for row in found.rows] == ["150", "20"]


@pytest.mark.parametrize("seeds", [2, 4, 5])
def test_tables_have_intervals_from_five_seeds_on_and_count_runs_not_agents(seeds: int) -> None:
    groups = group([record(8, rounds=4, vary=True, seed=seed) for seed in range(seeds)])
    summary, physics = summary_table(groups), physics_table(groups)
    assert physics is not None
    returns = next(row for row in summary.rows if row[0] == "final return, mean of agents")
    for table, cell in ((summary, returns[1]), (physics, physics.rows[0][1])):
        assert ("[" in cell) == (seeds >= 5)
        assert ("at least 5" in table.caption) == (seeds < 5)
    titles = [row[0] for row in summary.rows]
    assert ("final return, interquartile mean over runs" in titles) == (seeds >= 4)


def test_the_summary_leaves_out_what_no_run_has() -> None:
    titles = [row[0] for row in summary_table(group([record(4, rounds=3, quadratic=True)])).rows]
    assert "bytes sent" in titles
    assert "final return, mean of agents" not in titles
    assert "rounds to target" not in titles


def test_lambda_2_of_different_graphs_is_a_range() -> None:
    runs = [replace(record(4, rounds=3, seed=s), lambda_2=0.5 + s / 10) for s in range(3)]
    rows = {row[0]: row[1] for row in summary_table(group(runs)).rows}
    assert rows["predicted contraction per round, λ₂"] == "0.5 to 0.7"


def test_several_runs_need_at_least_one_and_count_twins_once(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="no run directory given"):
        plot([])
    (directory,) = saved([record(1, rounds=2)], tmp_path)
    paths = plot([directory, directory], tmp_path / "figures")
    assert {path.parent for path in paths} == {tmp_path / "figures"}
    assert not any(path.name.startswith("modes") for path in paths)


def test_numbers_are_written_as_people_read_them() -> None:
    assert [number(x) for x in (0.0, 12345.0, 1234567.8, 0.00012345, -3.0)] == [
        "0",
        "12,345",
        "1,234,568",
        "0.0001234",
        "-3",
    ]
    assert interval(Estimate(2.0, 1.0, 3.0, 4)) == "2 [1, 3]"
    assert interval(Estimate(2.0, float("nan"), float("nan"), 1)) == "2"
    assert dig({"a": {"b": 3}}, "a.b") == 3.0
    assert np.isnan(dig({"a": None}, "a.b"))


@pytest.mark.parametrize(("n", "words"), [(1, "1 agent ·"), (2, "2 agents ·")])
def test_the_head_of_a_report_counts_agents_in_english(n: int, words: str) -> None:
    assert words in _subtitle(group([record(n, rounds=2)]))
