"""Whom an agent waits for, from the words in which its schedule says it (`Schedule.waits_for`)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from p2pfrl.core.types import COORDINATOR

_IDS = re.compile(r"-?\d+(?:, -?\d+)*\Z")
_ONE = re.compile(r"the answer of (\d+)\Z")
_MODELS = ("the coordinator's next model", "the cloud's next model")


def awaited(words: str) -> list[int]:
    """Return the agents and coordinators that are awaited; none where it is an agent's own update.

    >>> awaited("agent 0 waits in round 21 for 1, 15")
    [1, 15]
    >>> awaited("agent 7 waits in round 2 for its own update")
    []
    """
    what = words.rpartition(" for ")[2]
    if _IDS.match(what):
        return [int(id) for id in what.split(", ")]
    if match := _ONE.match(what):
        return [int(match[1])]
    return [COORDINATOR] if what in _MODELS else []


def arrows(waits: Mapping[str, str]) -> dict[str, list[int]]:
    """Return who waits for whom: agent -> the ids that it waits for, if it waits for anybody."""
    found = {agent: awaited(words) for agent, words in waits.items()}
    return {agent: ids for agent, ids in found.items() if ids}
