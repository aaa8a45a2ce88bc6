"""What is read out of docstrings."""

from dataclasses import fields, is_dataclass
from pathlib import Path

from p2pfrl.catalog import TABLES, table
from p2pfrl.core.docs import attributes, reference, summary
from p2pfrl.results.plots import FIGURES
from p2pfrl.scenario import Scenario, sections
from p2pfrl.scenario.environment import EnvironmentSection
from p2pfrl.scenario.groups import Group


class Base:
    """A base.

    Attributes:
        first: what it is,
            on two lines.
    """


class Rule(Base):
    """x <- x + y for i.e. everyone. Author, Other et al., A title, IEEE Trans. Something 3(4),
    2001, arXiv 0101.00001.

    More words that nobody cites.

    Attributes:
        second, third: numbers.
        first: now this.
    """


class Late:
    """Does it.

    Attributes:
        option: that.

    Reference: Someone, Proc. IEEE, 1999 (equation 3. of it).
    """


def test_the_summary_is_the_first_sentence_without_a_citation():
    assert summary(Rule.__doc__) == "x <- x + y for i.e. everyone."
    assert summary(Late.__doc__) == "Does it."
    assert summary(None) == ""


def test_the_reference_is_the_sentence_with_a_year_or_the_paragraph_that_says_so():
    assert reference(Rule.__doc__).startswith(
        "Author, Other et al., A title, IEEE Trans. Something"
    )
    assert reference(Late.__doc__) == "Someone, Proc. IEEE, 1999 (equation 3. of it)."
    assert reference(Base.__doc__) == ""


def test_attributes_are_inherited_joined_and_overridden():
    assert attributes(Base) == {"first": "what it is, on two lines."}
    assert attributes(Rule) == {"first": "now this.", "second": "numbers.", "third": "numbers."}
    assert attributes(Late) == {"option": "that."}


def test_every_option_of_every_rule_and_section_has_a_meaning():
    rules = [cls for axis in TABLES for cls in table(axis).values() if is_dataclass(cls)]
    own = [cls for cls in vars(sections).values() if is_dataclass(cls)]
    assert len(rules) > 120
    assert Scenario in own
    for cls in (*rules, *own, Group, EnvironmentSection):
        meanings = attributes(cls)
        assert [f.name for f in fields(cls) if not meanings.get(f.name)] == [], cls


def test_no_page_says_a_paragraph_twice():
    root = Path(__file__).parents[1]
    pages = [root / "README.md", *sorted((root / "docs").glob("*.md"))]
    assert len(pages) > 10
    for page in pages:
        parts = [part for part in page.read_text(encoding="utf-8").split("\n\n") if len(part) > 200]
        assert len(parts) == len(set(parts)), page.name


def test_the_page_has_every_figure_and_what_it_shows():
    lines = (Path(__file__).parents[1] / "docs" / "results.md").read_text("utf-8").splitlines()
    start = lines.index("| figure | what it shows |") + 2
    expected = [f"| `{name}` | {figure.shows} |" for name, figure in FIGURES.items()]
    assert lines[start : start + len(expected) + 1] == [*expected, ""]
    assert all(figure.shows.endswith((".", "?")) for figure in FIGURES.values())
