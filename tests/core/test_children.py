"""Child processes start with signals withheld, until they follow their parent."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import signal
from multiprocessing import get_context
from p2pfrl.core.children import withheld
from p2pfrl.core.interrupts import SIGNALS

if __name__ == "__main__":
    with withheld():
        process = get_context({method!r}).Process(target=print)
        process.start()
        assert {{*SIGNALS}} <= {{*signal.pthread_sigmask(signal.SIG_BLOCK, [])}}
    assert not {{*SIGNALS}} & {{*signal.pthread_sigmask(signal.SIG_BLOCK, [])}}
    process.join()
"""


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_signals_stay_withheld_while_the_first_process_starts(method: str, tmp_path) -> None:
    file = tmp_path / "program.py"
    file.write_text(PROGRAM.format(method=method))
    done = subprocess.run([sys.executable, file], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
