"""Log of a process: text lines on stderr, and JSON lines in a file."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from p2pfrl.core.types import OPTED_OUT, names_of
from p2pfrl.net.fleet import show_agents, who

LIMIT = 16 * 2**20
"""Number of bytes above which the file is renamed, such as log.jsonl to log.1.jsonl."""


@dataclass
class RunLog:
    """Prints events to stderr and appends them to a file as JSON lines.

    The file and the one before it have at most `LIMIT` bytes each, and the last line.

    Attributes:
        path: the file.
        quiet: whether nothing is printed.
        patience: seconds for which agents wait for their coordinator.
        has_standbys: whether another one takes over where the coordinator is gone.
        kept: gets every event and its details, too.
        lines: number of events so far.
        missing: number of events that could not be written.
    """

    path: Path
    quiet: bool
    patience: float = 0.0
    has_standbys: bool = False
    kept: Callable[[str, Mapping[str, object]], None] | None = None
    lines: int = field(default=0)
    missing: int = field(default=0)

    def say(self, text: str) -> None:
        """Print one line for the user."""
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)

    def note(self, what: str, **details: object) -> None:
        """Append one event to the file; the first hundred are also printed.

        On a full disk lines are missing, which is printed once.
        """
        self.lines += 1
        ids = details.get("agents")
        shown = {**details, "agents": names_of(ids)} if isinstance(ids, tuple) else details
        if self.kept is not None:
            self.kept(what, shown)
        line = json.dumps({"time": time.time(), "what": what, **shown}, default=str)
        try:
            self._append(line)
        except OSError as error:
            self.missing += 1
            if self.missing == 1:
                self.say(f"{self.path}: lines are missing from now on: {error.strerror}")
        gone = [id for id in ids if id < 0] if isinstance(ids, tuple) else []
        if what == "lost" and gone and self.has_standbys:
            self.say(
                f"{show_agents(gone)} is gone: the others go on if they are a majority of coordinator and standbys"
            )
        elif what == "lost" and gone:
            self.say(
                f"the coordinator is gone ({show_agents(gone)}): its agents wait at most {self.patience:g} s until it "
                "is started again with the same command"
            )
        if (
            what in ("lost", "up", OPTED_OUT, "refused", "engine", "certificate")
            and self.lines < 100
        ):
            whom = f" {who(ids)}" if isinstance(ids, tuple) and ids else ""
            where = f" at {details['where']}" if details.get("where") else ""
            self.say(
                f"{what}{whom}{where}{': ' + str(details['detail']) if 'detail' in details else ''}"
            )

    def office(self, id: int, epoch: int) -> None:
        """Note that a coordinator or standby of this process takes office in an epoch."""
        self.note("office", coordinator=show_agents([id]), epoch=epoch)
        self.say(f"{show_agents([id])} is in office, epoch {epoch}")

    def _append(self, line: str) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
            is_full = file.tell() > LIMIT
        if is_full:
            self.path.replace(self.path.with_name(f"{self.path.stem}.1{self.path.suffix}"))


_LINES = 8
"""Number of events of one kind and sender that are all logged.

After them only those whose number is a power of two are, because a flood of events would fill the
disk."""


class Throttle:
    """Counts events by kind and sender, and selects those of many equal events that are logged.

    Attributes:
        counts: (kind, agents of the sender) -> number of events.
    """

    def __init__(self) -> None:
        self.counts: dict[tuple[str, tuple[int, ...]], int] = {}

    def __call__(self, what: str, agents: tuple[int, ...]) -> int:
        """Return how often the event has occurred, or 0 if it is not logged."""
        count = self.counts[what, agents] = self.counts.get((what, agents), 0) + 1
        return count if count <= _LINES or count & (count - 1) == 0 else 0
