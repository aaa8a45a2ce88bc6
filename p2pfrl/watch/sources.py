"""What reads a run, chosen by what is in its directory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from p2pfrl.core.errors import P2PFRLError, ScenarioError
from p2pfrl.results.directory import Content, content_of, runs_in
from p2pfrl.watch.server import Source
from p2pfrl.watch.simulated import Simulated


def source_of(runs: Sequence[Path], *, waits: bool = False) -> Source:
    """Return what reads a run.

    Args:
        runs: its directory.
        waits: whether the run may begin later.

    Raises:
        P2PFRLError: there is no run.
    """
    if len(runs) != 1:
        raise ScenarioError([f"RUN: expected one run directory, got {len(runs)}"])
    folder = runs[0]
    if not waits:
        _require_run(folder)
    return Simulated(folder)


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
