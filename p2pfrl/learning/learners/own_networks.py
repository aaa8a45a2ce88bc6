"""Networks of a user's own in our learners, in place of layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from p2pfrl.core.errors import ScenarioError

if TYPE_CHECKING:
    from p2pfrl.learning.modules import ModuleNetwork

_OF_LAYERS = ("hidden", "activation", "shared_trunk", "encoder", "critic_sees", "memory")
"""Options that say which layers a network has."""


class Layered(Protocol):
    """A learner that says which layers its network has, or which module takes their place."""

    @property
    def hidden(self) -> Sequence[int]:
        """Sizes of the hidden layers."""

    @property
    def activation(self) -> str:
        """Of the hidden layers."""

    @property
    def policy(self) -> str:
        """The user's own network, "module:Class"; "" for layers."""

    @property
    def stacked(self) -> bool:
        """Whether it is run for many agents at a time."""


def refuse_layers(learner: Layered) -> None:
    """Raise an error if an option of layers is set beside a network that takes their place.

    Raises:
        ScenarioError: one is.
    """
    plain = type(learner)()
    for name in _OF_LAYERS:
        if getattr(learner, name, None) != getattr(plain, name, None):
            reason = f"learner.{name} has no effect beside it; leave one of them out"
            raise ScenarioError([f"learner.policy: {reason}"])


def own_network(*, stacked: bool) -> type[ModuleNetwork]:
    """Return the class that runs a `torch.nn.Module`: agent by agent, or many at a time."""
    from p2pfrl.learning.modules import ModuleNetwork
    from p2pfrl.learning.stacked import StackedModule

    return StackedModule if stacked else ModuleNetwork
