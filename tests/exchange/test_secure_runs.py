"""Secure sums in whole runs: the models are those of a plain mean, and nobody sees a vector."""

import re

import numpy as np
import pytest

import p2pfrl
from p2pfrl.build import assembly
from p2pfrl.build.preview import preview
from p2pfrl.build.secure import Simulated, simulated_keyring
from p2pfrl.core.errors import ScenarioError
from p2pfrl.exchange.secure.hiding import OfCircle
from p2pfrl.exchange.secure.keys import public_of
from p2pfrl.exchange.secure.sums import Sums
from p2pfrl.scenario import loads

BASE = """
name = "sums"
agents = 5
mode = "central"
stop = {rounds = 3}
learner = {kind = "quadratic", dimension = 4, noise = 0.1, initial_spread = 1.0, lr = 0.1}
compute = {seconds_per_env_step = 0.002}
"""
KINDS = ("secret_shares", "secure_aggregation")
AGGREGATION = 'secure = {kind = "secure_aggregation"}\n'
GENTLE = BASE.replace("agents = 5", "agents = 7").replace("rounds = 3", "rounds = 6")


def secure(kind, **options):
    more = "".join(f", {name} = {value}" for name, value in options.items())
    return f'secure = {{kind = "{kind}"{more}}}\n'


SCENES = {
    "parameters": "",
    "delta": 'exchange = {payload = "delta"}\ncoordinator = {server_optimizer = {kind = "adam"}}\n',
    "gradient": 'exchange = {payload = "gradient"}\n'
    'coordinator = {server_optimizer = {kind = "sgd", lr = 0.1}}\n',
    "some": 'coordinator = {participation = {kind = "uniform", fraction = 0.8}}\n',
    "samples": 'coordinator = {aggregator = {kind = "mean", weights = "samples"}}\n'
    'work = {assign = "speed", most = 3}\n',
    "twice": "network = {duplicate = 0.3}\n",
    "absent": "availability = {dropout = 0.15}\nseed = 5\n",
}


@pytest.mark.parametrize(
    ("kind", "scene"),
    [
        *(("secure_aggregation", scene) for scene in SCENES),
        *(("secret_shares", scene) for scene in ("parameters", "samples")),
    ],
)
def test_models_are_those_of_a_plain_mean_up_to_rounding(kind, scene):
    plain = p2pfrl.run(loads(BASE + SCENES[scene]))
    hidden = p2pfrl.run(loads(BASE + SCENES[scene] + secure(kind)))
    assert np.abs(hidden.parameters - plain.parameters).max() < 3 * 2.0**-32
    assert hidden.summary["secure"]["sums"] == 3
    assert hidden.summary["rounds"] == 3


def test_fewer_bits_round_by_half_of_the_last():
    plain = p2pfrl.run(loads(BASE))
    hidden = p2pfrl.run(loads(BASE + secure("secret_shares", fraction_bits=10)))
    difference = np.abs(hidden.parameters - plain.parameters).max()
    assert 2.0**-16 < difference < 3 * 2.0**-11
    assert hidden.summary["secure"]["rounding"] == 2.0**-11


def test_numbers_beyond_the_bound_are_cut_off():
    hidden = p2pfrl.run(loads(BASE + secure("secret_shares", clip=0.01)))
    assert np.abs(hidden.parameters).max() <= 0.01 + 2.0**-32


@pytest.mark.parametrize("kind", KINDS)
def test_models_do_not_depend_on_the_keys(kind, monkeypatch):
    scenario = loads(BASE + secure(kind))
    first = p2pfrl.run(scenario)
    again = p2pfrl.run(scenario)
    other = simulated_keyring(99)
    monkeypatch.setattr(assembly, "simulated_keyring", lambda seed: other)
    with_others = p2pfrl.run(scenario)
    assert again.summary["digest"] == first.summary["digest"]
    assert with_others.summary["digest"] != first.summary["digest"]
    assert with_others.parameters.tolist() == first.parameters.tolist()


def test_a_coordinator_gets_uniform_numbers(monkeypatch):
    seen = []
    take = Sums.take
    monkeypatch.setattr(
        Sums, "take", lambda self, vectors: (seen.extend(vectors.values()), take(self, vectors))[1]
    )
    wide = BASE.replace("dimension = 4", "dimension = 400").replace("rounds = 3", "rounds = 1")
    p2pfrl.run(loads(wide + AGGREGATION))
    assert len(seen) == 10  # each is taken when it arrives, and when its sum is made
    for vector in seen:
        bits = np.unpackbits(np.ascontiguousarray(vector).view(np.uint8))
        assert bits.mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    ("scene", "lost"),
    [
        ('faults = [{at = "9ms", kind = "crash", agents = [2]}]\n', 0),
        (
            'faults = [{at = "9ms", kind = "crash", agents = [2]}, '
            '{at = "20ms", kind = "restart", agents = [2]}]\n',
            0,
        ),
        (
            'faults = [{at = "9ms", kind = "crash", agents = ["coordinator"]}, '
            '{at = "30ms", kind = "restart", agents = ["coordinator"]}]\n',
            1,
        ),
        ('faults = [{at = "9ms", kind = "crash", agents = [0, 2, 4]}]\n', 6),
        ("network = {loss = 0.05}\n", 3),
        ("schedule = {quorum = 0.8}\n", 0),
    ],
    ids=["crash", "restart", "coordinator", "too_few", "loss", "quorum"],
)
def test_runs_go_on_whatever_stays_away(scene, lost):
    """Where too few are left the round is given up, and the model stays."""
    deadline = 'schedule = {deadline = "40ms"}\n' if "schedule" not in scene else ""
    record = p2pfrl.run(loads(GENTLE + deadline + scene + AGGREGATION))
    found = record.summary["secure"]
    assert record.summary["rounds"] == 6
    assert record.summary["stopped_by"] == "rounds"
    assert 0 <= sum(found["given_up"].values()) <= lost
    assert found["sums"] + sum(found["given_up"].values()) == 6
    assert found["sums"] >= (1 if lost == 6 else 3)
    assert np.isfinite(record.parameters).all()


@pytest.mark.parametrize("loss", [0.0, 0.1])
@pytest.mark.parametrize("seed", [1, 2])
def test_agents_that_leave_a_round_after_a_phase_are_not_waited_for(seed, loss):
    """Latencies differ by so much that a skip arrives before the last message of a phase."""
    spread = f'loss = {loss}, latency = {{kind = "lognormal", median = "10ms", sigma = 1.5}}'
    noise = 'kind = "distributed_noise", clip = 1.0, noise_multiplier = 2.0, delta = 1e-3'
    scene = (
        f"seed = {seed}\nnetwork = {{{spread}}}\n"
        'exchange = {payload = "delta"}\nschedule = {deadline = "1s"}\n'
        f"privacy = {{{noise}, parts = 4, budget = 2.5}}\n"
    )
    found = p2pfrl.run(loads(GENTLE + scene + secure("secure_aggregation", minimum=4))).summary
    assert (found["rounds"], found["stopped_by"]) == (6, "rounds")
    assert found["secure"]["given_up"]["too_few"] >= 3, "the budget is for two releases"


def test_an_agent_that_dies_with_its_vector_sent_is_in_the_sum_or_not_at_all(monkeypatch):
    """The mean is over those whose vectors arrived: nobody counts by half."""
    counts = []
    finish = Sums.finish

    def counted(self, answers):
        total, count = finish(self, answers)
        counts.append(count)
        return total, count

    monkeypatch.setattr(Sums, "finish", counted)
    for at in (7, 9, 11, 13):
        scene = f'faults = [{{at = "{at}ms", kind = "crash", agents = [2]}}]\n'
        deadline = 'schedule = {deadline = "20ms"}\n'
        p2pfrl.run(
            loads(GENTLE.replace("rounds = 6", "rounds = 2") + deadline + scene + AGGREGATION)
        )
    assert set(counts) == {6, 7}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ('coordinator = {aggregator = {kind = "median"}}\n', "the vector of every agent, not"),
        (
            'coordinator = {aggregator = {kind = "mean", weights = "speed"}}\n',
            "the vector of every agent, not",
        ),
        (
            'coordinator = {participation = {kind = "weighted"}}\n',
            "numbers of an agent's own in the clear",
        ),
        ('compressor = {kind = "qsgd"}\n', "vectors that add up without being opened"),
        ('gate = {kind = "norm", threshold = 0.1}\n', "whether a gate opens says"),
        ('attacks = [{kind = "sign_flip", agents = [1]}]\n', "the vector of every agent, not"),
        (
            'exchange = {payload = "delta"}\nprivacy = {kind = "central_noise", clip = 1.0}\n',
            "the vector of every agent, not",
        ),
        ('schedule = {kind = "asynchronous"}\n', "a synchronous schedule"),
        ("coordinator = {standbys = [0, 1]}\n", "leave the standbys out"),
        ('coordinator = {participation = {kind = "uniform", fraction = 0.4}}\n', "2 take part"),
    ],
)
def test_rules_that_look_at_single_vectors_are_refused(more, said):
    with pytest.raises(ScenarioError, match=said):
        loads(BASE + more + AGGREGATION)


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        (BASE.replace("central", "gossip"), "one coordinator"),
        (BASE.replace("central", "pooled"), "agents send experience in mode pooled"),
        (
            BASE.replace("central", "hierarchical"),
            "one coordinator",
        ),
        (BASE.replace("agents = 5", "agents = 2"), "sums need 3 agents, and 2 take part"),
    ],
)
def test_modes_and_sizes_without_such_sums_are_refused(toml, said):
    with pytest.raises(ScenarioError, match=said):
        loads(toml + AGGREGATION)


@pytest.mark.parametrize("clip", [2.0**29 - 1, 1e19, 1e30, 3e38])
def test_a_ring_that_could_overflow_is_refused_with_the_largest_clip_that_works(clip):
    large = BASE.replace("agents = 5", "agents = 9")
    with pytest.raises(ScenarioError, match="sums of 9 agents' vectors would overflow") as refused:
        loads(large + secure("secret_shares", clip=clip, fraction_bits=31))
    found = re.search(r"lower clip to at most ([0-9.e+]+)", str(refused.value))
    assert found
    assert float(found[1]) == pytest.approx((2**63 - 1) / 9 * 2.0**-31, rel=1e-3)
    loads(large + secure("secret_shares", clip=float(found[1]), fraction_bits=31))
    bits = re.search(r"fraction_bits to at most (\d+)", str(refused.value))
    assert (bits is None) == (clip * 9 >= 2.0**63)
    if bits:
        loads(large + secure("secret_shares", clip=clip, fraction_bits=int(bits[1])))


def test_a_clip_that_makes_every_number_zero_is_refused():
    with pytest.raises(ScenarioError, match=r"secure.clip: .* every vector would become zeros"):
        loads(BASE + secure("secret_shares", clip=1e-4, fraction_bits=10))
    loads(BASE + secure("secret_shares", clip=1e-3, fraction_bits=10))


def test_noise_of_an_agent_s_own_and_secure_sums_go_together():
    noise = 'privacy = {kind = "clip_noise", clip = 1.0, noise_multiplier = 2.0}\n'
    toml = BASE + 'exchange = {payload = "delta"}\n' + noise
    plain, hidden = p2pfrl.run(loads(toml)), p2pfrl.run(loads(toml + AGGREGATION))
    assert np.abs(hidden.parameters - plain.parameters).max() < 3 * 2.0**-32
    assert hidden.summary["privacy"]["epsilon"] == plain.summary["privacy"]["epsilon"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_preview_says_what_is_promised_and_what_it_costs(kind):
    found = preview(loads(BASE + secure(kind)))
    record = p2pfrl.run(loads(BASE + secure(kind)))
    last = 5  # the last model has no answer
    assert found["messages_per_round"] * 3 + last == record.summary["messages_sent"]
    assert found["bytes_per_round"] * 3 == pytest.approx(record.summary["bytes_sent"], rel=0.05)
    assert found["secure"]["agents_needed"] == 4
    assert record.summary["secure"]["keys"].startswith("simulated")


def test_a_mode_without_messages_ignores_secure_sums():
    alone = loads(BASE.replace("central", "independent") + AGGREGATION)
    assert "secure" not in p2pfrl.run(alone).summary


# Between neighbors

GOSSIP = BASE.replace("central", "gossip").replace("agents = 5", "agents = 8")
MASKS = 'secure = {kind = "neighborhood_masks"}\n'
GRAPHS = {
    "complete": 'topology = {kind = "complete"}\n',
    "regular": 'topology = {kind = "random_regular", degree = 4}\n',
    "one-way": 'topology = {kind = "exponential"}\nmixing = {kind = "uniform"}\n',
    "before training": 'topology = {kind = "complete"}\n'
    'exchange = {order = "combine_while_adapting"}\n',
    "restart": 'topology = {kind = "complete"}\nschedule = {deadline = "1s"}\n'
    'faults = [{at = "5ms", kind = "crash", agents = [2]}, '
    '{at = "30ms", kind = "restart", agents = [2]}]\n',
}


@pytest.mark.parametrize("name", GRAPHS)
def test_neighbors_mix_as_without_masks_up_to_rounding(name):
    plain = p2pfrl.run(loads(GOSSIP + GRAPHS[name]))
    hidden = p2pfrl.run(loads(GOSSIP + GRAPHS[name] + MASKS))
    assert np.abs(hidden.parameters - plain.parameters).max() < 3 * 8 * 2.0**-33


def test_what_neighbors_send_is_uniform_and_differs_by_receiver(monkeypatch):
    seen = []
    hide = OfCircle.hide

    def kept(self, vector, turn, to):
        made = hide(self, vector, turn, to)
        seen.append(made.copy())
        return made

    monkeypatch.setattr(OfCircle, "hide", kept)
    wide = GOSSIP.replace("dimension = 4", "dimension = 200").replace("rounds = 3", "rounds = 2")
    p2pfrl.run(loads(wide + GRAPHS["regular"] + MASKS))
    assert len(seen) == 2 * 8 * 4
    assert len({vector.tobytes() for vector in seen}) == len(seen)
    for vector in seen:
        assert np.unpackbits(vector.view(np.uint8)).mean() == pytest.approx(0.5, abs=0.03)


def test_models_of_neighbors_do_not_depend_on_the_keys(monkeypatch):
    scenario = loads(GOSSIP + GRAPHS["regular"] + MASKS)
    first, other = p2pfrl.run(scenario), simulated_keyring(99)
    monkeypatch.setattr(assembly, "simulated_keyring", lambda seed: other)
    again = p2pfrl.run(scenario)
    assert again.summary["digest"] != first.summary["digest"]
    assert again.parameters.tolist() == first.parameters.tolist()


def test_a_public_key_that_is_not_its_owners_is_noticed(monkeypatch):
    """Planted: masks of one agent do not cancel with those of the others."""
    monkeypatch.setattr(
        Simulated, "_public", lambda self, who: public_of(self.private(99 if who == 3 else who))
    )
    plain, hidden = (p2pfrl.run(loads(GOSSIP + GRAPHS["regular"] + more)) for more in ("", MASKS))
    assert np.abs(hidden.parameters - plain.parameters).max() > 1.0


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ('topology = {kind = "ring"}\n', "agent 0 mixes with 2, of whom the sum says too much"),
        (GRAPHS["complete"] + 'mixing = {kind = "by_role", roles = 4}\n', "agent 0 mixes with 1"),
        (GRAPHS["complete"] + "network = {loss = 0.1}\n", "every message in its round"),
        (GRAPHS["complete"] + 'mixing = {kind = "ubar", byzantine = 1}\n', "the vector of every"),
        (GRAPHS["complete"] + 'mixing = {kind = "extra"}\n', "the vector of every agent, not"),
        (GRAPHS["complete"] + 'schedule = {kind = "asynchronous"}\n', "every message in its"),
        ('topology = {kind = "random_matchings"}\n', "one graph for all rounds"),
        (GRAPHS["complete"] + 'compressor = {kind = "qsgd"}\n', "numbers that arrive exactly"),
        (GRAPHS["complete"] + 'attacks = [{kind = "zero", agents = [1]}]\n', "the vector of every"),
    ],
)
def test_what_does_not_add_up_between_neighbors_is_refused(more, said):
    with pytest.raises(ScenarioError, match=said):
        loads(GOSSIP + more + MASKS)
