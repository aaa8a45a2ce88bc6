"""Doors to experiment trackers: TensorBoard, Weights & Biases, MLflow.

A tracker gets every row of metrics.csv as scalars under the names of its columns, with the round as
the step; at the end the numbers of the summary as `final/<key>`, the scenario, and the figures.
Nothing is sent anywhere unless the tracker's own environment variables say so.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from p2pfrl.core.errors import P2PFRLError
from p2pfrl.core.finder import install
from p2pfrl.core.tables import leaves
from p2pfrl.results.groups import scenario_keys
from p2pfrl.results.record import Record


class Tracker(Protocol):
    """Where a run is logged."""

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Log numbers of one round."""

    def settings(self, keys: Mapping[str, object]) -> None:
        """Log the keys of the scenario."""

    def figure(self, name: str, png: bytes) -> None:
        """Log a figure."""

    def close(self) -> None:
        """Write what is left."""


class TensorBoard:
    """Event files in `<run>/tensorboard`: `tensorboard --logdir runs`."""

    def __init__(self, folder: Path, name: str) -> None:
        from torch.utils.tensorboard import SummaryWriter

        place = folder / "tensorboard"
        for old in place.glob("events.out.tfevents.*"):
            old.unlink()
        self._writer: Any = SummaryWriter(str(place))
        self._step = 0

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Log numbers of one round."""
        self._step = step
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def settings(self, keys: Mapping[str, object]) -> None:
        """Log the keys of the scenario as a text."""
        lines = "\n".join(f"    {key} = {value}" for key, value in keys.items())
        self._writer.add_text("scenario", lines)

    def figure(self, name: str, png: bytes) -> None:
        """Log a figure."""
        from PIL import Image

        with Image.open(io.BytesIO(png)) as image:
            pixels = np.asarray(image.convert("RGB"))
        self._writer.add_image(f"figures/{name}", pixels, self._step, dataformats="HWC")

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


class WandB:
    """A run of Weights & Biases in `<run>/wandb`; offline unless WANDB_MODE says otherwise."""

    def __init__(self, folder: Path, name: str) -> None:
        import wandb

        self._wandb = wandb
        project = os.environ.get("WANDB_PROJECT", "p2pfrl")
        mode: Any = os.environ.get("WANDB_MODE", "offline")
        self._run: Any = wandb.init(project=project, name=name, dir=str(folder), mode=mode)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Log numbers of one round."""
        self._run.log(dict(values), step=step)

    def settings(self, keys: Mapping[str, object]) -> None:
        """Log the keys of the scenario as the configuration."""
        self._run.config.update(dict(keys))

    def figure(self, name: str, png: bytes) -> None:
        """Log a figure."""
        from PIL import Image

        with Image.open(io.BytesIO(png)) as image:
            self._run.log({f"figures/{name}": self._wandb.Image(image.convert("RGB"))})

    def close(self) -> None:
        """Write what is left."""
        self._run.finish()


class MLflow:
    """A run of MLflow in `<run>/mlflow.db`, or where MLFLOW_TRACKING_URI says."""

    def __init__(self, folder: Path, name: str) -> None:
        from mlflow import MlflowClient

        own = f"sqlite:///{(folder / 'mlflow.db').resolve()}"
        place = os.environ.get("MLFLOW_TRACKING_URI", own)
        self._client: Any = MlflowClient(tracking_uri=place)
        found = self._client.get_experiment_by_name("p2pfrl")
        if found is None:
            files = (folder / "mlflow").resolve().as_uri() if place == own else None
            experiment = self._client.create_experiment("p2pfrl", artifact_location=files)
        else:
            experiment = found.experiment_id
        self._run = self._client.create_run(experiment, run_name=name).info.run_id

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Log numbers of one round."""
        for name, value in values.items():
            self._client.log_metric(self._run, name, value, step=step)

    def settings(self, keys: Mapping[str, object]) -> None:
        """Log the keys of the scenario as parameters."""
        for key, value in keys.items():
            self._client.log_param(self._run, key, str(value)[:6000])

    def figure(self, name: str, png: bytes) -> None:
        """Log a figure as an artifact."""
        from PIL import Image

        with Image.open(io.BytesIO(png)) as image:
            self._client.log_image(self._run, image.convert("RGB"), f"figures/{name}.png")

    def close(self) -> None:
        """End the run."""
        self._client.set_terminated(self._run)


TRACKERS: dict[str, Callable[[Path, str], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": WandB,
    "mlflow": MLflow,
}
"""Name -> what opens it in a run directory for a run of a name."""
SUMMARY = "final/"
"""Beginning of the names of the numbers of a summary."""


def require(name: str) -> None:
    """Refuse a tracker that is not known, or whose package is not installed.

    Raises:
        P2PFRLError: it is so.
    """
    if name not in TRACKERS:
        raise P2PFRLError(f"--log: expected one of {', '.join(TRACKERS)}, got {name!r}")
    if find_spec(name) is None:
        raise P2PFRLError(f"--log {name}: {name} is not installed: {install(name)}")


class Log:
    """The log of one run in a tracker. It is opened with the first row, or at the end.

    Args:
        name: of the tracker.
        folder: the run directory.
        title: name of the run in the tracker.

    Raises:
        P2PFRLError: the tracker is not known, or not installed.
    """

    def __init__(self, name: str, folder: Path, title: str) -> None:
        require(name)
        self._name, self._folder, self._title = name, folder, title
        self._tracker: Tracker | None = None

    def __call__(self, row: Mapping[str, float], /) -> None:
        """Log the numbers of a row of metrics.csv that are defined."""
        self._tracker = self._tracker or self._opened()
        log_row(self._tracker, row)

    def _opened(self) -> Tracker:
        return TRACKERS[self._name](self._folder, self._title)

    def finish(self, record: Record, figures: Path | None = None) -> None:
        """Log all rows if none is logged yet; then the scenario, the summary and the figures."""
        try:
            if self._tracker is None:
                self._tracker = self._opened()
                rows = zip(*record.metrics.values(), strict=True)
                for row in rows:
                    log_row(self._tracker, dict(zip(record.metrics, map(float, row), strict=True)))
            log_end(self._tracker, record, figures)
        finally:
            self.close()

    def close(self) -> None:
        """Write what is left; nothing more is logged."""
        if self._tracker is not None:
            self._tracker.close()
            self._tracker = None


def log_row(tracker: Tracker, row: Mapping[str, float]) -> None:
    """Log the numbers of a row of metrics.csv that are defined."""
    known = {
        name: float(value)
        for name, value in row.items()
        if name != "round" and math.isfinite(value)
    }
    if known:
        tracker.scalars(known, int(row["round"]))


def log_end(tracker: Tracker, record: Record, figures: Path | None) -> None:
    """Log the scenario, the numbers of the summary, and the figures of a folder, as PNG."""
    tracker.settings(scenario_keys(record.scenario))
    numbers = {
        f"{SUMMARY}{key}": float(value)
        for key, value in leaves(record.summary)
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }
    rounds = record.metrics["round"]
    tracker.scalars(numbers, int(rounds[-1]) if len(rounds) else 0)
    for name, png in sorted(_figures(record, figures).items()) if figures is not None else ():
        tracker.figure(name, png)


def _figures(record: Record, folder: Path) -> dict[str, bytes]:
    """Return the figures of a folder as PNG: its files, or drawn anew where it has only SVG."""
    found = {path.stem: path.read_bytes() for path in folder.glob("*.png")}
    if missing := {path.stem for path in folder.glob("*.svg")} - set(found):
        from p2pfrl.results.groups import group
        from p2pfrl.results.plots import Look, draw

        drawn = draw(group([record]), Look(("png",)))
        found |= {one.name: one.files["png"] for one in drawn if one.name in missing}
    return found
