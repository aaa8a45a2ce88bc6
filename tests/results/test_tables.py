"""Tables lose nothing on narrow terminals; numbers that a summary lacks come from the record."""

from __future__ import annotations

import io

import numpy as np
from rich.console import Console

from p2pfrl.results.report import Table
from p2pfrl.results.tables import for_terminal, measures


def test_a_narrow_terminal_cuts_nothing_off() -> None:
    names = tuple(f"learner.a_long_name_{i}" for i in range(8))
    table = Table("Settings", "", names, (tuple(f"{i:020}" for i in range(8)),))
    console = Console(file=io.StringIO(), width=80)
    console.print(for_terminal([table]))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in text
    assert text.count("0") >= 8 * 19


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
