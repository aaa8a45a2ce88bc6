"""Tables for terminals and papers, and numbers of a run that its summary lacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from p2pfrl.results.record import AGENTS, EVALUATION, PHYSICS
from p2pfrl.results.report import Table

if TYPE_CHECKING:
    from rich.console import Group

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "λ": r"$\lambda$",
    "θ": r"$\theta$",
    "₁": r"$_1$",
    "₂": r"$_2$",
    "±": r"$\pm$",
    "·": r"$\cdot$",
    "–": "--",
    "µ": r"$\mu$",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def encode_latex(tables: Sequence[Table]) -> bytes:
    r"""Return tables as LaTeX for the package booktabs, each in a `table` of its own.

    >>> table = Table("Returns", "Means over 5 seeds.", ("", "lr_0"), (("a & b", 1.0),))
    >>> print(encode_latex([table]).decode())
    % Tables by p2pfrl; they need the package booktabs.
    <BLANKLINE>
    \begin{table}
    \caption{Returns. Means over 5 seeds.}
    \begin{tabular}{ll}
    \toprule
     & lr\_0 \\
    \midrule
    a \& b & 1.0 \\
    \bottomrule
    \end{tabular}
    \end{table}
    <BLANKLINE>
    """
    parts = ["% Tables by p2pfrl; they need the package booktabs.\n"]
    for table in tables:
        parts += [
            r"\begin{table}",
            rf"\caption{{{_escape(f'{table.title}. {table.caption}'.strip())}}}",
            rf"\begin{{tabular}}{{{'l' * len(table.header)}}}",
            r"\toprule",
            _line(table.header),
            r"\midrule",
            *map(_line, table.rows),
            r"\bottomrule",
            r"\end{tabular}",
            "\\end{table}\n",
        ]
    return "\n".join(parts).encode()


def for_terminal(tables: Sequence[Table]) -> Group:
    """Return tables that rich prints."""
    from rich.console import Group
    from rich.table import Table as RichTable
    from rich.text import Text

    parts: list[RichTable | Text] = []
    for table in tables:
        shown = RichTable(
            *table.header, title=f"{table.title}. {table.caption}", title_justify="left"
        )
        for column in shown.columns:
            column.overflow = "fold"  # keys are long words
        for row in table.rows:
            shown.add_row(*(Text(str(cell)) for cell in row))
        parts += [shown, Text()]
    return Group(*parts)


def _line(cells: Sequence[Any]) -> str:
    return f"{' & '.join(_escape(str(cell)) for cell in cells)} \\\\"


def _escape(text: str) -> str:
    return "".join(_SPECIAL.get(character, character) for character in text)


def uploads(staleness: NDArray[np.int64]) -> int:
    """Return the number of payloads that agents or a coordinator applied."""
    return int(staleness.sum())


def measures(agents: Mapping[str, NDArray[Any]]) -> dict[str, float]:
    """Return the environment's own measures at the end: the mean over agents in the last round.

    Args:
        agents: the columns of agents.csv.
    """
    rounds = agents.get("round", np.empty(0))
    if not len(rounds):
        return {}
    last = rounds == rounds.max()
    found = {}
    for name, column in agents.items():
        if name in AGENTS or name.startswith((PHYSICS, EVALUATION)):
            continue
        values = np.asarray(column, dtype=np.float64)[last]
        values = values[np.isfinite(values)]
        if len(values):
            found[name] = float(values.mean())
    return found
