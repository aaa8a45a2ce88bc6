"""Whether others can reach an address is decided by what its name resolves to."""

import socket

import pytest

from p2pfrl.commands.place import is_local, place_of, security_of
from p2pfrl.core.errors import ScenarioError
from p2pfrl.deploy.process import Place

NAMES = {
    "localhost-7": ["10.9.9.1"],
    "127.example.org": ["10.9.9.1"],
    "mine": ["127.0.1.1", "::1"],
    "both": ["127.0.0.1", "10.9.9.1"],
}


@pytest.fixture(autouse=True)
def names(monkeypatch):
    real = socket.getaddrinfo

    def resolve(host, *arguments, **options):
        if host in NAMES:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, 0)) for a in NAMES[host]]
        if host == "nowhere":
            raise socket.gaierror(-2, "Name or service not known")
        return real(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("localhost", True),
        ("127.0.0.3", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("mine", True),
        ("localhost-7", False),
        ("127.example.org", False),
        ("both", False),
        ("nowhere", False),
        ("0.0.0.0", False),
        ("::", False),
        ("::ffff:10.0.0.1", False),
    ],
)
def test_a_host_is_local_if_all_its_addresses_are_of_loopback(host, local):
    assert is_local((host, 0)) is local


@pytest.mark.parametrize("host", ["localhost-7", "127.example.org", "both", "0.0.0.0"])
@pytest.mark.parametrize("option", ["--bind", "--rendezvous"])
def test_an_address_that_others_can_reach_needs_tls_or_insecure(host, option):
    here, there = (host, 0), ("127.0.0.1", 0)
    bind, meeting = (here, there) if option == "--bind" else (there, here)
    place = Place((0,), bind=bind, lead=True, rendezvous=meeting)
    with pytest.raises(ScenarioError, match=rf"{option} {host}: others can reach this address"):
        security_of(place, None, None, insecure=False)
    assert security_of(place, None, None, insecure=True).server is None


def test_advertise_is_a_host_without_a_port():
    place = place_of(
        True, "", "0", 1, "", "0.0.0.0:0", discover=False, advertise="gpu-7.example.org"
    )
    assert place.advertise == "gpu-7.example.org"
    with pytest.raises(ScenarioError, match="--advertise: expected the host"):
        place_of(True, "", "0", 1, "", "0.0.0.0:0", discover=False, advertise="10.0.0.7:70 00")
    with pytest.raises(ScenarioError, match="needs none of"):
        place_of(
            False, "", "0", 1, "0=10.0.0.1:7", "0.0.0.0:0", discover=False, advertise="10.0.0.7"
        )
