"""Generated parts of the documentation: tables of sections, rules and laws.

They are made from the package when the documentation is built.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from p2pfrl.catalog import TABLES, table
from p2pfrl.commands.describing import describe
from p2pfrl.commands.listing import entries
from p2pfrl.core.docs import attributes, reference, summary
from p2pfrl.core.options import Rule
from p2pfrl.laws import laws
from p2pfrl.scenario import hierarchy, sections
from p2pfrl.scenario.environment import EnvironmentSection
from p2pfrl.scenario.groups import Group
from p2pfrl.scenario.start import Start

_SECTIONS = {
    "start": Start,
    "stop": sections.Stop,
    "environment": EnvironmentSection,
    "exchange": sections.Exchange,
    "coordinator": sections.Coordinator,
    "hierarchy": hierarchy.Hierarchy,
    "network": sections.Network,
    "compute": sections.Compute,
    "availability": sections.Availability,
    "evaluation": sections.Evaluation,
    "checkpoint": sections.Checkpoint,
    "groups": Group,
}
_RULES = {
    "learner": "learners",
    "schedule": "schedules",
    "topology": "topologies",
    "mixing": "mixing",
    "correction": "corrections",
    "personal": "personal",
    "gate": "gates",
    "compressor": "compressors",
    "privacy": "privacy",
    "secure": "secure",
    "faults": "faults",
}


_GENERATED = re.compile(r"<!-- generate: (\w+) -->.*?<!-- end -->", re.DOTALL)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace what stands between `<!-- generate: NAME -->` and `<!-- end -->`.

    Who reads the file itself finds there how to print what NAME generates.
    """
    return _GENERATED.sub(lambda match: _GENERATE[match[1]](), markdown)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _type(annotation: Any) -> str:
    """Return a type as one writes it, without what `Annotated` adds."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        rule = next((part for part in parts if isinstance(part, Rule)), None)
        return _type(parts[0]) if rule is None else _rules_of(rule)
    if annotation is type(None):
        return "None"
    if origin in (Union, UnionType):
        return " | ".join(dict.fromkeys(map(_type, parts)))
    if origin is Literal:
        return " or ".join(f'"{value}"' for value in parts)
    if origin is None:
        return "..." if annotation is ... else str(getattr(annotation, "__name__", annotation))
    return f"{origin.__name__}[{', '.join(map(_type, parts))}]"


def _rules_of(rule: Rule) -> str:
    """Return what the rules of an option are called: a link to their axis, or else their kinds."""
    kinds = set(rule.rules())
    axes = [axis for axis in TABLES if axis == rule.what or (kinds and kinds <= set(table(axis)))]
    if not axes:
        return f"rule: {rule.what}" + (f" ({', '.join(rule.rules())})" if kinds else "")
    return f"rule: [{rule.what}](options.md#{axes[0]})"


def _default(value: Any) -> str:
    if repr(value) == "PydanticUndefined":
        return ""
    return _cell(f"`{value!r}`")


def _options(cls: type) -> str:
    """Return the table of the options of a section or rule."""
    meanings, known = attributes(cls), getattr(cls, "__pydantic_fields__", {})
    hints = get_type_hints(cls, include_extras=True)
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for field in dataclasses.fields(cls):
        info = known.get(field.name)
        name = "from" if field.name == "from_" else field.name
        default = "" if info is None or info.default_factory else _default(info.default)
        kind = "" if info is None else _cell(_type(hints[field.name]))
        rows.append(f"| `{name}` | {kind} | {default} | {_cell(meanings.get(field.name, ''))} |")
    return "\n".join(rows) if len(rows) > 2 else "No options."


def _scenario() -> str:
    parts = ["## The file itself\n", _options(sections.Scenario)]
    for name, cls in _SECTIONS.items():
        title = f"[[{name}]]" if name == "groups" else f"[{name}]"
        parts.append(f"\n## `{title}`\n\n{summary(cls.__doc__)}\n\n{_options(cls)}")
    for name, axis in _RULES.items():
        title = f"[[{name}]]" if name == "faults" else f"[{name}]"
        kinds = ", ".join(f"[`{kind}`](options.md#{axis}-{kind})" for kind in table(axis))
        parts.append(f"\n## `{title}`\n\n`kind` is one of {kinds}; its options stand beside it.")
    return "\n".join(parts)


def _rules() -> str:
    parts = []
    for axis in TABLES:
        parts.append(f"\n## {axis}\n")
        for kind, cls in table(axis).items():
            if not dataclasses.is_dataclass(cls):
                continue
            paper = reference(cls.__doc__)
            parts.append(f"\n### {kind} {{ #{axis}-{kind} }}\n\n{_cell(summary(cls.__doc__))}\n")
            parts.append(f"\n*{_cell(paper)}*\n" if paper else "")
            parts.append(_options(cls))
    return "\n".join(parts)


def _laws() -> str:
    rows = ["| law | it states | source |", "|---|---|---|"]
    rows += [
        f"| `{name}` | {_cell(law.title)} | {_cell(law.source)} |" for name, law in laws().items()
    ]
    return "\n".join(rows)


def _recipes() -> str:
    rows = ["| recipe | what it is | reference |", "|---|---|---|"]
    rows += [
        f"| `{entry['name']}` | {_cell(entry['summary'])} | {_cell(entry['reference'])} |"
        for entry in entries("recipes")
    ]
    return "\n".join(rows)


def _environments() -> str:
    parts = []
    for name in table("environments"):
        found = describe("environments", name)
        assert found.facts is not None
        text = "\n\n".join(map(_prose, found.text.split("\n")))
        parts.append(f"\n### {name} {{ #environment-{name} }}\n\n{text}\n")
        if found.reference and found.reference not in found.text:
            parts.append(f"\n*{_prose(found.reference)}*\n")
        parts += [f"\n![{name}]({picture})\n" for picture in _pictures(name)]
        parts.append("\n| with default options | |\n|---|---|")
        parts += [f"| {title} | {_cell(text)} |" for title, text in found.facts.lines()]
        parts.append("\n| physics | default | range |\n|---|---|---|")
        parts += [f"| `{q.name}` | {q.default:,.10g} | {q.span} |" for q in found.facts.physics]
        parts.append(f"\n{_options(table('environments')[name])}\n")
        parts.append(f"\n```toml\n{found.example}\n```\n")
        parts += [
            f"\n```sh\np2pfrl scenario {file}.toml\n```\n" for file in found.facts.scenarios[:1]
        ]
    return "\n".join(parts)


def _prose(text: str) -> str:
    """Return text in which formulas are not read as marks; what stands in backticks stays."""
    parts = " ".join(text.split()).split("`")
    parts[::2] = [re.sub(r"([*_<|])", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts)


def _pictures(name: str) -> list[str]:
    """Return the pictures of an environment beside the pages."""
    names = (f"worlds_{name}.png", f"{name}.gif")
    return [file for file in names if (Path(__file__).parent / file).exists()]


_GENERATE = {
    "environments": _environments,
    "scenario": _scenario,
    "rules": _rules,
    "laws": _laws,
    "recipes": _recipes,
    "nothing": str,  # the page is complete when it is built
}
