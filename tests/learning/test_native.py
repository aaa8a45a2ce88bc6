"""The native engine: its gradients are those of the torch losses, its bits the same everywhere."""

import os
import shutil
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from p2pfrl import load, run, verify
from p2pfrl.cli import main
from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.rng import Streams
from p2pfrl.learning.corrections.prox import Prox
from p2pfrl.learning.descent import Descent, Formula, Plan
from p2pfrl.learning.environments import RULES
from p2pfrl.learning.environments.vary import columns
from p2pfrl.learning.learners.a2c import A2C
from p2pfrl.learning.learners.base import Task
from p2pfrl.learning.learners.ppo import PPO
from p2pfrl.learning.learners.reinforce import REINFORCE
from p2pfrl.learning.lr_schedules import Linear
from p2pfrl.learning.native import compiler, library
from p2pfrl.learning.native.compiler import Compiler, EngineError
from p2pfrl.learning.native.descent import NativeDescent
from p2pfrl.learning.networks import Network, random_orthogonal
from p2pfrl.learning.optimizers import SGD, Keep
from p2pfrl.learning.policies import Categorical, Categoricals, Gaussian
from p2pfrl.learning.trainer import Trainer
from p2pfrl.scenario.bind import outline
from p2pfrl.scenario.checks.notes import notes

pytestmark = pytest.mark.usefixtures("native")

LEARNERS = {
    "ppo": PPO(hidden=(20, 12), steps=16, ent_coef=0.01, shared_trunk=True),
    "ppo, unequal minibatches": PPO(hidden=(16,), steps=10, num_minibatches=3, episodes=1),
    "ppo, schedule": PPO(hidden=(16,), steps=16, activation="relu", lr_schedule=Linear(updates=3)),
    "ppo, scaled observations": PPO(hidden=(16,), steps=16, normalize_observations=True),
    "a2c": A2C(hidden=(9, 9, 9), ent_coef=0.02),
    "a2c, rmsprop": A2C(hidden=(16,), optimizer="rmsprop", norm_adv=True),
    "reinforce, sgd": REINFORCE(hidden=(16,), optimizer="sgd", lr=0.1),
    "reinforce, no baseline": REINFORCE(hidden=(16,), baseline="none", ent_coef=0.01),
}


def trained(learner, engine, agents=3, environment="cartpole", **task):
    problem, all_agents = RULES[environment](), range(5)
    physics = problem.physics(1, all_agents, columns(problem, {}, 1, all_agents, 5))
    instances = 1 if learner.episodes else 4
    simulator = problem.simulator(physics, instances, 1)
    stack = learner.prepare(Task(1, 5, simulator, engine=engine, **task))
    return Trainer(stack, agents)


def shapes(count):
    """Yield random networks with their policies and losses."""
    rng = np.random.default_rng(5)
    for number in range(count):
        inputs, is_masked = int(rng.integers(1, 40)), number % 5 == 0
        kind = number % 3
        if kind == 0:
            policy = Categorical(int(rng.integers(2, 20)), is_masked=is_masked)
        elif kind == 1:
            policy = Categoricals(tuple(rng.integers(2, 6, rng.integers(1, 4)).tolist()))
        else:
            width = int(rng.integers(1, 6))
            policy = Gaussian((-1.0,) * width, (1.0,) * width)
        if kind == 0 and is_masked:
            inputs += policy.outputs
        shared, critic = bool(number % 2), bool(number % 7)
        hidden = tuple(rng.integers(1, 70, rng.integers(1, 4)).tolist())
        sees = int(rng.integers(1, inputs + 1)) if number % 4 == 2 else 0
        options = {
            "hidden": hidden,
            "activation": ("tanh", "relu")[number // 2 % 2],
            "shared_trunk": shared and critic,
            "critic": critic,
            "log_std": policy.has_log_std,
            "actor_inputs": 0 if shared and critic else sees,
        }
        clip = 0.2 if number % 2 else None
        formula = Formula(clip, float(critic) * 0.7, (0.0, 0.05)[number // 3 % 2])
        yield inputs, policy, options, formula, int(rng.integers(1, 70)), rng


def loss_of(formula):
    """Return the learner's loss that a formula stands for."""
    if formula.clip is not None and formula.value:
        return PPO(clip_coef=formula.clip, vf_coef=formula.value, ent_coef=formula.entropy).loss
    if formula.value:
        return A2C(vf_coef=formula.value, ent_coef=formula.entropy).loss
    return REINFORCE(ent_coef=formula.entropy).loss


def samples_of(policy, inputs, size, rng):
    obs = rng.normal(size=(2, inputs, size))
    if getattr(policy, "is_masked", False):
        k = policy.outputs
        obs[:, -k:] = rng.random((2, k, size)) < 0.6
        obs[:, -k] = 1.0
    if policy.has_log_std:
        action = rng.normal(size=(2, policy.width, size))
    else:
        action = np.stack([rng.integers(0, n, (2, size)) for n in policy.choices], axis=1).astype(
            float
        )
        if policy.is_masked:
            action[:] = 0.0
    rest = rng.normal(size=(2, 3, size))
    rest[:, 0] -= 2.0
    return np.concatenate([obs, action, rest], axis=1).astype(np.float32)


def test_gradients_of_200_random_networks_are_those_of_autograd():
    for inputs, policy, options, formula, size, rng in shapes(200):
        plan = Plan(1, 1, 1, 0.0, False, lambda rollout: rollout, loss_of(formula))
        if formula.value == 0.0:
            formula = replace(formula, clip=None)
        plan = replace(plan, formula=formula)
        networks = [
            Network(inputs, policy.outputs, dtype=dtype, **options)
            for dtype in ("float32", "float64")
        ]
        own, exact = networks
        rows = own.layout.zeros(2)
        vector = rng.normal(0.0, 0.4, (2, own.layout.size)).astype(np.float32)
        own.layout.unpack(vector, rows)
        exact_rows = exact.layout.zeros(2)
        exact.layout.unpack(vector.astype(np.float64), exact_rows)
        found, wanted = own.layout.zeros(2), exact.layout.zeros(2)
        packed = samples_of(policy, inputs, size, rng)
        task = Task(1, 2)
        out = np.zeros((2, exact.outputs, size))
        loss = NativeDescent(own, policy, SGD(0.1), plan, task)._gradient(rows, packed, out, found)
        exact_loss = Descent(exact, policy, SGD(0.1), plan, task)._gradient(
            exact_rows, packed.astype(np.float64), out, wanted
        )
        np.testing.assert_allclose(loss, exact_loss, rtol=2e-5, atol=2e-6)
        wanted = exact.layout.pack(wanted)
        error = np.linalg.norm(own.layout.pack(found) - wanted) / np.linalg.norm(wanted)
        assert error < 5e-6, (inputs, policy, options, formula, size)


@pytest.mark.parametrize("learner", LEARNERS.values(), ids=LEARNERS)
def test_updates_are_those_of_the_torch_path_but_for_rounding(learner):
    ours, theirs = (trained(learner, engine) for engine in ("native", "torch"))
    for _ in range(2):
        found, wanted = ours.update(range(3)), theirs.update(range(3))
    assert np.abs(ours.parameters - theirs.parameters).max() < 3e-5
    for agent in range(3):
        assert found[agent].loss == pytest.approx(wanted[agent].loss, abs=1e-5)
        assert found[agent].returns == wanted[agent].returns


def test_continuous_actions_and_corrections_are_learned_as_by_torch():
    for task in ({}, {"correction": Prox(mu=0.5)}, {"gradient_only": True}):
        learner = A2C(hidden=(16,), ent_coef=0.01)
        pair = [trained(learner, e, 3, "pendulum", **task) for e in ("native", "torch")]
        for trainer in pair:
            trainer.update(range(3))
            trainer.update(range(3))
        for name, values in pair[0].state.items():
            np.testing.assert_allclose(values, pair[1].state[name], rtol=1e-4, atol=2e-5)
        assert np.abs(pair[0].parameters - pair[1].parameters).max() < 2e-5


@pytest.mark.parametrize("name", ["ppo", "a2c", "ppo, scaled observations"])
def test_an_agent_learns_the_same_bits_in_any_batch(name):
    alone, together = (trained(LEARNERS[name], "native", 5) for _ in range(2))
    for subsets in (((0, 1, 2, 3, 4), ()), ((3,), (0, 4), (1, 2))):
        together.update(range(5))
        for subset in subsets:
            alone.update(subset)
    assert np.array_equal(alone.parameters, together.parameters)
    for name, values in alone.state.items():
        assert np.array_equal(values, together.state[name])


def test_a_number_that_is_none_spoils_its_own_agent_alone():
    trainer = trained(LEARNERS["a2c"], "native", 3)
    b, o = 2, 4
    rows = trainer.parameters[:2].copy()
    rows[0, 3] = np.nan
    packed = np.random.default_rng(1).normal(size=(b, 9, o + 4)).astype(np.float32)
    packed[:, :, o] = 1.0
    state = {name: values[:2].copy() for name, values in trainer.state.items()}
    trainer.stack._descent.learn(rows, state, packed, Streams.of(1, [0, 1], "minibatch"))
    assert np.isnan(rows[0]).any()
    assert np.isfinite(rows[1]).all()


def test_exp_log_and_tanh_are_right_to_a_few_units_of_the_last_place(native):
    x = np.linspace(-86.0, 88.0, 1 << 12, dtype=np.float32)
    exact = x.astype(np.float64)
    assert np.abs(library.function(native, "exp", x) / np.exp(exact) - 1.0).max() < 1.5e-7
    tanh = library.function(native, "tanh", x / 8)
    assert np.abs(tanh - np.tanh(exact / 8)).max() < 3e-7
    positive = np.exp(exact[1:-15]).astype(np.float32)
    positive = positive[: len(positive) // 16 * 16]
    log = library.function(native, "log", positive)
    assert np.abs(log - np.log(positive.astype(np.float64))).max() < 1e-5
    odd = np.array([np.nan, -np.inf, -88.0, 0.0] * 4, dtype=np.float32)
    assert np.isnan(library.function(native, "exp", odd)[0])
    assert library.function(native, "exp", odd)[1:4].tolist() == [0.0, 0.0, 1.0]
    assert np.isnan(library.function(native, "tanh", odd)[0])


@pytest.mark.parametrize("size", [1, 2, 3, 255, 256, 257, 3000])
def test_orders_of_the_engine_are_those_of_numpy(native, size):
    one, other = (Streams.of(5, [3], "orders") for _ in range(2))
    for _ in range(3):
        found = library.order(native, one, size)
        np.testing.assert_array_equal(found, other.permutation(size)[0])


@pytest.mark.parametrize(
    ("command", "instructions"),
    [
        pytest.param("gcc", ("-mavx2", "-mfma"), marks=pytest.mark.slow),
        pytest.param("gcc", None, marks=pytest.mark.slow),
        pytest.param("clang", ("-mavx2", "-mfma"), marks=pytest.mark.slow),
        pytest.param("clang", None, marks=pytest.mark.slow),
    ],
)
def test_every_compiler_and_register_width_gives_the_same_bits(command, instructions, tmp_path):
    best = compiler.instructions()
    if not shutil.which(command):
        pytest.skip(f"no {command} here")
    if instructions is not None and "-mavx2" not in best:
        pytest.skip("no x86 processor")
    # `opened` compares a digest of some steps.
    Compiler((command,), instructions or best).build(tmp_path / "engine.so")
    library.opened(tmp_path / "engine.so")


TARGETS = {
    "gcc AVX2": (("gcc", "-mavx2", "-mfma"), ()),
    "gcc AVX-512": (("gcc", "-mfma", *compiler.WIDE_FLAGS), ()),
    "clang AVX2": (("clang", "-mavx2", "-mfma"), ()),
    "gcc ARM": (("aarch64-linux-gnu-gcc", "-static"), ("qemu-aarch64",)),
    "clang ARM": (("clang", "--target=aarch64-linux-gnu", "-static"), ("qemu-aarch64",)),
}


@pytest.mark.slow
def test_processors_of_two_kinds_compute_the_same_bits(tmp_path):
    found = {}
    for name, (command, emulator) in TARGETS.items():
        wants = [command[0], *emulator, *(["aarch64-linux-gnu-gcc"] if emulator else [])]
        if any(shutil.which(program) is None for program in wants):
            continue
        if "AVX-512" in name and not compiler.instructions()[-1].endswith("512"):
            continue
        program = str(tmp_path / "bits")
        flags = [flag for flag in compiler.FLAGS if flag not in ("-shared", "-fPIC")]
        source = str(Path(__file__).with_name("engine_bits.c"))
        include = f"-I{compiler.SOURCE.parent}"
        subprocess.run([*command, *flags, include, source, "-o", program], check=True)
        done = subprocess.run([*emulator, program], capture_output=True, text=True, check=True)
        found[name] = done.stdout
    if len(found) < 2:
        pytest.skip(f"compilers for one kind of processor only: {', '.join(found)}")
    assert len(set(found.values())) == 1, found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "trap"),
    [
        ("gcc", "-fsanitize-undefined-trap-on-error"),
        ("clang", "-fsanitize-trap=undefined"),
    ],
)
def test_no_operation_of_the_engine_is_undefined(command, trap, tmp_path):
    if not shutil.which(command):
        pytest.skip(f"no {command} here")
    program = str(tmp_path / "bits")
    flags = [flag for flag in compiler.FLAGS if flag not in ("-shared", "-fPIC", "-O3")]
    source = str(Path(__file__).with_name("engine_bits.c"))
    include = f"-I{compiler.SOURCE.parent}"
    checks = ["-O1", "-fsanitize=undefined", trap, *compiler.instructions()]
    subprocess.run([command, *flags, *checks, include, source, "-o", program], check=True)
    assert subprocess.run([program], check=False).returncode == 0


def test_start_matrices_are_those_of_numpy_but_for_rounding():
    for shape in ((64, 64), (64, 4), (3, 50)):
        ours, theirs = (
            make(np.random.default_rng(1), *shape)
            for make in (library.orthogonal, random_orthogonal)
        )
        np.testing.assert_allclose(ours, theirs, atol=1e-13)


class FakeCompiler:
    """A script in place of a compiler: it copies a library, and notes that it ran."""

    def __init__(self, folder, ends_with):
        self.runs = folder / "runs"
        self.script = folder / "fakecc"
        self.script.write_text(f"#!/bin/sh\necho run >> {self.runs}\n{ends_with}\n")
        self.script.chmod(0o700)

    @property
    def count(self):
        return len(self.runs.read_text().splitlines()) if self.runs.exists() else 0


COPIES = 'while [ "$1" != "-o" ]; do shift; done; cp {} "$2"'


@pytest.fixture
def fresh(native, monkeypatch, tmp_path):
    """Loading from the start, with a compiler that is a script, and a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    library.found.cache_clear()
    yield lambda ends_with: FakeCompiler(tmp_path, ends_with)
    library.found.cache_clear()


def test_the_engine_is_compiled_once_and_again_when_the_file_is_damaged(
    native, fresh, monkeypatch, tmp_path
):
    fake = fresh(COPIES.format(native._name))
    monkeypatch.setenv("CC", f"{fake.script} -g")
    for _ in range(2):
        library.library()
        assert fake.count == 1
        library.found.cache_clear()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    damaged = compiler.cache() / next(compiler.compilers()).name
    damaged.write_bytes(b"not a library")
    library.library()
    assert fake.count == 2
    assert [*damaged.parent.glob("engine-*")] == [damaged]
    whole = damaged.read_bytes()
    for number, broken in enumerate((whole[:5000], whole[:-1], b"", whole[:-40] + whole[-39:])):
        damaged.unlink()  # this process has loaded it
        damaged.write_bytes(broken)
        assert not compiler.is_whole(damaged)
        library.found.cache_clear()
        library.library()  # a loader of the first one's beginning alone is killed by SIGBUS
        assert fake.count == 3 + number
        assert compiler.is_whole(damaged)


def test_of_two_that_look_at_once_one_compiles(native, fresh, monkeypatch):
    fake = fresh(f"sleep .2; {COPIES.format(native._name)}")
    monkeypatch.setenv("CC", str(fake.script))
    (one,) = compiler.compilers()
    with ThreadPoolExecutor(2) as pool:
        pair = [pool.submit(library._load, one) for _ in range(2)]
        assert [found.result()._name for found in pair] == [str(compiler.cache() / one.name)] * 2
    assert fake.count == 1


def test_a_cache_that_cannot_be_trusted_is_not_used(native, fresh, monkeypatch, tmp_path):
    fake = fresh(COPIES.format(native._name))
    monkeypatch.setenv("CC", str(fake.script))
    folder = tmp_path / "cache" / "p2pfrl"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    assert compiler.cache() is None
    library.library()
    assert [*folder.iterdir()] == []
    folder.chmod(0o700)
    monkeypatch.setenv("XDG_CACHE_HOME", str(Path(fake.script) / "no folder"))
    library.found.cache_clear()
    library.library()
    assert fake.count == 2


@pytest.mark.parametrize(
    ("ends_with", "reason"),
    [
        ("echo 'engine.c: no memory' >&2; exit 3", "fakecc failed: engine.c: no memory"),
        ("exit 0", "file too short|invalid ELF header"),
    ],
)
def test_a_broken_compiler_is_named_and_leaves_nothing(
    fresh, monkeypatch, tmp_path, ends_with, reason
):
    monkeypatch.setenv("CC", str(fresh(ends_with).script))
    with pytest.raises(EngineError, match=reason):
        library.library()
    with pytest.raises(ScenarioError, match=r"compute.engine: 'native' cannot be used here: "):
        trained(A2C(), "native")


def test_a_library_with_other_bits_is_refused(native, fresh, monkeypatch):
    monkeypatch.setenv("CC", str(fresh(COPIES.format(native._name)).script))
    monkeypatch.setattr(library, "_CHECK", "0123")
    with pytest.raises(EngineError, match="computes other numbers"):
        library.library()


def test_without_a_compiler_torch_is_recommended(fresh, monkeypatch):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ScenarioError, match=r"no C compiler was found: .*; .* or choose 'torch'"):
        trained(A2C(), "native")


def test_the_library_is_nobody_elses(native, fresh, monkeypatch, tmp_path):
    monkeypatch.setenv("CC", str(fresh(COPIES.format(native._name)).script))
    library.library()
    (made,) = (tmp_path / "cache" / "p2pfrl").glob("engine-*")
    for path in (made, made.parent):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o700


SCENARIO = """name = "native"
agents = 4
stop = {rounds = 2}
environment = {id = "cartpole"}
learner = {kind = "ppo", steps = 16, hidden = [16]}
evaluation = {episodes = 1}
compute = {engine = "native"}
"""


def test_a_run_says_its_engine_and_can_be_verified(tmp_path):
    file = tmp_path / "native.toml"
    file.write_text(SCENARIO)
    record = run(load(file), out=tmp_path / "run")
    assert record.summary["versions"]["engine"] == "native"
    other = run(load(file, overrides={"compute.engine": "torch"}))
    assert other.summary["versions"]["engine"] == "torch"
    assert other.summary["digest"] != record.summary["digest"]
    verdict = verify(tmp_path / "run")
    assert verdict.is_equal
    assert not verdict.changed


@pytest.mark.parametrize(
    ("overrides", "what"),
    [
        ({"learner": {"kind": "quadratic"}, "environment": None}, "no code for this learner"),
        ({"learner": {"kind": "dqn", "hidden": [8] * 9}}, "10 layers, 8 is the most"),
        ({"learner": {"kind": "deep_npg"}}, "no code for the loss of this learner"),
        ({"learner.memory": "gru", "learner.shared_trunk": True}, "other than dense layers"),
        ({"learner.hidden": [8] * 9}, "10 layers, 8 is the most"),
    ],
)
def test_what_the_engine_has_no_code_for_is_refused(tmp_path, overrides, what):
    file = tmp_path / "native.toml"
    file.write_text(SCENARIO)
    with pytest.raises(
        ScenarioError, match=f"compute.engine: 'native' has no code for .*{what}|{what}"
    ):
        run(load(file, overrides=overrides))


@pytest.mark.parametrize(
    ("learner", "engine"),
    [({"kind": "ppo"}, "native"), ({"kind": "dqn"}, "native"), ({"kind": "deep_npg"}, "torch")],
)
def test_auto_is_native_where_there_is_code(tmp_path, learner, engine):
    file = tmp_path / "native.toml"
    file.write_text(SCENARIO)
    scenario = load(file, overrides={"compute.engine": "auto", "learner": learner})
    stack = outline(scenario)
    assert stack.traits.engine == engine
    assert not any("engine" in note for note in notes(scenario))


def test_groups_may_have_an_engine_each_with_auto(tmp_path):
    file = tmp_path / "native.toml"
    others = """[[groups]]
agents = [2, 3]
learner = {kind = "deep_npg", hidden = [16]}
"""
    file.write_text(SCENARIO.replace('native"}', 'auto"}') + others)
    scenario = load(file)
    stack = outline(scenario)
    assert stack.traits.engine == "native and torch"
    with pytest.raises(ScenarioError, match="no code for the loss of this learner"):
        outline(load(file, overrides={"compute.engine": "native"}))


def test_auto_takes_torch_without_a_compiler_and_says_so(fresh, monkeypatch, tmp_path, capsys):
    file = tmp_path / "native.toml"
    file.write_text(SCENARIO.replace('native"}', 'auto"}'))
    monkeypatch.setenv("CC", "/nowhere/cc")
    assert outline(load(file)).traits.engine == "torch"
    why = "compute.engine: torch computes; 'native' cannot be used here: no C compiler was found"
    assert [note for note in notes(load(file)) if note.startswith(why)]
    assert main(["validate", str(file)]) == 0
    said = capsys.readouterr()
    assert (said.out + said.err).count(why) == 1
    assert run(load(file)).summary["versions"]["engine"] == "torch"


def test_a_kept_gradient_is_clipped_as_by_torch():
    learner = A2C(hidden=(16,), max_grad_norm=0.01)
    trainer = trained(learner, "native", gradient_only=True)
    trainer.update(range(3))
    norms = np.linalg.norm(trainer.state["gradient"], axis=1)
    np.testing.assert_allclose(norms, 0.01, rtol=1e-3)
    assert isinstance(trainer.stack.optimizer, Keep)
