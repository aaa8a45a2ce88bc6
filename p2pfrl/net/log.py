"""What a process says while it runs: lines for people on stderr, and a log of JSON."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from p2pfrl.net.fleet import show_agents


@dataclass
class Voice:
    """Says on stderr what happens, and keeps it as lines of JSON."""

    path: Path
    quiet: bool
    lines: int = field(default=0)

    def say(self, text: str) -> None:
        """Tell whoever watches."""
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)

    def note(self, what: str, **details: object) -> None:
        """Write one line to the log; the first hundred are shown too."""
        self.lines += 1
        line = json.dumps({"time": time.time(), "what": what, **details}, default=str)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        if what in ("lost", "up", "refused") and self.lines < 100:
            agents = details.get("agents")
            who = f" agents {show_agents(agents)}" if isinstance(agents, tuple) and agents else ""
            where = f" at {details['where']}" if details.get("where") else ""
            self.say(
                f"{what}{who}{where}{': ' + str(details['detail']) if 'detail' in details else ''}"
            )


_LINES = 8
"""Events of one kind and sender that are all noted; then every power of two is, or a flood would fill the disk."""


class News:
    """Counts events by kind and sender.

    Attributes:
        counts: (kind, agents of the sender) -> how often.
    """

    def __init__(self) -> None:
        self.counts: dict[tuple[str, tuple[int, ...]], int] = {}

    def __call__(self, what: str, agents: tuple[int, ...]) -> int:
        """Return how often it happened by now, or 0 where that is no news."""
        count = self.counts[what, agents] = self.counts.get((what, agents), 0) + 1
        return count if count <= _LINES or count & (count - 1) == 0 else 0
