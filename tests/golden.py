"""The golden net: what runs leave behind, as one text file.

`python tests/golden.py` writes it anew.

Digests hold for one processor type and one set of versions: the first line of the file names them,
and elsewhere the digests are not compared.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import p2pfrl
from p2pfrl.learning.native.choice import missing

ROOT = Path(p2pfrl.__file__).parents[1]
FILE = Path(__file__).with_name("golden.txt")
SCENARIOS = sorted((ROOT / "scenarios").glob("*.toml"))
OVERRIDES = {"stop.rounds": 3, "evaluation.episodes": 1}
DIRECTORIES = {
    "ring": """name = "ring"
agents = 4
stop = {rounds = 4}
learner = {kind = "quadratic", dimension = 3, noise = 0.1, initial_spread = 1.0}
""",
    "central": """name = "central"
mode = "central"
agents = 3
stop = {rounds = 3}
environment = {id = "gridworld"}
learner = {kind = "tabular_q"}
network = {loss = 0.1}
""",
}


def digest(data: bytes) -> str:
    return blake2b(data, digest_size=8).hexdigest()


def is_known(file: Path) -> bool:
    """Whether what the scenario needs is installed everywhere the tests run."""
    return not file.stem.endswith("_mujoco")


def known() -> list[str]:
    """Return the lines of the file."""
    return FILE.read_text(encoding="utf-8").splitlines()


def holds_here() -> bool:
    """Whether this machine and these versions are those of the file."""
    return known()[0] == versions()


def line(name: str, summary: Mapping[str, Any]) -> str:
    """Return the line of one shipped scenario at three rounds."""
    facts = (
        summary["messages_sent"],
        summary["messages_dropped"],
        summary["bytes_sent"],
        summary["digest"],
    )
    return " ".join(map(str, ("scenario", name, *facts)))


def stable(name: str, data: bytes) -> bytes:
    """Return the content of a file without what differs from run to run: wall time and versions."""
    if name == "summary.json":
        summary = json.loads(data)
        del summary["wall_seconds"], summary["versions"]
        return json.dumps(summary).encode()
    return data


def directory(name: str, home: Path) -> Iterator[str]:
    """Yield a line for every file of data that a run leaves.

    Figures depend on fonts and are not among them.
    """
    file = home / f"{name}.toml"
    file.write_text(DIRECTORIES[name], encoding="utf-8")
    run = home / "run"
    p2pfrl.run(p2pfrl.load(file), out=run, trace=True)
    for path in sorted(run.rglob("*")):
        if path.is_file() and path.suffix not in (".png", ".svg", ".html"):
            relative = path.relative_to(run).as_posix()
            yield f"file {name}/{relative} {digest(stable(path.name, path.read_bytes()))}"


def deployment(home: Path) -> str:
    """Return the line of a run as processes over TCP: its parameters are those of the simulator."""
    from p2pfrl.deploy.local import run_processes

    file = home / "ring.toml"
    file.write_text(DIRECTORIES["ring"], encoding="utf-8")
    parameters = run_processes(p2pfrl.load(file), home / "deployed", 2, quiet=True).parameters
    return f"tcp ring {digest(np.ascontiguousarray(parameters).tobytes())}"


def versions() -> str:
    """Return what digests depend on besides the scenario."""
    from importlib.metadata import version

    file = Path("/proc/cpuinfo")
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    model = re.search(r"model name\s*:\s*(.*)", text)
    names = (f"{name}={version(name)}" for name in ("numpy", "torch"))
    flags = "avx512f" if "avx512f" in text else "no-avx512f"
    engine = "native" if missing() is None else "torch"
    processor = (model[1] if model else "unknown").strip().replace(" ", "_")
    return " ".join(("versions", *names, engine, flags, processor))


def directories(home: Path) -> Iterator[str]:
    """Yield the lines of the files that runs leave, and of the run over TCP."""
    for name in DIRECTORIES:
        folder = home / name
        folder.mkdir()
        yield from directory(name, folder)
    yield deployment(home)


def lines() -> Iterator[str]:
    yield versions()
    for file in filter(is_known, SCENARIOS):
        yield line(file.stem, p2pfrl.run(p2pfrl.load(file, overrides=OVERRIDES)).summary)
    with TemporaryDirectory() as home:
        yield from directories(Path(home))


if __name__ == "__main__":
    text = "".join(f"{line}\n" for line in lines())
    if "--check" in sys.argv:
        changed = [
            (old, new) for old, new in zip(known(), text.splitlines(), strict=True) if old != new
        ]
        for old, new in changed:
            print(f"- {old}\n+ {new}")
        raise SystemExit(bool(changed))
    FILE.write_text(text, encoding="utf-8")
