"""State as a value: what agents, schedules and worlds remember, as plain data.

A state is a tree of plain values: None, bool, int, float, str, bytes, tuples, lists, dicts, numpy
arrays, and the messages and events of core/types.py. `Stateful` objects name the attributes that
make up their state. `write` puts a state into one file and `read` takes it out. The arrays are
stored as safetensors and the tree as JSON in one of them, both under one checksum. Nothing is
pickled.

Arrays, messages and frames are never changed once they are part of a state, so a state shares them
with the object it was taken from. An object that occurs twice in a state is stored once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core import types
from p2pfrl.core.errors import RecordError
from p2pfrl.core.files import write_file

State = Mapping[str, Any]
"""Attribute -> plain value."""

LIMIT = 2**33
"""Bytes of the largest file that is read."""
_CLASSES: dict[str, type] = {
    cls.__name__: cls
    for cls in (
        types.Message,
        types.Update,
        types.Started,
        types.Trained,
        types.Received,
        types.Missing,
        types.Expired,
        types.PeerLost,
        types.PeerJoined,
        types.Frame,
        types.Send,
        types.WaitUntil,
        types.Finish,
    )
}
_FEW = 16
"""Entries of a dict that are written one by one."""
_HEADER = 8
_TREE = "tree"
_KINDS = {"f": "F", "i": "I", "u": "U"}
"""Kinds of numpy's numbers -> letters of safetensors, before the number of bits."""
_LARGEST_HEADER = 2**30


class Stateful:
    """An object whose state is the values of the attributes named in `STATE`.

    Attributes:
        STATE: names of the attributes that change while it runs.
    """

    STATE: ClassVar[tuple[str, ...]] = ()
    __slots__ = ()

    def save(self) -> State:
        """Return a copy of the state; what happens to the object later does not change it."""
        return {name: copied(getattr(self, name)) for name in self.STATE}

    def restore(self, state: State) -> None:
        """Take over a state that `save` returned, of this object or of one constructed like it.

        Raises:
            RecordError: the state is of another version of this class.
        """
        if lacking := [name for name in self.STATE if name not in state]:
            raise RecordError(
                f"the saved state of {type(self).__name__} lacks {', '.join(lacking)}: another version of p2pfrl "
                "saved it; go on with that version, or begin anew"
            )
        for name in self.STATE:
            setattr(self, name, copied(state[name]))


def copied(value: Any) -> Any:
    """Return a plain value whose containers are new; arrays, messages and frames are shared."""
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    if isinstance(value, list):
        return [copied(item) for item in value]
    if isinstance(value, tuple):
        return tuple(copied(item) for item in value)
    return value


def write(path: Path, state: State, facts: Mapping[str, str], *, keep: Path | None = None) -> None:
    """Write a state to a file, atomically.

    Args:
        path: of the file.
        state: what to write.
        facts: what the state belongs to; `read` returns them before anything else is looked at.
        keep: a name for the file that was there before.

    Raises:
        RecordError: it cannot be written; the file that was there before is intact.
    """
    text, found = pack(state, facts)
    metadata = {"checksum": _checksum(text, found)}
    write_file(path, _pieces(_arrays(text, found), metadata), keep=keep)


def _pieces(
    arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]
) -> Iterator[bytes | memoryview]:
    """Yield a file of safetensors piece by piece, without a copy of the arrays.

    What `safetensors.numpy.save` returns takes as much memory as all arrays, twice.
    """
    ordered = sorted(arrays.items(), key=lambda item: -item[1].dtype.itemsize)
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, values in ordered:
        start, end = end, end + values.nbytes
        dtype = "BOOL" if values.dtype.kind == "b" else _KINDS[values.dtype.kind]
        bits = "" if values.dtype.kind == "b" else str(8 * values.dtype.itemsize)
        header[name] = {
            "dtype": dtype + bits,
            "shape": list(values.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _HEADER)
    yield len(text).to_bytes(_HEADER, "little")
    yield text
    for _, values in ordered:
        yield np.ascontiguousarray(values).reshape(-1).view(np.uint8).data


def read(path: Path, facts: Mapping[str, str]) -> dict[str, Any]:
    """Return the state in a file.

    Args:
        path: of the file.
        facts: what it must belong to.

    Raises:
        RecordError: it cannot be read, is damaged, or belongs to something else.
    """
    from safetensors import SafetensorError, safe_open

    _check_size(path)
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = dict(file.metadata() or {})
            names = set(file.keys()) - {_TREE}
            arrays = [file.get_tensor(str(number)) for number in range(len(names))]
            text = file.get_tensor(_TREE).tobytes().decode()
        if metadata["checksum"] != _checksum(text, arrays):
            raise RecordError(f"{path}: damaged: its content does not have its checksum")
        tree = json.loads(text)
        found: dict[str, str] = tree["facts"]
        for name, expected in facts.items():
            if found.get(name) != expected:
                raise RecordError(f"{path}: {name}: expected {expected}, got {found.get(name)}")
        unpacked: dict[str, Any] = _Unpacker(tree["objects"], arrays).unpack(tree["state"])
    except (
        SafetensorError,
        OSError,
        ValueError,
        KeyError,
        TypeError,
        IndexError,
        RecursionError,
    ) as error:
        raise RecordError(f"{path}: not a saved state: {error}") from error
    return unpacked


def encode(state: State) -> bytes:
    """Return a state as bytes, from which `decode` makes it again."""
    from safetensors.numpy import save

    return save(_arrays(*pack(state)))


def _arrays(text: str, found: Sequence[NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the arrays of a state by number, with its tree: a header has room for 100 MB only."""
    arrays = {str(number): value for number, value in enumerate(found)}
    return {_TREE: np.frombuffer(text.encode(), np.uint8), **arrays}


def decode(data: bytes) -> dict[str, Any]:
    """Return the state that `encode` made bytes of.

    Raises:
        RecordError: they are not such bytes.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        found = load(data)
        text = found.pop(_TREE).tobytes().decode()
        return unpack(text, [found[str(number)] for number in range(len(found))])
    except (
        SafetensorError,
        ValueError,
        KeyError,
        TypeError,
        IndexError,
        RecursionError,
    ) as error:
        raise RecordError(f"not the state of a coordinator: {error}") from error


def pack(state: State, facts: Mapping[str, str] | None = None) -> tuple[str, list[NDArray[Any]]]:
    """Return a state as JSON and the arrays that it refers to, in order."""
    packer = _Packer()
    packed = packer.pack(dict(state))
    tree = {"facts": dict(facts or {}), "state": packed, "objects": packer.objects}
    return json.dumps(tree, separators=(",", ":")), packer.arrays


def unpack(text: str, arrays: list[NDArray[Any]]) -> dict[str, Any]:
    """Return the state from which `pack` made `text` and `arrays`.

    Raises:
        ValueError, KeyError, TypeError, IndexError: they are no state.
    """
    tree = json.loads(text)
    state: dict[str, Any] = _Unpacker(tree["objects"], arrays).unpack(tree["state"])
    return state


def _check_size(path: Path) -> None:
    """Refuse a file that is too large before reading it.

    The size of the file and the size that its header states are checked.
    """
    try:
        if not path.is_file():
            raise RecordError(f"{path}: missing, or not a regular file")
        size = path.stat().st_size
        with path.open("rb") as file:
            header = int.from_bytes(file.read(_HEADER), "little")
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror}") from error
    if size > LIMIT or header > min(size, _LARGEST_HEADER):
        raise RecordError(f"{path}: not a saved state: {size} bytes with a header of {header}")


def _checksum(text: str, arrays: Iterable[NDArray[Any]]) -> str:
    total = blake2b(text.encode(), digest_size=16)
    for array in arrays:
        total.update(f"{array.dtype.str}{array.shape}".encode())
        total.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return total.hexdigest()


class _Packer:
    """Turns plain values into JSON: containers and objects are tagged lists, arrays are numbers."""

    def __init__(self) -> None:
        self.objects: list[Any] = []
        self.arrays: list[NDArray[Any]] = []
        self._known: dict[int, tuple[Any, Any]] = {}

    def pack(self, value: Any) -> Any:
        if value is None or isinstance(value, bool | str):
            return value
        if isinstance(value, int | float) and not isinstance(value, np.generic):
            return value
        known = self._known.get(id(value))
        if known is not None:
            return known[1]
        packed = self._container(value)
        if isinstance(packed, list) and packed[0] in ("array", "bytes", "object"):
            self._known[id(value)] = (
                value,
                packed,
            )  # the value is kept, so that its id stays its own
        return packed

    def _container(self, value: Any) -> Any:
        if isinstance(value, tuple):
            return ["tuple", *map(self.pack, value)]
        if isinstance(value, list):
            return ["list", *map(self.pack, value)]
        if isinstance(value, dict):
            if len(value) > _FEW and (columns := self._columns(value)) is not None:
                return columns
            return ["dict", *([self.pack(k), self.pack(item)] for k, item in value.items())]
        if isinstance(value, np.ndarray):
            return self._array("array", value)
        if isinstance(value, np.generic):
            return self._array("scalar", np.asarray(value).reshape(1))
        if isinstance(value, bytes | memoryview):
            return self._array("bytes", np.frombuffer(value, np.uint8))
        name = type(value).__name__
        assert _CLASSES.get(name) is type(value), f"{type(value)} is not a plain value"
        number = len(self.objects)
        self.objects.append(None)
        self._known[id(value)] = value, ["object", number]
        self.objects[number] = [name, *(self.pack(getattr(value, n)) for n in _names(type(value)))]
        return ["object", number]

    def _columns(self, value: dict[Any, Any]) -> list[Any] | None:
        """Return a dict of numbers to numbers, or to objects and None, as an array with 2 rows.

        A schedule has one with an entry for each neighbor, which are many on a complete graph. The
        result is None if it holds other things.
        """
        if not all(map(_is_small, value)):
            return None
        items = list(value.values())
        kinds = set(map(type, items))
        if kinds == {int}:
            kind = "numbers"
            if not all(map(_is_small, items)):
                return None
        elif all(cls is type(None) or _CLASSES.get(cls.__name__) is cls for cls in kinds):
            kind = "objects"
            items = [-1 if item is None else self.pack(item)[1] for item in items]
        else:
            return None
        return self._array(kind, np.array([list(value), items], np.int64))

    def _array(self, kind: str, value: NDArray[Any]) -> list[Any]:
        self.arrays.append(np.ascontiguousarray(value))
        return [kind, len(self.arrays) - 1, list(value.shape)]


class _Unpacker:
    def __init__(self, objects: list[Any], arrays: list[NDArray[Any]]) -> None:
        self._packed = objects
        self._made: dict[int, Any] = {}
        self._arrays = arrays
        self._values: dict[int, Any] = {}
        for array in arrays:
            array.flags.writeable = False

    def unpack(self, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        kind, *rest = value
        if kind == "tuple":
            return tuple(map(self.unpack, rest))
        if kind == "list":
            return list(map(self.unpack, rest))
        if kind == "dict":
            return {self.unpack(key): self.unpack(item) for key, item in rest}
        if kind == "object":
            return self._object(rest[0])
        if kind in ("numbers", "objects"):
            keys, items = self._arrays[rest[0]].tolist()
            if kind == "objects":
                items = [None if item < 0 else self._object(item) for item in items]
            return dict(zip(keys, items, strict=True))
        # One object for all places of an array: it is stored once again when it is saved again.
        if rest[0] not in self._values:
            array = self._arrays[rest[0]].reshape(rest[1])
            other = array[0] if kind == "scalar" else array.tobytes() if kind == "bytes" else array
            self._values[rest[0]] = other
        return self._values[rest[0]]

    def _object(self, number: int) -> Any:
        if number not in self._made:
            name, *values = self._packed[number]
            cls = _CLASSES[name]
            made: Any = object.__new__(cls)
            self._made[number] = made
            if is_dataclass(cls):  # earlier versions may have fewer fields
                values += [entry.default for entry in fields(cls)[len(values) :]]
            for attribute, value in zip(_names(cls), values, strict=True):
                setattr(made, attribute, self.unpack(value))
            if cls is types.Frame:
                made.payload = memoryview(made.payload)
        return self._made[number]


def _is_small(value: object) -> bool:
    """Whether a value is an int, and no bool, that fits into 64 bits."""
    return type(value) is int and -(2**63) <= value < 2**63


def _names(cls: type) -> tuple[str, ...]:
    if is_dataclass(cls):
        return tuple(entry.name for entry in fields(cls))
    return tuple(cls.__slots__)  # type: ignore[attr-defined]
