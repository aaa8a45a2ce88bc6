"""Processes judge what robust rules meet as the simulator does, number by number."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from peer_threads import Fleet

import p2pfrl
from p2pfrl.deploy.collect import collect
from p2pfrl.laws.runs import Table, text
from p2pfrl.scenario import loads
from p2pfrl.watch.deployed import Deployed, Processes

RULES: dict[str, tuple[str, dict[str, Table]]] = {
    "gossip": (
        "gossip",
        {"mixing": {"kind": "bridge", "byzantine": 1}, "topology": {"kind": "complete"}},
    ),
    "central": ("central", {"coordinator": {"aggregator": {"kind": "median"}}}),
}


@pytest.mark.parametrize("name", RULES)
def test_the_record_of_processes_has_the_scores_of_the_simulated_one(
    name: str, tmp_path: Path
) -> None:
    mode, tables = RULES[name]
    spread: Table = {"initial_spread": 1.0, "noise": 0.3}
    scenario = loads(text(5, 8, mode=mode, learner=spread, **tables))
    fleet = Fleet(scenario, tmp_path)
    ids = [*range(5), *([-1] if mode == "central" else [])]
    fleet.start(*ids)
    fleet.join(*ids)
    record = collect([fleet.home(id) for id in ids], tmp_path / "record")
    simulated = p2pfrl.run(scenario)
    for column in ("suspicion", "suspicion_cosine"):
        own = {
            (round, agent): value
            for round, agent, value in zip(
                simulated.agents["round"].tolist(),
                simulated.agents["agent"].tolist(),
                simulated.agents[column].tolist(),
                strict=True,
            )
        }
        theirs = record.agents[column]
        assert np.isfinite(theirs).all()
        rows = zip(record.agents["round"].tolist(), record.agents["agent"].tolist(), strict=True)
        assert theirs.tolist() == [own[row] for row in rows]
    assert len(set(record.agents["suspicion"].tolist())) > 20, "agents differ, and so do scores"
    assert record.summary["suspicion"] == simulated.summary["suspicion"]
    page = Deployed(Processes([fleet.home(id) for id in ids]), "run").read()
    place = page["agents"]["columns"].index("suspicion")
    assert all(row[place] is not None for row in page["agents"]["rows"])
    status = json.loads((fleet.home(ids[-1]) / "status.json").read_text())
    if mode == "central":  # the one who judges has what the record has
        last = zip(
            record.agents["agent"].tolist(), record.agents["suspicion"].tolist(), strict=True
        )
        assert status["suspicion"] == {str(agent): value for agent, value in last}
