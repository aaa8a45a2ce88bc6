"""Starts that are given from Python, in place of the scenario's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, TypeAlias

from pydantic import ValidationError

from p2pfrl.core.arguments import Kind
from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.options import slot_of
from p2pfrl.core.problems import phrases
from p2pfrl.core.tables import plain
from p2pfrl.results.record import Record
from p2pfrl.scenario import Scenario
from p2pfrl.scenario.checks.sections import check

Start: TypeAlias = Annotated[
    Record | str | Path | Mapping[str, object],
    Kind("the record of a run, its directory, a file or a table"),
]
"""The record of a run, its directory, a file of parameters, or a table as in a scenario file."""


def with_start(scenario: Scenario, given: Start | None) -> Scenario:
    """Return the scenario with a start from saved parameters in place of its own.

    Raises:
        ScenarioError: nothing was saved there, or it does not fit the learner.
    """
    if given is None:
        return scenario
    value: object = given
    if isinstance(given, Record):
        if given.directory is None:
            fix = "p2pfrl.run(..., out=DIRECTORY) saves it, so that this run can be repeated"
            raise ScenarioError([f"start: the record {given.name!r} was not saved; {fix}"])
        value = str(given.directory)
    elif isinstance(given, Path):
        value = str(given)
    elif isinstance(given, Mapping):
        value = plain(given)
    try:
        start = slot_of(Scenario, "start").read(value)
    except ValidationError as error:
        raise ScenarioError(
            [f"start.{line}".replace(".: ", ": ", 1) for line in phrases(Scenario, error)]
        ) from None
    changed = replace(scenario, start=start)  # type: ignore[arg-type]
    if problems := check(changed):
        raise ScenarioError([f"{'.'.join(map(str, path))}: {text}" for path, text in problems])
    return changed
