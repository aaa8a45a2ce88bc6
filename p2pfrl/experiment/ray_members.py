"""Members of a series on a Ray cluster (rays.py)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from p2pfrl.core.causes import FOREIGN, cause
from p2pfrl.core.errors import P2PFRLError, ScenarioWarning
from p2pfrl.experiment.parcel import Files, contents, packed, unpacked
from p2pfrl.experiment.rays import ray
from p2pfrl.experiment.run import simulate
from p2pfrl.scenario import Scenario

_RETRIES = 3
"""How often a member whose process dies is run again."""


def member(files: Files) -> dict[str, bytes] | str:
    """Run one member of a series on a machine of the cluster.

    Returns:
        the files of its run directory, or why it failed.
    """
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", ScenarioWarning)  # the command has warned
        try:
            out = Path(folder, "run")
            simulate(unpacked(files, Path(folder, "scenario")), out=out)
            return contents(out)
        except P2PFRLError as error:
            return str(error)
        except FOREIGN as error:
            return cause(error)


def members(
    scenarios: Sequence[tuple[Any, Callable[[], Scenario]]], most: int
) -> Iterator[tuple[Any, dict[str, bytes] | str]]:
    """Run members on the cluster; yield each with the files of its run, or why it failed.

    A member whose process dies is run again, on any machine.

    Args:
        scenarios: what each is called, and its scenario.
        most: how many run at a time.
    """
    run: Any = ray.remote(num_cpus=1, max_retries=_RETRIES)(member)
    waiting, under_way = list(reversed(scenarios)), dict[Any, Any]()
    while waiting or under_way:
        while waiting and len(under_way) < most:
            name, load = waiting.pop()
            under_way[run.remote(packed(load()))] = name
        done, _ = ray.wait([*under_way], num_returns=1)
        for reference in done:
            name = under_way.pop(reference)
            try:
                yield name, ray.get(reference)
            except ray.exceptions.RayError as error:
                yield name, f"its process died: {str(error).partition(chr(10))[0]}"
