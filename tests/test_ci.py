"""`.ci/run` ends with 0 when all its steps passed and with 1 when one did not.

It stops what it began and leaves no files.
"""

import os
import subprocess
from pathlib import Path

import pytest
from process_groups import wait_until_gone

SCRIPT = Path(__file__).parent.parent / ".ci/run"
FIRST, LAST = 'step "install for tests"', 'step "end"'
SLEEPS = """sleeps() { echo $BASHPID >group; sleep 600; }
begin one sleeps
until [[ -s group ]]; do sleep .01; done"""


def run_steps(tmp_path: Path, steps: str) -> tuple[int, str]:
    """The status and the output of the script with other steps than its own."""
    text = SCRIPT.read_text("utf-8")
    assert text.count(FIRST) == text.count(LAST) == 1
    script = tmp_path / "checkout/.ci/run"
    script.parent.mkdir(parents=True)
    script.write_text(text[: text.index(FIRST)] + steps + "\n" + text[text.index(LAST) :], "utf-8")
    (tmp_path / "temporary").mkdir()
    ended = subprocess.run(
        ["bash", script],
        env={**os.environ, "TMPDIR": str(tmp_path / "temporary")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    assert not list((tmp_path / "temporary").iterdir()), "the script left its files"
    if (group := tmp_path / "checkout/group").exists():
        wait_until_gone(int(group.read_text("utf-8")))
    return ended.returncode, ended.stdout


@pytest.mark.parametrize(
    ("steps", "status", "said"),
    [
        ("check one true", 0, "all passed"),
        ("begin one true\ncheck two true\nended", 0, "all passed"),
        ("check one false\ncheck two true", 1, "failed: one"),
        ("begin one false\ncheck two true\nended", 1, "failed: one"),
        (f"{SLEEPS}\nexit 3", 3, ""),
        (SLEEPS, 0, "all passed"),
        ("nothing_of_this_name", 127, "nothing_of_this_name"),
    ],
    ids=[
        "passes",
        "passes_beside",
        "fails",
        "fails_beside",
        "ends_early",
        "still_runs",
        "stops_at_a_mistake",
    ],
)
def test_the_status_is_that_of_the_steps(
    tmp_path: Path, steps: str, status: int, said: str
) -> None:
    ended, output = run_steps(tmp_path, steps)
    assert ended == status, output
    assert said in output
    assert ("all passed" in output) == (status == 0)
