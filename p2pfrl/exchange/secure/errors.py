"""The error of secure sums."""

from __future__ import annotations

from p2pfrl.core.errors import P2PFRLError


class SecureError(P2PFRLError):
    """A message of a secure sum is refused, or the sum of a round is given up.

    `reason` is one of a small fixed set, counted per sender.
    """

    def __init__(self, reason: str, detail: str) -> None:
        self.reason, self.detail = reason, detail
        super().__init__(f"{reason}: {detail}")

    def __reduce__(self) -> tuple[type[SecureError], tuple[str, str]]:
        """Pickle the parts."""
        return type(self), (self.reason, self.detail)
