"""Files that would take gigabytes or seconds are refused first.

They are refused in little memory, with their place.
"""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from p2pfrl.core.errors import ScenarioError
from p2pfrl.scenario import loads
from p2pfrl.scenario.positions import parse

HOSTILE = {
    "a long dotted key": (b"a." * 20_000 + b"a = 1", "1:1: nested too deeply"),
    "a long dotted table": (b"[" + b"a." * 20_000 + b"a]", "1:2: nested too deeply"),
    "a long dotted key behind a syntax error": (
        b"= = =\n" + b"a." * 20_000 + b"a = 1",
        "nested too deeply",
    ),
    "deep arrays": (b"a = " + b"[" * 30_000 + b"]" * 30_000, "nested too deeply"),
    "deep tables": (b"a = " + b"{a=" * 10_000 + b"1" + b"}" * 10_000, "nested too deeply"),
    "an integer of 5000 digits": (
        b"seed = " + b"9" * 5000,
        "1:8: a number longer than 40 characters",
    ),
    "a float of 5000 digits": (
        b"seed = 0." + b"9" * 5000,
        "1:8: a number longer than 40 characters",
    ),
    "a large file": (b"#" * 70_000, "1:1: the file has 70000 bytes, the limit is 65536"),
    "no text": (b'name = "\xff"', "1:9: not UTF-8 text"),
    "a key twice": (
        b"a = 1\na = 2",
        "2:6: Cannot overwrite a value; the key is there already: remove one of them",
    ),
    "a table twice": (b"[a]\n[a]", "2:3: Cannot declare"),
    "an end too early": (b"a = [1,", "1:8: Invalid value"),
    "text without quotes": (b"a = b", "1:5: Invalid value; text needs quotes"),
    "a table in braces goes on": (
        b"a = {b = 1}\na.c = 2",
        "a table in braces is whole: write this key into them",
    ),
    "a quote that is not closed": (b'a = "b\n', "a quote or a brace is not closed in this line"),
    "a NUL": (b"a = \0", "1:5: Invalid"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_refused_with_its_place(name: str):
    text, expected = HOSTILE[name]
    with pytest.raises(ScenarioError) as caught:
        loads(text)
    assert expected in caught.value.problems[0]


def refuse(text: bytes, folder: Path) -> tuple[float, int]:
    """Let `validate` refuse a file; return the CPU seconds and the kilobytes that it took."""
    path = folder / "x.toml"
    path.write_bytes(text)
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    program = (
        "import sys; from p2pfrl.cli import main; code = main(['validate', sys.argv[1]]);"
        "print(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0]); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 2
    assert str(path) in done.stderr
    seconds = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    return seconds, int(done.stdout)


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> tuple[float, int]:
    """Return what it takes to refuse a short file."""
    return refuse(b"a = 1", tmp_path_factory.mktemp("short"))


@pytest.mark.skipif(
    not os.path.exists("/proc/self/status"), reason="peak memory is read from Linux's /proc"
)
@pytest.mark.parametrize(
    "name",
    [
        "a long dotted key",
        "deep arrays",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("deep tables", "an integer of 5000 digits")
        ),
    ],
)
def test_a_refusal_takes_little_time_and_memory(name: str, short: tuple[float, int], tmp_path):
    seconds, kilobytes = refuse(HOSTILE[name][0], tmp_path)
    assert seconds < 3 * short[0]
    assert kilobytes < 3 * short[1]


def test_places_of_every_kind_of_key():
    text = b"""
top = 1
"quoted key" = [1, [2, {deep = 3}], # comment
  4]
a.b."c d" = {x = 1, y.z = 2}
[table]
  indented = 1
[table.sub]
key = 1
[[list]]
name = 1
[list.inner]
name = 1
[[list]]
name = 2
[[list.parts]]
name = 3
"""
    places = parse(text, "x").places
    expected = {
        ("top",): (2, 1),
        ("quoted key",): (3, 1),
        ("quoted key", 1): (3, 20),
        ("quoted key", 1, 1, "deep"): (3, 25),
        ("quoted key", 2): (4, 3),
        ("a", "b"): (5, 3),
        ("a", "b", "c d", "x"): (5, 14),
        ("a", "b", "c d", "y", "z"): (5, 23),
        ("table",): (6, 2),
        ("table", "indented"): (7, 3),
        ("table", "sub", "key"): (9, 1),
        ("list", 0, "name"): (11, 1),
        ("list", 0, "inner", "name"): (13, 1),
        ("list", 1): (14, 3),
        ("list", 1, "name"): (15, 1),
        ("list", 1, "parts", 0, "name"): (17, 1),
    }
    assert {path: places.get(path) for path in expected} == expected
