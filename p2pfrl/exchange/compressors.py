"""How a payload becomes the bytes on the wire, and back."""

from __future__ import annotations

from abc import ABC, abstractmethod

from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule


class Compressor(ABC):
    """Encodes and decodes payloads; the encoding is named in every frame."""

    @abstractmethod
    def encode(self, payload: Vector) -> tuple[str, Vector]:
        """Return the name of the encoding and what travels."""

    @abstractmethod
    def decode(self, received: Vector) -> Vector:
        """Return the payload, `(k,)`."""


@rule
class Raw(Compressor):
    """The numbers as they are, little-endian."""

    def encode(self, payload: Vector) -> tuple[str, Vector]:
        """Return the payload."""
        return "raw", payload

    def decode(self, received: Vector) -> Vector:
        """Return what was received."""
        return received


RULES: dict[str, type[Compressor]] = {"none": Raw}
