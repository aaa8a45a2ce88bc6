"""Every rule of every axis is named in a law, or in a test of its own."""

import re
from pathlib import Path

import pytest

import p2pfrl
from p2pfrl.catalog import TABLES, table

PACKAGE = Path(p2pfrl.__file__).parent
SOURCES = [*(PACKAGE / "laws").glob("*.py"), *Path(__file__).parents[1].rglob("test_*.py")]
UNNAMED = {"none"}


@pytest.fixture(scope="module")
def text() -> str:
    own = Path(__file__)
    return "\n".join(path.read_text("utf-8") for path in SOURCES if path != own)


@pytest.mark.parametrize("axis", TABLES)
def test_every_listed_rule_is_named_in_a_law_or_a_test(axis, text):
    rules = table(axis)
    missing = [
        name
        for name, cls in rules.items()
        if name not in UNNAMED
        and f'"{name}"' not in text
        and not re.search(rf"\b{cls.__name__}\b", text)
    ]
    assert not missing, f"{axis}: no law and no test names {missing}"
