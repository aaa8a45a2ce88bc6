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
