"""Who saves itself for a restart: agents that a fault starts again, and nobody else."""

import pytest

from p2pfrl import loads, run
from p2pfrl.learning.trainer import Snapshot, Trainer

TEXT = """name = "snapshots"
agents = 4
stop = {rounds = 6}
learner = {kind = "quadratic", dimension = 2}
network = {latency = 1e-3}
"""
FAULTS = [{"kind": "crash", "at": 0.003, "agents": [1]}, {"kind": "restart", "at": 0.004}]
FAULTS[1]["agents"] = [1]


@pytest.mark.parametrize(("faults", "who"), [([], set()), (FAULTS[:1], set()), (FAULTS, {1})])
def test_only_agents_that_a_fault_starts_again_save_themselves(faults, who, monkeypatch):
    saved = set[int]()
    snapshot = Trainer.snapshot

    def noted(self: Trainer, agent: int) -> Snapshot:
        saved.add(agent)
        return snapshot(self, agent)

    monkeypatch.setattr(Trainer, "snapshot", noted)
    record = run(loads(TEXT, {"faults": faults}))
    assert saved == who
    assert record.summary["rounds"] == 6
