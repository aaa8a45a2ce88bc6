"""A rule is one frozen dataclass: its fields are its options, its scenario schema and its `repr` in the record."""

from __future__ import annotations

from typing import TypeVar, dataclass_transform

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

T = TypeVar("T")


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(Field,))
def rule(cls: type[T]) -> type[T]:
    """Make `cls` a rule: frozen, keyword-only, validated, unknown options refused, infinity and nan too."""
    config = ConfigDict(
        extra="forbid",
        allow_inf_nan=False,
        strict=False,
        validate_default=False,
        defer_build=True,
        validate_by_name=True,
        validate_by_alias=True,
    )
    return dataclass(frozen=True, kw_only=True, config=config)(cls)  # type: ignore[return-value]  # adds to cls
