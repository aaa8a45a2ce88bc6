import dataclasses
import re
from typing import Any, ClassVar

import pytest
from pydantic import Field, ValidationError

from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.options import construct
from p2pfrl.core.rule import rule
from p2pfrl.core.wording import show


@dataclasses.dataclass(frozen=True, kw_only=True)
class Frozen:
    """The options of `Ruled`."""

    kind: ClassVar[str] = "none"
    count: int = 1
    names: tuple[str, ...] = ()


@rule
class Ruled:
    """A rule."""

    kind: ClassVar[str] = "none"
    count: int = Field(default=1, ge=0)
    names: tuple[str, ...] = ()


@rule
class Extended(Ruled):
    """A rule that extends another."""

    more: float = 0.5


def test_a_rule_is_compared_hashed_and_shown_as_a_frozen_dataclass():
    one, same, other = Ruled(count=2), Ruled(count=2), Ruled(count=2, names=("a",))
    assert one == same
    assert one != other
    assert one != Extended(count=2)
    assert hash(one) == hash(same) == hash(Frozen(count=2)) == hash((2, ()))
    assert len({one, same, other}) == 2
    assert repr(other) == repr(Frozen(count=2, names=("a",))).replace("Frozen", "Ruled")
    assert repr(Extended()) == "Extended(count=1, names=(), more=0.5)"
    assert dataclasses.replace(one, count=3) == Ruled(count=3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.count = 3
    with pytest.raises(dataclasses.FrozenInstanceError):
        del one.count
    with pytest.raises(dataclasses.FrozenInstanceError):
        Extended().other = 3
    with pytest.raises(ScenarioError):
        Ruled(count=-1)
    with pytest.raises(ScenarioError):
        Ruled(size=1)


@rule
class Measured:
    """A rule with real numbers."""

    scale: float = Field(default=0.1, gt=0)
    bounds: tuple[float, ...] | None = None
    kwargs: dict[str, Any] = Field(default_factory=dict)


@pytest.mark.parametrize("number", [1e39, -1e300, 1e-46, 3.5e38])
def test_a_number_that_32_bits_cannot_hold_is_refused_wherever_it_is(number):
    for place, options in (
        ("scale", {"scale": abs(number)}),
        (r"bounds\.1", {"bounds": [0.0, number]}),
    ):
        text = re.escape(str(show(abs(number) if place == "scale" else number)))
        expected = rf"{place}: must be a number that 32 bits can hold, .* got {text}"
        with pytest.raises(ScenarioError, match=rf"^Measured\.{expected}$"):
            Measured(**options)
        with pytest.raises(ValidationError, match="32 bits"):
            construct(Measured, options)
    kwargs = {"limit": number}
    assert Measured(kwargs=kwargs).kwargs == kwargs, "one's own code may take it"
    assert construct(Measured, {"kwargs": kwargs}).kwargs == kwargs


@pytest.mark.parametrize("number", [0.0, 1e-45, 1e-40, 3.4e38, -3.4e38])
def test_the_smallest_and_largest_numbers_of_32_bits_are_taken(number):
    assert Measured(bounds=(number,)).bounds == (number,)
    assert construct(Measured, {"bounds": [number]}).bounds == (number,)


def test_a_rule_keeps_the_methods_that_it_defines():
    @rule
    class Shown:
        """Shows itself."""

        count: int = 1

        def __repr__(self) -> str:
            return "mine"

        def __eq__(self, other: object) -> bool:
            return True

    assert repr(Shown()) == "mine"
    assert Shown() == 3
    assert hash(Shown()) == hash((1,))


@rule
class Nested:
    """An option whose type is not there yet when the class is made."""

    inner: "Nested | None" = None


def test_an_option_may_have_a_type_that_comes_later():
    assert Nested(inner=Nested()).inner == Nested()
    with pytest.raises(ScenarioError):
        Nested(inner=3)
