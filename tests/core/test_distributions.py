import math

import numpy as np
import pytest

from p2pfrl.core.distributions import DRAWS, RULES
from p2pfrl.core.distributions.assigned import Arithmetic, Cycle, Linspace, Values
from p2pfrl.core.distributions.base import Constant, Distribution, Draw
from p2pfrl.core.distributions.draws import Choice, Exponential, Uniform
from p2pfrl.core.distributions.normal import LogNormal, Normal
from p2pfrl.core.errors import P2PFRLError, ScenarioError

MEMBERS = (
    Constant(value=2.0),
    Uniform(low=-1.0, high=3.0),
    Normal(mean=5.0, std=2.0),
    LogNormal(median=0.02, sigma=0.5),
    Exponential(mean=0.5),
    Choice(choices=(1.0, 4.0, 9.0)),
    Linspace(low=8.0, high=12.0),
    Arithmetic(start=0.5, step=0.2),
    Values(list=tuple(float(i * i) for i in range(10))),
    Cycle(list=(1.0, 1.0, 0.25)),
)
SMALLEST, LARGEST = 2.0**-53, 1.0 - 2.0**-53


def test_every_distribution_is_tested_here() -> None:
    assert {type(member) for member in MEMBERS} == set(RULES.values())
    assert all(issubclass(cls, Draw) for cls in DRAWS.values())


@pytest.mark.parametrize("member", MEMBERS, ids=repr)
def test_an_agents_value_does_not_depend_on_who_else_is_asked_for(member: Distribution) -> None:
    every = member.values(3, range(10), 10, "speed")
    assert every.shape == (10,)
    assert every.dtype == np.float64
    assert np.array_equal(member.values(3, [7, 2], 10, "speed"), every[[7, 2]])


@pytest.mark.parametrize("member", [m for m in MEMBERS if isinstance(m, Draw)], ids=repr)
def test_a_drawn_value_does_not_depend_on_the_number_of_agents(member: Draw) -> None:
    assert np.array_equal(
        member.values(3, range(5), 5, "speed"), member.values(3, range(5), 500, "speed")
    )


@pytest.mark.parametrize("member", MEMBERS, ids=repr)
def test_no_value_lies_outside_of_the_bounds(member: Distribution) -> None:
    low, high = member.bounds
    values = member.values(1, range(10), 10, "speed")
    assert low <= values.min()
    assert values.max() <= high


@pytest.mark.parametrize("member", [m for m in MEMBERS if isinstance(m, Draw)], ids=repr)
def test_the_most_extreme_uniform_numbers_stay_within_the_bounds(member: Draw) -> None:
    low, high = member.bounds
    for u1 in (0.0, SMALLEST, 0.5, LARGEST):
        for u2 in (0.0, 0.25, 0.5, 0.75, LARGEST):
            assert low <= member.sample(u1, u2) <= high


def test_names_and_seeds_name_streams_of_their_own() -> None:
    speed = Uniform(low=0.0, high=1.0).values(1, range(100), 100, "speed")
    for seed, purpose in ((1, "gravity"), (2, "speed")):
        other = Uniform(low=0.0, high=1.0).values(seed, range(100), 100, purpose)
        assert abs(np.corrcoef(speed, other)[0, 1]) < 0.35


@pytest.mark.parametrize(
    ("member", "mean", "std"),
    [
        (Uniform(low=-1.0, high=3.0), 1.0, 4 / math.sqrt(12)),
        (Normal(mean=5.0, std=2.0), 5.0, 2.0),
        (
            LogNormal(median=2.0, sigma=0.5),
            2 * math.exp(0.125),
            2 * math.exp(0.125) * math.sqrt(math.exp(0.25) - 1),
        ),
        (Exponential(mean=0.5), 0.5, 0.5),
        (Choice(choices=(1.0, 4.0, 9.0)), 14 / 3, math.sqrt(98 / 3 - (14 / 3) ** 2)),
    ],
    ids=repr,
)
def test_draws_have_the_moments_of_their_distribution(
    member: Draw, mean: float, std: float
) -> None:
    n = 20_000
    values = member.values(5, range(n), n, "moments")
    assert abs(values.mean() - mean) < 5 * std / math.sqrt(n)
    assert values.std() == pytest.approx(std, rel=0.05)


def test_linspace_ends_at_the_last_agent_and_arithmetic_goes_on() -> None:
    assert Linspace(low=8.0, high=12.0).values(1, range(5), 5, "g").tolist() == [
        8.0,
        9.0,
        10.0,
        11.0,
        12.0,
    ]
    assert Linspace(low=8.0, high=12.0).values(1, [0], 1, "g").tolist() == [8.0]
    assert Arithmetic(start=0.5, step=0.2).values(1, [0, 1, 2, 6], 9, "d").tolist() == [
        0.5,
        0.7,
        0.9,
        1.7,
    ]


def test_a_list_needs_exactly_one_value_per_agent() -> None:
    with pytest.raises(
        P2PFRLError, match=r"vary-g: expected one value per agent \(4\), got a list of 3"
    ):
        Values(list=(1.0, 2.0, 3.0)).values(1, range(4), 4, "vary-g")


@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (Uniform, {"low": 2.0, "high": 1.0}),
        (Normal, {"mean": 0.0, "std": -1.0}),
        (LogNormal, {"median": 0.0, "sigma": 1.0}),
        (LogNormal, {"median": 1.0, "sigma": -1.0}),
        (Choice, {"choices": ()}),
        (Values, {"list": ()}),
        (Constant, {"value": math.inf}),
        (Constant, {"value": 1.0, "values": 2.0}),
    ],
)
def test_impossible_options_are_refused(
    cls: type[Distribution], options: dict[str, object]
) -> None:
    with pytest.raises(ScenarioError):
        cls(**options)


def test_a_cycle_repeats_whatever_the_number_of_agents():
    member = Cycle(list=(1.0, 1.0, 0.25))
    for agents in (1, 2, 7):
        assert (
            member.values(0, range(agents), agents, "speed").tolist()
            == [1.0, 1.0, 0.25, 1.0, 1.0, 0.25, 1.0][:agents]
        )
