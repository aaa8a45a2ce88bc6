"""Kills, -9, of whoever is in office in a deployment with standbys.

`python tests/deploy/failover_kills.py 100` kills a hundred times and prints how long it takes until
a round that was committed after a kill has reached an agent. It ends with an error if a committed
round is lost: the parameters at the end must be those of the simulator without kills.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from killing import Fleet
from processes import DEADLINE
from safetensors import SafetensorError, safe_open

from p2pfrl.consensus.failover.voter import IN_OFFICE
from p2pfrl.core.errors import RecordError
from p2pfrl.core.state import read
from p2pfrl.core.types import COORDINATOR, name_of, standby_id
from p2pfrl.deploy.collect import collect
from p2pfrl.experiment.run import simulate
from p2pfrl.laws.runs import Table, text
from p2pfrl.results.record import Record
from p2pfrl.scenario import hash8, loads

STANDBYS: Table = {"standbys": 2, "fallback": "wait"}
LEARNER: Table = {
    "noise": 0.3,
    "initial_spread": 1.0,
    "steps": 200,
    "dimension": 4,
    "lr": 0.01,
}
VOTERS = (COORDINATOR, standby_id(0), standby_id(1))
GROUPS = [*((id,) for id in VOTERS), (0, 1, 2, 3)]
AGENTS = len(VOTERS)


def scenario(rounds: int, coordinator: Table = STANDBYS) -> str:
    """Return the text of a scenario of four agents."""
    tables: dict[str, Table] = {"learner": LEARNER}
    if coordinator:
        tables["coordinator"] = coordinator
    return text(4, rounds, mode="central", seed=3, **tables)


def in_office(fleet: Fleet, facts: str) -> int | None:
    """Return the number of the process that is in office, as far as its file says."""
    found: list[tuple[int, int]] = []
    for number, id in enumerate(VOTERS):
        path = fleet.homes[number] / "checkpoints" / f"{name_of(id)}.safetensors"
        try:
            state = read(path, {"scenario": facts, "coordinator": str(name_of(id))})
        except RecordError:
            continue
        voter = state["schedule"]["voter"]
        if voter["role"] == IN_OFFICE:
            found.append((voter["epoch"], number))
    return max(found, default=(0, None))[1]


def trained(fleet: Fleet) -> int:
    """Return the last round whose update agent 0 has saved and sent; -1 for none."""
    path = fleet.homes[AGENTS] / "checkpoints" / "agent-0.safetensors"
    try:
        with safe_open(path, "numpy") as file:
            return int(file.metadata()["round"])
    except (OSError, SafetensorError):
        return -1


def wait_for_round(fleet: Fleet, round: int) -> None:
    """Wait until agent 0 has trained from the model of a round."""
    patience = time.monotonic() + DEADLINE
    while trained(fleet) < round:
        assert time.monotonic() < patience, f"no round {round} after {DEADLINE} s"
        time.sleep(0.002)


def kill_often(kills: int, rounds: int, root: Path) -> tuple[list[float], Record]:
    """Kill whoever is in office, again and again; return the seconds that each kill cost.

    That is the time until an agent has trained from a model that was certainly committed after the
    kill, which is the second one after that which it has, less the time of two rounds before the
    kill.
    """
    file = scenario(rounds)
    facts, seconds = hash8(loads(file)), []
    with Fleet(file, GROUPS, root) as fleet:
        for _ in range(kills):
            wait_for_round(fleet, trained(fleet) + 2)
            began, before = time.monotonic(), trained(fleet)
            wait_for_round(fleet, before + 2)
            usual = time.monotonic() - began
            number = in_office(fleet, facts)
            assert number is not None
            fleet.kill_now(number)
            began, before = time.monotonic(), trained(fleet)
            wait_for_round(fleet, before + 2)
            seconds.append(time.monotonic() - began - usual)
            print(f"kill {len(seconds)}: {seconds[-1]:.2f} s", file=sys.stderr, flush=True)
            fleet.start(number)
            fleet.wait_for_link(number)
        fleet.end(DEADLINE + rounds)
    return seconds, collect(fleet.homes, root / "all")


def expected(rounds: int) -> Record:
    """Return the record of the simulator, without standbys and kills."""
    return simulate(loads(scenario(rounds, {})))


def main() -> None:
    """Print how long takeovers take."""
    kills = int(sys.argv[1])
    rounds = 60 * kills
    folder = Path(tempfile.mkdtemp(prefix="failover-"))
    seconds, record = kill_often(kills, rounds, folder)
    shutil.rmtree(folder)
    same = np.array_equal(record.parameters, expected(rounds).parameters)
    low, middle, high = np.quantile(seconds, (0.0, 0.5, 1.0))
    print(f"{kills} kills, {record.summary['rounds']} rounds, {os.cpu_count()} cores")
    print(
        f"seconds that a kill cost until the next committed round: {low:.2f} to {high:.2f}, median {middle:.2f}"
    )
    print("no committed round was lost" if same else "the parameters differ: a round was lost")
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
