"""Tables of rules, from the name in scenario files to the class.

A class is imported when it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TypeVar

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Members(Mapping[str, type[T_co]]):
    """Classes by name. Asking for one class imports its module; names and `in` import nothing.

    >>> numbers = Members("p2pfrl.core", {"constant": "distributions.base:Constant"})
    >>> numbers.places
    {'constant': 'p2pfrl.core.distributions.base:Constant'}
    >>> numbers["constant"](value=2.0)
    Constant(value=2.0)

    Args:
        home: a module or package.
        places: by name, "module:Class" with the module's name within `home`; "Class" where `home`
            itself has the class.

    Attributes:
        places: by name, "module:Class" with the module's full name.
    """

    def __init__(self, home: str, places: Mapping[str, str]) -> None:
        self.places = {
            name: f"{home}.{place}" if ":" in place else f"{home}:{place}"
            for name, place in places.items()
        }

    def __getitem__(self, name: str) -> type[T_co]:
        module, _, cls = self.places[name].partition(":")
        found: type[T_co] = getattr(import_module(module), cls)
        return found

    def __contains__(self, name: object) -> bool:
        return name in self.places

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)

    def __or__(self, other: Members[T]) -> Members[T_co | T]:
        """Return a table of the members of both tables; `other` wins where a name is in both."""
        both: Members[T_co | T] = Members("", {})
        both.places = {**self.places, **other.places}
        return both

    def name_of(self, cls: type) -> str | None:
        """Return the first name of a class, or None if it is not in the table.

        No other class is imported.
        """
        place = f"{cls.__module__}:{cls.__qualname__}"
        names = (name for name, other in self.places.items() if other == place)
        return next((name for name in names if self[name] is cls), None)
