"""What the layout of the code promises: imports go one way, rules are pure, nothing is pickled."""

import ast
import inspect
import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator
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
    "experiment": "core build results scenario simulator consensus",
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


@cache
def imports(name: str) -> tuple[str, ...]:
    """Return all modules that `name` imports, wherever the statement stands.

    Imports for type checking are included.
    """
    found: list[str] = []
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} has a relative import"
            base = node.module or ""
            found += [
                f"{base}.{alias.name}" if f"{base}.{alias.name}" in MODULES else base
                for alias in node.names
            ]
    return tuple(dict.fromkeys(found))


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


@pytest.mark.parametrize("name", [name for name in MODULES if layer(name) != DOORS])
def test_imports_go_one_way(name):
    own = layer(name)
    for target in imports(name):
        if target.startswith("p2pfrl"):
            assert layer(target) in (own, *LAYERS[own].split()), f"{name} imports {target}"


@pytest.mark.parametrize(
    "name", [name for name in MODULES if layer(name) in ("agent", "simulator", "net")]
)
def test_agent_and_world_know_the_contracts_of_learning_and_no_member(name):
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


@pytest.mark.parametrize(("axis", "kind"), [key for key in RULES if key[0] != "environments"])
def test_a_rule_is_about_eighty_lines_at_most_beside_its_docstrings(axis, kind):
    lines, _ = inspect.getsourcelines(RULES[axis, kind])
    length = sum(bool(line.strip()) for line in lines)
    for node in ast.walk(ast.parse(textwrap.dedent("".join(lines)))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and (
            text := ast.get_docstring(node, clean=False)
        ):
            length -= sum(bool(line.strip()) for line in text.splitlines())
    assert length <= 80


@pytest.mark.parametrize("name", [name for name in MODULES if layer(name) in PURE])
def test_agents_schedules_and_rules_read_no_clock_start_no_thread_and_draw_nothing_global(name):
    for target in imports(name):
        assert target.partition(".")[0] not in IMPURE, f"{name} imports {target}"


def nodes(name: str) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8")))


def dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


@pytest.mark.parametrize("name", MODULES)
def test_nothing_is_pickled(name):
    forbidden = {"pickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}
    assert not {target.partition(".")[0] for target in imports(name)} & forbidden
    calls = {dotted(node.func) for node in nodes(name) if isinstance(node, ast.Call)}
    assert not calls & {"torch.load", "torch.save", "np.load", "numpy.load", "eval", "exec"}


@pytest.mark.parametrize(
    "name", [name for name in MODULES if not name.startswith(("p2pfrl.bench.", "p2pfrl.laws."))]
)
def test_no_global_randomness(name):
    assert "random" not in imports(name)
    allowed = ("np.random.Generator", "np.random.PCG64", "np.random.SeedSequence")
    for node in nodes(name):
        if isinstance(node, ast.Attribute):
            full = dotted(node)
            if full.startswith("np.random."):
                assert full in allowed, f"{name} uses {full}"
            assert not full.startswith(("torch.manual_seed", "torch.rand")), f"{name} uses {full}"


@pytest.mark.parametrize("name", MODULES)
def test_no_exception_is_caught_without_a_name(name):
    for node in nodes(name):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"{name}:{node.lineno}"
            assert dotted(node.type) not in ("Exception", "BaseException"), f"{name}:{node.lineno}"


def test_loading_and_validating_imports_nothing_heavy():
    program = """
import json, sys
import p2pfrl
p2pfrl.load(sys.argv[1])
print(json.dumps([name for name in ("torch", "gymnasium", "matplotlib", "scipy", "pandas") if name in sys.modules]))
"""
    scenario = ROOT.parent / "scenarios" / "ring_16.toml"
    if not scenario.exists():
        scenario = ROOT / "data" / "scenarios" / "ring_16.toml"
    done = subprocess.run(
        [sys.executable, "-c", program, str(scenario)], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == []


@pytest.mark.parametrize(
    "arguments", [["--help"], ["list", "learners"], ["validate", "ring_16.toml"]]
)
def test_the_first_answers_of_the_command_line_import_nothing_heavy(arguments):
    program = f"""
import sys
sys.argv = ["p2pfrl", *{arguments!r}]
from p2pfrl.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
heavy = [name for name in ("torch", "gymnasium", "matplotlib", "scipy") if name in sys.modules]
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)


def test_no_modules_import_each_other_in_a_circle():
    graph = networkx.DiGraph((name, target) for name in MODULES for target in imports(name))
    circles = [sorted(found) for found in networkx.strongly_connected_components(graph)]
    assert [found for found in circles if len(found) > 1] == []
