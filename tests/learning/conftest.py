"""Notes the files that ask for the native engine: `.ci/run` runs them again without a compiler."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pfrl.learning.native.library import found

_LIST = os.environ.get("ENGINE_TESTS")


@pytest.fixture(autouse=True, scope="module")
def _noted(request: pytest.FixtureRequest) -> Iterator[None]:
    """Add a file in which the engine was asked for to the list `$ENGINE_TESTS.PID`."""
    before = found.cache_info()
    yield
    if _LIST and found.cache_info() != before:
        with Path(f"{_LIST}.{os.getpid()}").open("a", encoding="utf-8") as out:
            out.write(f"{request.path}\n")
