"""Notes on the terminal."""

from __future__ import annotations

import sys

from p2pfrl.commands.failures import as_typed


def note(what: str) -> None:
    """Print a note, as those of a scenario are."""
    print(f"note: {as_typed(what)}", file=sys.stderr, flush=True)
