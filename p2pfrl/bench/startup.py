"""Benchmark of start-up: time of the first commands against that of importing numpy."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from statistics import median

from p2pfrl.bench.measure import Result

_COMMANDS: dict[str, tuple[list[str], float]] = {
    "help": (["-m", "p2pfrl", "--help"], 2.5),
    "list": (["-m", "p2pfrl", "list", "mixing"], 2.5),
    "validate": (["-m", "p2pfrl", "validate", "ring_16.toml"], 4.0),
}


def bench(quick: bool) -> Iterator[Result]:
    """Yield the median wall time of each command over that of `import numpy`, in turns."""
    turns = 1 if quick else 15
    programs = {
        "numpy": ["-c", "import numpy"],
        **{k: words for k, (words, _) in _COMMANDS.items()},
    }
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(turns):
        for name, words in programs.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, *words], capture_output=True, check=True)
            seconds[name].append(time.perf_counter() - start)
    base = median(seconds["numpy"])
    for name, (_, aim) in _COMMANDS.items():
        against = f"python -c 'import numpy', {base:.3f} s; at most {aim}"
        yield Result(f"startup_{name}", median(seconds[name]) / base, "x", against)
