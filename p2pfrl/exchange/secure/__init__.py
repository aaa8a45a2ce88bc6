"""Secure sums: who receives vectors learns their sum, and none of them.

`RULES` maps the names of scenario files to classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2pfrl.core.members import Members

if TYPE_CHECKING:
    from p2pfrl.exchange.secure.base import Secure

RULES: Members[Secure] = Members(
    __name__,
    {
        "none": "base:Visible",
        "secret_shares": "masked:SecretShares",
        "secure_aggregation": "masked:SecureAggregation",
        "neighborhood_masks": "masked:NeighborhoodMasks",
    },
)
