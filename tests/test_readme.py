"""What the README says is so: its commands run and print what it shows, its programs run, its lists are complete.

Long commands run with fewer rounds and seeds. Installing is not repeated here: .ci/run does it from nothing.
"""

import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import p2pfrl
from p2pfrl.cli import app
from p2pfrl.listing import entries

ROOT = Path(p2pfrl.__file__).parents[1]
README = ROOT / "README.md"
pytestmark = pytest.mark.skipif(not README.is_file(), reason="the README is found in a source checkout")

RUNNING = {"scenario", "compare", "sweep"}
LABEL = re.compile(r"^(\S+(?: \S+)*)(?:  |: )")


@dataclass(frozen=True)
class Command:
    words: tuple[str, ...]
    shown: tuple[str, ...]


def text():
    return README.read_text("utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", text(), flags=re.DOTALL | re.MULTILINE)


def commands():
    for block in blocks("console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            line, *shown = part.splitlines()
            program, *words = shlex.split(line)
            assert program == "p2pfrl"
            yield Command(tuple(words), tuple(shown))


def labels(lines):
    return [match[1] for line in lines if (match := LABEL.match(line))]


def test_every_console_command_runs_and_prints_what_the_readme_shows(tmp_path):
    found = list(commands())
    assert {command.words[0] for command in found} >= {"new", "validate", "scenario", "verify", "sweep", "compare"}
    for words, shown in ((command.words, list(command.shown)) for command in found):
        less = ["--set", "stop.rounds=2", "--set", "evaluation.episodes=1"] if words[0] in RUNNING else []
        fewer = ["0" if word == "0-2" else word for word in words]
        program = [sys.executable, "-m", "p2pfrl", *fewer, *less]
        done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=False)
        if done.returncode == 2:
            assert done.stderr.splitlines() == shown, words
            continue
        assert (done.returncode, done.stderr) == (0, ""), words
        printed = done.stdout.splitlines()
        if words[0] in RUNNING | {"verify"}:
            assert not shown or labels(shown) == labels(printed), words
        else:
            assert shown == printed, words
    assert (tmp_path / "runs/modes/report.html").stat().st_size > 0


def test_every_command_is_named():
    sentence = re.search(r"All commands: (.*?)\. ", text().replace("\n", " "))
    assert set(re.findall(r"`([a-z]+)`", sentence[1])) == {name for name in app if not name.startswith("-")}


@pytest.mark.parametrize("program", blocks("python") if README.is_file() else [])
def test_every_program_runs(program, tmp_path):
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_a_rule_of_ones_own_takes_the_place_of_the_scenarios():
    program = next(block for block in blocks("python") if "class Clipped" in block)
    namespace = {"__name__": "readme"}
    exec(program.replace('"stop.rounds": 10', '"stop.rounds": 4'), namespace)
    own = namespace["record"].metrics["consensus_distance"][-1]
    plain = p2pfrl.run(namespace["scenario"]).metrics["consensus_distance"][-1]
    assert own > 1.2 * plain


def test_the_table_of_rules_is_what_list_prints():
    section = text().split("## What there is\n")[1].split("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", section, flags=re.MULTILINE))
    for axis in (entry["name"] for entry in entries("")):
        there_is = [entry["name"].split(".")[0] for entry in entries(axis)]
        if axis in rows:
            assert rows[axis].partition(";")[0].split(", ") == there_is, axis
        else:
            assert there_is in ([], ["none"]), f"the README does not list {axis}"


def test_the_commands_for_a_fresh_machine_are_those_of_ci():
    install = re.findall(r"^python3 -m venv \.venv && \.venv/bin/pip install (.*) && (.*)$", text(), flags=re.MULTILINE)
    assert install == [
        ("-e .", ".venv/bin/python -m p2pfrl scenario ring_16.toml"),
        ("-e '.[test]'", ".venv/bin/python -m pytest"),
    ]
    script = (ROOT / ".ci/run").read_text("utf-8")
    assert "pip\" install --quiet -e '.[test]'\n" in script
    assert 'python" -m pytest\n' in script


def test_links_and_pictures_lead_to_files():
    targets = re.findall(r"\]\(([^)#]+)\)", text())
    assert targets
    assert [target for target in targets if "://" not in target and not (ROOT / target).is_file()] == []
