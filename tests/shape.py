"""The shape of the package, printed and not asserted: what is longer or wider than a reader likes.

`python tests/shape.py` lists functions over 60 lines, classes over 15 attributes, signatures over 8
parameters and files over 400 lines, the largest first. Length is no rule; the list says where to
look first.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import p2pfrl

ROOT = Path(p2pfrl.__file__).parent
LIMITS = {
    "lines of a function": 60,
    "attributes of a class": 15,
    "parameters of a signature": 8,
    "lines of a file": 400,
}
Function = ast.FunctionDef | ast.AsyncFunctionDef


def parameters(function: Function) -> int:
    """Return the number of parameters, apart from `self` and `cls`."""
    given = function.args
    named = [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return len([name for name in named if name not in ("self", "cls")])


def attributes(cls: ast.ClassDef) -> int:
    """Return the number of fields and of what methods assign to `self`.

    Class variables do not count.
    """
    fields = {
        node.target.id
        for node in cls.body
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and not ast.unparse(node.annotation).startswith("ClassVar")
    }
    assigned = {
        node.attr
        for method in cls.body
        if isinstance(method, Function)
        for node in ast.walk(method)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    }
    return len(fields | assigned)


def measures(tree: ast.AST, inside: str = "") -> Iterator[tuple[str, int, str]]:
    """Yield (measure, value, name) of everything in a module."""
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, ast.ClassDef | Function):
            yield from measures(node, inside)
            continue
        name = f"{inside}{node.name}"
        if isinstance(node, ast.ClassDef):
            yield "attributes of a class", attributes(node), name
        else:
            assert node.end_lineno is not None
            yield "lines of a function", node.end_lineno - node.lineno + 1, name
            yield "parameters of a signature", parameters(node), name
        yield from measures(node, f"{name}.")


def report(root: Path = ROOT) -> Iterator[str]:
    """Yield the lines of the report."""
    found: dict[str, list[tuple[int, str]]] = {measure: [] for measure in LIMITS}
    for path in sorted(root.rglob("*.py")):
        source, place = path.read_text(encoding="utf-8"), path.relative_to(root.parent).as_posix()
        found["lines of a file"].append((len(source.splitlines()), place))
        for measure, value, name in measures(ast.parse(source)):
            found[measure].append((value, f"{place}: {name}"))
    for measure, limit in LIMITS.items():
        over = sorted((one for one in found[measure] if one[0] > limit), reverse=True)
        yield f"{measure}: {len(over)} over {limit}"
        yield from (f"  {value:4}  {name}" for value, name in over)


if __name__ == "__main__":
    print("\n".join(report()))
