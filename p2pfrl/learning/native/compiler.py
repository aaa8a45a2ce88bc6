"""Compilation of the native engine at first use, into the user's cache.

The file's name has a hash of source, compiler and flags, so that another version is another file.
A file is written under another name first and then renamed, so that it is whole or not there, and
ends with a hash of its content, so that one that was damaged later is not loaded. Of processes that
start at once one compiles, and the others wait for it. Where the cache cannot be written or belongs
to somebody else, the library lives in a directory of its own as long as it takes to load it.
"""

from __future__ import annotations

import fcntl
import os
import platform
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryDirectory, mkstemp

from p2pfrl.core.errors import P2PFRLError

SOURCE = Path(__file__).with_name("engine.c")
_CPUINFO = Path("/proc/cpuinfo")
FLAGS = (
    "-std=gnu11",
    "-O3",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-shared",
    "-fPIC",
    "-Wno-psabi",
)
_WIDE = ("avx512f", "avx512vl", "avx512dq", "avx512bw")
WIDE_FLAGS = tuple(f"-m{name}" for name in _WIDE)
_NARROW = ("avx2", "fma")
_SECONDS = 120
_HASH = 16
"""Bytes of the hash at the end of a library."""


class EngineError(P2PFRLError):
    """There is no native engine here; the message says why."""


@dataclass(frozen=True)
class Compiler:
    """A C compiler and what it is told.

    Attributes:
        command: program and arguments.
        flags: that say for which processor to compile.
    """

    command: tuple[str, ...]
    flags: tuple[str, ...]

    def build(self, target: Path) -> None:
        """Compile the engine to `target`, which appears whole or not at all.

        Raises:
            EngineError: the compiler fails.
            OSError: nothing can be written there.
        """
        handle, name = mkstemp(suffix=".tmp", prefix="engine-", dir=target.parent)
        os.close(handle)
        command = [*self.command, *FLAGS, *self.flags, str(SOURCE), "-o", name]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_SECONDS, check=False
            )
            if done.returncode:
                lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
                raise EngineError(f"{shlex.join(self.command)} failed: {lines[0][:200]}")
            _seal(Path(name))
            Path(name).chmod(0o700)
            Path(name).replace(target)
        except subprocess.SubprocessError as error:
            raise EngineError(f"{shlex.join(self.command)} failed: {error}") from error
        finally:
            Path(name).unlink(missing_ok=True)

    @property
    def name(self) -> str:
        """The name of the library: a hash of source, compiler and flags."""
        program = Path(shutil.which(self.command[0]) or self.command[0]).resolve()
        about = program.stat()
        told = (str(program), about.st_size, about.st_mtime_ns, self.command[1:], self.flags)
        text = repr((*told, FLAGS)).encode()
        return f"engine-{blake2b(SOURCE.read_bytes() + text, digest_size=16).hexdigest()}.so"


def _seal(file: Path) -> None:
    """Add the hash of a library to its end, where a loader does not look, and wait for the disk."""
    content = file.read_bytes()
    with file.open("ab") as end:
        end.write(_hash(content))
        end.flush()
        os.fsync(end.fileno())


def is_whole(file: Path) -> bool:
    """Return whether a library is as `Compiler.build` wrote it.

    The system kills a process that loads one whose end is missing, as after a power cut.
    """
    try:
        content = file.read_bytes()
    except OSError:
        return False
    return content[-_HASH:] == _hash(content[:-_HASH])


def _hash(content: bytes) -> bytes:
    return blake2b(content, digest_size=_HASH).digest()


def compilers() -> Iterator[Compiler]:
    """Yield the compilers to try, the best first: that of `CC`, then gcc, clang and cc.

    Raises:
        EngineError: there is none, or the engine has no code for this processor.
    """
    flags = instructions()
    said = os.environ.get("CC", "")
    commands = [tuple(shlex.split(said))] if said.strip() else [("gcc",), ("clang",), ("cc",)]
    found = [command for command in commands if shutil.which(command[0])]
    if not found:
        missing = said.strip() or "gcc, clang and cc"
        raise EngineError(f"no C compiler was found: {missing}")
    for command in found:
        yield Compiler(command, flags)


def instructions() -> tuple[str, ...]:
    """Return the flags of the best instructions that this processor has.

    Raises:
        EngineError: the engine has no code for it.
    """
    if platform.machine() in ("aarch64", "arm64"):
        return ()
    try:
        found = re.search(r"^flags\s*:(.*)$", _CPUINFO.read_text(encoding="utf-8"), re.M)
    except OSError:
        found = None
    known = found[1].split() if found else []
    for wanted in (_WIDE, _NARROW):
        if {*wanted, *_NARROW} <= {*known}:
            return _flags(wanted)
    raise EngineError("the processor is not known to have AVX2 and FMA")


def _flags(wanted: Sequence[str]) -> tuple[str, ...]:
    wide = ("-mprefer-vector-width=512",) if wanted is _WIDE else ()
    return (*(f"-m{name}" for name in (*_NARROW, *(wanted if wide else ()))), *wide)


def cache() -> Path | None:
    """Return the user's cache of this package, which nobody else can write; None: there is none."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    try:
        folder = (Path(home) if home else Path.home() / ".cache") / "p2pfrl"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = folder.stat()
    except (OSError, RuntimeError):
        return None
    is_own = about.st_uid == os.getuid() and not about.st_mode & 0o022
    return folder if is_own and os.access(folder, os.W_OK | os.X_OK) else None


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Wait until no other process compiles into a folder; where files have no locks, do not."""
    with (folder / "lock").open("a", encoding="utf-8") as file:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def private() -> TemporaryDirectory[str]:
    """Return a new directory that only this process uses."""
    return TemporaryDirectory(prefix="p2pfrl-")
