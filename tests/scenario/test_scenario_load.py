"""From TOML to a scenario and back."""

import pickle
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfrl.catalog import table
from p2pfrl.core.distributions.assigned import Values
from p2pfrl.core.distributions.base import Constant
from p2pfrl.core.distributions.normal import LogNormal
from p2pfrl.core.errors import ScenarioError, ScenarioWarning
from p2pfrl.core.wording import SYNONYMS
from p2pfrl.scenario import Scenario, hash8, load, loads, new, resolved, schema
from p2pfrl.scenario.find import recipes
from p2pfrl.simulator.losses import Burst, Independent

QUADRATIC = """
name = "q"
agents = 4
[stop]
rounds = 5
[learner]
kind = "quadratic"
"""
TABULAR = """
name = "q"
agents = 4
[stop]
rounds = 5
[environment]
id = "garnet"
"""
TRUNK = (
    QUADRATIC.replace('"quadratic"', '"ppo"\nshared_trunk = true')
    + '[environment]\nid = "CartPole-v1"\n'
)
EPISODES = (
    TRUNK.replace('"ppo"\nshared_trunk = true', '"reinforce"\nepisodes = 16') + "instances = 1\n"
)


def problems(text: str | bytes, **overrides: object) -> tuple[str, ...]:
    with pytest.raises(ScenarioError) as caught:
        loads(text, overrides)
    return caught.value.problems


def test_the_first_scenario_is_what_its_file_says():
    scenario = load("ring_16")
    assert (scenario.name, scenario.seed, scenario.agents, scenario.mode) == (
        "ring_16",
        1,
        16,
        "gossip",
    )
    assert scenario.environment is not None
    assert (scenario.environment.id, scenario.environment.instances) == ("CartPole-v1", 4)
    assert scenario.network.latency == LogNormal(median=0.02, sigma=0.5)
    assert scenario.network.bandwidth == Constant(value=12.5e6)
    assert scenario.stop.rounds == 120
    assert scenario.stop.target_return == 475.0


def test_sections_that_are_not_given_have_defaults():
    scenario = loads(QUADRATIC)
    assert type(scenario.mixing).__name__ == "Metropolis"
    assert scenario.network.latency == Constant(value=0.001)
    assert scenario.network.loss == Independent(probability=0.0)
    assert scenario.compute.speed == Constant(value=1.0)
    assert scenario.environment is None
    assert scenario.faults == ()


def test_a_resolved_scenario_reads_back_as_itself():
    scenario = loads(
        QUADRATIC
        + """
[network]
latency = {kind = "uniform", low = "5ms", high = "20ms"}
loss = {kind = "burst", good_to_bad = 0.1, bad_to_good = 0.5}
[compute]
speed = [1, 1.0, 2, 0.5]
[[faults]]
kind = "crash"
agents = [2]
at = "1s"
[[faults]]
kind = "restart"
agents = [2]
at = "2s"
"""
    )
    assert loads(resolved(scenario)) == scenario
    assert scenario.compute.speed == Values(list=(1.0, 1.0, 2.0, 0.5))
    assert isinstance(scenario.network.loss, Burst)
    assert scenario.faults[1].at == 2.0


def test_resolved_scenarios_of_every_environment_read_back():
    for name in ("CartPole-v0", "pendulum", "gridworld", "garnet", "lqr", "drift"):
        scenario = load("ring_16", {"environment.id": name, "stop.target_return": None})
        assert loads(resolved(scenario)) == scenario
    assert 'id = "drift"' in resolved(scenario)


def test_the_hash_names_the_content():
    scenario = loads(QUADRATIC)
    assert hash8(scenario) == hash8(loads(QUADRATIC + "# a comment"))
    assert hash8(scenario) != hash8(replace(scenario, seed=1))
    assert len(hash8(scenario)) == 8


def test_a_scenario_can_be_sent_to_another_process():
    scenario = load("ring_16")
    assert pickle.loads(pickle.dumps(scenario)) == scenario
    error = pickle.loads(pickle.dumps(ScenarioError(["one", "two"])))
    assert error.problems == ("one", "two")


def test_strings_are_not_numbers_and_booleans_are_not_integers():
    assert problems(QUADRATIC, **{"learner.lr": "0.1"}) == (
        "overrides: learner.lr: expected a number, got '0.1'; write it without quotes",
    )
    assert problems(QUADRATIC, agents=True) == ("overrides: agents: expected an integer, got true",)
    assert problems(QUADRATIC, agents=4.0) == ("overrides: agents: expected an integer, got 4.0",)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("learner.lr", ".001", "expected a number, got '.001'; write 0.001"),
        ("network.duplicate", "5%", "expected a number, got '5%'; write 0.05"),
        ("learner.lr", "0,5", "expected a number, got '0,5'; write 0.5"),
        ("learner.lr", "fast", "expected a number, got 'fast'"),
        ("agents", "007", "expected an integer, got '007'; write 7"),
        ("agents", "4.5", "expected an integer, got '4.5'"),
        ("learner.same_start", "True", "expected true or false, got 'True'; write true"),
        (
            "learner.same_start",
            "true",
            "expected true or false, got 'true'; write it without quotes",
        ),
        ("learner.same_start", "yes", "expected true or false, got 'yes'"),
        ("name", 7, 'expected a string, got 7; write it in quotes: "7"'),
    ],
)
def test_a_message_says_how_the_value_is_written(key, value, message):
    assert problems(QUADRATIC, **{key: value}) == (f"overrides: {key}: {message}",)


@pytest.mark.parametrize(
    ("key", "value", "hint"),
    [
        ("learner.kind", "impala", "; known: a2c, deep_npg, "),
        ("learner.kind", "PPO", "; did you mean 'ppo'?"),
        ("learner.kind", "One-Peer", "; known: a2c"),
        ("topology.kind", "One-Peer-Exponential", "; did you mean 'one_peer_exponential'?"),
        ("learner.learning_rate", 0.1, "; did you mean 'lr'?"),
        ("learner.num_rounds", 3, "; did you mean 'stop.rounds'?"),
        ("num_rounds", 3, "; did you mean 'stop.rounds'?"),
        ("coordinator.fraction_fit", 0.5, "; did you mean 'participation'?"),
        ("num_clients", 3, "; did you mean 'agents'?"),
        ("device", "cuda", "; did you mean 'compute.device'?"),
        ("num_gpus", 1, "; did you mean 'compute.device'?"),
        ("tensorboard_log", "x", "; give --log tensorboard to a command"),
        ("mode", "Central", "; did you mean 'central'?"),
    ],
)
def test_a_name_of_another_library_leads_to_ours(key, value, hint):
    (problem,) = problems(QUADRATIC, **{key: value})
    assert hint in problem


@pytest.mark.parametrize(
    ("key", "value", "hint"),
    [
        ("rounds", 5, "did you mean 'stop.rounds'?"),
        ("lr", 0.1, "did you mean 'learner.lr'?"),
        ("topology.path", "g.graphml", "it is an option of kind 'file'"),
        ("mixing.alpha", 0.1, "it is an option of kind 'laplacian'"),
        ("topology.nothing", 1, "this kind has no options"),
    ],
)
def test_a_key_in_the_wrong_place_leads_to_the_right_one(key, value, hint):
    (problem,) = problems(QUADRATIC, **{key: value})
    assert problem == f"overrides: {key}: unknown key; {hint}"


@pytest.mark.parametrize("name", ["stack", "frame_stack", "n_stack"])
def test_frames_that_are_stacked_beside_the_environment_lead_to_the_learner(name):
    text = QUADRATIC.replace("[learner]", '[environment]\nid = "Taxi-v4"\n[learner]', 1)
    found = problems(text, **{f"environment.{name}": 4})
    hint = f"environment.{name}: unknown key; did you mean 'learner.frame_stack'?"
    assert f"overrides: {hint}" in found


def test_physics_that_are_set_beside_the_environment_lead_to_vary():
    text = QUADRATIC.replace("[learner]", '[environment]\nid = "CartPole-v1"\n[learner]', 1)
    found = problems(text, **{"environment.gravity": 3})
    assert (
        "overrides: environment.gravity: unknown key; did you mean 'environment.vary.gravity'?"
        in found
    )


def test_every_name_of_another_library_leads_to_a_key_that_exists():
    found = schema()["properties"]

    def keys(section):
        rules = [section, *section.get("oneOf", []), *section.get("anyOf", [])]
        return {"kind", *(key for rule in rules for key in rule.get("properties", {}))}

    for name, target in SYNONYMS.items():
        section, _, key = target.partition(".")
        assert section in found, name
        assert not key or key in {*keys(found[section]), "kwargs"}, name


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e999"])
def test_numbers_are_finite(value: str):
    (problem,) = problems(QUADRATIC + f"lr = {value}\n")
    assert problem.startswith("<text>:8:1: learner.lr: expected a finite number")


def test_every_problem_is_told_at_once_with_its_place():
    text = """
sed = 1
agents = "four"
name = "x"
[stop]
rounds = 5
[learner]
kind = "quadratic"
dimensio = 3
[mixing]
  kind = "metropoli"
[network]
latency = {kind = "lognormal", media = "20ms", sigma = 0.5}
[[faults]]
kind = "heal"
at = "1s"
[[faults]]
at = "1s"
kind = "crahs"
"""
    assert problems(text) == (
        "<text>:2:1: sed: unknown key; did you mean 'seed'?",
        "<text>:3:1: agents: expected an integer, got 'four'",
        "<text>:9:1: learner.dimensio: unknown key; did you mean 'dimension'?",
        "<text>:11:3: mixing.kind: no 'metropoli' among mixing; did you mean 'metropolis'?",
        "<text>:13:32: network.latency.media: unknown key; did you mean 'median'?",
        "<text>:19:1: faults.1.kind: no 'crahs' among faults; did you mean 'crash'?",
    )


def test_what_is_not_built_yet_is_refused():
    (problem,) = problems(QUADRATIC, mode="blockchain")
    assert problem.startswith(
        "overrides: mode: expected 'gossip', 'central', 'hierarchical', 'independent' or 'pooled'"
    )
    (problem,) = problems(QUADRATIC, attacks=[{"kind": "sign_flop", "agents": [1]}])
    assert problem.startswith("overrides: attacks.0.kind: no 'sign_flop' among attacks")


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "a\0b", "x" * 65, "", "..", ".", "a b"])
def test_a_name_that_cannot_name_a_directory_is_refused(name: str):
    (problem,) = problems(QUADRATIC, name=name)
    assert problem.startswith("overrides: name: expected 1 to 64 letters")


def test_a_text_extends_a_recipe_and_overrides_it():
    scenario = loads('extends = "fedavg"\nmode = "gossip"\n' + QUADRATIC)
    assert (scenario.mode, scenario.coordinator.aggregator.weights) == ("gossip", "samples")


def test_every_recipe_makes_a_scenario(tmp_path):
    for name, recipe in recipes().items():
        path = tmp_path / f"{name}.toml"
        text = recipe.read_text()
        fits = (
            TABULAR
            if "[learner]" in text
            else EPISODES
            if "scsg" in text
            else TRUNK
            if "trunk" in text or "ubar" in text
            else QUADRATIC
        )
        if "byzantine" in text:  # enough agents and neighbors for those
            fits = fits.replace("agents = 4", "agents = 16")
        path.write_text(f'extends = "{name}"\n' + fits)
        scenario = load(path)
        assert scenario.name == "q"
    assert {"dpsgd", "fedavg"} <= set(recipes())


def test_a_file_extends_one_beside_it_and_errors_name_the_file_that_holds_the_key(tmp_path):
    (tmp_path / "base.toml").write_text(
        QUADRATIC + "lr = 0.25\n[mixing]\nkind = 'laplacian'\nalpha = 'x'\n"
    )
    child = tmp_path / "child.toml"
    child.write_text('extends = "base"\n[learner]\nsteps = "2"\n')
    with pytest.raises(ScenarioError) as caught:
        load(child)
    assert caught.value.problems == (
        f"{tmp_path}/base.toml:11:1: mixing.alpha: expected a number, got 'x'",
        f"{child}:3:1: learner.steps: expected an integer, got '2'; write it without quotes",
    )
    scenario = load(child, {"learner.steps": 2, "mixing.alpha": 0.1})
    assert (scenario.learner.lr, scenario.learner.steps, scenario.mixing.alpha) == (0.25, 2, 0.1)


def test_another_kind_keeps_the_options_that_both_have_and_notes_the_others():
    text = QUADRATIC + "[mixing]\nkind = 'laplacian'\nalpha = 0.1\non_loss = 'renormalize'\n"
    note = "<text>:10:1: mixing.alpha: without effect: 'metropolis' has no such option"
    with pytest.warns(ScenarioWarning) as caught:
        scenario = loads(text, {"mixing.kind": "metropolis"})
    assert [str(warning.message) for warning in caught] == [note]
    assert (type(scenario.mixing).__name__, scenario.mixing.on_loss) == (
        "Metropolis",
        "renormalize",
    )


def test_another_kind_of_a_nested_rule_keeps_what_both_have(tmp_path):
    text = QUADRATIC + (
        "dimension = 3\n[network]\nlatency = {kind = 'uniform', low = '1ms', high = '9ms'}\n"
        "[compressor]\nkind = 'difference'\ncompressor = {kind = 'topk', count = 2}\n"
        "[mixing]\nkind = 'choco'\n"
    )
    with pytest.warns(ScenarioWarning) as caught:
        scenario = loads(
            text, {"network.latency.kind": "exponential", "network.latency.mean": "2ms"}
        )
    assert [str(warning.message) for warning in caught] == [
        f"<text>:10:{column}: network.latency.{name}: without effect: 'exponential' has no such option"
        for column, name in ((30, "low"), (43, "high"))
    ]
    assert scenario.network.latency.mean == 0.002
    scenario = loads(text, {"compressor.compressor.kind": "randk"})
    assert scenario.compressor.compressor.count == 2


def test_an_override_of_extends_is_applied_as_in_the_file(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text("extends = 'fedavg'\n" + QUADRATIC)
    (tmp_path / "b.toml").write_text("learner.lr = 0.25\n")
    assert load(path).mode == "central"
    assert load(path, {"extends": "dpsgd"}) == loads("extends = 'dpsgd'\n" + QUADRATIC)
    assert load(path, {"extends": "b"}).learner.lr == 0.25
    assert load(path, {"extends": None}) == loads(QUADRATIC)
    with pytest.raises(ScenarioError) as caught:
        load(path, {"extends": "fedvag"})
    (problem,) = caught.value.problems
    assert problem.startswith(
        "overrides: extends: no recipe, no file beside this one and no scenario of"
    )
    assert problem.endswith("did you mean 'fedavg'?")
    with pytest.raises(ScenarioError, match="overrides: extends: expected the name of a recipe"):
        load(path, {"extends": ["fedavg"]})
    with pytest.raises(ScenarioError, match="overrides: extends: scenarios extend each other in a"):
        load(path, {"extends": "a"})


CARTPOLE = """
name = "c"
agents = 2
[stop]
rounds = 2
[environment]
id = "CartPole-v1"
max_steps = 50
[environment.vary]
gravity = [8.0, 9.0]
[learner]
kind = "ppo"
"""


def test_another_environment_keeps_what_the_file_says_of_it_or_refuses(tmp_path):
    scenario = loads(CARTPOLE, {"environment.id": "acrobot"})
    assert scenario.environment.rule.max_steps == 50
    assert scenario.environment.vary == {"gravity": Values(list=(8.0, 9.0))}
    (problem,) = problems(CARTPOLE, **{"environment.id": "gridworld"})
    assert problem.startswith("<text>:10:1: environment.vary.gravity: gridworld has nothing")
    assert "it is there for 'CartPole-v1'" in problem
    assert "begin anew with environment={}" in problem
    (problem,) = problems(
        CARTPOLE.replace("max_steps = 50", "force_mag = 3.0"),
        **{"environment.id": "acrobot", "environment.max_steps": 10},
    )
    assert "environment.force_mag: unknown key" in problem
    scenario = loads(CARTPOLE, {"environment": {}, "environment.id": "MountainCar-v0"})
    assert scenario.environment.vary == {}
    assert scenario.environment.rule.max_steps == 200
    both = {"environment.id": "acrobot", "environment.vary": {"gravity": 9.8, "gravty": 9.0}}
    (problem,) = problems(CARTPOLE, **both)
    assert problem.endswith("did you mean 'gravity'?")


def test_an_empty_table_empties_what_the_file_says():
    assert loads(CARTPOLE, {"environment.vary": {}}).environment.vary == {}
    text = QUADRATIC + "lr = 0.25\n"
    assert loads(text, {"learner.kind": "quadratic", "learner": {}}) == loads(QUADRATIC)
    assert loads(text, {"learner": {}, "learner.kind": "quadratic"}) == loads(QUADRATIC)


LISTED = (
    QUADRATIC.replace('"quadratic"', '"tabular_q"')
    + """
[network]
latency = {kind = "lognormal", median = "20ms", sigma = 0.5}
[environment]
id = "garnet"
[[faults]]
at = "30s"
kind = "crash"
agents = [1]
"""
)


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        ({"network.latency": {"median": "-1ms"}}, "network.latency.median"),
        ({"network": {"latency": {"median": "-1ms"}}}, "network.latency.median"),
        ({"faults": [{"kind": "crash", "agents": [1], "at": -3}]}, "faults.0.at"),
        ({"faults": [{"kind": "crash", "agents": [1]}]}, "faults.0.at"),
        ({"faults": [{"kind": "crash", "agents": [9], "at": "1s"}]}, "faults.0.agents"),
        ({"environment": {}}, "environment.id"),
    ],
)
def test_what_is_wrong_within_an_override_is_blamed_on_it(overrides, key):
    (problem,) = problems(LISTED, **overrides)
    assert problem.startswith(f"overrides: {key}: ")


def test_a_file_below_is_not_blamed_for_what_the_one_above_replaces(tmp_path):
    (tmp_path / "c.toml").write_text(
        LISTED.replace('"lognormal", median = "20ms", sigma = 0.5', '"constant", value = "1ms"')
    )
    (tmp_path / "b.toml").write_text(
        'extends = "c"\n[network]\nlatency = {kind = "lognormal", median = "20ms", sigma = 0.5}\n'
    )
    (tmp_path / "a.toml").write_text(
        'extends = "b"\n[[faults]]\nkind = "crash"\nagents = [1]\n[network]\nlatency.kind = "constant"'
    )
    with pytest.raises(ScenarioError) as caught:
        load(tmp_path / "a.toml")
    place = tmp_path / "a.toml"
    assert caught.value.problems == (
        f"{place}:2:3: faults.0.at: this key is required",
        f"{place}:6:1: network.latency.value: this key is required",
    )


def test_an_option_in_a_table_that_an_override_empties_has_no_note(tmp_path, recwarn):
    (tmp_path / "c.toml").write_text(
        QUADRATIC + '[network]\nlatency = {kind = "constant", value = "1ms"}\n'
    )
    (tmp_path / "b.toml").write_text(
        'extends = "c"\n[network]\nlatency = {kind = "exponential", mean = "20ms"}\n'
    )
    load(tmp_path / "b.toml", {"network": {}})
    assert not recwarn
    with pytest.warns(ScenarioWarning, match="network.latency.value: without effect"):
        load(tmp_path / "b.toml")


def test_a_key_that_is_set_twice_is_refused():
    table = {"kind": "quadratic", "lr": 0.5}
    for first, second in (("learner", "learner.lr"), ("learner.lr", "learner")):
        values = {key: table if key == "learner" else 0.25 for key in (first, second)}
        assert problems(QUADRATIC, **values) == ("overrides: learner.lr: set twice",)
    scenario = loads(QUADRATIC, {"learner": table, "learner.steps": 2})
    assert (scenario.learner.lr, scenario.learner.steps) == (0.5, 2)


def test_files_that_extend_each_other_are_refused(tmp_path):
    (tmp_path / "a.toml").write_text('extends = "b"')
    (tmp_path / "b.toml").write_text('extends = "a.toml"')
    with pytest.raises(
        ScenarioError, match=r"b\.toml:1:1: extends: scenarios extend each other in a circle"
    ):
        load(tmp_path / "a.toml")


def test_a_missing_file_or_recipe_offers_the_nearest(tmp_path):
    with pytest.raises(ScenarioError, match=r"no such file .* did you mean 'ring_16\.toml'"):
        load("ring_61.toml")
    path = tmp_path / "x.toml"
    path.write_text('extends = "dpsdg"')
    with pytest.raises(ScenarioError, match="did you mean 'dpsgd'"):
        load(path)


def test_none_removes_a_key_and_a_key_under_a_value_is_refused():
    scenario = loads(QUADRATIC, {"stop.rounds": None, "stop.env_steps": 100})
    assert (scenario.stop.rounds, scenario.stop.env_steps) == (None, 100)
    assert loads(QUADRATIC, {"learner.lr": None}) == loads(QUADRATIC)
    assert (
        "is also set to a value" in problems(QUADRATIC, **{"learner.lr": 1.0, "learner.lr.x": 2})[0]
    )
    assert "expected a key such as" in problems(QUADRATIC, **{"learner..lr": 1.0})[0]


@pytest.mark.parametrize(
    "value",
    [10**5000, 2**63, object(), "\ud800", "x" * 5000],
    ids=["digits", "bits", "object", "surrogate", "long"],
)
def test_values_that_no_file_could_hold_are_refused(value: object):
    assert outcome(QUADRATIC, {"learner.steps": value, "extends": value})


def test_numbers_of_other_packages_paths_and_decimals_are_plain_values_in_overrides():
    values = {
        "agents": np.int64(4),
        "learner.lr": np.float32(0.25),
        "learner.noise": Decimal("0.5"),
        "learner.spread": Fraction(1, 4),
        "learner.curvature": np.array([1.0, 3.0]),
        "learner.steps": np.array(2),
        "learner.same_start": np.bool_(True),
        "compute.speed": (np.float64(1.0), 2, 3, 4),
        "mixing.kind": np.str_("uniform"),
    }
    scenario = loads(QUADRATIC, values)
    assert resolved(loads(resolved(scenario))) == resolved(scenario)
    assert (scenario.agents, scenario.learner.lr, scenario.learner.noise) == (4, 0.25, 0.5)
    assert (scenario.learner.spread, scenario.learner.curvature) == (0.25, (1.0, 3.0))
    (problem,) = problems(QUADRATIC, topology={"kind": "file", "path": Path("none.graphml")})
    assert "no graph file 'none.graphml'" in problem
    (problem,) = problems(QUADRATIC, **{"learner.lr": np.array([np.nan])})
    assert "expected a finite number" in problem
    (problem,) = problems(QUADRATIC, **{"learner.lr": Decimal("sNaN")})
    assert "expected a value that TOML can hold" in problem


def test_a_byte_order_mark_is_skipped_and_utf_16_is_named():
    assert loads(b"\xef\xbb\xbf" + QUADRATIC.encode()) == loads(QUADRATIC)
    (problem,) = problems(b"\xef\xbb\xbf" + b"\nsed = 1\n" + QUADRATIC.encode())
    assert problem.startswith("<text>:2:1: sed: unknown key")
    for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32"):
        (problem,) = problems(QUADRATIC.encode(encoding))
        assert problem.startswith("<text>:1:1: expected UTF-8 text, got UTF-")
        assert problem.endswith("; save the file as UTF-8")
    (problem,) = problems(QUADRATIC.encode() + b'# caf\xe9"')
    assert problem == "<text>:8:6: not UTF-8 text: byte 0xe9; save the file as UTF-8"


def test_a_graph_file_that_cannot_be_is_a_scenario_error():
    (problem,) = problems(QUADRATIC, topology={"kind": "file", "path": "x" * 5000})
    assert problem.startswith("overrides: topology")


def test_the_commented_first_file_is_a_scenario():
    scenario = loads(new("first"))
    assert scenario.name == "first"
    with pytest.raises(ScenarioError):
        new("../first")


def test_the_schema_describes_every_kind_and_option():
    found = schema()
    kinds = [rule["properties"]["kind"]["const"] for rule in found["properties"]["mixing"]["oneOf"]]
    assert kinds == list(table("mixing"))
    quadratic = found["properties"]["learner"]["oneOf"][0]
    assert quadratic["properties"]["dimension"]["description"] == "of x."
    assert quadratic["properties"]["lr"]["minimum"] == 0
    assert set(Scenario.__pydantic_fields__) | {"extends"} == set(found["properties"])
    assert "$ref" not in str(found)


def outcome(
    text: str | bytes, overrides: dict[str, object] | None = None
) -> Scenario | tuple[str, ...]:
    try:
        return loads(text, overrides)
    except ScenarioError as error:
        return error.problems


@given(st.binary(max_size=400))
def test_any_bytes_are_a_scenario_or_a_scenario_error(text: bytes):
    assert outcome(text)


KEYS = st.sampled_from(
    ["name", "agents", "stop", "rounds", "learner", "kind", "network", "latency", "loss", "faults"]
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["quadratic", "burst", "1s", "\0", "é"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=8,
)


@given(st.dictionaries(st.lists(KEYS, min_size=1, max_size=3).map(".".join), VALUES, max_size=5))
def test_any_overrides_are_a_scenario_or_a_scenario_error(overrides: dict[str, object]):
    assert outcome(QUADRATIC, overrides)


def test_a_misspelled_key_of_the_environment_section_itself_is_recognized():
    found = problems(QUADRATIC + '[environment]\nid = "CartPole-v1"\ninstancs = 4\n')
    assert any(
        "environment.instancs: unknown key; did you mean 'instances'?" in problem
        for problem in found
    )
