"""A process whose certificate is revoked while it runs."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest
from processes import DEADLINE, run

from p2pfrl.deploy.audit import AUDIT
from p2pfrl.laws.runs import text
from p2pfrl.net import certificates as pki
from p2pfrl.scenario import loads


def entries(home: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (home / AUDIT).read_text().splitlines()]


def has_begun(home: Path) -> bool:
    """Return whether a process has ended a round, so that it has met the others."""
    try:
        return int(json.loads((home / "status.json").read_text())["round"] or 0) > 0
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_a_process_that_is_revoked_is_cut_off_while_it_runs_and_the_audit_log_has_it(
    tmp_path: Path,
) -> None:
    homes = [tmp_path / "0", tmp_path / "1"]

    def revoke() -> None:
        patience = time.monotonic() + DEADLINE
        while not all(has_begun(home) for home in homes):
            assert time.monotonic() < patience
            time.sleep(0.05)
        pki.revoke(tmp_path / "pki", [1])

    thread = threading.Thread(target=revoke)
    thread.start()
    scenario = loads(text(2, 400, learner={"steps": 2000, "dimension": 4}))
    run(scenario, [(0,), (1,)], tmp_path, tls=True)
    thread.join()
    own, other = ([e for e in entries(home) if e["what"] == "refused"] for home in homes)
    assert {entry["reason"] for entry in own} == {"certificate_revoked"}
    assert own[0]["agents"] == [1]
    assert {tuple(entry["agents"]) for entry in own} == {(1,)}
    said = [entry for entry in other if entry["reason"] == "refused_by_peer"]
    assert {tuple(entry["agents"]) for entry in said} == {(0,)}
    assert "the authority has revoked certificate" in str(said[0]["detail"])
    told = [entry["detail"] for entry in entries(homes[1]) if entry["what"] == "certificate"]
    assert told == ["1 certificates are revoked, this process's own among them: others refuse it"]
