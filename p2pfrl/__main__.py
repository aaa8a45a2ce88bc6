"""The program `p2pfrl`, also `python -m p2pfrl`.

Interrupts end it with code 130 from its first moment on, whatever it imports meanwhile.
"""

from __future__ import annotations

import gc
import os
import sys

from p2pfrl.core.garbage import SELDOM, is_all_ours
from p2pfrl.core.interrupts import INTERRUPTED, end_at_once, ignore


def main() -> int:
    """Run the command line on the arguments of this process and return its exit code.

    Most of what the process makes stays until it ends: modules, classes, the record. So it looks
    for garbage seldom, and not once more at its end, which together took a sixth of a short run.
    Where it has code of others, it does look at its end: what they left open is closed then.
    """
    gc.set_threshold(*SELDOM)
    end_at_once(_say)
    from p2pfrl.cli import main as run

    code = run()
    ignore()  # all is done: an interrupt while Python ends changes nothing
    if is_all_ours():
        gc.freeze()
    return code


def _say(message: str) -> None:
    """Print a message; with --json an object, as `commands.failures` writes it."""
    os.write(2, f"{message}\n".encode())
    if "--json" in sys.argv:
        import json

        problem = dict.fromkeys(("where", "expected", "got", "fix"))
        error = {"code": INTERRUPTED, "message": message}
        found = {"error": {**error, "problems": [{"message": message, **problem}]}}
        os.write(1, f"{json.dumps(found)}\n".encode())


if __name__ == "__main__":
    sys.exit(main())
