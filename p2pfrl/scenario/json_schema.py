"""The JSON schema of scenario files, for editors."""

from __future__ import annotations

from pydantic.json_schema import JsonSchemaValue

from p2pfrl.core.options import schema_of
from p2pfrl.scenario.find import recipes
from p2pfrl.scenario.sections import Scenario


def schema() -> JsonSchemaValue:
    """Return the JSON schema of a scenario file, with all options and their descriptions."""
    found = schema_of(Scenario)
    names = ", ".join(recipes())
    extends = {
        "type": "string",
        "description": f"a recipe ({names}) or a scenario file that this one builds on",
    }
    found["properties"] = {"extends": extends, **found["properties"]}
    found["required"] = []
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **found,
        "title": "p2pfrl scenario",
    }
