"""Numbers of a scenario that may be distributed over agents or messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pydantic.json_schema import JsonSchemaValue
from pydantic_core import InitErrorDetails

from p2pfrl.core.distributions import RULES
from p2pfrl.core.distributions.base import Constant, Distribution, number
from p2pfrl.core.members import Members
from p2pfrl.core.options import Rule, construct
from p2pfrl.core.problems import problem, refuse


class Number(Rule):
    """Annotation of a number that may be distributed.

    A file gives a plain number, a list with one number per agent, or a table with `kind`.

    Args:
        unit: converts a value of the file to SI.
        low: minimum of all values.
        above: strict lower bound of all values.
        kinds: the distributions and other rules that are allowed here.
    """

    def __init__(
        self,
        unit: Callable[[object], float] = number,
        *,
        low: float = float("-inf"),
        above: float = float("-inf"),
        kinds: Members[object] = RULES,
    ) -> None:
        super().__init__("distributions", lambda: kinds)
        self.unit, self.low, self.above = unit, low, above

    def short(self, value: object) -> object:
        """Return a constant for a number, or one value per agent for a list."""
        return self.make(
            {"kind": "values", "list": value}
            if isinstance(value, list | tuple)
            else {"value": value}
        )

    def make(self, value: Mapping[str, object]) -> object:
        """Return the distribution with its quantities in SI units, checked against the bounds."""
        shorthand = "kind" not in value and set(value) == {"value"}
        cls = Constant if shorthand else self.choose(value)
        quantities: tuple[str, ...] = getattr(cls, "quantities", ())
        options: dict[str, object] = {}
        problems: list[InitErrorDetails] = []
        for name, option in value.items():
            try:
                if name != "kind":
                    options[name] = self._convert(option) if name in quantities else option
            except ValueError as error:
                problems.append(problem(str(error), *(() if shorthand else (name,)), value=option))
        if problems:
            raise refuse(*problems)
        found: object = construct(cls, options)
        if isinstance(found, Distribution):
            least = found.bounds[0]
            if least < self.low or least <= self.above:
                limit = f"at least {self.low:g}" if least < self.low else f"above {self.above:g}"
                raise refuse(problem(f"must be {limit}, but a value can be {least:g}", value=value))
        return found

    def _convert(self, option: object) -> object:
        return (
            [self.unit(element) for element in option]
            if isinstance(option, list | tuple)
            else self.unit(option)
        )

    def json_schema(self) -> JsonSchemaValue:
        """Return the schema of a number with or without a unit, a list, or a table."""
        plain: list[JsonSchemaValue] = [{"type": "number"}]
        if self.unit is not number:
            plain.append({"type": "string"})
        per_agent: list[JsonSchemaValue] = [{"type": "array", "items": {"anyOf": plain}}]
        return {
            "anyOf": [
                *plain,
                *(per_agent if "values" in self.rules() else []),
                super().json_schema(),
            ]
        }
