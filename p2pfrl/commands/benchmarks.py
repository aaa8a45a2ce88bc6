"""Command that measures speed and laws."""

from __future__ import annotations

import json as encoder
import os
import sys
import warnings
from dataclasses import asdict
from typing import Annotated

from cyclopts import Parameter

from p2pfrl.commands.arguments import DONE, FAILED, Json, Quiet
from p2pfrl.commands.streams import results
from p2pfrl.core.errors import IdleWarning

Against = Annotated[
    str | None,
    Parameter(help="Measure against other packages that are installed: gossipy, sb3, or both."),
]
Quick = Annotated[bool, Parameter(negative=(), help="Use small sizes, to test that it runs.")]


def bench(
    *names: str,
    quick: Quick = False,
    against: Against = None,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Measure speed as ratios within one run, which hardly depend on the speed of the machine.

    Parameters
    ----------
    names
        Names of benchmarks; all if none is given. `laws` measures the laws that test the
            algorithms, all of them or those named after it.
    """
    if names[:1] == ("laws",):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", IdleWarning)  # laws run one scenario in several modes
            return _laws(names[1:], quick, json)
    from p2pfrl.bench import BENCHMARKS, run
    from p2pfrl.bench import against as run_against
    from p2pfrl.bench.measure import Result
    from p2pfrl.results.versions import kernels

    def show(result: Result) -> None:
        if not json:
            print(
                f"{result.name:32}  {result.value:>12,.6g} {result.unit:14}  {result.against}",
                flush=True,
            )

    packages = [] if against is None else against.split(",")
    if not quiet:
        coretype = os.environ.get("OPENBLAS_CORETYPE", "not set")
        what = names or (BENCHMARKS if against is None else packages)
        print(f"measuring {', '.join(what)}", file=sys.stderr)
        print(f"with {kernels()}; OPENBLAS_CORETYPE {coretype}", file=sys.stderr, flush=True)
    found = [] if packages and not names else run(names, quick, progress=show)
    found += run_against(packages, quick, progress=show)
    if json:
        text = encoder.dumps([asdict(result) for result in found], indent=2, allow_nan=False)
        print(text, file=results())
    return DONE


def _laws(names: tuple[str, ...], quick: bool, json: bool) -> int:
    """Measure laws; with `quick`, only those that take seconds.

    Fails if a figure does not agree.
    """
    from p2pfrl.core.errors import ScenarioError
    from p2pfrl.core.wording import did_you_mean
    from p2pfrl.laws import laws, measure

    known, rows, is_good = laws(), [], True
    for name in names:
        if name not in known:
            raise ScenarioError([f"bench laws: unknown law {name!r}{did_you_mean(name, known)}"])
    for law in known.values():
        if (names and law.name not in names) or (quick and law.is_slow):
            continue
        if not json:
            takes = "   takes minutes" if law.is_slow else ""
            print(f"{law.name}: {law.title}\n  {law.source}{takes}", flush=True)
        for figure in measure(law):
            is_good &= figure.holds
            rows.append(
                {
                    "law": law.name,
                    **asdict(figure),
                    "measured": float(figure.measured),
                    "low": str(figure.low),
                    "high": str(figure.high),
                }
            )
            if not json:
                mark = "" if figure.holds else "   DOES NOT AGREE"
                print(
                    f"  {figure.what:64} {figure.measured:>12.6g}   {figure.expected}{mark}",
                    flush=True,
                )
    if json:
        print(encoder.dumps(rows, indent=2), file=results())
    return DONE if is_good else FAILED
