"""How a payload becomes the bytes on the wire, and back. `RULES` maps the names of scenario files to classes."""

from __future__ import annotations

from p2pfrl.exchange.compressors.base import Compressor, Encoded, Raw, State

RULES: dict[str, type[Compressor]] = {"none": Raw}

__all__ = ["RULES", "Compressor", "Encoded", "Raw", "State"]
