"""Public functions say what is wrong with their arguments, by name and all at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest

import p2pfrl
from p2pfrl.core.arguments import Kind, checked_call, fits
from p2pfrl.core.errors import ArgumentError, P2PFRLError

FUNCTIONS: dict[str, Callable[..., object]] = {
    "run": partial(p2pfrl.run, "ring_16"),
    "resume": partial(p2pfrl.resume, "nowhere"),
    "verify": partial(p2pfrl.verify, "nowhere"),
    "compare": partial(p2pfrl.compare, "ring_16"),
    "sweep": partial(p2pfrl.sweep, "ring_16", {}),
    "load": partial(p2pfrl.load, "ring_16"),
    "loads": partial(p2pfrl.loads, "agents = 2"),
    "load_table": partial(p2pfrl.load_table, "nowhere"),
}
WRONG = [
    ("run", "out", 5, "out: expected a path, got 5"),
    ("run", "seed", "3", "seed: expected a whole number, got '3'"),
    ("run", "progress", 5, "progress: expected a function, got 5"),
    ("run", "trace", "yes", "trace: expected True or False, got 'yes'"),
    ("run", "vary", [1.0], r"vary: expected a table, got \[1.0\]"),
    ("run", "workers", 0, 'workers: expected "auto" or a number from 1 to 1024, got 0'),
    ("resume", "workers", "2", 'workers: expected "auto" or a number from 1 to 1024'),
    ("verify", "progress", "x", "progress: expected a function, got 'x'"),
    ("compare", "jobs", "2", "jobs: expected a number of processes from 1 on, got '2'"),
    ("sweep", "jobs", 0, "jobs: expected a number of processes from 1 on, got 0"),
    ("compare", "modes", [1], r"modes: expected a text or a list of texts, got \[1\]"),
    ("compare", "recipes", 5, "recipes: expected a text or a list of texts, got 5"),
    ("compare", "settings", ["agents=2"], "settings: expected values by dotted key"),
    ("sweep", "overrides", ["agents=2"], "overrides: expected values by dotted key"),
    ("sweep", "seeds", "3", "seeds: expected different whole numbers"),
    ("sweep", "shard", 5, r"shard: expected \(a whole number, a whole number\), got 5"),
    ("sweep", "overides", {}, "there is no argument 'overides'; did you mean 'overrides'"),
    ("load", "overrides", [5], "overrides: expected values by dotted key"),
    ("loads", "source", 5, "source: expected a text, got 5"),
    ("load_table", "name", ["rounds"], "name: expected a text"),
]


@pytest.mark.parametrize(("function", "argument", "value", "said"), WRONG)
def test_an_argument_of_another_kind_is_refused_by_name(
    function: str, argument: str, value: object, said: str
) -> None:
    with pytest.raises(ArgumentError, match=said) as error:
        FUNCTIONS[function](**{argument: value})
    assert isinstance(error.value, P2PFRLError)
    assert isinstance(error.value, TypeError)


def test_all_arguments_that_do_not_fit_are_named_at_once() -> None:
    with pytest.raises(ArgumentError) as error:
        p2pfrl.compare("ring_16", jobs="2", seeds=0.5, out=5)  # type: ignore[arg-type]
    assert [problem.partition(":")[0] for problem in error.value.problems] == [
        "seeds",
        "out",
        "jobs",
    ]
    with pytest.raises(ArgumentError, match="missing a required argument: 'settings'"):
        p2pfrl.sweep("ring_16")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("value", "hint", "does"),
    [
        (np.int64(2), int, True),
        (True, int, False),
        (2, float, True),
        (np.bool_(True), bool, True),
        (1, bool, False),
        (None, int | None, True),
        ("auto", int | Literal["auto"], True),
        (True, Literal[1], False),
        ("ab", Sequence[str], False),
        (["ab"], Sequence[str], True),
        (["ab", 1], Sequence[str], False),
        (np.arange(3), Sequence[int], True),
        ((n for n in "ab"), Sequence[str], True),
        ({"a": 1}, Sequence[str], False),
        ({"a": 1}, Mapping[str, int], True),
        ({1: 1}, Mapping[str, int], False),
        ((1, 2), tuple[int, int], True),
        ((1, 2, 3), tuple[int, int], False),
        ((1, 2, 3), tuple[int, ...], True),
        (len, Callable[[str], int], True),
        (3, Callable[[str], int], False),
        (3, Annotated[int, Kind("an even number", lambda n: n % 2 == 0)], False),
        (object(), Any, True),
    ],
)
def test_a_value_fits_its_annotation(value: object, hint: Any, does: bool) -> None:
    assert fits(value, hint) is does


def test_an_argument_whose_annotation_cannot_be_read_is_left_to_its_function() -> None:
    @checked_call
    def call(given: Unknown, count: int) -> int:  # type: ignore[name-defined]  # noqa: F821
        return count

    assert call(object(), 3) == 3
    with pytest.raises(ArgumentError, match="count: expected a whole number, got 'x'"):
        call(object(), "x")
    named = {name for name in p2pfrl.run.__annotations__ if name not in ("rules", "return")}
    from p2pfrl.core.arguments import _hints

    assert named - set(_hints(p2pfrl.run.__wrapped__)) == {"environment"}  # type: ignore[attr-defined]


@pytest.mark.parametrize("key", ["seed", "agents"])
def test_what_something_else_sets_for_every_run_of_a_series_is_refused(
    key: str, tmp_path: Path
) -> None:
    said = "runs have the seeds" if key == "seed" else "settings have it, too"
    for run in (p2pfrl.compare, p2pfrl.sweep):
        with pytest.raises(P2PFRLError, match=f"overrides: {key}: {said}"):
            run("ring_16", settings={"agents": [2, 3]}, overrides={key: 3}, out=tmp_path / "x")
    with pytest.raises(P2PFRLError, match="overrides: mode: runs have the modes"):
        p2pfrl.compare("ring_16", overrides={"mode": "pooled"}, out=tmp_path / "x")
    assert not (tmp_path / "x").exists()
