"""Ledgers on disk: whatever is killed at whatever moment, no agent passes its budget."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from scipy.stats import kstest

from p2pfrl.core.causes import PassingError
from p2pfrl.core.errors import RecordError
from p2pfrl.deploy import ledgers
from p2pfrl.deploy.ledgers import from_system, open_ledgers, path_of, read_charges, resumed
from p2pfrl.deploy.process import Place, deploy
from p2pfrl.exchange.privacy.ledger import Charge
from p2pfrl.laws.runs import text
from p2pfrl.net.checkpoint import Checkpoints
from p2pfrl.net.mesh import Security, Timing
from p2pfrl.scenario import hash8, loads

MOST, COST = 3.0, 0.5


class KilledError(PassingError):
    """Stands for kill -9: nothing is written after it."""


def silent(text):
    """Hear nothing."""


def spend(home, granted, say=silent):
    """Live once: open the ledger and release until the budget is spent."""
    own = open_ledgers(home, [4], say)[4]
    while own.charge(COST, MOST, own.releases):
        granted.append(own.spent)
    return own


def test_a_ledger_is_there_in_the_next_life_and_stays_closed(tmp_path):
    said, granted = [], []
    assert spend(tmp_path, granted, said.append).spent == pytest.approx(MOST)
    assert len(granted) == 6
    assert len(said) == 1
    assert "agent 4: the privacy budget is spent after 6 releases" in said[0]
    again = spend(tmp_path, granted, said.append)
    assert (again.releases, again.spent, len(granted), len(said)) == (6, MOST, 6, 1)
    assert path_of(tmp_path, -1).name == "coordinator.jsonl"


@pytest.mark.parametrize("part", ["nothing", "half", "all"])
def test_no_agent_passes_its_budget_if_it_is_killed_at_any_write(tmp_path, part):
    """Each life is killed one system call later than the one before, within or after it."""
    write = os.write
    lives = []
    for death in range(1, 24):
        home, granted = tmp_path / f"{death}", []
        home.mkdir()
        for _ in range(20):
            left = [death]

            def count(act, left=left):
                left[0] -= 1
                if left[0] == 0:
                    act()
                    raise KilledError

            def killed_write(file, data, count=count):
                shares = {"nothing": 0, "half": len(data) // 2, "all": len(data)}
                count(lambda: write(file, data[: shares[part]]))
                return write(file, data)

            def killed_sync(file, count=count):
                count(lambda: None)
                assert file > 0, "what it would wait for the disk for"

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(ledgers.os, "write", killed_write)
                patch.setattr(ledgers.os, "fsync", killed_sync)
                try:
                    own = spend(home, granted)
                except KilledError:
                    continue
                lives.append(death)
                assert own.spent <= MOST
                break
        charges, _ = read_charges(path_of(home, 4))
        assert len(granted) * COST <= MOST, f"released {len(granted)} times"
        paid = sum(not charge.refused for charge in charges)
        assert len(granted) <= paid <= MOST / COST
    assert len(lives) > 10, "most of them live to the end"


CHILD = """
import sys
from pathlib import Path
from p2pfrl.deploy.ledgers import open_ledgers
own = open_ledgers(Path(sys.argv[1]), [0], print)[0]
while own.charge(1.0, 1e5, own.releases):
    sys.stdout.write(f"{own.releases}\\n")
    sys.stdout.flush()
"""


def killed_for_real(home, times):
    """Kill a process with kill -9 while it releases, again and again."""
    granted = 0
    for life in range(times):
        with subprocess.Popen(
            [sys.executable, "-c", CHILD, str(home)], stdout=subprocess.PIPE, text=True
        ) as process:
            first = int(process.stdout.readline())
            time.sleep(0.001 * life)
            process.send_signal(signal.SIGKILL)
            seen = [first, *map(int, process.stdout.read().split("\n")[:-1])]
        assert seen == list(range(first, first + len(seen)))
        assert first > granted, "no release has the number of an earlier one"
        granted = seen[-1]
        charges, _ = read_charges(path_of(home, 0))
        assert granted <= len(charges) <= granted + 1
        assert resumed(charges).spent == len(charges)


def test_a_process_that_is_killed_has_paid_for_all_that_it_released(tmp_path):
    killed_for_real(tmp_path, 2)


@pytest.mark.slow
def test_a_process_that_is_killed_fifty_times_has_paid_for_all_that_it_released(tmp_path):
    killed_for_real(tmp_path, 50)


def test_a_disk_that_is_full_grants_nothing_and_leaves_the_ledger_whole(tmp_path, monkeypatch):
    own = open_ledgers(tmp_path, [0], silent)[0]
    assert own.charge(1.0, 9.0, 0)
    write = os.write
    monkeypatch.setattr(ledgers.os, "write", lambda file, data: write(file, data[:7]))
    with pytest.raises(RecordError, match="nothing leaves that the ledger does not hold"):
        own.charge(1.0, 9.0, 1)
    monkeypatch.undo()
    assert (own.releases, own.spent) == (1, 1.0)
    assert own.charge(1.0, 9.0, 1)
    assert [charge.spent for charge in read_charges(path_of(tmp_path, 0))[0]] == [1.0, 2.0]


@pytest.mark.parametrize(
    "damage",
    [
        lambda lines: [lines[0].replace(b"0.5", b"0.4"), *lines[1:]],
        lambda lines: lines[1:],
        lambda lines: [lines[0], lines[0], *lines[1:]],
        lambda lines: [b"\x00" * 40 + b"\n", *lines[1:]],
        lambda lines: [lines[0], b"[]\n", *lines[2:]],
        lambda lines: [lines[0], b"{" * 99999 + b"\n", *lines[2:]],
    ],
)
def test_a_damaged_ledger_is_refused_with_the_line(tmp_path, damage):
    spend(tmp_path, [])
    path = path_of(tmp_path, 4)
    path.write_bytes(b"".join(damage(path.read_bytes().splitlines(keepends=True))))
    with pytest.raises(RecordError, match=r"agent-4\.jsonl:\d: not what a ledger wrote here"):
        open_ledgers(tmp_path, [4], silent)


def test_a_damaged_ledger_is_refused_before_anybody_is_met(tmp_path):
    privacy = {"kind": "clip_noise", "clip": 1.0}
    scenario = loads(text(2, 3, exchange={"payload": "delta"}, mode="central", privacy=privacy))
    Checkpoints(tmp_path / "checkpoints", hash8(scenario)).incarnation()
    path = path_of(tmp_path, 0)
    path.parent.mkdir()
    path.write_text("{}\n")
    place = Place((0,), lead=True, rendezvous=("127.0.0.1", 0))
    with pytest.raises(RecordError, match=r"agent-0.jsonl:1: .*from a backup"):
        deploy(scenario, place, tmp_path, security=Security(), timing=Timing(start=0.05))


def test_a_line_that_was_never_granted_is_cut_off(tmp_path):
    own = open_ledgers(tmp_path, [4], silent)[4]
    own.charge(COST, MOST, 0)
    path = path_of(tmp_path, 4)
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:-9])
    assert open_ledgers(tmp_path, [4], silent)[4].releases == 1
    assert path.read_bytes() == whole
    assert read_charges(path)[0] == [Charge(0, 0, COST)]


def test_noise_of_the_system_is_standard_normal_and_never_the_same():
    numbers = from_system(0, 20_000)
    assert kstest(numbers, "norm").pvalue > 1e-6
    assert not np.array_equal(from_system(0, 8), from_system(0, 8))
