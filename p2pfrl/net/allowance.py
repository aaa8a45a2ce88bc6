"""Allowance of a connection: how fast it is read, so that one sender cannot take everyone's time.

A process that sends small frames at full speed would make its neighbors parse nothing else. Frames
cost the time before they can be refused. So a connection that has used its allowance is not read
for a while, and TCP makes its sender wait.
"""

from __future__ import annotations

RATE, RATE_OF_AGENT = 2000.0, 200.0
"""Messages per second of a connection, and those of each agent at its other end.

An agent sends one per round to each neighbor, so this is far above what rounds need, and far below
what a process can parse."""
BURST = 2.0
"""Seconds for which unused allowance is kept."""


class Allowance:
    """Token bucket of one connection.

    Args:
        now: seconds, monotonic.
    """

    def __init__(self, now: float) -> None:
        self._left = RATE * BURST
        self._then = now

    def spend(self, messages: int, agents: int, now: float) -> float:
        """Use the allowance for messages that arrived; return for how many seconds not to read."""
        rate = RATE + RATE_OF_AGENT * agents
        self._left = min(rate * BURST, self._left + rate * (now - self._then)) - messages
        self._then = now
        return max(0.0, -self._left / rate)
