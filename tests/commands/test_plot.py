"""Figures of runs from the command line, for the screen and for print."""

from __future__ import annotations

from pathlib import Path

import pytest
from factory import record

from p2pfrl.cli import main
from p2pfrl.results.record import save


@pytest.fixture
def run(tmp_path: Path) -> str:
    return str(save(record(4, rounds=3), tmp_path / "run").directory)


def test_a_figure_for_print(run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "paper"
    options = ("--out", str(out), "--width", "86mm", "--format", "pdf", "--only", "return")
    assert main(["plot", run, *options]) == 0
    assert capsys.readouterr().out.split() == [str(out / "return.pdf"), str(out / "return.csv")]
    content = (out / "return.pdf").read_bytes()
    assert b"/MediaBox [ 0 0 243" in content  # points, of 72 in an inch


def test_a_pdf_of_ours_is_replaced_and_another_one_is_not(
    run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("plot", run, "--out", str(tmp_path / "a"), "--format", "pdf", "--only", "return")
    assert main(command) == 0
    assert main(command) == 0
    (tmp_path / "a" / "return.pdf").write_bytes(b"%PDF-1.4 my thesis" + b" " * 9000)
    assert main(command) == 2
    assert "return.pdf: expected no file or one that p2pfrl" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--width", "wide"), "--width: expected column, page, or 2 to 40 inches"),
        (("--width", "1mm"), "--width: expected column, page, or 2 to 40 inches"),
        (("--format", "jpg"), "--format: there is no 'jpg'"),
        (("--only", "retrun"), "did you mean 'return'?"),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    run: str, options: tuple[str, str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plot", run, *options]) == 2
    assert message in capsys.readouterr().err


def test_nothing_to_draw_is_said(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plot", run, "--only", "physics"]) == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "nothing is drawn" in shown.err
