"""Payloads of agents. `RULES` maps the names of scenario files to classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2pfrl.core.members import Members
from p2pfrl.core.modules import find_class, is_place

if TYPE_CHECKING:
    from p2pfrl.exchange.payloads.base import Payload


class Named(Members["Payload"]):
    """The payloads of this package by name, and those of a user's own by place "module:Class".

    Only the former are counted and listed.
    """

    def __getitem__(self, name: str) -> type[Payload]:
        """Return the class; a user's own is imported.

        Raises:
            KeyError: there is none; its argument is the reason if `name` is a place.
        """
        if name in self.places or not is_place(name):
            return super().__getitem__(name)
        from p2pfrl.exchange.payloads.base import Payload

        try:
            found = find_class(name)
        except ValueError as error:
            raise KeyError(str(error)) from error
        if not issubclass(found, Payload):
            raise KeyError(f"{name!r} is no Payload, the contract of payloads")
        if lacking := sorted(found.__abstractmethods__):
            raise KeyError(f"{name!r} lacks {', '.join(lacking)}, which Payload demands")
        return found

    def __contains__(self, name: object) -> bool:
        """Whether there is such a payload."""
        return isinstance(name, str) and self.get(name) is not None


RULES: Members[Payload] = Named(
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
