"""A mode is one class that a scenario's checks ask, and one that makes its participants."""

import ast
from pathlib import Path

import pytest

import p2pfrl
from p2pfrl.build.assembly import Assembly
from p2pfrl.build.modes import BUILDERS
from p2pfrl.build.modes.base import CoordinatorLife
from p2pfrl.consensus.topologies.base import TopologyView
from p2pfrl.laws.runs import text
from p2pfrl.scenario import MODES, Scenario, loads

ROOT = Path(p2pfrl.__file__).parent


def scenario(mode: str, agents: int = 5) -> Scenario:
    return loads(text(agents, 2, mode=mode))


def test_every_mode_has_its_builder():
    assert {name: builder.mode for name, builder in BUILDERS.items()} == dict(MODES)
    assert all(name == mode.name for name, mode in MODES.items())


@pytest.mark.parametrize("mode", MODES)
def test_participants_talk_to_those_that_talk_to_them(mode):
    one = scenario(mode)
    near = Assembly(one).neighbors()
    ids = [*range(one.agents), *sorted(one.coordinators)]
    talk = {(i, j) for i in ids for j in near[i]}
    assert talk == {(j, i) for i, j in talk}
    assert bool(talk) == MODES[mode].exchanges
    assert any(i < 0 for i, _ in talk) == MODES[mode].has_coordinator == bool(one.coordinators)
    assert bool(one.edges) == MODES[mode].has_edges


@pytest.mark.parametrize("mode", [name for name in MODES if name != "pooled"])
def test_messages_that_are_announced_are_those_of_a_run(mode):
    one = scenario(mode)
    view = TopologyView(one.topology, one.agents, one.seed)
    announced = BUILDERS[mode]().messages(one, view)
    sent = p2pfrl.run(one).summary["messages_sent"]
    last = sum(map(len, Assembly(one).neighbors())) / 2 if one.coordinators else 0
    assert sent == 2 * announced + last


@pytest.mark.parametrize("mode", [name for name, mode in MODES.items() if not mode.has_coordinator])
def test_a_mode_without_coordinator_makes_none(mode):
    life: CoordinatorLife = None  # type: ignore[assignment]
    with pytest.raises(NotImplementedError, match=f"mode {mode} has no coordinator"):
        BUILDERS[mode]().coordinator(Assembly(scenario(mode)).plan, life)


def test_no_code_compares_the_name_of_a_mode():
    """But the fuzzer: an invariant says in which modes it holds."""
    texts = {
        path: text
        for path in ROOT.rglob("*.py")
        if path.parts[len(ROOT.parts)] != "fuzz"
        and ".mode" in (text := path.read_text(encoding="utf-8"))
        and any(name in text for name in MODES)
    }
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path, text in texts.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Compare)
        and any(isinstance(one, ast.Attribute) and one.attr == "mode" for one in ast.walk(node))
        and any(isinstance(one, ast.Constant) and one.value in MODES for one in ast.walk(node))
    ]
    assert not found
