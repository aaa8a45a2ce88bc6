"""Payloads of agents. `RULES` maps the names of scenario files to classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2pfrl.core.members import Members

if TYPE_CHECKING:
    from p2pfrl.exchange.payloads.base import Payload

RULES: Members[Payload] = Members(
    __name__,
    {
        "parameters": "base:Parameters",
        "delta": "changes:Delta",
        "gradient": "changes:Gradient",
        "table": "table:Table",
        "statistics": "statistics:Statistics",
        "fisher": "statistics:Fisher",
        "fisher_policy": "statistics:FisherPolicy",
        "logits": "logits:Logits",
        "transitions": "transitions:Transitions",
    },
)
