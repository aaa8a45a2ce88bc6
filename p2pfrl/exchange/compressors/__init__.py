"""Compressors of payloads. `RULES` maps the names of scenario files to classes."""

from __future__ import annotations

from p2pfrl.exchange.compressors.base import Compressor, Encoded, Raw, State
from p2pfrl.exchange.compressors.memory import INNER, Difference, ErrorFeedback

RULES: dict[str, type[Compressor]] = {
    "none": Raw,
    **INNER,
    "error_feedback": ErrorFeedback,
    "difference": Difference,
}

__all__ = ["RULES", "Compressor", "Difference", "Encoded", "ErrorFeedback", "Raw", "State"]
