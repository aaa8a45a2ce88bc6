"""What was said last to each process: a connection that takes over from another says it again."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from p2pfrl.core.wire import Frame
from p2pfrl.net.fleet import Address

_KEPT = 2
"""Frames of one sender and kind: whoever waits for one cannot be more than one round behind, so
that is all that may be on the way."""


class Recent:
    """The newest frames to every process, by sender and kind.

    What a silent connection holds may have arrived or not. It is said again with the sequence
    number that it had, and whoever had it already knows it by that.
    """

    def __init__(self) -> None:
        self._frames: dict[
            Address, dict[tuple[int, str], deque[tuple[tuple[int, ...], Frame]]]
        ] = {}

    def add(self, address: Address, to: Sequence[int], frame: Frame, sender: int) -> None:
        """Note a frame that is being sent."""
        slots = self._frames.setdefault(address, {})
        key = sender, frame.kind
        if key not in slots:
            slots[key] = deque(maxlen=_KEPT)
        slots[key].append((tuple(to), frame))

    def forget(self, address: Address) -> None:
        """Forget what was said to a process that is lost: its neighbors are told, and begin anew."""
        self._frames.pop(address, None)

    def repeat(self, address: Address, send: Callable[[Sequence[int], Frame, int], None]) -> None:
        """Say everything again, the older frames first."""
        slots = self._frames.get(address, {})
        for age in range(_KEPT):
            for (sender, _), kept in slots.items():
                if age < len(kept):
                    send(*kept[age], sender)
