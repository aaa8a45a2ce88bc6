"""A table without keys is read without pydantic's validator, to the same rule."""

import inspect
from typing import Annotated

import pytest
from pydantic import Field, ValidationError, field_validator

from p2pfrl.catalog import TABLES, table
from p2pfrl.core.options import Slot, adapter, construct
from p2pfrl.core.rule import rule
from p2pfrl.scenario import sections

SECTIONS = [cls for cls in vars(sections).values() if hasattr(cls, "__pydantic_fields__")]
RULES = [
    cls
    for cls in dict.fromkeys([*SECTIONS, *(cls for axis in TABLES for cls in table(axis).values())])
    if hasattr(cls, "__pydantic_fields__") and not inspect.isabstract(cls)
]


def read(reader):
    """Return what a reader makes, with the types of its options, or the places of its problems."""
    try:
        made = reader()
    except ValidationError as error:
        return [found["loc"] for found in error.errors()]
    return made, {name: type(value) for name, value in vars(made).items()}


@pytest.mark.parametrize("cls", RULES, ids=lambda cls: f"{cls.__module__}.{cls.__name__}")
def test_an_empty_table_gives_what_the_validator_gives(cls):
    validated = read(lambda: adapter(cls).validate_json("{}", strict=True))
    assert read(lambda: construct(cls, {})) == validated


@rule
class Inner:
    """An option of `Outer`."""

    count: int = 2


@rule
class Outer:
    """Has a table, a value that is checked, and a check of all options."""

    inner: Annotated[Inner, Slot(Inner)] = Field(default_factory=dict, validate_default=True)
    few: Annotated[int, Field(le=3)] = Field(default=3, validate_default=True)


@rule
class Checked:
    """Checks an option by a method."""

    even: int = Field(default=3, validate_default=True)

    @field_validator("even")
    @classmethod
    def _even(cls, value: int) -> int:
        return value + value % 2


@rule
class Finished:
    """Refuses itself."""

    low: int = 2
    high: int = 1

    def __post_init__(self) -> None:
        if self.high < self.low:
            raise ValueError(f"high must be at least {self.low}")


def test_defaults_are_read_and_checked_where_the_class_says_so():
    assert construct(Outer, {}) == Outer(inner=Inner(), few=3)
    assert construct(Checked, {}).even == 4
    with pytest.raises(ValidationError, match="high must be at least 2"):
        construct(Finished, {})
