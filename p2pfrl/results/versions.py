"""Versions: that of this package, and those that a record lists."""

from __future__ import annotations

import os
import platform
import re
from functools import cache
from pathlib import Path

__version__ = "0.1.0"

_CPUINFO = Path("/proc/cpuinfo")


def versions(engine: str) -> dict[str, str]:
    """Return what a digest depends on beside the scenario: packages, processor and kernels.

    The engine is that of the learner (`Traits.engine`).
    """
    return {
        "p2pfrl": __version__,
        "python": platform.python_version(),
        **_packages(),
        "machine": platform.machine(),
        "processor": processor(),
        "kernels": kernels(),
        "engine": engine,
    }


@cache
def _packages() -> dict[str, str]:
    """Return the versions of packages; to read them takes longer than a small run."""
    from importlib.metadata import version

    return {name: version(name) for name in ("numpy", "torch", "gymnasium", "msgpack")}


def processor() -> str:
    """Return the model of the processor, or what the platform knows of it."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", _CPUINFO.read_text(encoding="utf-8"), re.M)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or "unknown"


def kernels() -> str:
    """Return the instruction sets whose kernels compute: of torch, of numpy and of its BLAS.

    The processor chooses them, and so do variables such as `ATEN_CPU_CAPABILITY`. Other kernels add
    in another order, so that results differ in the last bits. Torch takes the best kernels that the
    processor has, unless that variable names others, so torch itself is not imported here.
    """
    import numpy as np
    from threadpoolctl import threadpool_info

    simd = np.show_config(mode="dicts")["SIMD Extensions"]
    found = [*simd.get("baseline", ()), *simd.get("found", ())]
    blas = [str(one["architecture"]) for one in threadpool_info() if "architecture" in one]
    used = {
        "torch": os.environ.get("ATEN_CPU_CAPABILITY", "best"),
        "numpy": found[-1] if found else "",
        "blas": blas[0] if blas else "",
    }
    return ", ".join(f"{name} {word}" for name, word in used.items() if word)
