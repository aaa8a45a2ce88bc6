"""Programs that measure tables write after every run, and go on where they were stopped."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from measuring import Cell, Content, main


def lines(found: Content, names: Sequence[str]) -> Iterator[str]:
    for name in names:
        yield f"{name} {found[name]}"


def measured(file: Path, *arguments: str, seeds: Sequence[int] = (1, 2), stop: int = 9) -> Content:
    def measure(seed: int) -> float:
        if seed >= stop:
            raise KeyboardInterrupt
        return seed / 2

    cells = {name: [Cell(("gossip",), seeds, measure)] for name in ("one", "other")}
    main("Of a test.", file, "worlds", cells, lines, arguments)
    found: Content = json.loads(file.read_text())["worlds"]
    return found


def test_all_cells_are_measured_and_more_seeds_are_added_to_what_is_there(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    assert measured(file) == {name: {"gossip": [0.5, 1.0]} for name in ("one", "other")}
    file.write_text(file.read_text().replace("0.5", "7.5"))
    found = measured(file, "one", "--more", seeds=(1, 2, 3))
    assert found == {"one": {"gossip": [7.5, 1.0, 1.5]}, "other": {"gossip": [7.5, 1.0]}}
    assert measured(file, "one")["one"] == {"gossip": [0.5, 1.0]}


def test_what_was_measured_is_in_the_file_when_the_program_is_stopped(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    with pytest.raises(KeyboardInterrupt):
        measured(file, stop=2)
    assert json.loads(file.read_text())["worlds"] == {"one": {"gossip": [0.5]}}
    assert measured(file, "--more")["other"] == {"gossip": [0.5, 1.0]}


def test_lines_are_printed_and_unknown_names_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "x.json"
    measured(file)
    capsys.readouterr()
    measured(file, "other", "--table", stop=0)
    assert capsys.readouterr().out == "other {'gossip': [0.5, 1.0]}\n"
    with pytest.raises(SystemExit):
        measured(file, "nothing")
    assert "there is no nothing; it is one of one, other" in capsys.readouterr().err
