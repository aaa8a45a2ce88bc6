"""What an agent sends of its own. `RULES` maps the names of scenario files to classes."""

from __future__ import annotations

from p2pfrl.exchange.payloads.base import Delta, Gradient, Parameters, Payload, Shared

RULES: dict[str, type[Payload]] = {"parameters": Parameters, "delta": Delta, "gradient": Gradient}

__all__ = ["RULES", "Delta", "Gradient", "Parameters", "Payload", "Shared"]
