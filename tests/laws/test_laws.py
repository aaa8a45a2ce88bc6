"""Every law of `p2pfrl bench laws` holds: its figures are printed beside what theory says."""

import pytest

from p2pfrl.laws import laws, measure

LAWS = [
    pytest.param(law, id=law.name, marks=[pytest.mark.slow] if law.is_slow else [])
    for law in laws().values()
]


@pytest.mark.parametrize("law", LAWS)
def test_the_law_holds(law):
    figures = list(measure(law))
    assert figures, law.name
    for figure in figures:
        print(f"{law.name}: {figure.what}: {figure.measured:.6g} (expected {figure.expected})")
    assert not [figure for figure in figures if not figure.holds]


def test_every_law_says_what_it_states_and_where_it_comes_from():
    for law in laws().values():
        assert law.title
        assert law.source == "computed" or any(character.isdigit() for character in law.source), (
            law.name
        )
