"""The walk over every key of a scenario's schema: sections, rules of all axes, and their options.

Keys, kinds and other values follow from the schema, so that a new option is walked as soon as it
exists. `tests/test_every_key.py` says in which scenarios a key is tried.
"""

from __future__ import annotations

import gc
import json
import re
import tomllib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import blake2b
from itertools import pairwise
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import gymnasium
import numpy as np
from pydantic import ValidationError
from pydantic.fields import FieldInfo

import p2pfrl
from p2pfrl.core.errors import P2PFRLError, ScenarioError
from p2pfrl.core.options import Rule, Slot, construct, options_of
from p2pfrl.exchange.payloads import RULES as PAYLOADS
from p2pfrl.learning.environments import RULES
from p2pfrl.learning.environments.gym import Gym
from p2pfrl.learning.environments.registry import resolve
from p2pfrl.results.record import Record
from p2pfrl.scenario import Scenario, loads
from p2pfrl.scenario.checks.notes import notes
from p2pfrl.scenario.environment import EnvironmentSlot, OwnKeys
from p2pfrl.scenario.render import resolved, to_toml

Table = dict[str, Any]
Path = tuple[str | int, ...]

EFFECT, NOTE, REFUSAL, SILENT, UNTRIED = "effect", "note", "refusal", "silent", "untried"
_TRIES = 5
"""Other values of a key that are tried until one has an effect."""
_COLLECTED = 100
"""Runs after which garbage is collected."""
_STEPS = 10
"""Steps of an episode, where nothing else is said: evaluations and baselines take most of a run."""


@dataclass(frozen=True)
class Key:
    """One key of a scenario.

    Attributes:
        path: its place in the tables.
        label: the path with the kinds of rules: "mixing:laplacian.alpha".
        slot: what reads its table, if it holds a section or a rule.
        info: type and bounds.
        value: in the scenario, as files have it; None if it is left out.
    """

    path: Path
    label: str
    slot: Slot | None
    info: FieldInfo
    value: object


# --- keys ---------------------------------------------------------------------------------------


def keys(rule: Any, table: Table, path: Path = (), label: str = "") -> Iterator[Key]:
    """Yield the keys of a rule or section, without those of the tables in it.

    Args:
        rule: the class of the rule.
        table: its table in a file, with all keys.
        path: its place.
        label: of its keys, before their names.
    """
    cls: Any = rule
    for name, field in options_of(cls).items():
        info = cls.__pydantic_fields__[field.name]
        slot = next((mark for mark in info.metadata if isinstance(mark, Slot)), None)
        yield Key((*path, name), f"{label}{name}", slot, info, table.get(name))


def element(info: FieldInfo) -> Slot | None:
    """Return what reads the elements of a list, or the values of a table of user's names."""
    inner = get_args(info.annotation)
    if get_origin(info.annotation) not in (tuple, dict) or get_origin(inner[-1]) is not Annotated:
        inner = inner[:1]
    mark = inner[-1] if inner else None
    if get_origin(mark) is not Annotated:
        return None
    return next((m for m in mark.__metadata__ if type(m) is not type and isinstance(m, Slot)), None)


def at(table: Any, path: Sequence[str | int]) -> Any:
    """Return what is at a place of nested tables; None if there is nothing."""
    for name in path:
        if isinstance(table, list):
            table = table[int(name)] if int(name) < len(table) else None
        else:
            table = table.get(name) if isinstance(table, dict) else None
    return table


def put(table: Table, path: Path, value: object) -> Table:
    """Return nested tables with another value at a place; None removes it."""
    out = deepcopy(table)
    node: Any = out
    for name, after in pairwise(path):
        if isinstance(node, dict):
            node.setdefault(name, [] if isinstance(after, int) else {})
        node = node[name]
    if value is None:
        node.pop(path[-1], None)
    elif isinstance(node, list) and path[-1] == len(node):
        node.append(value)
    else:
        node[path[-1]] = value
    return out


def merged(table: Table, over: Mapping[str, Any]) -> Table:
    """Return tables with others on top; None removes a key, another kind replaces its table."""
    out = dict(table)
    for name, value in over.items():
        below = out.get(name)
        if value is None:
            out.pop(name, None)
        elif isinstance(value, Mapping) and isinstance(below, dict):
            is_other = any(value.get(k, below.get(k)) != below.get(k) for k in ("kind", "id"))
            out[name] = merged({} if is_other else below, value)
        else:
            out[name] = deepcopy(value)
    return out


# --- other values -------------------------------------------------------------------------------


def others(key: Key) -> Iterator[object]:
    """Yield other values of a key that holds no rule, from its type, its value and its bounds."""
    seen = [json.dumps(key.value)]
    for value in _values(key.info.annotation, _least(key.info), key.value):
        if (text := json.dumps(value)) not in seen:
            seen.append(text)
            yield value


def _least(info: FieldInfo) -> float:
    """Return the lower bound of a number, 0 if there is none."""
    bounds = [
        getattr(mark, name)
        for mark in info.metadata
        for name in ("ge", "gt")
        if hasattr(mark, name)
    ]
    return float(bounds[0]) if bounds else 0.0


def _values(annotation: Any, least: float, value: Any) -> Iterator[object]:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from _values(inner[0], least, value)
    elif origin in (Union, UnionType):
        for one in inner:
            if one is not NoneType:
                yield from _values(one, least, value)
    elif origin is Literal:
        yield from inner
    elif annotation is bool:
        yield not value
    elif annotation is int:
        known = value if isinstance(value, int) else int(least)
        yield from (known + 1, known + 2, 2 * known, known // 2, 1, known - 1, int(least))
    elif annotation is float:
        known = value if isinstance(value, int | float) else 0.01
        yield from (known / 2, 2 * known, 0.25, 0.75, 1e-3, 1.0, 20.0)
    elif origin is tuple and get_origin(inner[0]) is Annotated:
        yield from _values(tuple[get_args(inner[0])[0], ...], least, value)
    elif origin is tuple and isinstance(value, list) and value and inner[0] in (int, float):
        for first in _values(inner[0], least, value[0]):
            yield [first, *value[1:]]
            yield [*value[:-1], *_values(inner[0], least, value[-1])][: len(value)]
            yield [first] * len(value)


# --- runs ---------------------------------------------------------------------------------------

_ECHOES = ("wall_seconds", "versions", "sources", "start", "seed", "mode", "agents", "device")
"""What a summary says of the time, the machine and the scenario itself."""


def figures(record: Record) -> str:
    """Return a hash of everything in a record but its scenario and what depends on the clock."""
    summary = {name: value for name, value in record.summary.items() if name not in _ECHOES}
    arrays = (
        record.metrics,
        record.agents,
        record.problem,
        {"": record.parameters},
        {"": record.staleness},
    )
    rest = (
        record.layout,
        record.graph,
        record.coordinators,
        record.lambda_2,
        record.timeline,
        record.heterogeneity,
    )
    hashed = blake2b(repr((summary, rest)).encode(), digest_size=16)
    for table in arrays:
        for name, values in table.items():
            hashed.update(f"{name}{values.shape}".encode() + np.ascontiguousarray(values).tobytes())
    return hashed.hexdigest()


@dataclass(frozen=True)
class Outcome:
    """What became of a scenario.

    Attributes:
        refusal: the lines of the refusal, empty if it loads.
        notes: warnings and notes.
        scenario: None if it was refused.
    """

    refusal: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    scenario: Scenario | None = None


def read(table: Table) -> Outcome:
    """Load a scenario; one that loads is what is recorded of it, when that is loaded again."""
    return _read(to_toml(table))


@lru_cache(maxsize=4096)
def _read(text: str) -> Outcome:
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            scenario = loads(text)
            said = (*notes(scenario), *(str(warning.message) for warning in caught))
    except ScenarioError as error:
        return Outcome(refusal=tuple(error.problems))
    again = resolved(scenario)
    assert again == text or loads(again) == scenario, again
    return Outcome(notes=said, scenario=scenario)


def ran(table: Table) -> str:
    """Return the figures of a run of a scenario, or the error that ended it."""
    return _ran(to_toml(table))


@lru_cache(maxsize=65536)
def _ran(text: str) -> str:
    scenario = _read(text).scenario
    assert scenario is not None
    _freeze()
    try:
        return figures(p2pfrl.run(scenario))
    except P2PFRLError as error:
        return f"failed: {error}"


def _freeze() -> None:
    """Exclude all that is there from garbage collection, which every run begins with.

    It takes longer than a small run. Garbage of earlier runs is collected now and then.
    """
    if _ran.cache_info().misses % _COLLECTED == 0:
        gc.unfreeze()
        gc.collect()
    gc.freeze()


def dumped(table: Table) -> Table | None:
    """Return the tables of a scenario with all keys, not to be changed; None if it is refused."""
    return _dumped(to_toml(table))


@lru_cache(maxsize=256)
def _dumped(text: str) -> Table | None:
    scenario = _read(text).scenario
    return None if scenario is None else tomllib.loads(resolved(scenario))


# --- what a change does -------------------------------------------------------------------------


def names(lines: Sequence[str], path: Path, kind: str = "") -> str | None:
    """Return the first line that names a key, the table that it is in, or its kind."""
    words = [str(part) for part in path]
    dotted = [".".join(words[: depth + 1]) for depth in range(len(words))]
    wanted = [*(re.escape(name) for name in dotted), *([re.escape(repr(kind))] if kind else [])]
    found = re.compile(rf"(?<![\w.])(?:--set |overrides: )?(?:{'|'.join(wanted)})(?!\.?\w)")
    return next((line for line in lines if found.search(line)), None)


@dataclass(frozen=True)
class Found:
    """What was found of a key.

    Attributes:
        what: an effect, a note, a refusal, or nothing.
        why: the note or refusal, or the values that were tried.
    """

    what: str
    why: str = ""


def compare(
    base: Table, path: Path, tried: Sequence[Table], kind: str = "", *, runs: bool = True
) -> Found:
    """Return what other values of the key at `path` do; without runs, whether they load."""
    refused, silent = None, []
    before = read(base).scenario
    plain = ran(base) if runs and before is not None else ""
    for changed in tried:
        outcome = read(changed)
        if before is not None and outcome.scenario == before:
            continue  # what was left out says the same
        if outcome.scenario is None:
            if refused is None or names([refused], path, kind) is None:
                refused = names(outcome.refusal, path, kind) or outcome.refusal[0]
            continue
        if said := names([line for line in outcome.notes if "effect" in line], path, kind):
            return Found(NOTE, said)
        if not runs:
            return Found(EFFECT, "it loads")
        if (result := ran(changed)) != plain and not result.startswith("failed"):
            return Found(EFFECT)
        silent.append(f"{at(changed, path)!r}{' ' + result if result.startswith('failed') else ''}")
    if silent:
        return Found(SILENT, f"tried {', '.join(silent[:6])}")
    if refused is not None and names([refused], path, kind):
        return Found(REFUSAL, refused)
    return Found(UNTRIED, f"refused for something else: {refused}" if refused else "no other value")


# --- the walk -----------------------------------------------------------------------------------


class Walk:
    """A walk over a section of a scenario: every key, every kind of rule, and its options.

    Attributes:
        found: by label, what was found of every key and of every kind of rule.
        used: labels of `helps` without which a key would have no effect.

    Args:
        required: by label of a kind, options that it must have, or that make it small; for all
            places of an axis by its name, as "distributions:uniform".
        helps: by label, settings with which a key has an effect; several are tried in order.
        values: by label, other values of a key where its type does not give them.
        ids: environments that are walked; empty for all.
        is_dry: whether to run nothing, and to take every scenario that loads for another one.
    """

    def __init__(
        self,
        required: Mapping[str, Table],
        helps: Mapping[str, Sequence[Table]],
        values: Mapping[str, Sequence[object]],
        ids: Sequence[str] = (),
        *,
        is_dry: bool = False,
    ) -> None:
        self.found: dict[str, Found] = {}
        self.used: set[str] = set()
        self._required, self._helps, self._own = required, helps, values
        self._is_dry = is_dry
        self._ids = ids or (*ENVIRONMENTS, *OTHER_IDS)

    def section(self, name: str, start: Table) -> None:
        """Walk over one key of the top of a scenario, and all keys below it."""
        full = dumped(start)
        assert full is not None, read(start).refusal
        key = next(key for key in keys(Scenario, full) if key.label == name)
        self._key(key, Scenario, start)

    def _key(self, key: Key, cls: type, table: Table) -> None:
        inner = element(key.info)
        if key.path == ("environment", "id"):
            return  # every environment is walked by its id
        if isinstance(key.slot, EnvironmentSlot):
            for id in self._ids:
                self._environment(key, id, table)
        elif isinstance(key.slot, Rule):
            for kind, member in key.slot.rules().items():
                given = self._table(key.slot, key.label, kind)
                self._member(member, given, key.path, key.label, table)
        elif key.slot is not None:
            self._options(key.slot.cls, f"{key.label}.", key.path, table)
        elif get_origin(key.info.annotation) is dict and inner is not None:
            self._quantities(key, inner, table)
        elif isinstance(inner, Rule):
            for kind, member in inner.rules().items():
                given = self._table(inner, key.label, kind)
                self._member(member, given, key.path, key.label, table)
        elif inner is not None and inner.cls is not int:
            self._member(inner.cls, self._required[key.label], key.path, key.label, table)
        elif key.label == "exchange.payload":
            for kind in PAYLOADS:
                self._leaf(key, cls, table, kind)
        elif get_origin(key.info.annotation) is not Literal or get_args(key.info.annotation)[1:]:
            self._leaf(key, cls, table)

    def _options(self, cls: type, label: str, path: Path, table: Table) -> None:
        """Walk over the options of a rule or section, which is at `path` of a scenario."""
        full = dumped(table)
        assert full is not None, (label, read(table).refusal)
        for key in keys(cls, at(full, path) or {}, path, label):
            self._key(key, cls, table)

    def _table(self, slot: Rule, label: str, kind: str) -> Table:
        """Return the table of a kind of rule, with what it requires."""
        own = (self._required.get(f"{place}:{kind}", {}) for place in (slot.what, label))
        return {"kind": kind} | next(own) | next(own)

    def _environment(self, key: Key, id: str, table: Table) -> None:
        """Try an environment, its options, and the keys beside them."""
        rule = resolve(id).rule
        short = {"max_steps": _STEPS} if "max_steps" in options_of(rule) else {}
        member = {"id": id, "instances": 1} | short | self._required.get(f"{key.label}:{id}", {})
        base = self._member(rule, member, key.path, key.label, table)
        if base is not None:
            for own in keys(OwnKeys, at(dumped(base), key.path), key.path, f"{key.label}:{id}."):
                if own.path[-1] != "id":
                    self._key(own, OwnKeys, base)

    def _quantities(self, key: Key, slot: Slot, table: Table) -> None:
        """Try another value of every physical quantity, and every distribution for one of them."""
        scenario = read(table).scenario
        assert scenario is not None
        assert scenario.environment is not None
        assert isinstance(slot, Rule)
        found = dict(scenario.environment.rule.spec.physics)
        if key.path[-1] == "kwargs_vary":
            found = {"gain": found["gain"]} if isinstance(scenario.environment.rule, Gym) else {}
        for number, (name, usual) in enumerate(found.items()):
            place, label = (*key.path, name), f"{key.label}.{name}"
            own = self._own.get(label, (1.1 * usual, usual + 0.1, 0.5 * usual))
            is_number = "constant" in slot.rules()  # which is a distribution, and no drift
            for number_of, settings in enumerate(({}, *self._helps.get(label, ()))):
                base = merged(table, settings)
                tried = [put(base, place, value) for value in own]
                if is_number and self._note(label, self._compare(base, place, tried)):
                    self.used.update([label] if number_of else [])
                    break
            label = f"{key.label.partition(':')[0]}.{key.path[-1]}"
            for kind, member in slot.rules().items() if not number else ():
                if f"{label}:{kind}" in self.found and self.found[f"{label}:{kind}"].what == EFFECT:
                    continue
                given = self._table(slot, label, kind)
                self._member(member, given, place, label, table)

    def _leaf(self, key: Key, cls: type, table: Table, kind: str = "") -> None:
        """Try other values of a plain option, or this one."""
        label = f"{key.label}:{kind}" if kind else key.label
        for number, settings in enumerate(({}, *self._helps.get(label, ()))):
            base = merged(table, settings)
            full = dumped(base)
            if full is None:
                if kind and read(put(base, key.path, kind)).scenario is not None:
                    self._note(label, Found(EFFECT, f"without it: {read(base).refusal[0]}"))
                    self.used.add(label)
                    return
                continue
            now = replace(key, value=at(full, key.path))
            if kind and kind == now.value:
                self._note(label, Found(EFFECT, "it is there already"))
                return
            whole = at(full, key.path[:-1]) or {}
            values = [kind] if kind else self._own.get(label, ()) or others(now)
            fit = [
                put(full, key.path, value)
                for value in values
                if value != now.value and _is_valid(cls, {**whole, key.path[-1]: value})
            ]
            if self._note(label, self._compare(base, key.path, fit[:_TRIES], kind)):
                self.used.update([label] if number else [])
                return

    def _member(
        self, cls: type, member: Table, path: Path, label: str, table: Table
    ) -> Table | None:
        """Try a rule at a place, or as one more element of a list, and all options of it.

        Returns the scenario with this rule; None if it is always refused.
        """
        kind = member.get("kind", member.get("id", ""))
        own = f"{label}:{kind}" if kind else label
        last: tuple[Table, Path] | None = None
        for number, settings in enumerate(({}, *self._helps.get(own, ()))):
            base = merged(table, settings)
            there = at(base, path)
            is_list = isinstance(there, list) or label in LISTS
            place = (*path, len(there or ())) if is_list else path
            changed = put(base, place, member)
            if read(changed).scenario is None:
                self._note(own, self._compare(base, place, [changed], kind))
                continue
            last = changed, place
            if read(base).scenario is None:
                found = Found(EFFECT, f"without it: {read(base).refusal[0]}")
            elif dumped(base) == dumped(changed):
                found = Found(EFFECT, "it is there already")
            else:
                found = self._compare(base, place, [changed], kind)
            if self._note(own, found):
                self.used.update([own] if number else [])
                break
        if last is None:
            return None
        self._options(cls, f"{own}.", last[1], last[0])
        return last[0]

    def _compare(self, base: Table, path: Path, tried: Sequence[Table], kind: str = "") -> Found:
        """Return what other values of the key at `path` do, in a run or, if dry, when loaded."""
        return compare(base, path, tried, kind, runs=not self._is_dry)

    def _note(self, label: str, found: Found) -> bool:
        """Keep what was found of a key; return whether it is an effect.

        An effect replaces all else, and silence replaces a note or a refusal.
        """
        if label not in self.found or _RANK[found.what] >= _RANK[self.found[label].what]:
            self.found[label] = found
        return found.what == EFFECT


_RANK = {UNTRIED: 0, REFUSAL: 1, NOTE: 2, SILENT: 3, EFFECT: 4}
ENVIRONMENTS = tuple(RULES)
OTHER_IDS = ("Walked-v0",)
"""One of Gymnasium's, in which every option does something."""
gymnasium.register("Walked-v0", entry_point="own_envs:Walked")
LISTS = ("faults", "attacks", "groups", "network.links")
"""Keys that hold lists of rules or sections."""


def _is_valid(cls: type, table: Table) -> bool:
    """Whether a rule alone takes these options."""
    try:
        construct(cls, {name: table[name] for name in options_of(cls) if name in table})
    except ValidationError:
        return False
    return True
