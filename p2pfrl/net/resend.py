"""Buffer of recent frames, which a new connection to the same process sends again."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from p2pfrl.core.types import Frame
from p2pfrl.net.fleet import Address

_KEPT = 2
"""Frames kept per sender and kind.

A receiver that waits for a frame is at most one round behind, so no more can be in transit."""


class ResendBuffer:
    """The newest frames to every process, by sender and kind, and by receiver where it is one.

    A frame on a silent connection may or may not have arrived. It is sent again with the same
    sequence number, so a receiver recognizes a duplicate.
    """

    def __init__(self) -> None:
        self._frames: dict[
            Address, dict[tuple[int, str, tuple[int, ...]], deque[tuple[tuple[int, ...], Frame]]]
        ] = {}

    def add(self, address: Address, to: Sequence[int], frame: Frame, sender: int) -> None:
        """Add a frame that is being sent."""
        slots = self._frames.setdefault(address, {})
        key = sender, frame.kind, tuple(to) if len(to) == 1 else ()
        if key not in slots:
            slots[key] = deque(maxlen=_KEPT)
        slots[key].append((tuple(to), frame))

    def forget(self, address: Address) -> None:
        """Drop the frames for a process that is lost; its neighbors are informed and start anew."""
        self._frames.pop(address, None)

    def repeat(self, address: Address, send: Callable[[Sequence[int], Frame, int], None]) -> None:
        """Send all kept frames again, older ones first."""
        slots = self._frames.get(address, {})
        for age in range(_KEPT):
            for (sender, _, _), kept in slots.items():
                if age < len(kept):
                    send(*kept[age], sender)
