"""Who is absent from a run, and for how long, from the faults of its scenario."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_LEAVES = ("crash", "leave", "opt_out")
_COMES = ("restart", "join")


class Absences:
    """The agents that faults have taken from a run until a time.

    Attributes:
        seconds: agent -> seconds of virtual time for which it was not there.
        absent: agents that are not there at that time.

    Args:
        faults: with `at` in virtual seconds, `kind` and `agents`, in order of time.
        now: the time; None if it is not known.
    """

    def __init__(self, faults: Iterable[Mapping[str, Any]], now: float | None) -> None:
        self.seconds: dict[int, float] = {}
        self.absent: set[int] = set()
        since: dict[int, float] = {}
        for fault in faults:
            at = float(fault["at"])
            for agent in fault["agents"]:
                if fault["kind"] == "join":
                    since.setdefault(agent, 0.0)  # it was not there before
                if now is None or at > now:
                    continue
                if fault["kind"] in _LEAVES:
                    since.setdefault(agent, at)
                elif fault["kind"] in _COMES and agent in since:
                    self._add(agent, at - since.pop(agent))
        for agent, start in since.items():
            self.absent.add(agent)
            self._add(agent, (now or 0.0) - start)

    def _add(self, agent: int, seconds: float) -> None:
        self.seconds[agent] = self.seconds.get(agent, 0.0) + seconds

    def states(self, n: int) -> str:
        """Return a letter for each of n agents of a run that has ended, as of `agents.STATES`."""
        return "".join("d" if agent in self.absent else "e" for agent in range(n))
