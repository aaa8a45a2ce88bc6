"""What is logged in a tracker is read back by that tracker's own reader."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from factory import record

from p2pfrl.cli import main
from p2pfrl.core.errors import P2PFRLError
from p2pfrl.core.finder import install
from p2pfrl.results.plots import Look
from p2pfrl.results.record import Record, save
from p2pfrl.results.report import plot
from p2pfrl.results.trackers import Log, require


@pytest.fixture
def run(tmp_path: Path) -> Record:
    saved = save(record(4, rounds=5), tmp_path / "run")
    plot([tmp_path / "run"], look=Look(("svg",), only=("fairness",)))
    return saved


def needs(name: str) -> None:
    if find_spec(name) is None:
        pytest.skip(f"{name} is not installed: pip install -e '.[{name}]'")


def known(run: Record, column: str) -> list[tuple[int, float]]:
    """Return round and value of the rounds in which a column is defined."""
    values = run.metrics[column]
    return [
        (int(r), float(v))
        for r, v in zip(run.metrics["round"], values, strict=True)
        if np.isfinite(v)
    ]


def logged(run: Record, name: str) -> Path:
    assert run.directory is not None
    assert main(["export", str(run.directory), "--log", name]) == 0
    return run.directory


@pytest.mark.slow
def test_tensorboard_reads_every_scalar_the_scenario_and_the_figures(run: Record) -> None:
    needs("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for _ in range(2):  # the log of a run is replaced
        folder = logged(run, "tensorboard")
    found = EventAccumulator(str(folder / "tensorboard"))
    found.Reload()
    for column in ("return_mean", "consensus_distance", "bytes_sent"):
        events = [(event.step, event.value) for event in found.Scalars(column)]
        assert [step for step, _ in events] == [step for step, _ in known(run, column)]
        assert [v for _, v in events] == pytest.approx([v for _, v in known(run, column)], rel=1e-6)
    final = found.Scalars("final/final_return.mean")[0].value
    assert final == pytest.approx(run.summary["final_return"]["mean"], rel=1e-6)
    assert "figures/fairness" in found.Tags()["images"]
    assert (
        b"stop.rounds = 5" in found.Tensors("scenario/text_summary")[0].tensor_proto.string_val[0]
    )


def records_of(content: bytes) -> Iterator[bytes]:
    """Yield the records of a .wandb file: LevelDB's log format behind 7 bytes, in blocks of 32 KiB.

    A piece has a checksum (4 bytes), its length (2), and 1 if it is whole, else 2, 3, ..., 3, 4.
    """
    place, whole = 7, b""
    while place + 7 <= len(content):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", content, place)
        whole += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            yield whole
            whole = b""


@pytest.mark.slow
def test_wandb_reads_every_scalar_and_the_scenario(
    run: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("wandb")
    from wandb.proto import wandb_internal_pb2

    monkeypatch.delenv("WANDB_MODE", raising=False)
    folder = logged(run, "wandb")
    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    rows: list[dict[str, str]] = []
    config: dict[str, str] = {}
    for data in records_of(path.read_bytes()):
        one = wandb_internal_pb2.Record()
        one.ParseFromString(data)
        if one.HasField("history"):
            items = one.history.item
            rows.append({i.key or "/".join(i.nested_key): i.value_json for i in items})
        updates = [*one.config.update, *one.run.config.update]
        config |= {i.key or ".".join(i.nested_key): i.value_json for i in updates}
    values = [float(row["consensus_distance"]) for row in rows if "consensus_distance" in row]
    assert values == pytest.approx([v for _, v in known(run, "consensus_distance")])
    assert any(name.startswith("figures/fairness") for row in rows for name in row)
    assert config["stop.rounds"] == "5"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the packages that mlflow uses
def test_mlflow_reads_every_scalar_the_scenario_and_the_figures(
    run: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("mlflow")
    from mlflow import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = logged(run, "mlflow")
    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("p2pfrl")
    assert experiment is not None
    (found,) = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(found.info.run_id, "consensus_distance")
    assert sorted((m.step, m.value) for m in history) == known(run, "consensus_distance")
    assert found.data.params["stop.rounds"] == "5"
    assert found.info.status == "FINISHED"
    names = [item.path for item in client.list_artifacts(found.info.run_id, "figures")]
    assert names == ["figures/fairness.png"]


def test_rows_are_logged_as_they_come_without_what_is_undefined(
    run: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Kept] = []

    class Kept:
        def __init__(self, folder: Path, name: str) -> None:
            self.rows: list[tuple[int, dict[str, float]]] = []
            self.keys: dict[str, object] = {}
            self.figures: list[str] = []
            self.is_closed = False
            made.append(self)

        def scalars(self, values: dict[str, float], step: int) -> None:
            self.rows.append((step, values))

        def settings(self, keys: dict[str, object]) -> None:
            self.keys = keys

        def figure(self, name: str, png: bytes) -> None:
            assert png.startswith(b"\x89PNG")
            self.figures.append(name)

        def close(self) -> None:
            self.is_closed = True

    monkeypatch.setattr("p2pfrl.results.trackers.TRACKERS", {"json": Kept})
    assert run.directory is not None
    live = Log("json", tmp_path, "a")
    live({"round": 3.0, "return_mean": float("nan"), "bytes_sent": 7.0})
    assert made[0].rows == [(3, {"bytes_sent": 7.0})]
    live.finish(run, run.directory / "figures")
    steps = [step for step, _ in made[0].rows]
    assert steps == [3, 5]  # rows that came are not logged again
    assert made[0].rows[-1][1]["final/rounds"] == 5
    assert made[0].keys["stop.rounds"] == 5
    assert made[0].figures == ["fairness"]
    assert made[0].is_closed
    Log("json", tmp_path, "b").finish(run)
    assert [step for step, _ in made[1].rows] == [1, 2, 3, 4, 5, 5]


def test_unknown_and_missing_trackers_are_refused(
    run: Record, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(P2PFRLError, match="--log: expected one of tensorboard, wandb, mlflow"):
        require("excel")
    monkeypatch.setattr("p2pfrl.results.trackers.find_spec", lambda name: None)
    assert main(["export", str(run.directory), "--log", "mlflow"]) == 1
    assert install("mlflow") in capsys.readouterr().err
