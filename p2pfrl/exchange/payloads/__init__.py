"""Payloads of agents. `RULES` maps the names of scenario files to classes."""

from __future__ import annotations

from p2pfrl.exchange.payloads.base import Delta, Gradient, Parameters, Payload, Shared
from p2pfrl.exchange.payloads.logits import Logits
from p2pfrl.exchange.payloads.statistics import Fisher, Statistics
from p2pfrl.exchange.payloads.table import Table
from p2pfrl.exchange.payloads.transitions import Transitions

RULES: dict[str, type[Payload]] = {
    "parameters": Parameters,
    "delta": Delta,
    "gradient": Gradient,
    "table": Table,
    "statistics": Statistics,
    "fisher": Fisher,
    "logits": Logits,
    "transitions": Transitions,
}

__all__ = ["RULES", "Delta", "Gradient", "Parameters", "Payload", "Shared", "Table"]
