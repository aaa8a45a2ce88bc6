"""What all tests have in common."""

import ctypes
import gc
import importlib
import signal
import time
from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("quick", max_examples=40, deadline=None)
settings.register_profile("thorough", max_examples=1000, deadline=None)
settings.load_profile("quick")
"""Examples of every property: `pytest --hypothesis-profile thorough` tries more of them.

There is no deadline: how long an example takes depends on what else the machine does.
"""

# A shell ignores these in jobs in the background, and so does nohup. Tests of signals, and the
# programs that they start, need them.
for number, usual in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Exclude the tests themselves, and torch, from garbage collection.

    Every run collects garbage first, and they are half a million objects.
    """
    importlib.import_module("torch")
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def native() -> ctypes.CDLL:
    """The native engine, from the user's cache as in every run: it is compiled once a machine."""
    from p2pfrl.learning.native import library

    try:
        return library.library()
    except library.EngineError as error:
        pytest.skip(str(error))


@pytest.fixture(autouse=True, scope="session")
def _without_an_engine() -> Iterator[None]:
    """Where there is no native engine, no run says so: tests know the notes of their scenarios."""
    from p2pfrl.learning.native.choice import missing
    from p2pfrl.scenario.checks import notes

    with pytest.MonkeyPatch.context() as patch:
        if missing() is not None:
            patch.setattr(notes, "missing", lambda: None)
        yield


class _Collections:
    """Says whether the last full collection of garbage took long: too much is left to look at.

    Attributes:
        LONG: nanoseconds of CPU.
    """

    LONG = 3_000_000

    def __init__(self) -> None:
        self.began = self.took = 0

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        if info["generation"] == 2:
            if phase == "start":
                self.began = time.thread_time_ns()
            else:
                self.took = time.thread_time_ns() - self.began

    def freeze(self) -> None:
        """Collect, and exclude what is left from garbage collection."""
        gc.collect()
        gc.freeze()
        self.took = 0


_collections = _Collections()
gc.callbacks.append(_collections)


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Exclude what tests left, too: their reports, and modules imported on the way.

    After 3000 tests they are a hundred thousand objects, and a collection takes 60 ms, not 1. They
    are excluded after a file, and after a test whose last collection took long.
    """
    is_last = nextitem is not None and nextitem.path != item.path
    if is_last or _collections.took > _collections.LONG:
        _collections.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give slow tests more time before they count as hung.

    The others have the limit of pyproject.toml.
    """
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(1500))
