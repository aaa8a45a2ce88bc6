"""What the layout of the code promises: imports go one way, rules are pure, nothing is pickled."""

import ast
import inspect
import json
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import networkx
import pytest

import p2pfrl
from p2pfrl.catalog import TABLES, table

ROOT = Path(p2pfrl.__file__).parent
MODULES = {
    ".".join(("p2pfrl", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(
        ".__init__"
    ): path
    for path in sorted(ROOT.rglob("*.py"))
}
LAYERS = {
    "core": "",
    "learning": "core",
    "exchange": "core",
    "results": "core",
    "consensus": "core exchange",
    "catalog": "core",
    "agent": "core consensus exchange learning",
    "simulator": "core agent consensus exchange learning",
    "net": "core agent consensus exchange learning",
    "scenario": "core catalog consensus exchange learning simulator",
    "build": "core agent consensus exchange learning results scenario simulator",
    "experiment": "core catalog build consensus exchange learning results scenario simulator",
    "deploy": "core agent build exchange learning net results scenario simulator experiment",
    "laws": "core build consensus exchange experiment learning results scenario simulator",
}
"""Room -> the rooms it may import.

What is not a room is a door: the package, the command line, the benchmarks.
"""
DOORS = "door"
CONTRACTS = (
    "p2pfrl.learning.learners.base",
    "p2pfrl.learning.environments.base",
    "p2pfrl.learning.trainer",
    "p2pfrl.learning.meetings",
    "p2pfrl.learning.model",
    "p2pfrl.learning.corrections.base",
)
"""What simulator, runtime and agent may know of learning: never a learner or an environment."""
PURE = ("agent", "consensus", "exchange")
IMPURE = {
    "asyncio",
    "time",
    "random",
    "threading",
    "socket",
    "multiprocessing",
    "concurrent",
    "datetime",
    "secrets",
}


def dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


@dataclass(frozen=True)
class Facts:
    """What a module does, wherever the statement stands.

    Attributes:
        imports: modules that it imports, also for type checking.
        calls: dotted names that it calls.
        attributes: dotted names of attributes that it reads.
        caught: line and exception of every handler; None for a bare `except`.
    """

    imports: tuple[str, ...]
    calls: frozenset[str]
    attributes: frozenset[str]
    caught: tuple[tuple[int, str | None], ...]


@cache
def facts(name: str) -> Facts:
    imported: list[str] = []
    calls, attributes, caught = set(), set(), []
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} has a relative import"
            base = node.module or ""
            imported += [
                f"{base}.{alias.name}" if f"{base}.{alias.name}" in MODULES else base
                for alias in node.names
            ]
        elif isinstance(node, ast.Call):
            calls.add(dotted(node.func))
        elif isinstance(node, ast.Attribute):
            attributes.add(dotted(node))
        elif isinstance(node, ast.ExceptHandler):
            caught.append((node.lineno, dotted(node.type) if node.type else None))
    return Facts(
        tuple(dict.fromkeys(imported)), frozenset(calls), frozenset(attributes), tuple(caught)
    )


def imports(name: str) -> tuple[str, ...]:
    return facts(name).imports


def layer(name: str) -> str:
    room = name.removeprefix("p2pfrl.").partition(".")[0]
    return room if room in LAYERS else DOORS


def test_the_rooms_are_there():
    assert {layer(name) for name in MODULES} == {*LAYERS, DOORS}
    assert len(LAYERS) <= 14


def test_a_layer_imports_only_layers_above_it_in_the_table():
    above: set[str] = set()
    for name, allowed in LAYERS.items():
        assert above.issuperset(allowed.split()), name
        above.add(name)


def test_imports_go_one_way():
    for name in MODULES:
        own = layer(name)
        allowed = (own, *LAYERS.get(own, "").split())
        for target in imports(name):
            if own != DOORS and target.startswith("p2pfrl"):
                assert layer(target) in allowed, f"{name} imports {target}"


def test_agent_and_world_know_the_contracts_of_learning_and_no_member():
    names = [name for name in MODULES if layer(name) in ("agent", "simulator", "net")]
    assert len(names) > 20
    for name in names:
        for target in imports(name):
            if target.startswith("p2pfrl.learning"):
                assert target in CONTRACTS, f"{name} imports {target}"


@pytest.mark.parametrize("axis", ["topologies", "mixing"])
def test_members_of_other_rooms_are_reached_through_their_contract(axis):
    members = {
        name
        for name in MODULES
        if name.startswith(f"p2pfrl.consensus.{axis}.")
        and not name.endswith((".base", ".file", ".graphml", ".order"))
    }
    assert members
    for name in MODULES:
        if layer(name) in ("agent", "simulator", "net", "exchange", "learning", "core"):
            assert not members & set(imports(name)), name


RULES = {(axis, kind): member for axis in TABLES for kind, member in table(axis).items()}


def test_a_rule_knows_no_member_of_another_axis():
    axes: dict[str, set[str]] = {}
    for (axis, _), member in RULES.items():
        if not member.__module__.endswith(".base") and layer(member.__module__) != "core":
            axes.setdefault(member.__module__, set()).add(axis)
    assert len(axes) > 60
    for name, own in axes.items():
        for target in imports(name):
            assert own & axes.get(target, own), f"{name} imports {target}"


def test_a_rule_is_about_eighty_lines_at_most_beside_its_docstrings():
    for (axis, kind), member in RULES.items():
        if axis == "environments":
            continue
        lines, _ = inspect.getsourcelines(member)
        length = sum(bool(line.strip()) for line in lines)
        for node in ast.walk(ast.parse(textwrap.dedent("".join(lines)))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and (
                text := ast.get_docstring(node, clean=False)
            ):
                length -= sum(bool(line.strip()) for line in text.splitlines())
        assert length <= 80, f"{axis}: {kind}"


def test_agents_schedules_and_rules_read_no_clock_start_no_thread_and_draw_nothing_global():
    names = [name for name in MODULES if layer(name) in PURE]
    assert len(names) > 60
    for name in names:
        for target in imports(name):
            assert target.partition(".")[0] not in IMPURE, f"{name} imports {target}"


def test_nothing_is_pickled():
    forbidden = {"pickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}
    loaders = {"torch.load", "torch.save", "np.load", "numpy.load", "eval", "exec"}
    for name in MODULES:
        assert not {target.partition(".")[0] for target in imports(name)} & forbidden, name
        assert not facts(name).calls & loaders, name


SEEDING = "p2pfrl.learning.learners.seeding"
"""Seeds global generators for what users and other libraries wrote, and puts them back."""


def test_no_global_randomness():
    allowed = ("np.random.Generator", "np.random.PCG64", "np.random.SeedSequence")
    for name in MODULES:
        if name == SEEDING or name.startswith(("p2pfrl.bench.", "p2pfrl.laws.")):
            continue
        assert "random" not in imports(name), name
        for full in facts(name).attributes:
            if full.startswith("np.random."):
                assert full in allowed, f"{name} uses {full}"
            assert not full.startswith(("torch.manual_seed", "torch.rand")), f"{name} uses {full}"


def test_no_exception_is_caught_without_a_name():
    for name in MODULES:
        for line, caught in facts(name).caught:
            assert caught not in (None, "Exception", "BaseException"), f"{name}:{line}"


def test_loading_and_validating_imports_nothing_heavy():
    program = """
import json, sys
import p2pfrl
p2pfrl.load(sys.argv[1])
heavy = ("torch", "gymnasium", "matplotlib", "scipy", "pandas", "cryptography")
print(json.dumps([name for name in heavy if name in sys.modules]))
"""
    scenario = ROOT.parent / "scenarios" / "ring_16.toml"
    if not scenario.exists():
        scenario = ROOT / "data" / "scenarios" / "ring_16.toml"
    done = subprocess.run(
        [sys.executable, "-c", program, str(scenario)], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == []


def test_no_modules_import_each_other_in_a_circle():
    graph = networkx.DiGraph((name, target) for name in MODULES for target in imports(name))
    circles = [sorted(found) for found in networkx.strongly_connected_components(graph)]
    assert [found for found in circles if len(found) > 1] == []
