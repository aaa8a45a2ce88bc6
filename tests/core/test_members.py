import subprocess
import sys

import pytest

from p2pfrl.catalog import TABLES, entries, kind_of, table
from p2pfrl.core.docs import reference, summary
from p2pfrl.core.members import Members
from p2pfrl.core.rule import rule


def place(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


@pytest.mark.parametrize("axis", TABLES)
def test_a_table_says_where_each_member_is_and_finds_its_name_again(axis):
    rules = table(axis)
    assert rules.places == {name: place(cls) for name, cls in rules.items()}
    assert all(rules[rules.name_of(cls)] is cls for cls in rules.values())


@pytest.mark.parametrize("axis", TABLES)
def test_a_list_says_what_the_docstrings_of_the_classes_say(axis):
    assert entries(axis) == [
        {"name": name, "summary": summary(cls.__doc__), "reference": reference(cls.__doc__)}
        for name, cls in table(axis).items()
    ]


def test_names_are_known_without_importing_a_member():
    absent = Members("p2pfrl", {"one": "nowhere:One", "two": "core.rule:Two"})
    assert (list(absent), len(absent), "one" in absent, "three" in absent) == (
        ["one", "two"],
        2,
        True,
        False,
    )
    assert absent.name_of(int) is None
    with pytest.raises(KeyError):
        absent["three"]
    with pytest.raises(ModuleNotFoundError):
        absent["one"]
    with pytest.raises(AttributeError):
        absent["two"]


def test_two_tables_make_one():
    both = Members("builtins", {"a": "int", "b": "str"}) | Members("builtins", {"b": "float"})
    assert dict(both) == {"a": int, "b": float}


def test_a_users_own_rule_is_named_by_its_place():
    @rule
    class Mine:
        """Of no table, though its name is in one."""

    assert kind_of("topologies", Mine()) == f"{__name__}:{Mine.__qualname__}"


def test_validating_imports_the_members_that_the_scenario_names_and_no_other():
    program = """
import sys
from p2pfrl.cli import main
from p2pfrl.catalog import TABLES, table
assert main(["validate", "ring_16", "--quiet", "--set", "compressor.kind=qsgd"]) == 0
members = {place.partition(":")[0] for axis in TABLES for place in table(axis).places.values()}
print(*sorted(name.removeprefix("p2pfrl.") for name in members & set(sys.modules) if not name.endswith(".base")))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [
        "consensus.aggregators.mean",
        "consensus.mixing.metropolis",
        "consensus.schedules.synchronous",
        "consensus.topologies.lines",
        "core.distributions.normal",
        "exchange.compressors.quantized",
        "learning.environments.cartpole",
        "learning.learners.ppo",
    ]


def test_validating_reads_the_metadata_of_no_installed_package():
    program = """
import importlib.metadata
from p2pfrl.cli import main
def entry_points(**found):
    raise AssertionError(found)
importlib.metadata.entry_points = entry_points
assert main(["validate", "ring_16", "--quiet"]) == 0
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_list_imports_no_member_and_neither_numpy_nor_pydantic():
    program = f"""
import sys
from p2pfrl.cli import main
for axis in {list(TABLES)!r}:
    assert main(["list", axis]) == 0
loud = ("numpy", "pydantic", "p2pfrl.core.rule", "p2pfrl.core.options")
print(*(name for name in sys.modules if name in loud or name.endswith(".base")), file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stderr.split() == []
