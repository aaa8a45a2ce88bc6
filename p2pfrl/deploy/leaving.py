"""A process leaves its run for good, or comes back: what `p2pfrl leave` does."""

from __future__ import annotations

import json
import time
from pathlib import Path

from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.files import read_regular, read_table
from p2pfrl.core.types import OPTED_OUT
from p2pfrl.deploy.journals import SCENARIO
from p2pfrl.net.checkpoint import LARGEST_TABLE, Checkpoints
from p2pfrl.net.departures import come_back, opt_out, read_mark
from p2pfrl.net.fleet import who, who_have
from p2pfrl.results.directory import CHECKPOINTS, PEERS, user_of
from p2pfrl.scenario.checks.leaving import refuse_leaving
from p2pfrl.scenario.loader import load_recorded

_SUMMARY, _MOST = "peer.json", 2**26
_PERIOD = 0.1


def leave(folder: Path, patience: float) -> tuple[bool, str]:
    """Let the process of a directory leave its run, and wait until it has.

    The mark is on disk before this returns, so the process does not start again, whatever happens.

    Args:
        folder: directory of the process.
        patience: seconds to wait for the end of its round.

    Returns:
        Whether it has left, and what to say.

    Raises:
        ScenarioError: it is no directory of a process, or the run cannot go on without it.
        RecordError: the mark cannot be written.
    """
    ids = _agents(folder)
    if (why := _stopped_by(folder)) in ("rounds", "wall_time"):
        return (
            True,
            f"{who_have(ids)} ended their run by {why}: there is nothing to leave",
        )
    refuse_leaving(load_recorded(folder / SCENARIO), ids)
    opt_out(folder)
    deadline = time.monotonic() + patience
    while user_of(folder) is not None:
        if time.monotonic() > deadline:
            return False, (
                f"{who_have(ids)} not left within {patience:g} s: they leave at the end of their round; "
                "p2pfrl stop ends them at once, and they will not start again"
            )
        time.sleep(_PERIOD)
    summary = read_table(folder / _SUMMARY, _MOST) or {}
    if summary.get("stopped_by") == OPTED_OUT:
        return True, f"{who_have(ids)} left after {summary.get('rounds')} rounds"
    return True, (
        f"{who(ids)} did not run: they will not start again; their neighbors were not told, and count "
        "them as lost"
    )


def undo(folder: Path) -> str:
    """Let the process of a directory take part again, and return what to say.

    Raises:
        ScenarioError: it is no directory of a process, or it has not opted out.
    """
    ids = _agents(folder)
    if not read_mark(folder).is_out:
        raise ScenarioError([f"{folder}: {who_have(ids)} not opted out"])
    come_back(folder)
    return (
        f"{who(ids)} may take part again: start the process with its command. What they had spent of a "
        "privacy budget stays spent"
    )


def _agents(folder: Path) -> tuple[int, ...]:
    """Return the agents and coordinators of the process of a directory.

    Raises:
        ScenarioError: it is no directory of a process.
    """
    if (folder / PEERS).is_dir():
        found = ", ".join(str(path) for path in sorted((folder / PEERS).iterdir()))
        raise ScenarioError([f"{folder}: a run of several processes; name one of them: {found}"])
    try:
        known = json.loads(read_regular(folder / CHECKPOINTS / "process.json", LARGEST_TABLE))
        where = Checkpoints(folder / CHECKPOINTS, str(known["scenario"])).whereabouts()
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        where = None
    if where is None or not (folder / SCENARIO).is_file():
        raise ScenarioError(
            [f"{folder}: expected the directory of a process that has begun a run (p2pfrl peer)"]
        )
    return where[1]


def _stopped_by(folder: Path) -> str:
    return str((read_table(folder / _SUMMARY, _MOST) or {}).get("stopped_by", ""))
