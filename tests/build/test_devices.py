"""`compute.device = "auto"`: what it chooses, that it chooses once, and that the record says it.

No machine with a GPU is needed: "cuda" is torch's own processor here, by the same code.
"""

import json
import warnings
from pathlib import Path

import pytest

import p2pfrl
from p2pfrl.build import devices
from p2pfrl.build.assembly import Assembly
from p2pfrl.build.devices import Choice, chosen, keep, kept, measured, using
from p2pfrl.core.errors import P2PFRLError, RecordError, ScenarioWarning
from p2pfrl.deploy.collect import collect
from p2pfrl.deploy.process import Place, deploy
from p2pfrl.learning import gpu
from p2pfrl.net.mesh import Security, Timing
from p2pfrl.scenario import Scenario, loads

TEXT = """
name = "device"
agents = 3
stop = {rounds = 3}
environment = {id = "cartpole", instances = 2}
learner = {kind = "ppo", hidden = [4], steps = 8}
evaluation = {episodes = 0}
compute = {device = "auto"}
"""


def scenario(**overrides: object) -> Scenario:
    named = {key.replace("__", "."): value for key, value in overrides.items()}
    return loads(TEXT, named)


def fast(device: str):
    """Return what measures that a device is the fastest."""
    return lambda own, agents: 1.0 if own.compute.device == device else 2.0


def never(own: Scenario, agents: int) -> float:
    raise AssertionError("nothing is to be measured")


@pytest.fixture
def with_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torch's processor pass for a GPU."""
    monkeypatch.setattr(devices, "lacking", lambda: "")
    monkeypatch.setattr("p2pfrl.learning.device.available", lambda device: "cpu")


def test_without_a_gpu_it_is_the_processor_and_torch_is_not_asked(monkeypatch):
    class Untouched:
        def __getattr__(self, name: str) -> object:
            raise AssertionError(f"torch.{name}")

    monkeypatch.setattr(gpu, "torch", Untouched())
    monkeypatch.setattr(gpu.sys, "platform", "linux")
    assert gpu.lacking(["/nowhere/nvidia0"]) == "this machine has no GPU"
    monkeypatch.setattr(gpu.sys, "platform", "darwin")
    assert gpu.lacking() == "torch has no CUDA on this system"


def test_where_a_driver_is_torch_says_whether_it_sees_a_gpu(monkeypatch, tmp_path):
    monkeypatch.setattr(gpu.sys, "platform", "linux")
    for sees, found in ((True, ""), (False, "torch sees no GPU here")):
        monkeypatch.setattr(gpu.torch.cuda, "is_available", lambda sees=sees: sees)
        assert gpu.lacking([str(tmp_path)]) == found


def test_a_run_without_a_gpu_is_that_of_the_processor(monkeypatch, tmp_path):
    monkeypatch.setattr(devices, "lacking", lambda: "this machine has no GPU")
    monkeypatch.setattr(devices, "measured", never)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ScenarioWarning)
        found = p2pfrl.run(scenario(), out=tmp_path, workers=2)
    named = p2pfrl.run(scenario(compute__device="cpu"))
    assert found.summary["digest"] == named.summary["digest"]
    assert found.summary["device"] == {"name": "cpu", "why": "this machine has no GPU"}
    assert found.summary["workers"] == 2
    assert "device" not in named.summary
    assert p2pfrl.verify(tmp_path).is_equal


@pytest.mark.usefixtures("with_gpu")
def test_the_faster_device_is_chosen_and_the_times_are_said():
    for device in ("cpu", "cuda"):
        found = chosen(scenario(), 1024, fast(device))
        assert found.name == device
        times = {"cpu": 1.0, "cuda": 2.0} if device == "cpu" else {"cpu": 2.0, "cuda": 1.0}
        assert found.record["seconds"] == times
        assert found.record["agents"] == 1024
        first, second = times.values()
        why = f"an update of 1,024 agents takes {first:g} s on 'cpu' and {second:g} s on 'cuda'"
        assert found.said == f"compute.device: 'auto' is '{device}': {why}"
    assert chosen(scenario(), 4, lambda own, agents: 1.0).name == "cpu", "as fast is not faster"
    for named in ("cpu", "cuda"):
        assert chosen(scenario(compute__device=named), 4, never) == Choice(named)
        assert not chosen(scenario(compute__device=named), 4, never).record


@pytest.mark.usefixtures("with_gpu")
@pytest.mark.parametrize(
    ("overrides", "agents", "why"),
    [
        ({"compute.engine": "native"}, 3, "engine 'native' computes on the processor"),
        ({}, 0, "no agent trains in this process"),
        ({"environment": {"id": "FrozenLake-v1"}}, 3, "keep what no array holds"),
        ({"learner": {"kind": "dqn"}}, 3, "'cuda': only ppo, a2c and reinforce"),
        ({"learner": {"kind": "a2c", "optimizer": "rmsprop"}}, 3, "no code for optimizer rmsprop"),
        ({"mode": "pooled"}, 3, "agents of this mode collect experience and do not learn"),
        ({"learner.lr": 1e38}, 3, "an update on 'cuda' failed: "),
    ],
)
def test_the_processor_computes_where_nothing_else_can_and_the_reason_is_said(
    overrides, agents, why, monkeypatch
):
    own = loads(TEXT, overrides)
    found = chosen(own, agents)
    assert found.name == "cpu"
    assert why in found.why
    assert "use 'cpu'" not in found.why
    assert found.said.startswith("compute.device: 'auto' is 'cpu': ")
    assert not found.seconds


@pytest.mark.usefixtures("with_gpu")
def test_an_error_of_the_driver_is_a_reason():
    def broken(own: Scenario, agents: int) -> float:
        raise RuntimeError("CUDA error: out of memory")

    assert "RuntimeError: CUDA error: out of memory" in chosen(scenario(), 3, broken).why


@pytest.mark.usefixtures("with_gpu")
def test_what_is_measured_is_an_update_on_the_device_that_is_named(monkeypatch):
    ticks, taken = iter(range(1000)), list[tuple[str, int]]()
    update = devices.Trainer.update

    def counted(self, agents):
        taken.append((self.stack.traits.engine, len(agents)))
        return update(self, agents)

    monkeypatch.setattr(devices.Trainer, "update", counted)
    monkeypatch.setattr(devices.time, "perf_counter", lambda: float(next(ticks)))
    monkeypatch.setattr("p2pfrl.learning.learners.on_policy._ON_DEVICE", 2)
    for device, engine, size in (("cpu", {"native", "torch"}, 3), ("cuda", {"torch on cuda"}, 2)):
        taken.clear()
        assert measured(scenario(compute__device=device), 3) == 3 / size
        assert len(taken) == 4, "one to become warm, and three"
        assert {found for found, _ in taken} <= engine
        assert {found for _, found in taken} == {size}


@pytest.mark.usefixtures("with_gpu")
def test_a_run_chooses_once_and_is_repeated_with_what_it_chose(monkeypatch, tmp_path):
    monkeypatch.setattr(devices, "measured", fast("cuda"))
    with pytest.warns(ScenarioWarning, match="'auto' is 'cuda': an update of 3 agents") as said:
        found = p2pfrl.run(scenario(), out=tmp_path)
    assert len(said) == 1
    assert found.summary["versions"]["engine"] == "torch on cuda"
    assert found.summary["device"]["name"] == "cuda"
    assert found.summary["device"]["seconds"] == {"cpu": 2.0, "cuda": 1.0}
    assert 'device = "auto"' in (tmp_path / "scenario.toml").read_text()
    monkeypatch.setattr(devices, "measured", never)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ScenarioWarning)
        verdict = p2pfrl.verify(tmp_path)
        named = p2pfrl.run(scenario(compute__device="cuda"))
    assert verdict.is_equal
    assert not verdict.changed
    assert named.summary["digest"] == found.summary["digest"]
    monkeypatch.setattr(devices, "measured", fast("cpu"))
    with pytest.warns(ScenarioWarning, match="'auto' is 'cpu'"):
        there = p2pfrl.run(scenario())
    assert there.summary["digest"] != found.summary["digest"], "results depend on the device"


@pytest.mark.usefixtures("with_gpu")
def test_a_run_goes_on_with_what_it_chose(monkeypatch, tmp_path):
    monkeypatch.setattr(devices, "measured", fast("cuda"))
    own = scenario(checkpoint__every=1)

    def interrupt(row) -> None:
        if row["round"] == 2:
            raise KeyboardInterrupt

    with pytest.warns(ScenarioWarning, match="'auto' is 'cuda'"):
        whole = p2pfrl.run(own)
    with pytest.warns(ScenarioWarning, match="'auto' is 'cuda'"):
        p2pfrl.run(own, out=tmp_path, progress=interrupt)
    monkeypatch.setattr(devices, "measured", never)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ScenarioWarning)
        found = p2pfrl.resume(tmp_path)
    assert found.summary["digest"] == whole.summary["digest"]
    assert found.summary["device"] == whole.summary["device"]


@pytest.mark.usefixtures("with_gpu")
def test_on_a_device_there_are_no_workers(monkeypatch):
    monkeypatch.setattr(devices, "measured", fast("cuda"))
    with pytest.warns(ScenarioWarning) as said:
        found = p2pfrl.run(scenario(), workers=2)
    assert found.summary["workers"] == 1
    assert any("a process uses one device" in str(one.message) for one in said)


@pytest.mark.usefixtures("with_gpu")
def test_newcomers_learn_on_the_device_of_the_run(monkeypatch, tmp_path):
    monkeypatch.setattr(devices, "measured", fast("cuda"))
    more = {"episodes": 1, "newcomers": 1, "adaptation": 2}
    with pytest.warns(ScenarioWarning, match="'auto' is 'cuda'"):
        found = p2pfrl.run(scenario(evaluation=more), out=tmp_path)
    named = p2pfrl.run(scenario(evaluation=more, compute__device="cuda"))
    assert found.summary["newcomers"] == named.summary["newcomers"]
    assert p2pfrl.verify(tmp_path).is_equal


@pytest.mark.usefixtures("with_gpu")
def test_a_process_chooses_for_its_agents_once_and_goes_on_with_it(monkeypatch, tmp_path):
    asked: list[int] = []

    def measure(own: Scenario, agents: int) -> float:
        asked.append(agents)
        return fast("cuda")(own, agents)

    def process(out: Path, text: str = TEXT) -> dict:
        place = Place((0, 1, 2), lead=True, rendezvous=("127.0.0.1", 0))
        timing = Timing(start=30.0)
        deploy(loads(text), place, out, security=Security(), timing=timing, quiet=True)
        return json.loads((out / "peer.json").read_text())

    monkeypatch.setattr(devices, "measured", measure)
    first = process(tmp_path / "a")
    assert asked == [3, 3]
    assert first["device"]["name"] == "cuda"
    assert first["versions"]["engine"] == "torch on cuda"
    monkeypatch.setattr(devices, "measured", never)
    (tmp_path / "a" / "peer.json").unlink()  # as if it had been killed
    again = process(tmp_path / "a")
    assert again["device"] == first["device"]
    assert again["versions"]["engine"] == "torch on cuda"
    record = collect([tmp_path / "a"], tmp_path / "both")
    assert record.summary["versions"]["engine"] == "torch on cuda"
    assert record.summary["peers"][0]["device"] == first["device"]
    assert "device" not in record.summary, "each process has its own"
    verdict = p2pfrl.verify(tmp_path / "both")
    assert verdict.is_equal, verdict


def test_a_file_with_a_choice_is_checked(tmp_path):
    choice = Choice("cuda", "because", {"cpu": 2.0, "cuda": 1.0}, 7)
    assert kept(tmp_path) is None
    keep(Choice("cpu"), tmp_path)
    assert kept(tmp_path) is None, "nothing was chosen"
    keep(choice, tmp_path)
    assert kept(tmp_path) == choice
    for bad in ('{"name": "tpu", "why": ""}', "[]", "{", '{"name": "cpu"}'):
        (tmp_path / devices.FILE).write_text(bad)
        with pytest.raises(RecordError, match=r"device\.json: damaged"):
            kept(tmp_path)


def test_what_is_known_ends_with_its_block(monkeypatch):
    monkeypatch.setattr(devices, "lacking", lambda: "")
    with using(Choice("cuda")):
        assert chosen(scenario(), 3, never) == Choice("cuda")
        assert chosen(scenario(compute__device="cpu"), 3, never) == Choice("cpu")
    with pytest.raises(AssertionError):
        assert chosen(scenario(), 3, never).name == "cuda"


def test_a_repeat_needs_the_device_that_was_chosen(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with using(Choice("cuda")), pytest.raises(P2PFRLError, match="torch sees no GPU here"):
        Assembly(scenario())
