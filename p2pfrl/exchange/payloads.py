"""What an agent sends of its own: its vector as it is, or how far training moved it."""

from __future__ import annotations

from abc import ABC, abstractmethod

from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule


class Payload(ABC):
    """What travels, made from the shared vector before and after local training."""

    @abstractmethod
    def extract(self, start: Vector, own: Vector) -> Vector:
        """Return the vector to send, `(k,)`: a new array or an input that is not written to again."""

    def parts(self, shared: tuple[str, ...]) -> tuple[str, ...]:
        """Return the names of what travels, given the shared parts of the parameters."""
        return shared

    @abstractmethod
    def target(self, model: Vector, aggregate: Vector) -> Vector:
        """Return where a coordinator at `model` should go, given the aggregate of what it received."""


@rule
class Parameters(Payload):
    """Theta_i itself. McMahan et al., AISTATS 2017, arXiv 1602.05629."""

    def extract(self, start: Vector, own: Vector) -> Vector:
        """Return own."""
        return own

    def target(self, model: Vector, aggregate: Vector) -> Vector:
        """Return the aggregate."""
        return aggregate


@rule
class Delta(Payload):
    """Theta_i - theta_start: the pseudo-gradient of Reddi et al., ICLR 2021, arXiv 2003.00295. Central modes only."""

    def extract(self, start: Vector, own: Vector) -> Vector:
        """Return own - start."""
        return own - start

    def target(self, model: Vector, aggregate: Vector) -> Vector:
        """Return model + aggregate."""
        return model + aggregate


RULES: dict[str, type[Payload]] = {"parameters": Parameters, "delta": Delta}
