"""Secure sums over TCP: signed keys, the models of the simulator, and processes that are killed."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from killing import Fleet
from processes import run

from p2pfrl.core.errors import ScenarioError
from p2pfrl.deploy.collect import collect
from p2pfrl.deploy.keyring import SIGNED, UNSIGNED, Certified, from_system, real_keyring
from p2pfrl.deploy.process import Place, deploy
from p2pfrl.exchange.secure.errors import SecureError
from p2pfrl.experiment.run import simulate
from p2pfrl.laws.runs import text
from p2pfrl.net import certificates as pki
from p2pfrl.net.mesh import Security, Timing
from p2pfrl.net.options import Current, Files
from p2pfrl.net.tls import CertificateError
from p2pfrl.scenario import loads
from p2pfrl.scenario.traffic import SIGNATURE

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


def test_masks_between_neighbors_are_refused_with_the_reason(tmp_path):
    tables = {"topology": {"kind": "complete"}, "secure": {"kind": "neighborhood_masks"}}
    scenario = loads(text(4, 2, **tables))
    with pytest.raises(ScenarioError, match="no connection of their own over which to agree"):
        deploy(scenario, Place((0,), lead=True), tmp_path, security=Security(), timing=Timing())


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
