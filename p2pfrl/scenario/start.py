"""Section `start`: saved parameters from which agents start."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from typing_extensions import override

from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.files import checksum, read_regular, read_table
from p2pfrl.core.located import INPUTS, Located
from p2pfrl.core.options import Slot
from p2pfrl.core.problems import problem, refuse
from p2pfrl.core.rule import rule
from p2pfrl.core.tensors import decode_layout, decode_tensors, split
from p2pfrl.core.wording import show
from p2pfrl.learning.started import Models, Saved

_FILE, _SUMMARY = "parameters.safetensors", "summary.json"
_LARGEST, _LARGEST_SUMMARY = 2**32, 2**26


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
        """The file with the parameters; a copy beside a scenario that was run comes first."""
        places = [Path(self.path)]
        if self.folder is not None:
            copy = self.folder / INPUTS / self.copy_of(Path())
            if copy.is_file():
                return copy
            places.insert(0, self.folder / self.path)
        found = next((place for place in places if _exists(place)), places[-1])
        return found / _FILE if found.is_dir() else found

    def read(self) -> Saved:
        """Return the saved parameters, by name of the tensor `(k, *shape)` of k models.

        Raises:
            ScenarioError: there is no such file, it is damaged, or it has no parameters.
        """
        file = self.file
        try:
            content = read_regular(file, _LARGEST)
        except OSError as error:
            if file.parent.is_dir() and file.name == _FILE and not file.exists():
                raise _refused(f"{file.parent} is no finished run: it has no {_FILE}") from error
            fix = "expected a run directory or a safetensors file"
            raise _refused(f"{file}: {error.strerror or error}; {fix}") from error
        summary = read_table(file.parent / _SUMMARY, _LARGEST_SUMMARY) if file.name == _FILE else {}
        recorded = (summary or {}).get("files")
        expected = recorded.get(_FILE) if isinstance(recorded, dict) else None
        if expected is not None and checksum(content) != expected:
            raise _refused(f"{file}: changed since the run wrote it, or torn: checksums differ")
        return _tensors(file, content)


def _exists(place: Path) -> bool:
    try:
        return place.exists()
    except (OSError, ValueError):
        return False


def _tensors(file: Path, content: bytes) -> Saved:
    """Return the parameters in a file by name of the tensor.

    Raises:
        ScenarioError: it is damaged, or it has none.
    """
    try:
        tensors = decode_tensors(content)
        layout = decode_layout(content)
        if layout is not None:
            return split(tensors["parameters"], layout)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        what = "damaged, or no safetensors file of parameters"
        raise _refused(f"{file}: {what}: {type(error).__name__}: {error}") from error
    if not tensors:
        raise _refused(f"{file}: it has no tensors")
    return {name: values[None] for name, values in tensors.items()}


def _refused(text: str) -> ScenarioError:
    return ScenarioError([f"start: {text}"])


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
