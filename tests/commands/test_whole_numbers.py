"""Options that are integers refuse other numbers; the library of the command line rounds them."""

from collections.abc import Iterator
from typing import get_args

import pytest
from cyclopts import App, Argument

from p2pfrl.cli import _COMMANDS, app, main
from p2pfrl.commands.arguments import processes, whole, workers


def commands(of: App) -> Iterator[App]:
    """Yield the commands below an app that do something."""
    if of.default_command is not None:
        yield of
    for name in of:
        if not name.startswith("-"):
            yield from commands(of[name])


def integers() -> list[tuple[str, Argument]]:
    """Return the integers of all commands."""
    found = [command for name in _COMMANDS for command in commands(app[name])]
    return [
        (command.name[0], argument)
        for command in found
        for argument in command.assemble_argument_collection()
        if int in (argument.hint, *get_args(argument.hint))
    ]


OTHERS = {"--workers": workers, "--jobs": processes}
"""Options that are read by another function, which calls `whole`."""


def test_every_integer_of_every_command_is_read_by_whole() -> None:
    found = integers()
    assert len(found) >= 9
    for name, argument in found:
        reads = (whole, OTHERS.get(argument.name, whole))
        assert argument.parameter.converter in reads, (name, argument.name)


@pytest.mark.parametrize(
    "words", ["--seed 1.5", "--seed 0.4", "--transport tcp -j 1.6", "--seed 1e3"]
)
def test_another_number_is_refused(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scenario", "ring_16", *words.split()]) == 2
    assert f"expected an integer, got '{words.split()[-1]}'" in capsys.readouterr().err


def test_integers_are_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "consensus_ring", "--seed", "007", "-q"]) == 0
    assert (
        main(["validate", "consensus_ring", "--seed", "-1", "-q"]) == 2
    )  # of the scenario's own check
    assert "seed" in capsys.readouterr().err
