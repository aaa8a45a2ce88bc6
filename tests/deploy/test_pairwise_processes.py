import numpy as np
import processes

from p2pfrl.deploy.collect import collect
from p2pfrl.laws.runs import FLAT, start, text
from p2pfrl.scenario import loads


def test_exchanges_in_pairs_happen_exactly_once_between_processes(tmp_path):
    tables = {"mixing": {"kind": "pairwise"}, "schedule": {"kind": "asynchronous"}, "learner": FLAT}
    scenario = loads(text(5, 60, seed=3, **tables))
    record = collect(processes.run(scenario, [(0, 1), (2, 3, 4)], tmp_path), tmp_path / "all")
    first = start(record, 3)
    assert record.summary["rounds"] == 60
    assert np.abs(record.parameters.mean(axis=0) - first.mean(axis=0)).max() <= 1e-12
    assert (
        np.abs(record.parameters - record.parameters.mean(axis=0)).max()
        < 1e-3 * np.abs(first).max()
    )
    assert record.summary["mean_drift"] <= 1e-12
