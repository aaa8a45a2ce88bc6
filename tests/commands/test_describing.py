"""Descriptions of rules and sections: complete, and with examples that work."""

import json
import tomllib
from dataclasses import is_dataclass

import pytest

from p2pfrl.catalog import TABLES, table
from p2pfrl.cli import main
from p2pfrl.commands.describing import describe, sections
from p2pfrl.core.options import Rule, options_of
from p2pfrl.scenario.environment import EnvironmentSlot
from p2pfrl.scenario.find import recipes

RULES = [(axis, name) for axis in TABLES for name in table(axis)]


@pytest.mark.parametrize(("axis", "name"), RULES)
def test_every_rule_shows_its_options_and_an_example_that_works(axis, name):
    found = describe(axis, name)
    cls = table(axis)[name]
    assert found.text
    if is_dataclass(cls):
        assert sorted(option.name for option in found.options) == sorted(options_of(cls))
    assert all(option.meaning and option.type for option in found.options)
    values = tomllib.loads(found.example)
    if axis == "environments":
        assert EnvironmentSlot().make(values["environment"])
    elif axis != "payloads":
        while "kind" not in values:
            (values,) = values.values()
            values = values[0] if isinstance(values, list) else values
        assert type(Rule(axis, lambda: table(axis)).make(values)) is cls


@pytest.mark.parametrize("name", sections())
def test_every_section_shows_its_keys(name):
    found = describe("sections", name)
    assert [option.name for option in found.options]
    assert all(option.meaning for option in found.options)
    tomllib.loads(found.example)


def test_options_have_defaults_units_and_ranges(capsys):
    assert main(["list", "topologies", "watts_strogatz"]) == 0
    text = capsys.readouterr().out
    assert "neighbors  integer >= 2  default 4" in text
    assert "rewire  number >= 0, <= 1  default 0.1" in text
    assert '[topology]\nkind = "watts_strogatz"\nneighbors = 4' in text
    assert "Watts, Strogatz" in text
    assert main(["list", "schedules", "synchronous"]) == 0
    assert 'seconds or "20ms"' in capsys.readouterr().out
    assert main(["list", "topologies", "file", "--json"]) == 0
    (path,) = json.loads(capsys.readouterr().out)["options"]
    assert path["is_required"]
    assert main(["list", "topologies", "watts"]) == 2
    assert "did you mean 'watts_strogatz'?" in capsys.readouterr().err
    assert main(["list", "graphs", "abilene"]) == 2
    assert "no options of 'graphs' to show" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["fedpg_br", "bridge", "fedavg"])
def test_a_recipe_shows_what_it_sets(name, capsys):
    assert main(["list", "recipes", name]) == 0
    said = capsys.readouterr().out
    assert f'# extends = "{name}" sets' in said
    shown = tomllib.loads(said[said.index("# extends") :])
    assert shown == tomllib.loads(recipes()[name].read_text())
    assert main(["list", "recipes", "bridg"]) == 2
    assert "did you mean 'bridge'?" in capsys.readouterr().err
