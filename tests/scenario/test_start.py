"""Starts from saved parameters: what matches is taken, and what does not is named."""

from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save_file

import p2pfrl
from p2pfrl.build.assembly import Assembly
from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.tensors import split
from p2pfrl.experiment.starts import with_start
from p2pfrl.net.records import Identity, differences
from p2pfrl.scenario import hash8, loads
from p2pfrl.scenario.checks.notes import notes
from p2pfrl.scenario.render import resolved
from p2pfrl.scenario.sources import sources

QUADRATIC = """
name = "q"
agents = 3
[stop]
rounds = 2
[learner]
kind = "quadratic"
dimension = 4
lr = 0.0
initial_spread = 1.0
"""
CARTS = """
name = "carts"
agents = 2
mode = "independent"
[stop]
rounds = 1
[environment]
id = "cartpole"
instances = 1
max_steps = 8
[learner]
kind = "reinforce"
hidden = [3]
steps = 8
same_start = false
lr = 0.0
[evaluation]
episodes = 0
"""


STATISTICS = """
name = "ucb"
extends = "fed_ucbvi"
agents = 3
[stop]
rounds = 1
[environment]
id = "garnet"
states = 4
max_steps = 4
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Return a saved run of three agents that stay where they start."""
    folder = tmp_path_factory.mktemp("runs") / "a"
    return p2pfrl.run(loads(QUADRATIC, {"mode": "independent"}), out=folder)


def starts(scenario):
    """Return the start parameters of all agents without padding, and those of a coordinator."""
    assembly = Assembly(scenario)
    stack = assembly.plan.stack
    rows = assembly.trainer(range(scenario.agents)).parameters
    return stack.layout.pack(rows), stack.layout.pack(stack.common_start())[0]


def test_agents_start_from_their_own_models_and_a_coordinator_from_the_mean(saved):
    own, common = starts(with_start(loads(QUADRATIC, {"mode": "central"}), saved))
    assert np.array_equal(own, saved.parameters)
    assert np.ptp(saved.parameters, axis=0).min() > 0.01
    assert common == pytest.approx(saved.parameters.mean(axis=0), abs=1e-15)


def test_another_number_of_agents_starts_from_the_mean(saved):
    own, common = starts(with_start(loads(QUADRATIC, {"agents": 5}), saved))
    assert np.array_equal(own, np.tile(common, (5, 1)))
    assert common == pytest.approx(saved.parameters.mean(axis=0), abs=1e-15)
    chosen = {"path": str(saved.directory), "models": "mean"}
    assert np.array_equal(starts(with_start(loads(QUADRATIC), chosen))[0][0], common)


@pytest.mark.parametrize("mode", ["gossip", "central", "hierarchical", "independent"])
def test_a_run_without_learning_keeps_the_mean_of_its_start_in_every_mode(saved, mode):
    again = p2pfrl.run(loads(QUADRATIC, {"mode": mode}), start=saved)
    assert again.parameters.mean(axis=0) == pytest.approx(saved.parameters.mean(axis=0), abs=1e-12)
    assert again.summary["start"] == {"models": "own", "saved": 3, "taken": ["x"], "usual": {}}


def test_a_pooled_run_starts_from_the_mean(tmp_path):
    first = p2pfrl.run(loads(CARTS), out=tmp_path / "a")
    pooled = p2pfrl.run(loads(CARTS, {"mode": "pooled"}), start=first)
    mean = first.parameters.mean(axis=0, dtype=np.float64).astype(np.float32)
    assert np.array_equal(pooled.parameters, np.tile(mean, (2, 1)))


def test_a_run_that_was_started_is_verified_from_its_own_copy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    p2pfrl.run(loads(QUADRATIC), out="a")
    text = f'start = "a"\n{QUADRATIC}'
    (tmp_path / "b.toml").write_text(text, encoding="utf-8")
    record = p2pfrl.run(tmp_path / "b.toml", out="b")
    assert [*record.summary["sources"]] == ["file a"]
    (tmp_path / "a" / "parameters.safetensors").unlink()
    assert p2pfrl.verify("b").is_equal
    copy = tmp_path / "b" / "inputs" / "start.safetensors"
    save_file({"x": np.ones(4)}, copy)
    found = p2pfrl.verify("b")
    assert not found.is_equal
    assert [*found.changed] == ["file a"]
    copy.unlink()
    with pytest.raises(ScenarioError, match=r"b/scenario.toml:.*start: .*no finished run"):
        p2pfrl.verify("b")


def test_parts_that_do_not_match_start_as_usual_and_are_named(tmp_path):
    first = p2pfrl.run(loads(CARTS), out=tmp_path / "a")
    pendulum = loads(CARTS, {"environment.id": "pendulum"})
    started = with_start(pendulum, first)
    found = Assembly(started).learning.start
    alike = {"actor.0.bias", "critic.0.bias", "critic.head.weight", "critic.head.bias"}
    assert {*found.taken} == alike
    assert found.usual["actor.0.weight"] == "has shape [3, 3], saved [3, 4]"
    assert any("actor.0.weight (has shape" in note for note in notes(started))
    tensors = Assembly(pendulum).learning.stack.layout.tensors
    shapes = tuple((tensor.name, tensor.shape) for tensor in tensors)
    saved = split(first.parameters, first.layout)
    before, after = (split(starts(each)[0], shapes) for each in (pendulum, started))
    for name, values in after.items():
        assert np.array_equal(values, (saved if name in alike else before)[name]), name


def test_a_start_takes_the_parts_that_are_named(tmp_path):
    first = p2pfrl.run(loads(CARTS, {"learner.kind": "a2c"}), out=tmp_path / "c")
    table = {"path": str(first.directory), "parts": ["critic"]}
    found = with_start(loads(CARTS, {"learner.kind": "a2c", "seed": 1}), table)
    taken = Assembly(found).learning.start.taken
    assert {name.partition(".")[0] for name in taken} == {"critic"}
    assert not any(note.startswith("start") for note in notes(found))


def test_the_state_dict_of_one_model_starts_every_agent(saved, tmp_path):
    save_file({"x": saved.parameters[1]}, tmp_path / "one.safetensors")
    own, common = starts(with_start(loads(QUADRATIC), tmp_path / "one.safetensors"))
    assert np.array_equal(own, np.tile(saved.parameters[1], (3, 1)))
    assert np.array_equal(common, saved.parameters[1])


def test_personal_models_start_where_the_shared_one_does(saved):
    ditto = {"personal": {"kind": "ditto"}}
    own, _ = starts(with_start(loads(QUADRATIC, ditto), saved))
    assert np.array_equal(own, np.hstack([saved.parameters, saved.parameters]))


def test_tensors_of_one_group_are_taken_from_agents_own_models_only(tmp_path):
    groups = {"groups": [{"agents": [1], "learner": {"hidden": [2]}}]}
    first = p2pfrl.run(loads(CARTS, groups), out=tmp_path / "a")
    assert np.array_equal(starts(with_start(loads(CARTS, groups), first))[0], first.parameters)
    wider = Assembly(with_start(loads(CARTS, {**groups, "agents": 3}), first)).learning.start
    assert {name for name in wider.taken if name.startswith("group")} == set()
    assert wider.taken


def torn(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("nowhere", r"start: .*nowhere: No such file"),
        ("empty", r"start: .*empty is no finished run"),
        ("torn", r"changed since the run wrote it, or torn"),
        ("torn.safetensors", r"damaged, or no safetensors file"),
        ("other.safetensors", r"nothing matches by name and shape: x not saved; saved are 'y'"),
        ("wide.safetensors", r"x has shape \[4\], saved \[7\]"),
        ("nan.safetensors", r"start: x is not finite"),
        ("none.safetensors", r"it has no tensors"),
        (3, r"start: expected the record of a run"),
        ({"path": "one.safetensors", "models": "own"}, r"start.models: 1 models were saved for 3"),
        ({"path": "one.safetensors", "parts": ["y"]}, r"start.parts: .* no part 'y'"),
        ({"path": "one.safetensors", "part": ["x"]}, r"start.part: unknown key"),
    ],
)
def test_a_start_that_cannot_be_is_refused_with_the_reason(tmp_path, monkeypatch, given, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    p2pfrl.run(loads(QUADRATIC), out=tmp_path / "torn")
    torn(tmp_path / "torn" / "parameters.safetensors")
    for name, tensors in (
        ("one", {"x": np.ones(4)}),
        ("torn", {"x": np.ones(4)}),
        ("other", {"y": np.ones(4)}),
        ("wide", {"x": np.ones(7)}),
        ("nan", {"x": np.full(4, np.nan)}),
        ("none", {}),
    ):
        save_file(tensors, tmp_path / f"{name}.safetensors")
    torn(tmp_path / "torn.safetensors")
    with pytest.raises(ScenarioError, match=says):
        p2pfrl.run(loads(QUADRATIC), start=given)


def test_saved_numbers_that_are_too_large_for_parameters_are_refused(tmp_path):
    save_file({"actor.0.bias": np.full(3, 1e300)}, tmp_path / "large.safetensors")
    with pytest.raises(ScenarioError, match=r"actor.0.bias has values that are too large for flo"):
        p2pfrl.run(loads(CARTS), start=tmp_path / "large.safetensors")


def test_a_record_that_was_not_saved_is_no_start():
    with pytest.raises(ScenarioError, match=r"'q' was not saved; p2pfrl.run\(..., out=DIRECTORY"):
        p2pfrl.run(loads(QUADRATIC), start=p2pfrl.run(loads(QUADRATIC)))


def test_processes_with_different_starts_are_different_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = []
    for value in (1.0, 2.0):
        save_file({"x": np.full(4, value)}, tmp_path / "s.safetensors")
        scenario = loads(QUADRATIC, {"start": "s.safetensors"})
        found = sources(scenario)
        own.append(Identity("q", hash8(scenario), "", (0,), 0, b"", ("", 0), found))
    assert own[0].scenario != own[1].scenario
    assert "file s.safetensors: expected" in differences(own[0], own[1])


def test_a_learner_that_computes_its_parameters_from_experience_takes_no_start(tmp_path):
    save_file({"common.stage": np.zeros(1)}, tmp_path / "s.safetensors")
    scenario = loads(STATISTICS)
    with pytest.raises(ScenarioError, match="sends 'statistics' and computes its parameters"):
        with_start(scenario, tmp_path / "s.safetensors")


def test_a_start_is_part_of_the_resolved_scenario(saved):
    short = with_start(loads(QUADRATIC), saved)
    assert f'start = "{saved.directory}"' in resolved(short)
    table = {"path": str(saved.directory), "models": "mean"}
    long = with_start(loads(QUADRATIC), table)
    assert loads(resolved(long)).start == replace(short.start, models="mean")
