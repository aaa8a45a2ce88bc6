"""Rules of a user: how they are given, what the record says of them, and who can run it again."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

import p2pfrl
from p2pfrl.core.errors import ScenarioError
from p2pfrl.scenario import resolved
from p2pfrl.scenario.sources import sources

SCENARIO = """
name = "own"
agents = 4
[stop]
rounds = 3
[learner]
kind = "quadratic"
dimension = 3
initial_spread = 1.0
"""


@pytest.fixture(autouse=True)
def _found(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def own():
    import own_rules

    return own_rules


def test_the_record_names_rule_options_and_module_and_verify_imports_it(tmp_path):
    scenario = p2pfrl.loads(SCENARIO)
    record = p2pfrl.run(scenario, mixing=own().Clipped(radius=0.1), out=tmp_path / "a")
    text = (tmp_path / "a" / "scenario.toml").read_text()
    assert 'kind = "own_rules:Clipped"\non_loss = "fold"\nradius = 0.1\n' in text
    assert record.scenario == text
    verdict = p2pfrl.verify(tmp_path / "a")
    assert verdict.is_equal
    plain = p2pfrl.run(scenario)
    assert plain.summary["digest"] != record.summary["digest"]


def test_verify_says_which_rule_it_cannot_import_and_takes_it_from_python(tmp_path, monkeypatch):
    rule = own().Clipped(radius=0.1)
    p2pfrl.run(p2pfrl.loads(SCENARIO), mixing=rule, out=tmp_path / "a")
    monkeypatch.delitem(sys.modules, "own_rules")
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p != str(Path(__file__).parent)])
    with pytest.raises(ScenarioError) as caught:
        p2pfrl.verify(tmp_path / "a")
    (problem,) = caught.value.problems
    assert "mixing.kind: 'own_rules:Clipped' cannot be imported: No module named" in problem
    assert p2pfrl.verify(tmp_path / "a", mixing=rule).is_equal


def test_rules_of_every_axis_and_environments_are_named_in_files(tmp_path):
    scenario = p2pfrl.loads(SCENARIO)
    gated = p2pfrl.run(replace(scenario, gate=own().Alternate()), out=tmp_path / "a")
    assert p2pfrl.verify(tmp_path / "a").is_equal
    named = p2pfrl.loads(SCENARIO + '[gate]\nkind = "own_rules:Alternate"\n')
    assert p2pfrl.run(named).summary["digest"] == gated.summary["digest"]
    text = SCENARIO.replace('"quadratic"\ndimension = 3\ninitial_spread = 1.0', '"reinforce"') + (
        '[environment]\nid = "own_rules:Point"\nsize = 0.5\n[environment.vary]\n'
        "push = [0.1, 0.2, 0.3, 0.4]\n[evaluation]\nepisodes = 0\n"
    )
    scenario = p2pfrl.loads(text)
    assert scenario.environment.rule == own().Point(size=0.5)
    assert p2pfrl.loads(resolved(scenario)) == scenario
    p2pfrl.run(scenario, out=tmp_path / "b")
    assert p2pfrl.verify(tmp_path / "b").is_equal


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("nowhere:Clipped", "'nowhere:Clipped' cannot be imported: No module named 'nowhere'"),
        (
            "own_rules:Cliped",
            "own_rules has no class Cliped; it has Alternate, Clipped, Doubled, Point",
        ),
        ("own_rules:np", "'own_rules:np' is no class"),
        ("own_rules:Alternate", "is no Mixing, the contract of mixing"),
        ("builtins:dict", "is no Mixing"),
        ("own_rules.Clipped", "no 'own_rules.Clipped' among mixing"),
        ("__main__:Nothing", "was defined in a script or notebook"),
        ("../evil:X", "no '../evil:X' among mixing"),
    ],
)
def test_a_name_that_is_no_rule_is_refused(kind, message):
    with pytest.raises(ScenarioError) as caught:
        p2pfrl.loads(SCENARIO, {"mixing.kind": kind})
    (problem,) = caught.value.problems
    assert problem.startswith("overrides: mixing.kind: ")
    assert message in problem


def test_a_payload_of_ones_own_is_named_in_a_file_and_verify_imports_it(tmp_path):
    p2pfrl.check_payload(own().Doubled())
    text = SCENARIO + '[exchange]\npayload = "own_rules:Doubled"\n'
    scenario = p2pfrl.loads(text, {"mode": "central"})
    record = p2pfrl.run(scenario, out=tmp_path / "a")
    assert 'payload = "own_rules:Doubled"' in record.scenario
    assert p2pfrl.verify(tmp_path / "a").is_equal
    plain = p2pfrl.run(p2pfrl.loads(SCENARIO, {"mode": "central"}))
    assert record.parameters == pytest.approx(plain.parameters)
    assert any(name.startswith("module own_rules") for name in sources(scenario))


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ("nowhere:P", "'nowhere:P' cannot be imported: No module named 'nowhere'"),
        ("own_rules:Nope", "own_rules has no class Nope"),
        ("own_rules:Clipped", "'own_rules:Clipped' is no Payload, the contract of payloads"),
        ("p2pfrl:Payload", "'p2pfrl:Payload' lacks extract, target, which Payload demands"),
        ("paramters", "no 'paramters' among payloads; did you mean 'parameters'?"),
        ("own_rules", 'one of your own is named "module:Class"'),
    ],
)
def test_a_name_that_is_no_payload_is_refused(payload, message):
    with pytest.raises(ScenarioError) as caught:
        p2pfrl.loads(SCENARIO, {"exchange.payload": payload, "mode": "central"})
    (problem,) = caught.value.problems
    assert problem.startswith("overrides: exchange.payload: ")
    assert message in problem


def test_run_takes_files_names_and_rules_by_name(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text(SCENARIO)
    expected = p2pfrl.run(p2pfrl.loads(SCENARIO, {"mixing.kind": "uniform"})).summary["digest"]
    for given in (path, str(path)):
        assert p2pfrl.run(given, mixing="uniform").summary["digest"] == expected
    table = {"kind": "laplacian", "alpha": 0.1}
    named = p2pfrl.loads(SCENARIO, {"mixing": table})
    assert p2pfrl.run(path, mixing=table).summary["digest"] == p2pfrl.run(named).summary["digest"]


def plain_class():
    class Plain(p2pfrl.Mixing):
        def weights(self, graph):
            return ()

    return Plain()


@pytest.mark.parametrize(
    ("mixing", "message"),
    [
        ("metropolls", "mixing.kind: no 'metropolls' among mixing; did you mean 'metropolis'?"),
        ({"kind": "laplacian", "alhpa": 1.0}, "mixing.alhpa: unknown key; did you mean 'alpha'?"),
        (3, "mixing: expected a rule, or the name of one, got 3"),
        (p2pfrl.Mixing, "mixing: expected a rule, or the name of one, got the class Mixing"),
        (plain_class, "is no rule; decorate class Plain with @p2pfrl.rule"),
    ],
)
def test_what_is_no_rule_is_refused(mixing, message):
    given = mixing() if callable(mixing) and mixing is not p2pfrl.Mixing else mixing
    with pytest.raises(ScenarioError) as caught:
        p2pfrl.run(p2pfrl.loads(SCENARIO), mixing=given)
    assert message in str(caught.value)


def test_run_refuses_what_is_no_scenario():
    for given in (3, None, {"name": "x"}):
        with pytest.raises(ScenarioError, match="expected a scenario, or the file or name of one"):
            p2pfrl.run(given)
    with pytest.raises(ScenarioError, match=r"Scenario.seed: must be at least 0, got -1"):
        p2pfrl.run(p2pfrl.loads(SCENARIO), seed=-1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: own().Clipped(radius="x"), "Clipped.radius: "),
        (lambda: own().Clipped(radios=0.5), "Clipped.radios: unknown key; did you mean 'radius'?"),
        (lambda: replace(p2pfrl.loads(SCENARIO), agents=0), "agents: must be at least 1, got 0"),
        (
            lambda: replace(p2pfrl.loads(SCENARIO), gate=own().Clipped()),
            "Scenario.gate: Clipped(on_loss='fold', radius=0.5) is no Gate, the contract of gates",
        ),
        (
            lambda: replace(p2pfrl.loads(SCENARIO), gate=own().Alternate),
            "expected a rule, got the class Alternate; write Alternate()",
        ),
    ],
)
def test_errors_from_python_are_one_exception_with_the_good_lines(make, message):
    with pytest.raises(ScenarioError) as caught:
        make()
    assert message in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_an_error_of_a_file_is_one_exception():
    with pytest.raises(ScenarioError) as caught:
        p2pfrl.loads(SCENARIO.replace("agents", "agnets"))
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@p2pfrl.rule
class Short(p2pfrl.Aggregator):
    """Aggregate too few numbers."""

    def aggregate(self, received, model, state):
        return model[:1], state


@p2pfrl.rule
class Halves(p2pfrl.Mixing):
    """Mix too few numbers."""

    def weights(self, graph):
        return tuple(
            {j: 1.0 if j == i else 0.0 for j in sorted({i, *graph.predecessors[i]})}
            for i in range(graph.n)
        )

    def mix(self, turn, received, weights, state):
        return turn.own[:1], state


def test_a_result_of_a_wrong_shape_names_rule_agent_and_expected_shape():
    scenario = p2pfrl.loads(SCENARIO)
    expected = r"expected an array \(3,\) of float64, got \(1,\) of float64"
    with pytest.raises(p2pfrl.P2PFRLError, match=rf"agent \d, round 1, Halves.mix: {expected}"):
        p2pfrl.run(scenario, mixing=Halves())
    central = p2pfrl.loads(SCENARIO, {"mode": "central"})
    central = replace(central, coordinator=replace(central.coordinator, aggregator=Short()))
    with pytest.raises(p2pfrl.P2PFRLError, match=rf"coordinator.*Short.aggregate: {expected}"):
        p2pfrl.run(central)
