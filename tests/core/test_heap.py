"""What a run frees is kept for what it needs next."""

import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
import numpy as np
from p2pfrl.core.heap import keep_freed

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        arrays = [np.ones(2**16) for _ in range(12)]
        del arrays
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

keep_freed()
faults()
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
@pytest.mark.parametrize("variables", [{}, {"MALLOC_TOP_PAD_": "0"}])
def test_arrays_of_the_next_round_need_no_new_pages(variables: dict[str, str]) -> None:
    program = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(
        program, capture_output=True, text=True, check=True, env={**inherited(), **variables}
    )
    few, pages = 100, 10 * 12 * 2**19 // 4096
    assert (int(done.stdout) < few) == (not variables), f"of {pages} pages"


def inherited() -> dict[str, str]:
    names = ("PATH", "PYTHONPATH", "HOME", "OMP_NUM_THREADS")
    return {name: os.environ[name] for name in names if name in os.environ}
