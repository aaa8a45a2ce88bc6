"""The benchmarks run, measure what they say, and take turns."""

import importlib.util
import math
import re
import sys

import numpy as np
import pytest

from p2pfrl.bench import BENCHMARKS, against, measure, measure_against, run
from p2pfrl.bench.asynchrony import whole_run
from p2pfrl.bench.events import DEGREE, neighbors, on_heap, simulated
from p2pfrl.bench.measure import Work, rates
from p2pfrl.bench.population import Population
from p2pfrl.core.errors import ScenarioError


@pytest.mark.parametrize(
    "name",
    [
        name if name == "bytes_per_agent" else pytest.param(name, marks=pytest.mark.slow)
        for name in BENCHMARKS
    ],
)
def test_every_benchmark_runs_and_gives_its_own_figure_first(name: str) -> None:
    first, *others = measure(name, quick=True)
    assert re.sub(r"_n\d+$", "", first.name) == re.sub(r"_n\d+$", "", name), "but for the size"
    if name == "bytes_per_agent" and sys.gettrace() is None:  # coverage traces in this memory
        assert 1000 < first.value <= 3072, "besides what it learns with"
    for result in (first, *others):
        assert math.isfinite(result.value)
        assert result.value > 0
        assert result.unit
        assert result.against


def test_a_benchmark_in_a_process_of_its_own_reports_as_it_goes() -> None:
    seen: list[object] = []
    results = run(["events_vs_heap_n256"], quick=True, progress=seen.append)
    assert seen == results
    assert results[0].name == "events_vs_heap_n256"


def test_an_unknown_benchmark_is_refused_with_what_was_meant() -> None:
    with pytest.raises(ScenarioError, match="did you mean bytes_per_agent"):
        run(["bytes_per_agents"])


def test_contestants_take_turns_and_medians_count() -> None:
    order: list[str] = []

    def contestant(name: str, amounts: list[float]) -> Work:
        def work() -> float:
            order.append(name)
            return amounts.pop() + 0 * sum(range(200_000))

        return work

    first, second = [1e9, 1.0, 1.0], [3.0, 3.0, 3.0]
    a, b = rates(lambda: contestant("a", first), lambda: contestant("b", second), turns=3)
    assert order == ["a", "b"] * 3
    assert 1.0 < b / a < 9.0


def test_both_event_loops_deliver_the_same_pattern() -> None:
    assert simulated(20, 3)() == on_heap(20, 3)() == 20 * DEGREE * 3
    assert all(len(near) == DEGREE for near in neighbors(5))


def test_one_request_at_a_time_gives_the_digest_of_the_batched_run() -> None:
    digests: list[str] = []
    assert whole_run(6, 2, None, digests)() == whole_run(6, 2, 1, digests)()
    assert len(digests) == 2
    assert len(set(digests)) == 1


def test_a_population_mixes_as_its_matrix_says() -> None:
    n = 9
    parameters = np.eye(n)
    population = Population(parameters, rounds=1, work=[1000] * n)
    population.run(population.start())
    for i, near in enumerate(neighbors(n)):
        expected = np.zeros(n)
        expected[[i, *near]] = 0.2
        np.testing.assert_allclose(parameters[i], expected, rtol=0, atol=1e-15)


def test_packages_that_are_not_known_or_not_there_are_refused() -> None:
    with pytest.raises(ScenarioError, match="expected some of gossipy, sb3"):
        against(["rllib"])
    if importlib.util.find_spec("gossipy") is None:
        with pytest.raises(ScenarioError, match="pip install gossipy-dfl"):
            measure_against("gossipy", quick=True)


@pytest.mark.slow
def test_sb3_is_measured_where_it_is_installed() -> None:
    pytest.importorskip("stable_baselines3")
    (found,) = measure_against("sb3", quick=True)
    assert found.name == "ppo_vs_sb3_n16"
    assert found.value > 1.0
