"""What reads a run, chosen by what is in its directory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from p2pfrl.core.errors import P2PFRLError, RecordError, ScenarioError
from p2pfrl.results.directory import PEERS, SUMMARY, Content, content_of, is_process, runs_in
from p2pfrl.results.files import refusing
from p2pfrl.watch.deployed import Deployed, Processes
from p2pfrl.watch.server import Source
from p2pfrl.watch.simulated import Simulated


class Careful:
    """A source whose damaged or foreign files are an error that names them.

    Args:
        source: reads the run.
        name: of its directory or address.
    """

    def __init__(self, source: Source, name: str) -> None:
        self._source, self._name = source, name

    def read(self) -> dict[str, Any]:
        """Return all sections as they are now.

        Raises:
            RecordError: a file cannot be read, or is not what a run writes.
        """
        try:
            with refusing(Path(self._name)):
                return self._source.read()
        except OSError as error:
            raise RecordError(f"{self._name}: cannot be read: {error.strerror or error}") from error


class Local:
    """Reader of one run directory: of a peer, of a deployment, or of a simulation or record.

    Args:
        folder: the directory.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._simulated = Simulated(folder)
        self._deployed: Deployed | None = None
        self._peers: list[Path] = []

    def read(self) -> dict[str, Any]:
        """Return all sections as they are now."""
        if is_process(self._folder):
            found = [self._folder]
        elif (self._folder / PEERS).is_dir() and not (self._folder / SUMMARY).is_file():
            found = sorted(path for path in (self._folder / PEERS).iterdir() if path.is_dir())
        else:
            return self._simulated.read()
        if self._deployed is None or found != self._peers:
            self._peers = found
            self._deployed = Deployed(Processes(found), str(self._folder))
        return self._deployed.read()


def source_of(runs: Sequence[Path], *, waits: bool = False) -> Source:
    """Return what reads a run.

    Args:
        runs: its directory, or those of its peers.
        waits: whether the run may begin later.

    Raises:
        P2PFRLError: there is no run.
    """
    if not runs:
        raise ScenarioError(["RUN: expected a run directory, or --url"])
    if len(runs) > 1:
        others = [str(folder) for folder in runs if not is_process(folder)]
        if not others:
            name = f"{len(runs)} directories"
            return Careful(Deployed(Processes(runs), name), name)
        raise ScenarioError(
            [
                f"{others[0]}: expected the directory of a peer, as several are given, got another; of a simulated run "
                "give one directory"
            ]
        )
    if not waits and not is_process(runs[0]):
        _require_run(runs[0])
    return Careful(Local(runs[0]), str(runs[0]))


def _require_run(folder: Path) -> None:
    """Refuse a directory without a run.

    Raises:
        P2PFRLError: it has none.
    """
    found = content_of(folder)
    if found in (Content.RECORD, Content.UNFINISHED):
        return
    done, others = runs_in(folder)
    if several := [*done, *others]:
        names = ", ".join(str(path) for path in several[:3])
        raise P2PFRLError(
            f"{folder}: expected one run, got {len(several)}: name one, such as {names}"
        )
    what = "nothing" if found is Content.NOTHING else found.value
    raise P2PFRLError(
        f"{folder}: expected the directory of a run, got {what}; `p2pfrl runs` lists what is there"
    )
