"""README and documentation are true: what they show is what commands do.

Commands run and print what is shown, programs run, and lists are complete.

Long commands run with fewer rounds, seeds and processes; commands of two hosts run on this one, at
the same time. Installing is not repeated here: .ci/run does it from nothing.
"""

import re
import shlex
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import p2pfrl
from p2pfrl.cli import app, main
from p2pfrl.commands.listing import entries

ROOT = Path(p2pfrl.__file__).parents[1]
README = ROOT / "README.md"
DOCS = tuple(
    ROOT / "docs" / f"{name}.md" for name in ("tutorial", "examples", "algorithms", "deployment")
)
PAGES = (README, *sorted((ROOT / "docs").glob("*.md")))
pytestmark = pytest.mark.skipif(
    not README.is_file(), reason="the README is found in a source checkout"
)

RUNNING = {"scenario", "compare", "sweep", "collect", "peer"}
SHORTENED = RUNNING - {"collect"}
LABEL = re.compile(r"^(\S+(?: \S+)*)(?:  |: )")
DAY = re.compile(r"\d{4}-\d\d-\d\d")
SECONDS = re.compile(r"^(cpu_seconds_about +)\S+$")
DEADLINE = 300.0


@dataclass(frozen=True)
class Command:
    words: tuple[str, ...]
    shown: tuple[str, ...]
    host: str

    def __str__(self):
        return shlex.join(self.words)


def text(*pages):
    return "\n".join(page.read_text("utf-8") for page in pages or (README,))


def blocks(language, *pages):
    found = text(*pages or (README,))
    return re.findall(rf"^```{language}\n(.*?)^```$", found, flags=re.DOTALL | re.MULTILINE)


def steps(*pages):
    """Yield what is to be run, in order: one command, or one on each host at the same time."""
    for block in blocks("console", *pages):
        _, *parts = re.split(r"^([a-z]?)\$ ", block, flags=re.MULTILINE)
        commands = []
        for host, part in zip(parts[::2], parts[1::2], strict=True):
            line, *shown = part.splitlines()
            program, *words = shlex.split(line)
            assert program == "p2pfrl"
            commands.append(Command(tuple(words), tuple(shown), host))
        yield from [commands] if commands[0].host else [[command] for command in commands]


def labels(lines):
    return [match[1] for line in lines if (match := LABEL.match(line))]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def run(command, directory, port):
    """Start a command, shortened; the hosts of a LAN are this one."""
    less = (
        ["--set", "stop.rounds=2", "--set", "evaluation.episodes=1"]
        if command.words[0] in SHORTENED
        else []
    )
    fewer = {"0-2": "0", "1-10": "1", "4": "2"}
    words = [fewer.get(word, word) for word in command.words]
    if command.host:
        words = [
            re.sub(r"^10\.77\.0\.\d", "127.0.0.1", word).replace(":7000", f":{port}")
            for word in words
        ]
        less.append("--quiet")
    program = [sys.executable, "-m", "p2pfrl", *words, *less]
    return subprocess.Popen(
        program, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.slow
def test_every_console_command_of_the_readme_runs_and_prints_what_it_shows(tmp_path):
    found = list(steps(README))
    assert {commands[0].words[0] for commands in found} >= {"new", "validate", "scenario", "verify"}
    run_all(found, tmp_path)
    assert (tmp_path / "runs/modes/report.html").stat().st_size > 0


@pytest.mark.slow
def test_every_console_command_of_the_documentation_runs_and_prints_what_it_shows(tmp_path):
    found = list(steps(*DOCS))
    used = {commands[0].words[0] for commands in found}
    assert used >= {"new", "validate", "scenario", "verify", "sweep", "pki", "peer", "collect"}
    hosts = [command.host for commands in found for command in commands if command.host]
    assert hosts == ["a", "b"]
    run_all(found, tmp_path)
    assert (tmp_path / "runs/both/report.html").stat().st_size > 0


def test_no_other_page_shows_console_commands():
    rest = [page for page in PAGES if page not in (README, *DOCS)]
    assert not blocks("console", *rest)


def test_the_readme_is_short():
    assert len(README.read_bytes()) <= 9000


def run_all(found, tmp_path):
    for commands in found:
        port = free_port()
        started = [(command, run(command, tmp_path, port)) for command in commands]
        try:
            for command, process in started:
                check(command, *process.communicate(timeout=DEADLINE), process.returncode)
        finally:
            for _, process in started:
                process.kill()
                process.communicate()


def check(command, output, errors, code):
    shown, printed = list(command.shown), output.splitlines()
    if code == 2:
        assert errors.splitlines() == shown, str(command)
        return
    said = [line for line in errors.splitlines() if not line.startswith("note: ")]
    assert (code, said) == (0, []), str(command)
    if command.words[0] in RUNNING | {"verify"}:
        said = [line for line in shown if not line.startswith(("Run on", "  p2pfrl peer"))]
        assert not shown or labels(said) == labels(printed), str(command)
    else:
        assert [steady(line) for line in shown] == [steady(line) for line in printed], str(command)


def steady(line):
    """Return a line without what depends on the day and on the processor."""
    return SECONDS.sub(r"\1SECONDS", DAY.sub("DAY", line))


def test_who_leads_on_an_address_that_others_can_reach_says_how_it_is_protected(capsys, tmp_path):
    here = [
        "--agents",
        "0",
        "--rendezvous",
        "0.0.0.0:0",
        "--bind",
        "10.77.0.1:0",
        "--start-timeout",
        "1",
        "--out",
        str(tmp_path),
    ]
    assert main(["peer", "ring_16", "--lead", *here]) == 2
    assert capsys.readouterr().err.startswith(
        "--bind 10.77.0.1: others can reach this address; give --tls"
    )


def test_every_command_is_named():
    sentence = re.search(r"All commands: (.*?)\. ", text().replace("\n", " "))
    assert set(re.findall(r"`([a-z]+)`", sentence[1])) == {
        name for name in app if not name.startswith("-")
    }


@pytest.mark.slow
@pytest.mark.parametrize("program", blocks("python", *PAGES) if README.is_file() else [])
def test_every_program_runs(program, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_a_rule_of_ones_own_takes_the_place_of_the_scenarios():
    program = next(block for block in blocks("python", *PAGES) if "class Clipped" in block)
    namespace = {"__name__": "readme"}
    exec(program.replace('"stop.rounds": 10', '"stop.rounds": 4'), namespace)
    own = namespace["record"].metrics["consensus_distance"][-1]
    plain = p2pfrl.run(namespace["scenario"]).metrics["consensus_distance"][-1]
    assert own > 1.2 * plain


def test_the_table_of_rules_is_what_list_prints():
    section = text(ROOT / "docs" / "rules.md")
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", section, flags=re.MULTILINE))
    for axis in (entry["name"] for entry in entries("")):
        there_is = [entry["name"].split(".")[0] for entry in entries(axis)]
        if axis in rows:
            assert rows[axis].partition(";")[0].split(", ") == there_is, axis
        else:
            assert there_is in ([], ["none"]), f"the README does not list {axis}"


def test_the_commands_for_a_fresh_machine_are_those_of_ci():
    install = re.findall(
        r"^python3 -m venv \.venv && \.venv/bin/pip install (.*) && (.*)$",
        text(),
        flags=re.MULTILINE,
    )
    assert install == [
        ("-e .", ".venv/bin/python -m p2pfrl scenario ring_16.toml"),
        ("-e '.[test]'", ".venv/bin/python -m pytest"),
    ]
    script = (ROOT / ".ci/run").read_text("utf-8")
    assert "pip\" install --quiet --no-compile -e '.[test,docs]'\n" in script
    assert 'python" -m pytest --cov' in script
    assert 'python" -m pytest -m slow tests/test_readme.py' in script


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_lead_to_files(page):
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text("utf-8"))
    there = [target for target in targets if "://" not in target]
    assert [target for target in there if not (page.parent / target).is_file()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_import_nothing_deeper_than_the_package(page):
    found = re.findall(r"^\s*(?:from|import) (p2pfrl\S*)", page.read_text("utf-8"), re.MULTILINE)
    assert set(found) <= {"p2pfrl"}
