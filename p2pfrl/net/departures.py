"""Who left a run of its own will: the mark of a process, and what its neighbors remember.

    opted_out.json    in the directory of a process: whether it has opted out, since when, and how
                      often it has come back
    departures.json   in the directories of its neighbors: who left, when, and after which round

Both are on disk before anybody acts on them. A process that has opted out does not start again, and
its neighbors refuse whoever greets them in its name, until it says that it has come back: every
`p2pfrl leave RUN --undo` counts one up, and a hello has the count. So an empty directory does not
take the place of one that was lost, and with it what was spent of a privacy budget.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from p2pfrl.core.errors import RecordError
from p2pfrl.core.files import read_regular, unreadable, write_file
from p2pfrl.core.writes import strictly
from p2pfrl.net.fleet import show_agents
from p2pfrl.net.records import Identity

MARK, REMEMBERED = "opted_out.json", "departures.json"
RETURNS = "returns"
"""Key of a hello's settings: how often a process has come back after it had opted out."""
_LIMIT = 2**20
_NO_FILE = object()
_DAMAGED = (KeyError, TypeError, ValueError, OverflowError, RecursionError)


@dataclass(frozen=True, slots=True)
class Mark:
    """The mark of a process.

    Attributes:
        is_out: whether it has opted out, or will at the end of its round.
        since: seconds since 1970.
        returns: how often it has come back.
    """

    is_out: bool = False
    since: float = 0.0
    returns: int = 0

    @property
    def settings(self) -> dict[str, str]:
        """What a hello says of it."""
        return {RETURNS: str(self.returns)} if self.returns else {}


def read_mark(folder: Path) -> Mark:
    """Return the mark of a process; one that never opted out has none.

    Raises:
        RecordError: it cannot be read, so that nobody knows whether the process may take part.
    """
    path = folder / MARK
    fix = (
        "whether this process has left its run is not known: restore the file from a backup; or remove it, and "
        f"`p2pfrl leave {folder}` marks it again if it had left"
    )
    try:
        found = _read(path)
        if found is _NO_FILE:
            return Mark()
        mark = Mark(found["is_out"], float(found["since"]), found["returns"])
        if type(mark.is_out) is not bool or type(mark.returns) is not int:
            raise TypeError("expected a truth value and a whole number")
    except _DAMAGED as error:
        raise RecordError(
            f"{path}: not the mark of a process: {unreadable(error)}; {fix}"
        ) from error
    return mark


def opt_out(folder: Path, now: Callable[[], float] = time.time) -> Mark:
    """Mark that the process of a directory leaves for good; return the mark, which is on disk."""
    mark = read_mark(folder)
    return mark if mark.is_out else _write_mark(folder, replace(mark, is_out=True, since=now()))


def come_back(folder: Path, now: Callable[[], float] = time.time) -> Mark:
    """Mark that the process of a directory takes part again; return the mark."""
    mark = read_mark(folder)
    if not mark.is_out:
        return mark
    return _write_mark(folder, Mark(False, now(), mark.returns + 1))


def _write_mark(folder: Path, mark: Mark) -> Mark:
    write_file(folder / MARK, json.dumps(asdict(mark)).encode())
    return mark


@dataclass(frozen=True, slots=True)
class Departure:
    """What a process remembers of another one that opted out.

    Attributes:
        agents: that live there.
        rounds: that they had ended.
        time: seconds since 1970.
        returns: how often it had come back before.
    """

    agents: tuple[int, ...]
    rounds: int
    time: float
    returns: int


class Departures:
    """Who opted out among the neighbors of a process.

    Args:
        folder: directory of the process.
        writes: (kind, write) -> whether the write has worked (core/writes.py).
        now: seconds since 1970.

    Raises:
        RecordError: what is remembered cannot be read.
    """

    def __init__(
        self,
        folder: Path,
        writes: Callable[[str, Callable[[], object]], bool] = strictly,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._path, self._writes, self._now = folder / REMEMBERED, writes, now
        self._known = {departure.agents: departure for departure in _departures(self._path)}

    def __contains__(self, agents: object) -> bool:
        """Whether the process with these agents has opted out."""
        return agents in self._known

    def rounds(self) -> dict[int, int]:
        """Return agent -> the rounds that it had ended when it opted out."""
        return {agent: one.rounds for one in self._known.values() for agent in one.agents}

    def note(self, peer: Identity, rounds: int) -> None:
        """Remember that a process has opted out."""
        self._known[peer.agents] = Departure(peer.agents, rounds, self._now(), _returns(peer))
        self._save()

    def forget(self, agents: tuple[int, ...]) -> None:
        """Forget that a process had opted out, which has come back."""
        if self._known.pop(agents, None) is not None:
            self._save()

    def refusal(self, peer: Identity) -> tuple[str, str] | None:
        """Return (reason, detail) why a process may not join; None if it may."""
        known = next((one for one in self._known.values() if {*one.agents} & {*peer.agents}), None)
        if known is None or _returns(peer) > known.returns:
            return None
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(known.time))
        return "opted_out", (
            f"agents {show_agents(known.agents)} opted out on {when}, after {known.rounds} rounds; `p2pfrl leave RUN "
            "--undo` with the directory that they had lets them take part again"
        )

    def _save(self) -> None:
        content = json.dumps([asdict(one) for one in self._known.values()]).encode()

        self._writes("departures", lambda: write_file(self._path, content))


def _returns(peer: Identity) -> int:
    """Return how often a process says that it has come back."""
    said = peer.settings.get(RETURNS, "0")
    return int(said) if said.isascii() and said.isdigit() and len(said) < 10 else 0


def _departures(path: Path) -> list[Departure]:
    try:
        found = _read(path)
        if found is _NO_FILE:
            return []
        if not isinstance(found, list):
            raise TypeError("expected a list")
        return [
            Departure(
                tuple(int(agent) for agent in one["agents"]),
                int(one["rounds"]),
                float(one["time"]),
                int(one["returns"]),
            )
            for one in found
        ]
    except _DAMAGED as error:
        raise RecordError(
            f"{path}: not a list of departures: {unreadable(error)}; restore the file from a backup; or remove it, and "
            "this process waits again for those that had left, and lets them in"
        ) from error


def _read(path: Path) -> Any:
    """Return what a file holds; `_NO_FILE` if there is none.

    Raises:
        RecordError: it cannot be read.
        ValueError, RecursionError: it is not JSON.
    """
    try:
        return json.loads(read_regular(path, _LIMIT))
    except FileNotFoundError:
        return _NO_FILE
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror or error}") from error
