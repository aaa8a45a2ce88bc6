"""The command that measures speed."""

from __future__ import annotations

import json as encoder
import sys
from dataclasses import asdict
from typing import Annotated

from cyclopts import Parameter

from p2pfrl.commands.arguments import DONE, Json, Quiet

Quick = Annotated[bool, Parameter(negative=(), help="Make everything small, to see that it runs.")]


def bench(*names: str, quick: Quick = False, json: Json = False, quiet: Quiet = False) -> int:
    """Measure speed, as ratios within one run: a shared or slower machine gives about the same numbers.

    Parameters
    ----------
    names
        Benchmarks, as they are printed; all when none is given.
    """
    from p2pfrl.bench import BENCHMARKS, run
    from p2pfrl.bench.measure import Result

    def show(result: Result) -> None:
        if not json:
            print(f"{result.name:32}  {result.value:>12,.6g} {result.unit:14}  {result.against}", flush=True)

    if not quiet:
        print(f"measuring {', '.join(names or BENCHMARKS)}", file=sys.stderr, flush=True)
    results = run(names, quick, progress=show)
    if json:
        print(encoder.dumps([asdict(result) for result in results], indent=2, allow_nan=False))
    return DONE
