"""The promises of the greeting, one by one: who joins knows the secret, now, in its own role."""

import msgpack
import pytest

from p2pfrl.core.errors import WireError
from p2pfrl.net.admission import EACH, TOTAL, Admission
from p2pfrl.net.handshake import Handshake, UnwelcomeError
from p2pfrl.net.records import ENVELOPE, LENGTH, Identity

SECRET = b"sixteen bytes or"


def side(*agents: int, nonce: int = 0, secret: bytes = SECRET, dialer: bool = False) -> Handshake:
    own = Identity("run", "hash", "layout", agents, 0, bytes([nonce] * 16), ("127.0.0.1", 7000))
    return Handshake(own, secret=secret, dialer=dialer, allowed=None, check=lambda peer: None)


def told(record: bytes) -> dict[str, object]:
    """Return the body of a control record."""
    found = msgpack.unpackb(record[ENVELOPE.size + LENGTH.size :])
    return {name: value for name, value in found.items() if name != "say"}


def proof_of(speaker: Handshake, listener: Handshake) -> dict[str, object]:
    return told(speaker.step("hello", told(listener.hello())))


@pytest.fixture
def ends() -> tuple[Handshake, Handshake]:
    return side(0, nonce=1, dialer=True), side(1, nonce=2)


def test_two_that_know_the_secret_join(ends):
    one, other = ends
    first, second = proof_of(one, other), proof_of(other, one)
    assert not one.is_done
    one.step("proof", second)
    assert not one.is_done, "the other side has not joined"
    other.step("proof", first)
    one.step("joined", {})
    assert one.is_done


@pytest.mark.parametrize(
    "stranger",
    [
        side(1, nonce=2, secret=b"another secret!!"),
        side(1, nonce=2, secret=b""),
        side(1, nonce=3),
        side(1, nonce=2, dialer=True),
    ],
    ids=["another secret", "no secret", "another nonce", "the same role"],
)
def test_a_proof_is_of_the_secret_both_nonces_and_the_role(ends, stranger):
    one, other = ends
    proof_of(one, other)
    with pytest.raises(UnwelcomeError, match="does not know the shared secret"):
        one.step("proof", proof_of(stranger, one))


def test_a_proof_for_an_earlier_connection_is_worth_nothing(ends):
    one, other = ends
    earlier = proof_of(other, side(0, nonce=9, dialer=True))
    proof_of(one, other)
    with pytest.raises(UnwelcomeError):
        one.step("proof", earlier)


def test_ones_own_proof_sent_back_is_worth_nothing(ends):
    one, other = ends
    with pytest.raises(UnwelcomeError):
        one.step("proof", proof_of(one, other))


@pytest.mark.parametrize("mac", [None, "text", b"", b"x" * 32, b"x" * 31])
def test_what_is_no_proof_is_refused(ends, mac):
    one, other = ends
    proof_of(one, other)
    with pytest.raises(UnwelcomeError):
        one.step("proof", {"mac": mac})


def test_steps_come_once_and_in_order(ends):
    one, other = ends
    with pytest.raises(WireError, match="a proof without a hello"):
        one.step("proof", {"mac": b""})
    with pytest.raises(WireError, match="joined before the proof"):
        one.step("joined", {})
    proof = proof_of(other, one)
    proof_of(one, other)
    with pytest.raises(WireError, match="a second hello"):
        proof_of(one, other)
    with pytest.raises(WireError, match="joined before the proof"):
        one.step("joined", {})
    one.step("proof", proof)
    with pytest.raises(WireError, match="or a second one"):
        one.step("proof", proof)
    one.step("joined", {})
    with pytest.raises(WireError, match="for the second time"):
        one.step("joined", {})


def test_ones_own_hello_is_refused(ends):
    one, _ = ends
    with pytest.raises(UnwelcomeError, match="our own hello"):
        one.step("hello", told(one.hello()))


@pytest.mark.parametrize("allowed", [(1, 2), (1,), (2,), ()])
def test_a_peer_has_only_agents_of_its_certificate(allowed):
    own = Identity("run", "hash", "layout", (0,), 0, bytes(16), ("127.0.0.1", 7000))
    one = Handshake(own, secret=b"", dialer=True, allowed=allowed, check=lambda peer: None)
    peer = side(1, nonce=2, secret=b"")
    if 1 in allowed:
        one.step("hello", told(peer.hello()))
        assert one.peer is not None
        return
    with pytest.raises(UnwelcomeError, match="the certificate is for agents"):
        one.step("hello", told(peer.hello()))
    assert one.peer is None


def test_of_one_host_exactly_so_many_wait_and_the_oldest_goes_first():
    closed: list[tuple[int, int]] = []
    door = Admission[int](lambda one, limit: closed.append((one, limit)))
    for number in range(EACH + 3):
        door.admit(number, "here", 3)
    assert (closed, len(door)) == ([], EACH + 3)
    door.admit(99, "there", 3)
    assert closed == [], "another host has room of its own"
    door.admit(EACH + 3, "here", 3)
    assert closed == [(0, EACH + 3)]
    door.leave(1)
    door.admit(EACH + 4, "here", 3)
    assert closed == [(0, EACH + 3)], "one that has left makes room"
    assert EACH + 4 in list(door)


def test_of_all_hosts_exactly_so_many_wait():
    closed: list[int] = []
    door = Admission[int](lambda one, limit: closed.append(one))
    for number in range(TOTAL + 3):
        door.admit(number, f"host {number}", 3)
    assert closed == []
    door.admit(TOTAL + 3, "one more", 3)
    assert (closed, len(door)) == ([0], TOTAL + 3)
