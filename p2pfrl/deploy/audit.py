"""The audit log of a process: who came, left, released and was refused, as one chain of hashes.

    line     a JSON object with the hash of the line before and, last, its own

Every entry has the blake2b hash of the entry before it and all of its own content. So one that is
changed, taken out, added or doubled is found, and so is everything after it, unless whoever did it
wrote all hashes behind it anew. To find that, too, compare the last hash, which the process
writes into `peer.json` at its end, with one that was kept elsewhere. The log is evidence of
what this process noted, not of what others did. It has no numbers of any payload.

An incomplete last line is of a process that was killed, and the next start cuts it off. The start
refuses a log that is damaged, or that is not the one whose end `peer.json` has.

An entry is on disk (fsync) before the process goes on, but that of a release, which is in the
ledger on disk already (ledgers.py) and reaches the disk with the next other entry.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from p2pfrl.core.errors import RecordError
from p2pfrl.core.files import read_table
from p2pfrl.core.types import OPTED_OUT, name_of
from p2pfrl.exchange.privacy.ledger import Charge

AUDIT = "audit.jsonl"
LIMIT = 2**28
"""Bytes of the largest log that is read."""
NOTED = ("joined", "up", "lost", "left", OPTED_OUT, "refused", "failed", "certificate", "office")
"""Events of a process that are entries, besides its releases, its beginnings and its ends."""
_RELEASE = "release"
_FIRST = "0" * 32
_PEER, _MOST_SUMMARY = "peer.json", 2**26
_KEYS = ("number", "time", "what", "previous", "hash")
_PRINTED = frozenset(range(0x20, 0x7F))
"""Bytes of which lines are made: what is written is JSON in ASCII."""


@dataclass(frozen=True)
class Chain:
    """What an audit log holds.

    Attributes:
        entries: that are intact, from the first on.
        last: the hash of the last one of them.
        size: bytes of their lines.
        problem: what is wrong with the entry after them; "" if nothing is.
        is_cut: whether an incomplete line follows, as after a kill.
        ended: why the process ended, if the last entry says so.
        then: the hash of the entry that was asked for; "" if there is none.
    """

    entries: int
    last: str
    size: int
    problem: str = ""
    is_cut: bool = False
    ended: str = ""
    then: str = ""


def hash_of(entry: Mapping[str, Any]) -> str:
    """Return the hash of an entry: of its content but the hash, keys in order."""
    content = {key: value for key, value in entry.items() if key != "hash"}
    packed = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return blake2b(packed.encode(), digest_size=16).hexdigest()


def read_chain(path: Path, at: int | None = None) -> Chain:
    """Return what a log holds, up to the first bad entry.

    Args:
        path: the log.
        at: a number of entries after which the hash is wanted, too.

    Raises:
        RecordError: it cannot be read, or is too large.
    """
    try:
        if not path.is_file():
            raise RecordError(f"{path}: expected an audit log, got no regular file")
        if path.stat().st_size > LIMIT:
            raise RecordError(f"{path}: larger than {LIMIT} bytes, which no process writes")
        content = path.read_bytes()
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror or error}") from error
    chain, size, ended, then = (0, _FIRST), 0, "", ""
    end = content.rfind(b"\n") + 1
    for line in content[:end].splitlines(keepends=True):
        entry = _entry(line)
        if problem := _problem(entry, *chain):
            return Chain(*chain, size, problem)
        assert entry is not None
        chain, size = (chain[0] + 1, entry["hash"]), size + len(line)
        ended = str(entry.get("why", "")) if entry["what"] == "end" else ""
        then = entry["hash"] if chain[0] == at else then
    if not _is_beginning(content[end:], chain[0]):
        return Chain(*chain, size, "neither an entry nor the beginning of one", then=then)
    return Chain(*chain, size, is_cut=end < len(content), ended=ended, then=then)


def _is_beginning(content: bytes, number: int) -> bool:
    """Return whether a kill may have left this of the line of an entry.

    A machine that fails may leave zeros in the place of bytes that did not reach its disk.
    """
    written = content.rstrip(b"\0")
    head = f'{{"number":{number},"time":'.encode()
    return written[: len(head)] == head[: len(written)] and _PRINTED.issuperset(written)


def _entry(line: bytes) -> dict[str, Any] | None:
    """Return the entry in a line; None if there is none."""
    try:
        found = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and all(key in found for key in _KEYS) else None


def _problem(entry: Mapping[str, Any] | None, number: int, previous: str) -> str:
    """Return what is wrong with the entry that should be that of a number; "" if nothing is."""
    if entry is None:
        return "not an entry"
    if entry["hash"] != hash_of(entry):
        return "its content does not have its hash: it was changed"
    if entry["number"] != number or type(entry["number"]) is not int:
        return f"expected number {number}, got {entry['number']}: entries are missing or doubled"
    if entry["previous"] != previous:
        return "it does not follow the entry before it"
    return ""


class Audit:
    """The audit log of a running process.

    Attributes:
        chain: what it holds.

    Args:
        path: the file. What is there already is checked, also against the end that `peer.json`
            beside it has, and goes on.
        say: is told if entries cannot be written, once.
        now: seconds since 1970.

    Raises:
        RecordError: it is damaged, or lacks entries that it had when the process ended.
    """

    def __init__(
        self,
        path: Path,
        say: Callable[[str], None] = lambda text: None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._path, self._say, self._now = path, say, now
        self._missing = 0
        self.chain, problem = _examined(path, Chain(0, _FIRST, 0))
        if problem:
            raise RecordError(
                f"{path}:{self.chain.entries + 1}: {problem}; keep it and {_PEER} beside it as evidence, and move both "
                "away to begin another log"
            )
        if self.chain.is_cut:
            os.truncate(path, self.chain.size)

    def add(self, what: str, **details: object) -> None:
        """Add an entry. It survives this process and, unless it is a release, the machine."""
        number, previous = self.chain.entries, self.chain.last
        entry: dict[str, Any] = {"number": number, "time": self._now(), "what": what}
        entry |= json.loads(json.dumps(details, default=str)) | {"previous": previous}
        entry["hash"] = hash_of(entry)
        line = json.dumps(entry, separators=(",", ":")).encode() + b"\n"
        try:
            file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                if os.write(file, line) < len(line):
                    os.ftruncate(file, self.chain.size)
                    raise OSError(28, "no space left on device")
                if what != _RELEASE:
                    os.fsync(file)
            finally:
                os.close(file)
        except OSError as error:
            self._missing += 1
            if self._missing == 1:
                self._say(f"{self._path}: entries are missing from now on: {error.strerror}")
            return
        self.chain = Chain(number + 1, entry["hash"], self.chain.size + len(line))

    def note(self, what: str, details: Mapping[str, object]) -> None:
        """Add an event of the process's log, if it is one of those that are kept."""
        if what in NOTED:
            self.add(what, **details)


def audited(audit: Audit, epsilon: Callable[[float], float]) -> Callable[[int, Charge], None]:
    """Return what adds an entry for every charge of a ledger.

    Args:
        audit: gets the entries.
        epsilon: what a ledger has spent -> epsilon.
    """

    def kept(agent: int, charge: Charge) -> None:
        what = "release_refused" if charge.refused else _RELEASE
        spent = epsilon(charge.spent)
        audit.add(
            what, agent=name_of(agent), release=charge.release, round=charge.round, epsilon=spent
        )

    return kept


def verdicts(run: Path) -> list[dict[str, Any]]:
    """Return what is in the audit logs of a run, or in that of the directory of one process.

    Each has `file`, `entries`, `hash`, `ended`, and of a bad one `entry`, its number from 1, and
    `problem`.

    Raises:
        RecordError: there is none, or it cannot be read.
    """
    own = run / AUDIT
    paths = [own] if own.exists() else sorted(run.glob(f"peers/*/{AUDIT}"))
    return [_verdict(path) for path in paths or [own]]


def _verdict(path: Path) -> dict[str, Any]:
    chain, problem = _examined(path)
    return {
        "file": str(path),
        "entries": chain.entries,
        "hash": chain.last,
        "ended": chain.ended,
        "entry": chain.entries + 1 if problem else None,
        "problem": problem,
    }


def _examined(path: Path, missing: Chain | None = None) -> tuple[Chain, str]:
    """Return what a log holds, and what is wrong with it or with its end; "" if nothing is.

    Args:
        path: the log.
        missing: what one holds that is not there; None where that is an error.
    """
    known, damage = _noted(path.parent / _PEER)
    is_new = missing is not None and not os.path.lexists(path)
    chain = missing if missing is not None and is_new else read_chain(path, known[0])
    return chain, chain.problem or damage or _cut(chain, *known)


def _noted(path: Path) -> tuple[tuple[int, str], str]:
    """Return (entries, last hash) that a summary has, (0, "") without one, and what is wrong."""
    if not path.exists():
        return (0, ""), ""
    found = (read_table(path, _MOST_SUMMARY) or {}).get("audit")
    entries, last = (
        (found.get(k) for k in ("entries", "hash")) if isinstance(found, dict) else (0, 0)
    )
    if type(entries) is not int or type(last) is not str:
        reason = "damaged, or without its entry `audit`"
        return (0, ""), f"{path} is {reason}: whether lines are missing at the end is not known"
    return (entries, last), ""


def _cut(chain: Chain, entries: int, last: str) -> str:
    """Return what is wrong with an intact chain whose process wrote another end; or ""."""
    if chain.entries < entries:
        return f"expected {entries} entries, as {_PEER} says, got {chain.entries}"
    if entries and chain.then != last:
        return f"expected the hash {last} of entry {entries}, as {_PEER} says, got {chain.then}"
    return ""
