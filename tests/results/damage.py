"""Damage to run directories, from a seed: every file in every way, and what commands make of it."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

Damage = Callable[[Path, random.Random], None]
_VALUES = (None, True, -1, 2.5, 1e300, 10**40, "text", "", "\x1b[2J", [], {}, [[1]], {"a": None})


def truncate(path: Path, rng: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(max(1, len(content)))])


def flip(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 3, 20))):
        if content:
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(bytes(content))


def insert(path: Path, rng: random.Random) -> None:
    content = path.read_bytes()
    place = rng.randrange(len(content) + 1)
    path.write_bytes(content[:place] + rng.randbytes(9) + content[place:])


def repeat(path: Path, rng: random.Random) -> None:
    path.write_bytes(path.read_bytes() * 2)


def empty(path: Path, rng: random.Random) -> None:
    path.write_bytes(b"")


def zeros(path: Path, rng: random.Random) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def delete(path: Path, rng: random.Random) -> None:
    path.unlink()


def swap(path: Path, rng: random.Random) -> None:
    others = sorted(other for other in path.parent.iterdir() if other.is_file() and other != path)
    if others:
        other, kept = rng.choice(others), path.read_bytes()
        path.write_bytes(other.read_bytes())
        other.write_bytes(kept)


def directory(path: Path, rng: random.Random) -> None:
    path.unlink()
    path.mkdir()


def pipe(path: Path, rng: random.Random) -> None:
    path.unlink()
    os.mkfifo(path)


def loop(path: Path, rng: random.Random) -> None:
    """Make a link to itself, which nobody can read: permissions do not stop root."""
    path.unlink()
    path.symlink_to(path.name)


def huge(path: Path, rng: random.Random) -> None:
    with path.open("r+b") as file:
        file.truncate(2**34)


def retype(path: Path, rng: random.Random) -> None:
    """Give one value of a JSON file, or of one line of it, another kind."""
    lines = path.read_bytes().splitlines() if path.suffix == ".jsonl" else [path.read_bytes()]
    number = rng.randrange(max(1, len(lines)))
    try:
        table = json.loads(lines[number])
    except (ValueError, IndexError):
        return flip(path, rng)
    places = [*_places(table)]
    if not places:
        return empty(path, rng)
    node, key = rng.choice(places)
    node[key] = rng.choice(_VALUES)
    lines[number] = json.dumps(table).encode()
    path.write_bytes(b"\n".join(lines))
    return None


def _places(node: object) -> Iterator[tuple[dict[str, object] | list[object], str | int]]:
    """Yield every place of a value in nested tables and lists."""
    pairs = (
        node.items()
        if isinstance(node, dict)
        else enumerate(node)
        if isinstance(node, list)
        else ()
    )
    for key, value in pairs:
        yield node, key  # type: ignore[misc]
        yield from _places(value)


def reword(path: Path, rng: random.Random) -> None:
    """Replace one cell of a CSV file, or one value of a TOML file."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        return flip(path, rng)
    if not lines:
        return None
    number = rng.randrange(len(lines))
    word = rng.choice(("", "x", "nan", "inf", "-1", "1e400", "9" * 30, '"', "[", "true", "\x00"))
    mark = "," if path.suffix == ".csv" else "="
    cells = lines[number].split(mark)
    cells[rng.randrange(len(cells))] = word
    lines[number] = mark.join(cells)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return None


DAMAGES: dict[str, Damage] = {
    damage.__name__: damage
    for damage in (
        truncate,
        flip,
        insert,
        repeat,
        empty,
        zeros,
        delete,
        swap,
        directory,
        pipe,
        loop,
        huge,
        retype,
        reword,
    )
}


@dataclass(frozen=True)
class Case:
    """One file of a directory, and what happens to it.

    Attributes:
        kind: of the directory.
        name: of the file in it.
        damage: a key of `DAMAGES`.
        seed: of its random choices.
    """

    kind: str
    name: str
    damage: str
    seed: int

    def __str__(self) -> str:
        return f"{self.kind}-{self.name.replace('/', '_')}-{self.damage}-{self.seed}"

    def make(self, whole: Path, to: Path) -> Path:
        """Copy a directory, damage the copy, and return it."""
        run = Path(shutil.copytree(whole, to, symlinks=True))
        path = run / self.name
        DAMAGES[self.damage](path, random.Random(str(self)))
        return run


def cases(kind: str, whole: Path, seeds: range = range(1)) -> list[Case]:
    """Return every damage of every file of a directory."""
    files = sorted(path for path in whole.rglob("*") if path.is_file() and not path.is_symlink())
    return [
        Case(kind, str(path.relative_to(whole)), damage, seed)
        for path in files
        for damage in DAMAGES
        for seed in (
            seeds
            if damage in ("truncate", "flip", "insert", "swap", "retype", "reword")
            else range(1)
        )
    ]
