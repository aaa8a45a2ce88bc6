"""Loader of scenario files: it returns a `Scenario` or raises all problems with their places."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from p2pfrl.core.arguments import File, Overrides, checked_call
from p2pfrl.core.causes import cause, foreign, is_of_user
from p2pfrl.core.errors import P2PFRLError, ScenarioError, ScenarioWarning
from p2pfrl.core.finder import is_file
from p2pfrl.core.located import Located
from p2pfrl.core.modules import look_in
from p2pfrl.core.options import construct
from p2pfrl.core.problems import phrase
from p2pfrl.core.tables import KeyPath, walk
from p2pfrl.scenario.checks.facts import Problem
from p2pfrl.scenario.checks.sections import check
from p2pfrl.scenario.layers import Layers, read, read_text
from p2pfrl.scenario.sections import Scenario


@checked_call
def load(path: File, overrides: Overrides | None = None) -> Scenario:
    """Return the scenario of a file.

    Args:
        path: searched as a path, in ./scenarios, and in the package's scenarios; ".toml" is
            optional.
        overrides: values by dotted key, such as {"stop.rounds": 20}; None removes a key.

    Raises:
        ScenarioError: with every problem and its file:line:column.
    """
    layers = _read(path, overrides)
    for module in _modules(layers.values):
        look_in(Path(layers.main).parent, module)
    return _noted(layers)


def load_recorded(path: str | Path) -> Scenario:
    """Return the scenario in a run directory.

    No module of the directory is imported, since it may come from somebody else.

    Raises:
        ScenarioError: as `load`.
    """
    return _noted(_read(path, None))


def _read(path: str | Path, overrides: Mapping[str, object] | None) -> Layers:
    layers = read(path, overrides)
    layers.values.setdefault("name", Path(str(path)).stem)
    return layers


def _modules(values: Mapping[str, object]) -> Iterator[str]:
    """Yield the modules that a scenario names: "module:Class" of a rule or an environment."""
    for path, value in walk(values):
        if (
            path
            and path[-1] in ("kind", "id", "payload")
            and isinstance(value, str)
            and ":" in value
        ):
            yield value.partition(":")[0]


@checked_call
def loads(
    text: str | bytes, overrides: Overrides | None = None, source: str = "<text>"
) -> Scenario:
    """Return the scenario of a TOML text.

    Raises:
        ScenarioError: with every problem and its line and column.
    """
    content = text.encode(errors="surrogatepass") if isinstance(text, str) else text
    return _noted(read_text(content, source, overrides))


def _noted(layers: Layers) -> Scenario:
    """Return the scenario of layers, and warn of every option that has no effect."""
    scenario = validate(layers)
    for note in layers.notes():
        warnings.warn(note, ScenarioWarning, stacklevel=4)
    return scenario


def validate(layers: Layers) -> Scenario:
    """Return the scenario that layers describe.

    Raises:
        ScenarioError: with every problem and its place.
    """
    try:
        scenario = construct(Scenario, layers.values)
    except ValidationError as error:
        problems: list[Problem] = _joined(
            (_path(layers.values, detail["loc"]), phrase(detail))
            for detail in error.errors(include_url=False)
        )
    else:
        _locate(scenario, layers)
        problems = _checked(scenario, layers)
        if not problems:
            return scenario
    # Here, and not where it is caught, so that the other error is not shown with it.
    raise layers.say(_explained(layers, problems))


def _joined(problems: Iterable[Problem]) -> list[Problem]:
    """Return problems with one line for a key that may have values of several types.

    >>> _joined([((), "must be above 0, got 0"), ((), "must be at least 1, got 0")])
    [((), 'must be above 0 or at least 1, got 0')]
    """
    lines: dict[KeyPath, list[str]] = {}
    for path, message in problems:
        if message not in lines.setdefault(path, []):
            lines[path].append(message)
    return [
        (path, line)
        for path, several in lines.items()
        for line in ([_one_of(several)] if _are_alike(several) else several)
    ]


_STATED = re.compile(r"(must be |expected )(.+?)(, got .+)", re.DOTALL)


def _are_alike(messages: Sequence[str]) -> bool:
    """Whether messages say what else a single value should have been."""
    found = [_STATED.fullmatch(message) for message in messages]
    return len(found) > 1 and all(match and match[3] == found[0][3] for match in found)  # type: ignore[index]


def _one_of(messages: Sequence[str]) -> str:
    """Return the message that a value should have been one of several things.

    >>> _one_of(["must be at least 0, got -2", "expected a list, got -2"])
    'expected a number that is at least 0 or a list, got -2'
    """
    found = [match for message in messages if (match := _STATED.fullmatch(message))]
    verb = found[0][1] if len({match[1] for match in found}) == 1 else "expected "
    wanted = [match[2] if match[1] == verb else f"a number that is {match[2]}" for match in found]
    return f"{verb}{' or '.join(wanted)}{found[0][3]}"


def _locate(scenario: Scenario, layers: Layers) -> None:
    """Let every rule that names files know the folder of the file that has its key."""
    section = scenario.environment
    named: dict[KeyPath, object] = {
        ("topology", "path"): scenario.topology,
        ("availability", "trace"): scenario.availability,
        ("start",): scenario.start,
        ("learner", "policy"): getattr(scenario.learner, "policy", None),
        ("environment", "kwargs"): None if section is None else section.rule,
    }
    drifts = {} if section is None else section.drift
    named |= {("environment", "drift", name, "path"): drift for name, drift in drifts.items()}
    for path, rule in named.items():
        source = Path(layers.place(path)[0])
        source = source if is_file(source) else Path(layers.main)
        if isinstance(rule, Located):
            rule.locate(source.parent if is_file(source) else None)


def _checked(scenario: Scenario, layers: Layers) -> list[Problem]:
    """Return all problems of a scenario.

    Raises:
        ScenarioError: a rule or environment of the user's own raised an error.
    """
    try:
        return check(scenario)
    except P2PFRLError:
        raise
    except foreign() as error:
        if not is_of_user(error):
            raise
        message = f"{layers.main}: a rule or environment of your own failed: {cause(error)}"
        raise ScenarioError([message]) from error


def _explained(layers: Layers, problems: Sequence[Problem]) -> Iterator[Problem]:
    """Yield problems; those of keys that were written for another environment say so."""
    for path, message in problems:
        is_left = path[:1] == ("environment",) and not _has(layers.documents[0].values, path)
        if layers.moved is not None and is_left and path != ("environment", "id"):
            earlier, name = layers.moved
            message += (
                f"; it is there for {earlier!r}, and the environment is now {name!r}: remove the key, "
                "or begin anew with environment={}"
            )
        yield path, message


def _has(values: object, path: KeyPath) -> bool:
    """Whether values have something at a key path."""
    for part in path:
        if (child := _child(values, part)) is None:
            return False
        values = child
    return True


def _path(values: object, loc: Sequence[str | int]) -> tuple[str | int, ...]:
    """Return the key path of a location in pydantic's errors, without union members."""
    path: list[str | int] = []
    for position, part in enumerate(loc):
        child = _child(values, part)
        if child is not None:
            values = child
        elif position < len(loc) - 1 or not isinstance(values, dict):
            continue
        path.append(part)
    return tuple(path)


def _child(values: object, part: str | int) -> object | None:
    if isinstance(values, dict):
        return values.get(part)
    return (
        values[part]
        if isinstance(values, list) and isinstance(part, int) and part < len(values)
        else None
    )
