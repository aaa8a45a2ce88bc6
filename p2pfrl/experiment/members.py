"""Members of a comparison: files, recipes, modes and settings in every combination."""

from __future__ import annotations

import itertools
import re
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Any

from p2pfrl.core.arguments import Kind
from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.tables import leaves
from p2pfrl.core.wording import did_you_mean, show
from p2pfrl.scenario.find import recipes as known_recipes
from p2pfrl.scenario.layers import read

SEEDS: Sequence[int] = range(5)
"""Seeds of a series of runs, if nothing is said."""
Settings = Annotated[
    Mapping[str, Any], Kind('values by dotted key, such as {"learner.lr": [0.1, 0.2]}')
]
"""Several values of keys; `grid` says which of them are no lists."""
_OF_FILE = ("topology", "learner", "environment")
"""Sections of a recipe that give way to those of the file: who learns what, and who is near."""


@dataclass(frozen=True)
class Member:
    """One of what is compared: a scenario file with settings, run with every seed.

    Attributes:
        label: what tells it apart from the other members, such as "fedavg" or "ring_16 · gossip".
        task: the part of the label that is the file, if members differ in more than the file.
        algorithm: the rest of the label.
        scenario: the file.
        overrides: values by dotted key.
        folder: start of the names of its run directories.
        recipe: the recipe that takes the place of the file's own, "" for none.
        of_recipe: the keys in `overrides` that are those of the recipe.
    """

    label: str
    task: str
    algorithm: str
    scenario: str
    overrides: Mapping[str, object] = field(hash=False)
    folder: str
    recipe: str = ""
    of_recipe: tuple[str, ...] = ()


def members(
    files: Sequence[str | Path],
    modes: Sequence[str] = (),
    recipes: Sequence[str] = (),
    settings: Mapping[str, Sequence[object]] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> tuple[Member, ...]:
    """Return every combination of files, recipes, modes and values; values vary fastest.

    A recipe takes the place of one that the file extends. Its keys win over the file's, except
    those of `topology`, `learner` and `environment`, which the file keeps; `settings` and
    `overrides` win over both.

    Args:
        files: files or names of scenarios.
        modes: modes; none for that of each file or recipe.
        recipes: names of recipes.
        settings: values by dotted key.
        overrides: further values by dotted key, the same for all members.

    Raises:
        P2PFRLError: two are the same scenario, or there is none.
        ScenarioError: there is no such recipe or file.
    """
    settings = settings or {}
    for what, values in (("files", files), ("modes", modes), ("recipes", recipes)):
        if len({str(value) for value in values}) != len(values):
            raise ScenarioError([f"{what}: expected different {what}, one of them is given twice"])
    if not files:
        raise ScenarioError(["files: expected at least one scenario file or name"])
    known = known_recipes()
    for name in recipes:
        if name not in known:
            raise ScenarioError(
                [f"recipes: there is no recipe {show(name)}{did_you_mean(name, known)}"]
            )
    names = dict(zip(map(str, files), _shortest([Path(str(file)) for file in files]), strict=True))
    words = dict(zip(settings, last_words([*settings]), strict=True))
    points = grid(settings)
    found = []
    some_recipes: Sequence[str | None] = recipes or (None,)
    some_modes: Sequence[str | None] = modes or (None,)
    for file, recipe, mode, point in itertools.product(names, some_recipes, some_modes, points):
        given = {**(overrides or {}), **point, **({} if mode is None else {"mode": mode})}
        own = {} if recipe is None else _of_recipe(recipe, file, given)
        parts = [str(recipe)] if len(recipes) > 1 else []
        parts += [str(mode)] if len(modes) > 1 else []
        parts += [f"{words[key]} {_text(value)}" for key, value in point.items()]
        if len(files) > 1 and parts:
            task, algorithm, label = (
                names[file],
                " · ".join(parts),
                " · ".join([names[file], *parts]),
            )
        else:
            task, algorithm = "", " · ".join(parts)
            label = algorithm or (names[file] if len(files) > 1 else recipe or mode or names[file])
        folder, of_recipe = _folder(label), tuple(key for key in own if key not in given)
        member = Member(
            label, task, algorithm, file, {**own, **given}, folder, recipe or "", of_recipe
        )
        found.append(member)
    return tuple(found)


def grid(settings: Mapping[str, Sequence[object]]) -> tuple[dict[str, object], ...]:
    """Return every combination of values; the last key varies fastest.

    >>> grid({"learner.hidden": [[8], [16, 16]], "agents": [4]})
    ({'learner.hidden': [8], 'agents': 4}, {'learner.hidden': [16, 16], 'agents': 4})

    Raises:
        ScenarioError: the values of a key are no list, or none.
    """
    for key, values in settings.items():
        if isinstance(values, str | Mapping) or not hasattr(values, "__len__"):
            raise ScenarioError([f"settings: {key}: expected a list of values, got {values!r}"])
        if not len(values):
            raise ScenarioError([f"settings: {key}: expected at least one value"])
    return tuple(
        dict(zip(settings, values, strict=True)) for values in itertools.product(*settings.values())
    )


def refuse_doubled(
    settings: Mapping[str, object],
    overrides: Mapping[str, object] | None,
    *,
    has_modes: bool = False,
) -> None:
    """Refuse keys of a series that something else sets for every run: they would have no effect.

    Raises:
        ScenarioError: both have a key, one has the seed, or the mode of runs in several modes.
    """
    problems = []
    for what, keys in (("settings", settings), ("overrides", overrides or {})):
        if "seed" in keys:
            problems.append(
                f"{what}: seed: runs have the seeds of their series; give seeds (--seeds) in its place"
            )
        if "mode" in keys and has_modes:
            problems.append(
                f"{what}: mode: runs have the modes of their series; give modes (--modes) in its place"
            )
    both = [key for key in settings if key in (overrides or {})]
    problems += [f"overrides: {key}: settings have it, too; give it once" for key in both]
    if problems:
        raise ScenarioError(problems)


def _of_recipe(recipe: str, file: str, given: Mapping[str, object]) -> dict[str, object]:
    """Return overrides that put a recipe in the place of one that the file extends."""
    known = known_recipes()
    document = read(file).documents[0].values
    extended = document.get("extends")
    found: dict[str, object] = {}
    if extended is None or extended in known:
        found["extends"] = recipe
    values = tomllib.loads(known[recipe].read_text(encoding="utf-8"))
    for key, value in leaves(values):
        is_of_file = key.partition(".")[0] in _OF_FILE
        is_given = any(
            key == other or key.startswith(f"{other}.") or other.startswith(f"{key}.")
            for other in given
        )
        if not is_of_file and not is_given:
            found[key] = value
    return found


def _shortest(paths: Sequence[Path]) -> list[str]:
    """Return the stems of files, with as many of their folders as tell them apart.

    >>> _shortest([Path("a/x.toml"), Path("b/x.toml")])
    ['a/x', 'b/x']
    """
    parts = [(*path.parent.parts, path.stem) for path in paths]
    deepest = max(map(len, parts), default=1)
    for count in range(1, deepest + 1):
        found = ["/".join(each[-count:]) for each in parts]
        if len(set(found)) == len(found):
            return found
    return [str(path) for path in paths]


def last_words(keys: Sequence[str]) -> list[str]:
    """Return the last words of keys, or the whole key where two have the same.

    >>> last_words(["learner.lr", "topology.kind", "mixing.kind"])
    ['lr', 'topology', 'mixing']
    """
    shown = [key.removesuffix(".kind") for key in keys]
    last = [key.rpartition(".")[2] for key in shown]
    counts = Counter(last)
    return [word if counts[word] == 1 else key for word, key in zip(last, shown, strict=True)]


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _folder(label: str) -> str:
    """Return a name for directories that is the label, or has a digest of it."""
    if re.fullmatch(r"[A-Za-z0-9.+_-]{1,80}", label):
        return label
    name = re.sub(r"[^A-Za-z0-9.+-]+", "-", label).strip("-.")[:80]
    return f"{name}-{blake2b(label.encode(), digest_size=3).hexdigest()}"
