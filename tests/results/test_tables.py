"""Tables lose nothing on narrow terminals; numbers that a summary lacks come from the record."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from rich.console import Console

from p2pfrl.results.report import Table
from p2pfrl.results.tables import ForTerminal, measures


def test_a_narrow_terminal_cuts_nothing_off() -> None:
    names = tuple(f"learner.a_long_name_{i}" for i in range(8))
    table = Table("Settings", "", names, (tuple(f"{i:020}" for i in range(8)),))
    console = Console(file=io.StringIO(), width=80)
    console.print(ForTerminal([table]))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in text
    assert text.count("0") >= 8 * 19


WIDE = Table(
    "Settings",
    "Means over runs.",
    ("topology.kind", "stop.rounds", "final return", "greedy evaluation", "bytes sent", "runs"),
    (("one_peer_exponential", 2, "22.45 [20.1, 24.8]", "239.2", "3.53 MB", 5),),
)


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_no_word_or_key_of_a_table_is_broken_in_a_terminal(width: int) -> None:
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(ForTerminal([WIDE]))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= width
    words = set(re.split(r"[\s┃│=]+", "\n".join(lines)))
    for name in ("one_peer_exponential", "evaluation", "return", "239.2", "bytes"):
        assert name in words
    whole = {"topology.kind"} <= words
    assert whole or {"topology.", "kind"} <= words
    assert whole == (width in (40, 120))


def test_measures_are_means_over_agents_in_the_last_round() -> None:
    agents = {
        "round": np.array([1, 1, 2, 2]),
        "agent": np.array([0, 1, 0, 1]),
        "physics_gravity": np.array([1.0, 2.0, 1.0, 2.0]),
        "fuel": np.array([9.0, 9.0, 3.0, 5.0]),
        "height": np.array([1.0, 1.0, np.nan, 2.0]),
        "unseen": np.array([1.0, 1.0, np.nan, np.nan]),
    }
    assert measures(agents) == {"fuel": 4.0, "height": 2.0}
    assert measures({}) == measures({"round": np.empty(0)}) == {}
