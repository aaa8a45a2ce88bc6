"""Objects of many agents lie in large pages, where the system has some."""

import subprocess
import sys

import pytest

from p2pfrl.build.world import build
from p2pfrl.learning.native import arenas
from p2pfrl.learning.native.choice import missing
from p2pfrl.scenario import loads

CODE = """
import re
from p2pfrl.learning.native.arenas import use_large_pages

def lie_in_large_pages(objects):
    asked, place = [], (0, 0)
    for line in open("/proc/self/smaps"):
        if found := re.match("([0-9a-f]+)-([0-9a-f]+) ", line):
            place = tuple(int(end, 16) for end in found.groups())
        elif line.startswith("VmFlags:") and "hg" in line.split():
            asked.append(place)
    return [any(first <= id(one) < end for first, end in asked) for one in objects]

before = [(number,) for number in range(20_000)]
assert use_large_pages()
after = [[(number,) for number in range(100_000)] for _ in range(3)]
assert not any(lie_in_large_pages(before))
assert all(lie_in_large_pages([some[-1] for some in after]))
assert sum(number for some in after for number, in some) == 3 * sum(range(100_000))
for _ in range(3):  # arenas are given back, and taken again
    after.pop()
    after.append([(number,) for number in range(100_000)])
"""


@pytest.mark.skipif(
    missing() is not None or sys.platform != "linux", reason="no engine, or no /proc"
)
def test_new_arenas_are_taken_from_regions_for_which_large_pages_were_asked() -> None:
    subprocess.run([sys.executable, "-c", CODE], check=True, timeout=60)


@pytest.mark.parametrize(
    ("engine", "agents", "calls"), [("auto", 1024, 1), ("torch", 1024, 0), ("auto", 64, 0)]
)
def test_large_pages_are_asked_for_where_there_are_many_agents_and_the_engine_may_be_used(
    engine: str, agents: int, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(arenas, "use_large_pages", lambda: asked.append(True))
    text = f'name = "many"\nagents = {agents}\nstop = {{rounds = 1}}\nlearner = {{kind = "quadratic", dimension = 2}}\n'
    build(loads(text, {"compute.engine": engine}), on_row=lambda row: False)
    assert len(asked) == calls
