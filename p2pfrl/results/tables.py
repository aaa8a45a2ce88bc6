"""Tables for terminals and papers, and numbers of a run that its summary lacks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from p2pfrl.results.aggregates import Standing
from p2pfrl.results.numbers import duration, interval, number, size
from p2pfrl.results.record import EVALUATION, OWN_COLUMNS, PHYSICS
from p2pfrl.results.report import Table
from p2pfrl.results.statistics import MIN_SEEDS

_POWER = re.compile(r"(-?\d(?:\.\d+)?)e([+-]?\d+)\b")
"""A number such as 1.8e-16."""
_IS_NUMBER = re.compile(r"-?\d|-$")
_NO_LABEL = re.compile(r"[^a-z0-9]+")
if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType

_FEW = f"Intervals and probabilities need at least {MIN_SEEDS} runs."
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
    \label{tab:returns}
    \begin{tabular}{lr}
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
            rf"\label{{tab:{_NO_LABEL.sub('-', table.title.lower()).strip('-')}}}",
            rf"\begin{{tabular}}{{{_alignment(table)}}}",
            r"\toprule",
            _line(table.header),
            r"\midrule",
            *map(_line, table.rows),
            r"\bottomrule",
            r"\end{tabular}",
            "\\end{table}\n",
        ]
    return "\n".join(parts).encode()


def _alignment(table: Table) -> str:
    """Return a letter per column: numbers to the right, words to the left."""
    return "".join(
        "r" if all(_IS_NUMBER.match(str(cell)) for cell in column) else "l"
        for column in zip(*table.rows, strict=True)
    ) or "l" * len(table.header)


def standings_table(found: Sequence[Standing], score: str, tasks: Sequence[str] = ()) -> Table:
    """Return the table of aggregates of all members of a comparison.

    Args:
        found: the aggregates, those of the first member first.
        score: what the scores are, such as "final return".
        tasks: names of the tasks over which scores, then from 0 to 1, are aggregated.
    """
    has_target = any(one.reached is not None for one in found)
    targets = ("rounds to target", "bytes to target", "virtual time to target", "reached it")
    header = ("", "runs", "mean", "IQM", "P(better than the first)")
    rows = []
    for one in found:
        known = one.improvement if one.improvement and isfinite(one.improvement.low) else None
        chance = "-" if known is None else interval(known)
        row = [one.label, one.runs, interval(one.mean), interval(one.iqm), chance]
        if has_target:
            rounds, sent, seconds = one.targets
            share = "-" if one.reached is None else f"{one.reached:.0%}"
            row += [number(rounds), size(sent), duration(seconds), share]
        rows.append(tuple(row))
    has_intervals = any(isfinite(one.mean.low) for one in found)
    caption = f"Mean and interquartile mean (IQM) over runs of the {score}"
    if tasks:
        caption = f"{caption} over {', '.join(tasks)}, in each from 0, the worst run of all members, to 1, the best"
    caption += (
        ", and the probability that a run is better than one of the first row, pairs of all seeds"
    )
    caption += " [95% stratified bootstrap" if has_intervals else ""
    caption += ", narrow below ten runs]." if has_intervals else f". {_FEW}"
    if has_target:
        caption += " What it took to reach the target is the mean over the runs that did."
    title = "Aggregates over tasks" if tasks else "Aggregates"
    return Table(title, caption, (*header, *targets) if has_target else header, tuple(rows))


class ForTerminal:
    """Tables that rich prints without breaking a word or key.

    A table that is too wide for this has a line of all values for each row instead.

    Args:
        tables: the tables.
    """

    def __init__(self, tables: Sequence[Table]) -> None:
        self._tables = tables

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        """Yield what is printed on lines of the console's width."""
        for table in self._tables:
            yield _fitted(table, options.max_width)
            yield ""


def _fitted(table: Table, width: int) -> RenderableType:
    """Return a table for lines of `width` characters."""
    from rich.table import Table as RichTable
    from rich.text import Text

    title = f"{table.title}. {table.caption}"
    columns = [*zip(table.header, *table.rows, strict=True)]
    frame, padding = 3 * len(columns) + 1, 1
    if sum(max(len(str(cell)) for cell in column) for column in columns) + frame > width:
        # Keys are long words; they are broken after a point.
        columns = [(head.replace(".", ".\n"), *cells) for head, *cells in columns]
    least = [max(map(_longest_word, column)) for column in columns]
    if sum(least) + frame > width:
        frame, padding = len(columns) + 1, 0
    if sum(least) + frame > width:
        return Text(f"{title}\n{_lines(table)}")
    shown = RichTable(title=title, title_justify="left", padding=(0, padding))
    for column, own in zip(columns, _widths(columns, least, width - frame), strict=True):
        shown.add_column(column[0], width=own, overflow="fold")
    for row in table.rows:
        shown.add_row(*(Text(str(cell)) for cell in row))
    return shown


def _widths(columns: Sequence[Sequence[object]], least: Sequence[int], total: int) -> list[int]:
    """Return widths of columns: what they need, or shares of `total` that are at least `least`."""
    more = [
        max(len(line) for cell in column for line in str(cell).split("\n")) - narrowest
        for column, narrowest in zip(columns, least, strict=True)
    ]
    found, left = list(least), total - sum(least)
    for place, position in enumerate(sorted(range(len(more)), key=more.__getitem__)):
        given = min(more[position], left // (len(more) - place))
        found[position] += given
        left -= given
    return found


def _longest_word(cell: object) -> int:
    return max(map(len, str(cell).split()), default=0)


def _lines(table: Table) -> str:
    """Return a table as lines: one for every row, with the column's name before each value."""
    named = [
        [
            f"{head}={cell}" if head else str(cell)
            for head, cell in zip(table.header, row, strict=True)
        ]
        for row in table.rows
    ]
    return "\n".join("  ".join(cells) for cells in named)


def _line(cells: Sequence[Any]) -> str:
    shown = (_POWER.sub(_power, _escape(str(cell))) for cell in cells)
    return f"{' & '.join(shown)} \\\\"


def _power(number: re.Match[str]) -> str:
    return rf"${number[1]}\cdot10^{{{int(number[2])}}}$"


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
        if name in OWN_COLUMNS or name.startswith((PHYSICS, EVALUATION)):
            continue
        values = np.asarray(column, dtype=np.float64)[last]
        values = values[np.isfinite(values)]
        if len(values):
            found[name] = float(values.mean())
    return found
