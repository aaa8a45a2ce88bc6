"""Ledgers of a process: what each of its agents has released, one file that only grows.

    line     a JSON object: what was charged, with the crc32 of the rest of the line

A line is on disk before the release that it pays for: a process that is killed between the two has
paid for nothing, and never released what it did not pay for. An incomplete last line was never
granted, and the next start cuts it off. Damage before the end is refused: nobody knows what was
spent.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from p2pfrl.core.errors import RecordError
from p2pfrl.core.files import read_regular
from p2pfrl.core.parameters import Vector
from p2pfrl.core.types import called, name_of
from p2pfrl.exchange.privacy.discrete import Words, in_unit
from p2pfrl.exchange.privacy.ledger import Charge, Ledger

FOLDER = "ledgers"
_LARGEST = 2**30
_KEYS = {"release": int, "round": int, "spent": float, "refused": bool}


def from_system(release: int, size: int) -> Vector:
    """Return standard normal numbers of the operating system's randomness, `(size,)`.

    Box and Muller, 1958, of 52 bits each.
    """
    u = in_unit(words_from_system(release, 0, 2 * size)).reshape(2, size)
    numbers: Vector = np.sqrt(-2.0 * np.log(u[0])) * np.cos(2.0 * np.pi * u[1])
    return numbers


def words_from_system(release: int, part: int, size: int) -> Words:
    """Return numbers of 64 bits of the operating system's randomness, `(size,)`."""
    return np.frombuffer(os.urandom(8 * size), dtype="<u8")


def path_of(home: Path, agent: int) -> Path:
    """Return the file of an agent in the run directory of its process."""
    name = name_of(agent) if agent < 0 else f"agent-{agent}"
    return home / FOLDER / f"{name}.jsonl"


def open_ledgers(
    home: Path,
    agents: Sequence[int],
    say: Callable[[str], None],
    kept: Callable[[int, Charge], None] = lambda agent, charge: None,
) -> Mapping[int, Ledger]:
    """Return the ledgers of the agents as they were left, ready for more charges.

    Args:
        home: run directory of the process.
        agents: those of its agents and coordinators that add noise.
        say: is told when a budget is spent.
        kept: is told every charge, once it is on disk.

    Raises:
        RecordError: a ledger is damaged, or cannot be written.
    """
    return {agent: _open(path_of(home, agent), agent, say, kept) for agent in agents}


def _said(agent: int, charge: Charge) -> str:
    return (
        f"{called(agent)}: the privacy budget is spent after {charge.release} releases: it goes on, and "
        "nothing more leaves of what it learns"
    )


def _open(
    path: Path,
    agent: int,
    say: Callable[[str], None],
    kept: Callable[[int, Charge], None],
) -> Ledger:
    charges, end = read_charges(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.truncate(end)
            os.fsync(file.fileno())
        _sync(path.parent)
        _sync(path.parent.parent)
    except OSError as error:
        raise RecordError(f"{path}: cannot be written: {error.strerror or error}") from error

    def keep(charge: Charge) -> None:
        append(path, charge)
        kept(agent, charge)
        if charge.refused:
            say(_said(agent, charge))

    return resumed(charges, keep)


def resumed(
    charges: Sequence[Charge], keep: Callable[[Charge], None] = lambda charge: None
) -> Ledger:
    """Return a ledger with these charges; its noise is of the operating system."""
    own = int.from_bytes(os.urandom(8), "little")
    ledger = Ledger(from_system, keep, own, words_from_system)
    granted = [charge for charge in charges if not charge.refused]
    ledger.releases = len(granted)
    ledger.spent = max((charge.spent for charge in granted), default=0.0)
    ledger.refused = len(charges) - len(granted)
    return ledger


def append(path: Path, charge: Charge) -> None:
    """Add a charge to a ledger; it is on disk when this returns.

    Raises:
        RecordError: it cannot be written; the ledger is as before.
    """
    line = _line(charge)
    try:
        file = os.open(path, os.O_WRONLY | os.O_APPEND)
        try:
            end = os.fstat(file).st_size
            try:
                written = os.write(file, line)
                if written < len(line):
                    raise OSError(28, "no space left on device")
                os.fsync(file)
            except OSError:
                os.ftruncate(file, end)
                raise
        finally:
            os.close(file)
    except OSError as error:
        raise RecordError(
            f"{path}: cannot be written: {error.strerror or error}; nothing leaves that the ledger does not hold"
        ) from error


def read_charges(path: Path) -> tuple[list[Charge], int]:
    """Return the charges of a ledger, and where its last complete line ends; none without a file.

    Raises:
        RecordError: it is damaged before its end.
    """
    try:
        content = read_regular(path, _LARGEST) if path.exists() else b""
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror or error}") from error
    end = content.rfind(b"\n") + 1
    charges: list[Charge] = []
    for number, line in enumerate(content[:end].splitlines(keepends=True), start=1):
        charge = _charge(line)
        last = charges[-1] if charges else Charge(-1, -1, 0.0)
        if charge is None or charge.spent < last.spent or charge.release != last.release + 1:
            raise RecordError(
                f"{path}:{number}: not what a ledger wrote here; what this agent has spent is not known: restore the "
                "file from a backup, or begin a run of its own with another --out"
            )
        charges.append(charge)
    return charges, end


def _line(charge: Charge) -> bytes:
    body = json.dumps(charge._asdict())
    return f'{body[:-1]}, "check": {zlib.crc32(body.encode())}}}\n'.encode()


def _charge(line: bytes) -> Charge | None:
    """Return the charge of a line, or None if it is not one."""
    try:
        found = json.loads(line)
        charge = Charge(**{name: found[name] for name in _KEYS})
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    fits = all(type(getattr(charge, name)) is kind for name, kind in _KEYS.items())
    return charge if fits and _line(charge) == line else None


def _sync(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
