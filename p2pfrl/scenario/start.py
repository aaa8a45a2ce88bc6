"""Section `start`: saved parameters from which agents start."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from typing_extensions import override

from p2pfrl.core.located import Located
from p2pfrl.core.options import Slot
from p2pfrl.core.problems import problem, refuse
from p2pfrl.core.rule import rule
from p2pfrl.core.saved import Saved, find_saved, read_saved
from p2pfrl.core.wording import show
from p2pfrl.learning.started import Models


@rule
class Start(Located):
    """Saved parameters from which agents start; `start = "RUN"` is short for a table with a path.

    Tensors that match by name and shape are taken, from whatever environment they come; others
    start as usual. A coordinator's first model is the mean of the saved models.

    Attributes:
        path: a run directory, of which the final parameters are taken; or a safetensors file, such
            as a run's `parameters.safetensors`, or one model's tensors by name. It is searched
            beside the scenario file, then in the working directory.
        models: own: agent i starts from model i, so there must be as many as agents; mean: every
            agent starts from the mean of all. By default the first where there are as many.
        parts: parts of the parameters that are taken, such as ["actor"]; all by default.
    """

    path: str
    models: Models | None = None
    parts: tuple[str, ...] | None = None

    @override
    def files(self) -> Mapping[str, Path]:
        """Return the file with the parameters."""
        return {self.path: self.file}

    @override
    def copy_of(self, path: Path) -> str:
        """Return the name of the copy of the parameters: all runs name theirs alike."""
        return "start.safetensors"

    @property
    def file(self) -> Path:
        """The file with the parameters."""
        return find_saved(self.path, self.folder, self.copy_of(Path()))

    def read(self) -> Saved:
        """Return the saved parameters, by name of the tensor `(k, *shape)` of k models.

        Raises:
            ScenarioError: there is no such file, it is damaged, or it has no tensors.
        """
        return read_saved(self.file, "start")


class StartSlot(Slot):
    """Annotation of the section `start`: a path, or a table."""

    def __init__(self) -> None:
        super().__init__(Start)

    @override
    def short(self, value: object) -> object:
        """Return the start from a path; None for none."""
        if value is None:
            return None
        if isinstance(value, str):
            return self.make({"path": value})
        raise refuse(problem(f"expected a path or a table, got {show(value)}", value=value))

    @override
    def dump(self, value: object) -> object:
        """Return the path, or the table if it has more."""
        table = super().dump(value)
        assert isinstance(table, dict)
        return table["path"] if [*table] == ["path"] else table

    @override
    def json_schema(self) -> dict[str, object]:
        """Return the JSON schema of the path or the table."""
        return {"anyOf": [{"type": "string"}, super().json_schema()]}
