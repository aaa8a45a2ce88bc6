"""Usage errors that `p2pfrl peer`, `pki` and `scenario -j` refuse at once.

They end with exit code 2, and name the option that is to be changed.
"""

import json
from pathlib import Path

import pytest

from p2pfrl.cli import main

RING = """
name = "ring"
agents = 4
[stop]
rounds = 3
[learner]
kind = "quadratic"
dimension = 4
[evaluation]
episodes = 0
"""


@pytest.fixture(name="file")
def make_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("ring.toml").write_text(RING, encoding="utf-8")
    Path("short.key").write_text("secret", encoding="utf-8")
    return "ring.toml"


PEER = ("peer", "ring.toml", "--agents", "0-1")
BAD = {
    (*PEER, "--rendezvous", "nohost"): ("--rendezvous", "expected HOST:PORT", "'nohost'"),
    (*PEER, "--lead", "--bind", "127.0.0.1:70000"): (
        "--bind",
        "expected HOST:PORT",
        "'127.0.0.1:70000'",
    ),
    ("peer", "ring.toml", "--agents", "3-1", "--lead"): (
        "--agents",
        "expected agents such as",
        "'3-1'",
    ),
    (*PEER, "--peers", "0-1=127.0.0.1"): (
        "--peers 0-1=127.0.0.1",
        "expected HOST:PORT",
        "'127.0.0.1'",
    ),
    (*PEER, "--peers", "0-1=127.0.0.1:0"): ("--peers", "expected all agents", "no address for 2-3"),
    (*PEER, "--lead", "--secret", "none.key"): (
        "--secret none.key",
        "expected a file",
        "No such file or directory",
    ),
    (*PEER, "--lead", "--secret", "short.key"): (
        "--secret short.key",
        "expected a secret of at least 16 bytes",
        "6",
    ),
    (*PEER, "--lead", "--tls", "pki/none.crt"): (
        "--tls: pki/ca.crt",
        "expected the authority's",
        "No such file",
    ),
    ("pki", "issue", "7-4", "--authority", "pki"): ("AGENTS", "expected agents such as", "'7-4'"),
    ("pki", "issue", "0", "--authority", "pki", "--days", "0"): ("days", "expected 1 to 3650", "0"),
    ("pki", "issue", "0", "--authority", "pki"): (
        "pki/ca.crt",
        "expected the authority, got",
        "No such file",
    ),
    ("scenario", "ring.toml", "-j", "0", "--transport", "tcp"): (
        "--jobs",
        "expected at least 1 process",
        "0",
    ),
    ("scenario", "ring.toml", "-j", "2"): (
        "--jobs 2",
        "one run of the simulator has no jobs; give --workers 2",
        "",
    ),
}


@pytest.mark.parametrize("words", BAD, ids=[" ".join(words) for words in BAD])
def test_bad_usage_is_code_2_and_names_the_option(words, file, capsys):
    where, says, got = BAD[words]
    assert main([*words, "--json"]) == 2
    told = capsys.readouterr()
    (problem,) = json.loads(told.out)["error"]["problems"]
    assert problem["where"].startswith(where)
    assert says in problem["message"]
    assert (problem["got"] or "").startswith(got)
    assert problem["expected"] or problem["fix"]
    assert told.err.startswith(where)


def test_an_address_that_others_can_reach_is_refused_with_a_fix(file, capsys):
    assert main([*PEER, "--lead", "--bind", "10.77.0.1:0", "--json"]) == 2
    (problem,) = json.loads(capsys.readouterr().out)["error"]["problems"]
    assert problem["where"] == "--bind 10.77.0.1"
    assert problem["fix"].startswith("give --tls CERTIFICATE")


def test_pki_tells_programs_where_its_files_are(file, capsys):
    assert main(["pki", "init", "authority", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["certificate"] == "authority/ca.crt"
    assert main(["pki", "issue", "0-3", "--authority", "authority", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "authority": "authority/ca.crt",
        "certificate": "authority/agents-0-3.crt",
        "key": "authority/agents-0-3.key",
    }
    assert main(["pki", "renew", "0-3", "--authority", "authority", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["certificate"] == "authority/agents-0-3.crt"
    assert main(["pki", "revoke", "0-3", "--authority", "authority", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"revoked": "authority/revoked.crl"}
    assert main(["pki", "renew", "0-3", "--authority", "authority"]) == 2
    assert "is revoked" in capsys.readouterr().err
