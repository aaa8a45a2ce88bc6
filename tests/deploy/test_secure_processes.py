"""Secure sums over TCP: signed keys, the models of the simulator, and processes that are killed."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from killing import Fleet
from processes import run

from p2pfrl.build.assembly import Assembly
from p2pfrl.core.errors import P2PFRLError
from p2pfrl.deploy.collect import collect
from p2pfrl.deploy.keyring import (
    MET,
    MET_PLAINLY,
    SIGNED,
    UNSIGNED,
    Certified,
    acquaintances,
    from_system,
    real_keyring,
)
from p2pfrl.exchange.secure.errors import SecureError
from p2pfrl.experiment.run import simulate
from p2pfrl.laws.runs import text
from p2pfrl.net import certificates as pki
from p2pfrl.net.acquaintances import PRIVATE
from p2pfrl.net.mesh import Security
from p2pfrl.net.options import Current, Files
from p2pfrl.net.records import Identity
from p2pfrl.net.tls import CertificateError
from p2pfrl.scenario import loads
from p2pfrl.scenario.traffic import SIGNATURE

MASKS = {"kind": "neighborhood_masks", "clip": 64.0, "fraction_bits": 20, "ring_bits": 32}
SMALL = {
    "exchange": {"payload": "delta"},
    "compressor": {"kind": "error_feedback", "compressor": {"kind": "randk", "common": True}},
}
SECURE = {"secure": {"kind": "secure_aggregation"}}


def files(root, agents, **options):
    if not (root / "ca.crt").exists():
        pki.init(root)
    made = pki.issue(root, agents, **options)
    return Files(made.authority, made.certificate, made.key)


def certified(root, agents, **options):
    return Certified(files(root, agents, **options), Current())


def test_keys_are_signed_and_checked_with_the_certificates_of_their_agents(tmp_path):
    own, other = certified(tmp_path, [3, 4]), certified(tmp_path, [7])
    signature = own.sign(b"keys")
    assert len(signature) < SIGNATURE
    for agent in (3, 4):
        other.verify(agent, b"keys", signature)
    with pytest.raises(SecureError, match="does not name agent 7"):
        other.verify(7, b"keys", signature)
    with pytest.raises(SecureError, match="did not sign these keys"):
        other.verify(3, b"other keys", signature)
    swapped = other.sign(b"keys")
    with pytest.raises(SecureError, match="did not sign these keys"):
        own.verify(7, b"keys", swapped[:2] + signature[2:72] + swapped[72:])


def test_keys_of_other_authorities_and_bytes_that_are_none_are_refused(tmp_path):
    own, stranger = certified(tmp_path / "a", [3]), certified(tmp_path / "b", [3])
    signature = stranger.sign(b"keys")
    for bad in (signature, b"", b"\xff\xff", bytes(500), own.sign(b"keys")[:-1]):
        with pytest.raises(SecureError, match="bad_signature"):
            own.verify(3, b"keys", bad)


def test_keys_of_certificates_that_have_expired_are_refused(tmp_path):
    long_ago = datetime.now(UTC) - timedelta(days=30)
    pki.init(tmp_path, now=long_ago)
    expired = certified(tmp_path, [3], days=7, now=long_ago)
    with pytest.raises(SecureError, match="not valid today"):
        expired.verify(3, b"keys", expired.sign(b"keys"))


def test_a_certificate_that_is_too_large_to_be_sent_is_refused(tmp_path):
    with pytest.raises(CertificateError, match="issue it for fewer agents"):
        certified(tmp_path, range(200))


def test_random_bytes_of_a_process_are_those_of_nobody_else(tmp_path):
    source = from_system()
    assert source(1, 0)(0, "a", 32) == source(1, 0)(0, "a", 32)
    assert source(1, 0)(0, "a", 32) != source(2, 0)(0, "a", 32)
    assert source(1, 0)(0, "a", 32) != source(1, 1)(0, "a", 32)
    assert source(1, 0)(0, "a", 32) != from_system()(1, 0)(0, "a", 32)
    assert real_keyring(Security()).origin == UNSIGNED
    assert real_keyring(Security(files=files(tmp_path, [1]))).origin == SIGNED


def test_a_process_keeps_its_key_for_masks_and_meets_others_once(tmp_path):
    """Another key of a process that was met, none, and the own one are refused."""
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
    one, other = (acquaintances(folder) for folder in folders)
    assert acquaintances(folders[0]).settings == one.settings != other.settings
    assert (folders[0] / PRIVATE).stat().st_mode & 0o777 == 0o600
    one.live([0, 1])
    with pytest.raises(P2PFRLError, match="agent 2 has not been met"):
        one.public(2)
    peer = Identity("run", "hash", "layout", (2, 3), 0, bytes(16), ("host", 1), other.settings)
    assert one.refusal(peer) is None
    one.note(peer)
    assert one.public(3) == bytes.fromhex(other.settings["masks"]) != one.public(1)
    assert one.refusal(replace(peer, incarnation=1)) is None
    for settings, said in (
        (acquaintances(tmp_path).settings, "had another key for masks before"),
        ({}, "expected 64 hexadecimal digits"),
        ({"masks": "0" * 63 + "g"}, "expected 64 hexadecimal digits"),
    ):
        assert said in (one.refusal(replace(peer, settings=settings)) or ("", ""))[1]
    stranger = replace(peer, agents=(4,), settings=one.settings)
    assert "the key of this process" in (one.refusal(stranger) or ("", ""))[1]
    (folders[1] / PRIVATE).write_bytes(bytes(31))
    with pytest.raises(P2PFRLError, match="expected a key of 32 bytes, got 31"):
        acquaintances(folders[1])


def test_who_is_heard_by_the_same_agent_needs_each_others_keys():
    def circles(**tables):
        return Assembly(loads(text(6, 1, **tables))).circles()

    ring = {"kind": "watts_strogatz", "neighbors": 4, "rewire": 0.0}  # two neighbors to each side
    assert circles(topology=ring) == {}, "no masks"
    assert circles(topology=ring, secure=MASKS) == {
        i: tuple(j for j in range(6) if j != i) for i in range(6)
    }
    assert circles(topology=ring, mode="central", secure={"kind": "secret_shares"}) == {}


GRAPH = {"kind": "random_regular", "degree": 3}


@pytest.mark.slow
@pytest.mark.parametrize("tls", [True, False], ids=["tls", "plain"])
def test_neighbors_with_masks_end_with_the_parameters_of_the_simulator(tls, tmp_path):
    scenario = loads(text(8, 5, topology=GRAPH, secure=MASKS, seed=3))
    made = Assembly(scenario)
    met, near = made.circles(), made.neighbors()
    assert any(set(met[i]) - set(near[i]) for i in range(8)), "some meet that are no neighbors"
    homes = run(scenario, [(0, 1), (2,), (3,), (4, 5), (6, 7)], tmp_path, tls=tls)
    record, expected = collect(homes, tmp_path / "all"), simulate(scenario)
    np.testing.assert_array_equal(record.parameters, expected.parameters)
    assert record.summary["secure"]["keys"] == (MET if tls else MET_PLAINLY)
    assert len({(home / PRIVATE).read_bytes() for home in homes}) == 5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "tables"),
    [
        ("secret_shares", {}),
        ("secure_aggregation", {}),
        ("secure_aggregation", {"correction": {"kind": "control_variate"}}),
        ("secure_aggregation", SMALL),
    ],
    ids=["shares", "aggregation", "scaffold", "small"],
)
def test_processes_with_certificates_end_with_the_models_of_the_simulator(kind, tables, tmp_path):
    secure = {
        "kind": kind,
        **({"clip": 8.0, "fraction_bits": 20, "ring_bits": 32} if tables else {}),
    }
    scenario = loads(text(5, 5, mode="central", secure=secure, seed=3, **tables))
    homes = run(scenario, [(-1, 0), (1, 2, 3), (4,)], tmp_path, tls=True)
    record, expected = collect(homes, tmp_path / "all"), simulate(scenario)
    np.testing.assert_array_equal(record.parameters, expected.parameters)
    secure = record.summary["secure"]
    assert (secure["sums"], secure["given_up"], secure["refused"]) == (5, {}, {})
    assert secure["keys"] == SIGNED


@pytest.mark.slow
def test_processes_that_are_killed_lose_rounds_at_most(tmp_path):
    tables = {
        "learner": {"noise": 0.3, "initial_spread": 1.0, "steps": 1000, "dimension": 4, "lr": 0.01},
        "schedule": {"deadline": "5s"},
    }
    scenario = text(6, 60, mode="central", seed=3, **SECURE, **tables)
    groups = [(-1,), (0, 1), (2, 3, 4), (5,)]
    with Fleet(scenario, groups, tmp_path) as fleet:
        fleet.kill(3, "agent-5")
        fleet.kill(0, "coordinator")
        fleet.kill(3, "agent-5")
        assert fleet.end() == {0: 1, 1: 0, 2: 0, 3: 2}
    record = collect(fleet.homes, tmp_path / "all")
    assert record.summary["rounds"] == 60
    lead = json.loads((fleet.homes[0] / "peer.json").read_text())["secure"]
    assert lead["sums"] + sum(lead["given_up"].values()) >= 58
    assert sum(lead["given_up"].values()) <= 3
    assert np.isfinite(record.parameters).all()
    assert len({row.tobytes() for row in record.parameters}) == 1


@pytest.mark.slow
def test_a_neighbor_that_is_killed_goes_on_with_the_masks_that_it_had(tmp_path):
    tables = {
        "learner": {"noise": 0.3, "initial_spread": 1.0, "steps": 500, "dimension": 4, "lr": 0.01},
        "topology": GRAPH,
        "secure": MASKS,
    }
    scenario = text(6, 25, seed=3, **tables)
    with Fleet(scenario, [(0, 1), (2, 3), (4,), (5,)], tmp_path) as fleet:
        fleet.kill(3, "agent-5")
        assert fleet.end() == {0: 0, 1: 0, 2: 0, 3: 1}
    record, expected = collect(fleet.homes, tmp_path / "all"), simulate(loads(scenario))
    np.testing.assert_array_equal(record.parameters, expected.parameters)
