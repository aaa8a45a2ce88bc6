"""Commands that start fast: they import neither torch nor gymnasium."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from p2pfrl.commands.arguments import DONE, Json, Out, Overrides, Quiet, Seed, Set, show
from p2pfrl.core.errors import P2PFRLError, ScenarioError

if TYPE_CHECKING:
    from p2pfrl.commands.environments import Facts


def validate(
    file: str, *, set: Set = (), seed: Seed = None, json: Json = False, quiet: Quiet = False
) -> int:
    """Check a scenario and predict its cost: parameters, bytes, lambda_2, rounds to consensus.

    What a run in the simulator needs is estimated: memory and disk within a factor of two, time of
    one core roughly. A note says where this machine has less. Environments that are no arrays take
    up to 100 steps, and what they take is shown, too. With --quiet only the exit code shows the
    result.

    Parameters
    ----------
    file
        A scenario file or name.
    """
    with _uncollected():
        from p2pfrl.build.estimate import available, what_is_short
        from p2pfrl.build.pace import pace, what_takes_long, with_environments
        from p2pfrl.build.preview import preview
        from p2pfrl.commands.notes import note
        from p2pfrl.deploy.projection import round_bytes
        from p2pfrl.deploy.thinning import thinning_of
        from p2pfrl.scenario.bind import outline

        scenario = Overrides(set, seed).load(file)
        found = preview(scenario)
        layout = outline(scenario).layout
        own = scenario.agents * round_bytes(layout, found["travels"])
        thinning = thinning_of(scenario, layout)
        if (measured := pace(scenario, tell=note)) is not None:
            found["environments"] = measured
            seconds = found["cpu_seconds_about"]
            found["cpu_seconds_about"] = with_environments(scenario, measured, seconds)
            if what := what_takes_long(scenario, measured):
                note(what)
        found["journal_per_round"] = own
        found["journal_at_most"] = thinning.entries * own
        found["journal_every"] = thinning.stride(0) if scenario.stop.rounds else None
    if json or not quiet:
        show(found, json)
    for what in what_is_short(found, *available(Path())):
        note(what)
    return DONE


@contextmanager
def _uncollected() -> Iterator[None]:
    """Pause the garbage collector, and let it ignore afterwards what the block has imported.

    It would visit modules and classes again and again, which stay until the process ends.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if gc.get_freeze_count() == 0:
            gc.freeze()
        if was_on:
            gc.enable()


def list_(axis: str = "", name: str = "", /, *, json: Json = False) -> int:
    """List the axes, the rules of an axis, or the options of a rule.

    Parameters
    ----------
    axis
        environments, learners, topologies, mixing, ...; sections; recipes; scenarios.
    name
        A rule of the axis, such as watts_strogatz: its options with defaults, units, ranges and an
        example; or a recipe: what it sets.
    """
    from p2pfrl.commands.listing import entries, has_descriptions

    if name:
        return _describe(has_descriptions(axis), name, json)
    found = entries(axis)
    if json:
        show(found, json)
    elif not found:
        print(f"no {axis} yet")
    else:
        width = max((len(entry["name"]) for entry in found), default=0)
        for entry in found:
            print(f"{entry['name']:{width}}  {entry['summary']}")
            if entry["reference"]:
                print(f"{'':{width}}  {entry['reference']}")
    return DONE


def _describe(axis: str, name: str, as_json: bool) -> int:
    from dataclasses import asdict

    from p2pfrl.commands.describing import describe

    found = describe(axis, name)
    if as_json:
        show(asdict(found), as_json=True)
        return DONE
    cited = "" if found.reference in found.text else found.reference
    print("\n".join(filter(None, (found.text, cited))))
    if found.options:
        print()
    for option in found.options:
        default = "required" if option.is_required else f"default {option.default or 'none'}"
        print("  ".join(filter(None, (option.name, option.type, option.unit, default))))
        print(f"    {option.meaning}")
    if found.facts is not None:
        _print_facts(found.facts)
    print(f"\n{found.example}")
    return DONE


def _print_facts(facts: Facts) -> None:
    print("\nwith default options")
    for title, text in facts.lines():
        print(f"{title:11}  {text}")
    for quantity in facts.physics:
        print(f"{'physics':11}  {quantity.name} = {quantity.default:,.10g}, {quantity.span}")


def schema() -> int:
    """Print the JSON schema of scenario files, for editors."""
    from p2pfrl.scenario import schema as describe

    show(describe(), as_json=True)
    return DONE


def new(name: str, *, out: Out = None) -> int:
    """Write a scenario file with comments.

    Parameters
    ----------
    name
        Name of the scenario, with or without .toml; the file is NAME.toml, in the working directory
        or in --out.
    """
    from p2pfrl.core.files import write_file
    from p2pfrl.scenario import new as template

    if out is not None and out.suffix == ".toml" and not out.is_dir():
        raise ScenarioError(
            [
                f"--out {out}: expected a directory, got the name of a scenario; the file is DIRECTORY/{name}.toml"
            ]
        )
    name = name.removesuffix(".toml")
    path = (out or Path()) / f"{name}.toml"
    text = template(name)
    if path.exists():
        raise P2PFRLError(f"{path} exists already; choose another name or --out")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise P2PFRLError(f"{path}: cannot be written: {error.strerror}") from error
    write_file(path, text.encode())
    print(path)
    return DONE
