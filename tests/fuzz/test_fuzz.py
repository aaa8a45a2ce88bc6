"""The fuzzer runs random cases around a scenario, finds what is wrong, and makes it small."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import planted
import pytest

from p2pfrl.cli import main
from p2pfrl.commands.arguments import BAD_USAGE, DONE, FAILED
from p2pfrl.core.errors import ScenarioError
from p2pfrl.exchange.privacy.gaussian import Gaussian
from p2pfrl.exchange.secure.members import AggregationMember
from p2pfrl.exchange.secure.sums import AggregationSums
from p2pfrl.fuzz import campaign as campaigns
from p2pfrl.fuzz.campaign import TABLE, Runner, campaign
from p2pfrl.fuzz.cases import Base, case
from p2pfrl.fuzz.checks import CHECKS
from p2pfrl.fuzz.execute import FAILED as BAD
from p2pfrl.fuzz.execute import PASSED, STOPPED, execute
from p2pfrl.fuzz.shrink import shrink
from p2pfrl.laws.runs import text
from p2pfrl.learning.trainer import Trainer
from p2pfrl.scenario import loads
from p2pfrl.scenario.render import to_toml

BASE = "consensus_ring"


def run(agents: int = 4, rounds: int = 4, **tables: Any) -> str:
    return execute(loads(text(agents, rounds, **tables)), thorough=True).kind


def test_a_seed_makes_the_same_case_whenever_it_is_made() -> None:
    base = Base.of(BASE)
    assert [to_toml(case(base, seed).values) for seed in range(3)] == [
        to_toml(case(base, seed).values) for seed in range(3)
    ]


@pytest.mark.parametrize(
    ("name", "seed", "agents"), [("ditto_goals", 24, 8), ("warehouse_torus", 53, 16)]
)
def test_a_case_keeps_the_number_of_agents_where_no_smaller_one_is_valid(
    name: str, seed: int, agents: int
) -> None:
    assert case(Base.of(name), seed).values["agents"] == agents


def test_cases_differ_in_mode_rules_and_faults() -> None:
    base = Base.of(BASE)
    made = [case(base, seed).values for seed in range(40)]
    assert {"gossip", "central"} <= {values["mode"] for values in made}
    assert any(values.get("faults") for values in made)
    assert any(values.get("attacks") for values in made)
    assert len({values.get("schedule", {}).get("kind") for values in made}) >= 3


def test_a_run_is_resumed_where_its_environments_can_be_saved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resumed: list[str] = []
    monkeypatch.setattr("p2pfrl.fuzz.execute._same", lambda name, *_: resumed.append(name))
    for id in ("CartPole-v1", "CliffWalking-v1"):
        learner = {"kind": "reinforce", "hidden": [2], "steps": 4}
        tables = {"learner": learner, "environment": {"id": id, "instances": 1, "max_steps": 3}}
        assert execute(loads(text(2, 3, **tables)), thorough=True).state == PASSED
    *of_arrays, of_gymnasium = resumed
    assert of_arrays[0] == of_gymnasium == "Again"
    assert "Again" not in of_arrays[1:]
    assert of_arrays[1:]


def test_what_is_right_passes_and_has_events() -> None:
    outcome = execute(loads(text(4, 4)), thorough=True)
    assert (outcome.state, outcome.kind) == (PASSED, "")
    assert outcome.events > 50


@pytest.mark.parametrize("seed", range(12))
def test_cases_pass(seed: int) -> None:
    outcome = execute(case(Base.of(BASE), seed).scenario, seed)
    assert outcome.state != BAD, outcome.why


PAIRWISE = {"mixing": {"kind": "pairwise"}, "schedule": {"kind": "asynchronous"}}
MATCHED = {"topology": {"kind": "random_matchings"}, "mixing": {"kind": "push_sum"}}
UNWEIGHTED = {"kind": "asynchronous", "staleness": {"kind": "constant"}}
SLOW = {"seconds_per_env_step": 0.01}
SHARES = {"kind": "secret_shares"}
CUT = {"kind": "loss", "at": 0.05753, "probability": 1.0}


@pytest.mark.parametrize(
    "tables",
    [
        {"agents": 3, **MATCHED},
        {"agents": 3, "schedule": UNWEIGHTED, "availability": {"dropout": 0.3}, **MATCHED},
        {"agents": 2, **PAIRWISE},
        pytest.param(
            {
                "agents": 2,
                "rounds": 6,
                "mode": "hierarchical",
                "compute": SLOW,
                "faults": (CUT, {"kind": "crash", "at": 0.14, "agents": ["coordinator"]}),
            },
            marks=pytest.mark.slow,
        ),
        {
            "agents": 2,
            "rounds": 6,
            "mode": "hierarchical",
            "compute": SLOW,
            "seed": 1761,
            "network": {"loss": 0.4},
            "faults": (
                {"kind": "crash", "at": 0.06149, "agents": ["coordinator"]},
                {"kind": "restart", "at": 0.18432, "agents": ["coordinator"]},
            ),
        },
        {
            "agents": 2,
            "rounds": 2,
            "seed": 30155,
            "compute": {"seconds_per_env_step": 0.002, "variation": {"kind": "exponential"}},
            "schedule": {"kind": "synchronous", "deadline": 0.008},
            "mixing": {"kind": "push_sum"},
        },
        {"faults": ({"at": 1e-4, "kind": "crash", "agents": ["coordinator"]},)},
        {
            "mode": "central",
            "faults": ({"at": 1e-4, "kind": "opt_out", "agents": [1]},),
            "coordinator": {"participation": {"kind": "poisson", "probability": 0.3}},
        },
        {"mode": "central", "seed": 3366, "network": {"loss": 0.4}, "secure": SHARES},
        {"agents": 2, "seed": 3751, "network": {"duplicate": 0.2}, **PAIRWISE},
        {
            "agents": 3,
            "rounds": 3,
            "seed": 4579,
            "mode": "central",
            "learner": {
                "dimension": 3,
                "lr": 0.03,
                "initial_spread": 1.0,
                "noise": 0.1,
                "steps": 2,
            },
            "topology": {"kind": "ring"},
            "compute": {
                "seconds_per_env_step": 0.002,
                "speed": {"kind": "cycle", "list": [1.0, 2.0, 5.0]},
            },
            "schedule": {"kind": "synchronous", "deadline": 0.008},
            "network": {
                "latency": 0.0,
                "jitter": 0.003,
                "loss": {"kind": "burst", "good_to_bad": 0.2, "bad_to_good": 0.5},
                "duplicate": 0.2,
                "peer_timeout": 0.02,
            },
            "coordinator": {"standbys": 2},
        },
    ],
    ids=(
        "odd_matchings",
        "sits_out",
        "own_updates_since_the_question",
        "after_its_end",
        "repeat",
        "push_sum_skips",
        "no_coordinator",
        "opts_out",
        "lost_phase",
        "copies_of_answers",
        "skip_of_who_knows_no_term",
    ),
)
def test_what_ten_thousand_seeds_found_holds(tables: dict[str, Any]) -> None:
    assert run(**tables) == ""


STANDBYS = {"mode": "central", "coordinator": {"standbys": 2}}
GARNET: dict[str, Any] = {"learner": {"kind": "softmax_pg"}, "environment": {"id": "garnet"}}


def office(kind: str, at: float, agents: object = ("coordinator",)) -> dict[str, Any]:
    return {"kind": kind, "at": at, "agents": agents}


@pytest.mark.parametrize(
    "tables",
    [
        {
            "agents": 4,
            "rounds": 1,
            "seed": 720003,
            "network": {"loss": 0.4},
            "availability": {"dropout": 0.5},
            "faults": (
                office("crash", 0.04646),
                office("restart", 0.099),
                {"kind": "partition", "at": 0.14875, "groups": [[3]]},
                {"kind": "heal", "at": 0.14918},
            ),
            **GARNET,
        },
        {
            "agents": 2,
            "rounds": 2,
            "seed": 10,
            "network": {"loss": 0.4, "peer_timeout": 0.02},
            "faults": (office("crash", 0.04646, [0]),),
        },
        {
            "agents": 2,
            "rounds": 2,
            "seed": 18,
            "schedule": {"deadline": 0.04},
            "network": {"loss": 0.4},
            "faults": (office("crash", 0.06149), office("restart", 0.18432)),
        },
        {
            "agents": 3,
            "rounds": 8,
            "seed": 768,
            "schedule": {"deadline": 0.008},
            "network": {"jitter": 0.003, "bandwidth": 20000.0},
            "compute": {"seconds_per_env_step": 0.002},
        },
        {
            "agents": 6,
            "rounds": 5,
            "seed": 1168,
            "network": {"loss": 0.4},
            "mixing": {"kind": "laplacian", "on_loss": "symmetric"},
        },
        {
            "agents": 2,
            "rounds": 4,
            "seed": 2752,
            "compute": {"seconds_per_env_step": 1.0},
            "network": {"peer_timeout": 0.3},
            "coordinator": {"standbys": 2, "fallback": "wait"},
            "gate": {"kind": "every", "tau": 1},
            "faults": (office("crash", 2.8),),
        },
        {
            "agents": 3,
            "rounds": 4,
            "seed": 93,
            "coordinator": {"standbys": 2, "fallback": "gossip"},
            "network": {"loss": 0.4},
            "compute": {"seconds_per_env_step": 0.1},
            "faults": (office("crash", 0.25), office("restart", 1.5)),
        },
        {
            "agents": 3,
            "rounds": 4,
            "coordinator": {"standbys": 2, "fallback": "wait"},
            "network": {"bandwidth": 20000.0, "peer_timeout": 0.05},
            "compute": {"seconds_per_env_step": 0.01},
            "faults": (
                office("crash", 0.2),
                office("restart", 0.5),
                office("crash", 0.75, ["standby0"]),
            ),
        },
    ],
    ids=(
        "first_model_of_a_term",
        "crash_before_the_first_term",
        "deadline_in_the_past",
        "gave_up",
        "draws_of_another_mode",
        "kept_frames_for_a_successor",
        "lost_by_a_neighbor",
        "a_round_ended_again",
    ),
)
def test_what_seeds_around_standbys_found_holds(tables: dict[str, Any]) -> None:
    assert run(**{**STANDBYS, **tables}) == ""


def test_who_waits_in_vain_for_updates_of_any_length_is_stopped_and_not_failed() -> None:
    tables: dict[str, Any] = {
        "schedule": {"kind": "synchronous", "deadline": 1e-6},
        "compressor": {"kind": "difference"},
        "compute": {"seconds_per_env_step": 0.01, "speed": {"kind": "cycle", "list": [1.0, 9.0]}},
    }
    assert execute(loads(text(3, 6, **tables))).state == BAD
    tables["compute"]["variation"] = {"kind": "exponential"}
    assert execute(loads(text(3, 6, **tables))).state == STOPPED


GONE = {"at": 1e-4, "kind": "crash", "agents": ["coordinator"]}
QUICK: tuple[tuple[Any, str, dict[str, Any]], ...] = (
    (planted.double_count, "Mass", {"mixing": {"kind": "push_sum"}}),
    (planted.own_degree, "Mixed", {"topology": {"kind": "star"}}),
    (planted.uncounted_drops, "Counted", {"network": {"loss": 0.5}}),
    (planted.digest_of_events_alone, "Digest", {}),
    (planted.one_left_out, "Aggregated", {"mode": "central"}),
    (planted.trained_twice, "Trained", {}),
    (
        planted.no_timer,
        "DeadlockError",
        {"mode": "central", "faults": (GONE,)},
    ),
    (planted.takes_anything, "Refused", {"attacks": ({"kind": "nan", "agents": [0]},)}),
)
PRIVATE = {
    "exchange": {"payload": "delta"},
    "privacy": {"kind": "clip_noise", "clip": 0.01},
    "mode": "central",
}


@pytest.mark.parametrize(("plant", "kind", "tables"), QUICK)
def test_a_planted_bug_is_found_by_its_check(
    plant: Any, kind: str, tables: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(**tables) == ""
    plant(monkeypatch)
    assert run(**tables) == kind


def test_a_clip_that_is_not_applied_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(**PRIVATE) == ""
    monkeypatch.setattr(Gaussian, "clipped", lambda self, change: change.copy())
    assert run(**PRIVATE) == "Released"


SECRET = {"mode": "central", "secure": {"kind": "secure_aggregation"}}


def test_a_vector_without_masks_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(**SECRET) == ""
    monkeypatch.setattr(AggregationMember, "_masks", lambda self: [])
    monkeypatch.setattr(AggregationSums, "_unmask", lambda self, total, living, answers: None)
    assert run(**SECRET) == "Hidden"


@pytest.mark.parametrize("is_discrete", [True, False])
def test_keys_of_secure_sums_need_no_paid_release(is_discrete: bool) -> None:
    noise = {"kind": "distributed_noise", "clip": 1.0, "parts": 3, "discrete": is_discrete}
    assert run(**SECRET, exchange={"payload": "delta"}, privacy=noise) == ""


def test_a_secure_sum_that_lacks_a_vector_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    unmask = AggregationSums._unmask

    def lacking(self: Any, total: Any, living: Any, answers: Any) -> None:
        unmask(self, total, living, answers)
        total += 2**40

    monkeypatch.setattr(AggregationSums, "_unmask", lacking)
    assert run(**SECRET) == "Summed"


def test_a_traceback_is_a_failure_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainer, "commit", lambda self, agent: {}[agent])
    outcome = execute(loads(text(2, 1)))
    assert outcome.state == BAD
    assert outcome.kind.startswith("KeyError in test_fuzz.py")
    assert "Traceback" not in outcome.kind


def test_a_slow_run_passes_and_one_that_stands_still_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    commit = Trainer.commit

    def slow(self: Trainer, agent: int) -> Any:
        end = time.process_time() + 0.1
        while time.process_time() < end:
            pass
        return commit(self, agent)

    monkeypatch.setattr("p2pfrl.fuzz.execute.LIMIT", 0.2)
    monkeypatch.setattr(Trainer, "commit", slow)
    began = time.process_time()
    assert execute(loads(text(2, 10))).state == PASSED
    assert time.process_time() - began > 4 * 2 * 0.2

    def still(self: Trainer, agent: int) -> Any:
        while True:
            pass

    monkeypatch.setattr(Trainer, "commit", still)
    outcome = execute(loads(text(2, 10)))
    assert (outcome.state, outcome.kind) == (BAD, "Progress")
    assert outcome.why.startswith("Progress: no event for 0.4 s of processor time, after ")
    assert "in still" in outcome.why


def test_shrinking_ends_with_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[dict[str, Any]] = []

    def fails(tables: dict[str, Any]) -> bool:
        tried.append(tables)
        return True

    monkeypatch.setattr("p2pfrl.fuzz.shrink.MOST_SECONDS", -1.0)
    values = {"name": "x", "agents": 8, "stop": {"rounds": 9}, "learner": {"kind": "quadratic"}}
    assert shrink(values, fails) == values
    assert not tried


def test_shrinking_keeps_what_fails_and_drops_the_rest() -> None:
    values = {
        "name": "x",
        "agents": 8,
        "stop": {"rounds": 9},
        "learner": {"kind": "quadratic", "dimension": 5, "lr": 0.1},
        "network": {"loss": 0.1, "jitter": 0.2},
        "faults": [{"kind": "heal", "at": 1.0}, {"kind": "crash", "at": 2.0, "agents": [1, 3]}],
    }

    def fails(tables: dict[str, Any]) -> bool:
        faults = tables.get("faults", [])
        if "rounds" not in tables["stop"]:
            return False
        crashes = any("agents" in fault and 3 in fault["agents"] for fault in faults)
        return crashes and "loss" in tables.get("network", {}) and tables["agents"] > 3

    assert fails(values)
    assert shrink(values, fails) == {
        "name": "x",
        "agents": 4,
        "stop": {"rounds": 1},
        "learner": {"kind": "quadratic"},
        "network": {"loss": 0.1},
        "faults": [{"kind": "crash", "agents": [3]}],
    }


def planted_campaign(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> dict[str, Any]:
    planted.trained_twice(monkeypatch)
    monkeypatch.setattr(campaigns, "shrink", lambda values, fails: shrink(values, fails, 25))
    code = main(["fuzz", BASE, "--seed", "0", "--out", str(folder), "--json", "--quiet"])
    assert code == FAILED
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_failure_is_written_with_the_command_that_runs_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "found"
    found = planted_campaign(folder, monkeypatch, capsys)
    (failure,) = found["failed"]
    assert failure["kind"] == "Trained"
    file = Path(failure["file"])
    assert f"# p2pfrl fuzz {file} --replay" in file.read_text("utf-8")
    assert (folder / TABLE).read_text("utf-8").splitlines()[2].startswith("0,failed,")
    assert main(["fuzz", str(file), "--replay"]) == FAILED
    assert capsys.readouterr().out == f"failed: {failure['why']}\n"
    assert f"# {failure['why']}\n" in file.read_text("utf-8")
    again = campaign(BASE, [0], folder, resume=True)
    assert [(result.kind, result.why) for result in again.failures] == [("Trained", failure["why"])]
    monkeypatch.undo()
    assert main(["fuzz", str(file), "--replay"]) == DONE


def test_a_campaign_goes_on_where_it_was_and_refuses_another_scenario(tmp_path: Path) -> None:
    first = campaign(BASE, range(2), tmp_path)
    assert first.counts[PASSED] == first.done == 2
    second = campaign(BASE, range(3), tmp_path, resume=True)
    assert (second.done, second.counts[PASSED], second.is_whole) == (1, 3, True)
    with pytest.raises(ScenarioError, match="--resume keeps the seeds that are done"):
        campaign(BASE, range(2), tmp_path)
    with pytest.raises(ScenarioError, match="expected '# p2pfrl"):
        campaign(BASE, range(2), tmp_path, overrides={"seed": 9}, resume=True)


def test_an_interrupt_ends_a_campaign_with_what_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Runner.run

    def run_one(self: Runner, seed: int) -> Any:
        if seed == 1:
            raise KeyboardInterrupt
        return before(self, seed)

    monkeypatch.setattr(Runner, "run", run_one)
    found = campaign(BASE, range(3), tmp_path)
    assert (found.is_whole, found.done) == (False, 1)
    assert "0,passed" in (tmp_path / TABLE).read_text("utf-8")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--replay", "--seed", "1"], "--replay: the file itself is run"),
        (["--resume"], "--resume: expected --out"),
        (["--jobs", "0"], "--jobs: expected at least 1 process, got 0"),
        (["--seeds", "5-1"], "--seeds: expected ascending seeds"),
        (["--out", "none", "--set", "learnr.lr=1"], "--set learnr: unknown key; did you mean"),
        (["--seeds", "0", "--out", "tests"], "tests: expected an empty directory or a campaign"),
    ],
)
def test_bad_usage_is_said(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fuzz", BASE, *words]) == BAD_USAGE
    assert said in capsys.readouterr().err


def test_every_check_says_its_invariant() -> None:
    assert all(check.says for check in CHECKS)


@pytest.mark.slow
def test_seeds_of_two_processes_are_those_of_one(tmp_path: Path) -> None:
    alone, two = (campaign(BASE, range(20), tmp_path / str(j), jobs=j) for j in (1, 2))
    assert alone.counts == two.counts


@pytest.mark.slow
@pytest.mark.parametrize("plant", planted.PLANTS, ids=lambda plant: plant.plant.__name__)
# A case that does not end may be stopped in the callback of the garbage collector in conftest.py.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_every_planted_bug_is_found(plant: planted.Plant) -> None:
    assert planted.find(plant) is not None
