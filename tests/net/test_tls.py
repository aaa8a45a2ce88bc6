"""TLS between two links on loopback: a process with a good certificate joins, and no other.

This holds on either side.
"""

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from p2pfrl.core.errors import WireError
from p2pfrl.core.types import UPDATE
from p2pfrl.core.wire import Decoder, Encoder
from p2pfrl.net import certificates as pki
from p2pfrl.net.records import Identity, open_envelope
from p2pfrl.net.session import Closed, Delivered, Event, Opened, Session
from p2pfrl.net.tcp import Link
from p2pfrl.net.tls import CertificateError, agents_of, contexts, own_agents, refusal

SIZE = 750_000
LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [
    uvloop.new_event_loop,
    asyncio.new_event_loop,
]
Pair = tuple[ssl.SSLContext, ssl.SSLContext]


@dataclass(frozen=True)
class Files:
    """Certificates of one module: good ones and bad ones.

    Agents 0 and 1 have good ones; the bad ones say they are agent 1.
    """

    home: Path
    good: dict[int, pki.Paths]
    bad: dict[str, pki.Paths]


@pytest.fixture(name="files", scope="module")
def make_files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    root = tmp_path_factory.mktemp("tls")
    now = datetime.now(UTC)
    pki.init(root / "home")
    good = {agent: pki.issue(root / "home", [agent]) for agent in (0, 1)}
    pki.init(root / "foreign")
    bad = {
        "wrong authority": replace(
            pki.issue(root / "foreign", [1]), authority=root / "home" / "ca.crt"
        )
    }
    for name, when in (("expired", now - timedelta(days=400)), ("early", now + timedelta(days=9))):
        made = pki.issue(root / "home", [2], now=when)
        bad[name] = replace(
            made,
            certificate=made.certificate.rename(root / f"{name}.crt"),
            key=made.key.rename(root / f"{name}.key"),
        )
    bad["no purpose"] = signed(
        root / "home", root / "purpose", ["agent-1.p2pfrl"], [ExtendedKeyUsageOID.CODE_SIGNING]
    )
    return Files(root / "home", good, bad)


def signed(
    home: Path,
    to: Path,
    names: list[str],
    purposes: list[x509.ObjectIdentifier],
    *,
    names_issuer: bool = True,
) -> pki.Paths:
    """Sign what `pki` would not."""
    authority = x509.load_pem_x509_certificate((home / "ca.crt").read_bytes())
    authority_key = serialization.load_pem_private_key(
        (home / "ca.key").read_bytes(), password=None
    )
    assert isinstance(authority_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    builder = (
        x509.CertificateBuilder(
            authority.subject, x509.Name([]), key.public_key(), x509.random_serial_number()
        )
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), critical=True)
    )
    if names_issuer:
        builder = builder.add_extension(issuer, critical=False)
    certificate = builder.sign(authority_key, hashes.SHA256())
    paths = pki.Paths(home / "ca.crt", to.with_suffix(".crt"), to.with_suffix(".key"), "")
    paths.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    paths.key.write_bytes(key.private_bytes(encoding, form, serialization.NoEncryption()))
    return paths


def good(paths: pki.Paths, **options: Any) -> Pair:
    return contexts(paths.authority, paths.certificate, paths.key, **options)


def careless(protocol: int, authority: Path, paths: pki.Paths | None) -> ssl.SSLContext:
    """A context of someone who does not look at the own certificate first."""
    context = ssl.SSLContext(protocol)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority)
    if paths is not None:
        context.load_cert_chain(paths.certificate, paths.key)
    return context


class Side(Link):
    """A link that notes its events, closes when its session does, and says when it is gone."""

    def __init__(self, agents: tuple[int, ...], *, dialer: bool) -> None:
        loop = asyncio.get_running_loop()
        identity = Identity(
            "run", "hash", "layout", agents, 0, bytes(15) + bytes([dialer]), ("127.0.0.1", 1)
        )
        decoder = Decoder("run", agents=4, parts=("actor",), size=SIZE, dtype="float32")

        def session(link: Link, transport: asyncio.Transport) -> Session:
            ssl_object = transport.get_extra_info("ssl_object")
            allowed = None if ssl_object is None else agents_of(ssl_object)
            return Session(identity, decoder, dialer=dialer, now=loop.time(), allowed=allowed)

        super().__init__(session, lambda link, events: self.note(events), loop.time, 3.0)
        self.events: list[Event] = []
        self.wake = asyncio.Event()
        self.gone: asyncio.Future[Exception | None] = loop.create_future()

    def note(self, events: list[Event]) -> None:
        self.events += events
        self.wake.set()
        if any(isinstance(event, Closed) for event in events):
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if not self.gone.done():
            self.gone.set_result(exc)

    async def first(self, kind: type[Event]) -> Any:
        while True:
            for event in self.events:
                if isinstance(event, kind):
                    return event
            self.wake.clear()
            await self.wake.wait()

    def reasons(self) -> list[str]:
        return [event.reason for event in self.events if isinstance(event, Closed)]

    def joined(self) -> bool:
        return any(isinstance(event, Opened) for event in self.events)


@dataclass
class Meeting:
    """What came of one attempt: the sides that got a transport, and how the dialer's ended."""

    acceptors: list[Side]
    dialer: Side
    failure: BaseException | None


async def meet(
    server: ssl.SSLContext | None,
    client: ssl.SSLContext | None,
    *,
    claims: tuple[int, ...] = (1,),
    talk: Callable[[Side, Side], Coroutine[Any, Any, None]] | None = None,
) -> Meeting:
    """Let a dialer greet an acceptor, and `talk` to both once they joined.

    If they do not join, wait until both are gone.
    """
    loop = asyncio.get_running_loop()
    acceptors: list[Side] = []

    def accept() -> Side:
        acceptors.append(Side((0,), dialer=False))
        return acceptors[-1]

    listener = await loop.create_server(accept, "127.0.0.1", 0, ssl=server)
    dialer = Side(claims, dialer=True)
    failure: BaseException | None = None
    try:
        async with asyncio.timeout(10):
            try:
                await loop.create_connection(
                    lambda: dialer,
                    *listener.sockets[0].getsockname(),
                    ssl=client,
                    **({} if client is None else {"server_hostname": ""}),
                )
            except OSError as error:
                failure = error
            else:
                if talk is not None:
                    await talk(acceptors[0], dialer)
                    dialer.close()
                failure = await dialer.gone
            # An acceptor whose handshake failed never got a transport.
            for side in acceptors:
                if hasattr(side, "session"):
                    await side.gone
    finally:
        for side in (*acceptors, dialer):
            if hasattr(side, "session") and not side.gone.done():
                side.abort()
        listener.close()
        async with asyncio.timeout(10):
            await listener.wait_closed()
    return Meeting(acceptors, dialer, failure)


def run(
    loop: Callable[[], asyncio.AbstractEventLoop], main: Coroutine[Any, Any, Meeting]
) -> Meeting:
    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(main)


@pytest.mark.parametrize("loop", LOOPS)
def test_links_join_over_tls_1_3_and_exchange_frames_of_3_mb_both_ways(
    files: Files, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    vectors = [np.random.default_rng(seed).standard_normal(SIZE).astype("<f4") for seed in (0, 1)]
    refused: list[str] = []

    async def talk(acceptor: Side, dialer: Side) -> None:
        sides = (acceptor, dialer)
        opened = [await side.first(Opened) for side in sides]
        assert [event.peer.agents for event in opened] == [(1,), (0,)]
        for sender, side in enumerate(sides):
            ssl_object = side._transport.get_extra_info("ssl_object")
            assert ssl_object.version() == "TLSv1.3"
            assert agents_of(ssl_object) == (1 - sender,)
            frame = Encoder("run", sender).encode(
                vectors[sender], kind=UPDATE, round=0, weight=1.0, parts=("actor",)
            )
            side.send([1 - sender], frame, sender)
        for sender, side in enumerate(reversed(sides)):
            delivered = await side.first(Delivered)
            assert delivered.message.sender == sender
            np.testing.assert_array_equal(delivered.message.payload, vectors[sender])
        assert not dialer._transport.get_extra_info("ssl_object").session.has_ticket

    server, _ = good(files.good[0], on_refused=lambda reason, detail: refused.append(reason))
    meeting = run(loop, meet(server, good(files.good[1])[1], talk=talk))
    assert meeting.failure is None
    assert not refused


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    ("name", "reason", "told"),
    [
        ("none", "no_certificate", "no_certificate"),
        ("expired", "certificate_expired", "certificate_expired"),
        ("early", "certificate_not_yet_valid", "bad_certificate"),
        ("wrong authority", "wrong_authority", "wrong_authority"),
        ("no purpose", "bad_certificate", "bad_certificate"),
    ],
)
def test_dialer_with_a_bad_certificate_is_refused_by_reason_told_it_and_never_joins(
    files: Files, loop: Callable[[], asyncio.AbstractEventLoop], name: str, reason: str, told: str
) -> None:
    refused: list[str] = []
    server, _ = good(files.good[0], on_refused=lambda reason, detail: refused.append(reason))
    client = careless(ssl.PROTOCOL_TLS_CLIENT, files.home / "ca.crt", files.bad.get(name))
    meeting = run(loop, meet(server, client))
    assert refused == [reason]
    assert isinstance(meeting.failure, ssl.SSLError)
    assert refusal(meeting.failure)[0] == told
    assert "refused us" in refusal(meeting.failure)[1]
    assert not any(hasattr(side, "session") for side in meeting.acceptors)
    assert not meeting.dialer.joined()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("expired", "certificate_expired"),
        ("early", "certificate_not_yet_valid"),
        ("wrong authority", "wrong_authority"),
        ("no purpose", "bad_certificate"),
    ],
)
def test_acceptor_with_a_bad_certificate_is_refused_before_a_byte_is_said(
    files: Files, name: str, reason: str
) -> None:
    server = careless(ssl.PROTOCOL_TLS_SERVER, files.home / "ca.crt", files.bad[name])
    meeting = run(uvloop.new_event_loop, meet(server, good(files.good[1])[1]))
    assert isinstance(meeting.failure, ssl.SSLError)
    assert refusal(meeting.failure)[0] == reason
    assert not hasattr(meeting.dialer, "session")
    assert not any(side.joined() for side in meeting.acceptors)


@pytest.mark.parametrize("claims", [(2,), (0, 1), (-1,)])
def test_who_claims_an_agent_that_the_certificate_does_not_name_is_refused(
    files: Files, claims: tuple[int, ...]
) -> None:
    meeting = run(
        uvloop.new_event_loop, meet(good(files.good[0])[0], good(files.good[1])[1], claims=claims)
    )
    assert meeting.acceptors[0].reasons() == ["wrong_certificate"]
    assert not meeting.acceptors[0].joined()
    assert meeting.dialer.reasons() == ["refused_by_peer"]
    assert any(
        "certificate is for agents 1" in event.detail
        for event in meeting.dialer.events
        if isinstance(event, Closed)
    )
    assert not meeting.dialer.joined()


def test_tls_1_2_is_refused_at_both_ends(files: Files) -> None:
    refused: list[str] = []
    server, client = good(files.good[0], on_refused=lambda reason, detail: refused.append(reason))
    old = careless(ssl.PROTOCOL_TLS_CLIENT, files.home / "ca.crt", files.good[1])
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    meeting = run(uvloop.new_event_loop, meet(server, old))
    assert refused == ["wrong_tls_version"]
    assert isinstance(meeting.failure, ssl.SSLError)
    assert refusal(meeting.failure)[0] == "wrong_tls_version"
    old = careless(ssl.PROTOCOL_TLS_SERVER, files.home / "ca.crt", files.good[1])
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    meeting = run(uvloop.new_event_loop, meet(old, client))
    assert isinstance(meeting.failure, OSError)
    assert not meeting.dialer.joined()
    assert not any(side.joined() for side in meeting.acceptors)


def test_plain_greeting_to_a_tls_port_is_refused(files: Files) -> None:
    refused: list[str] = []
    server, _ = good(files.good[0], on_refused=lambda reason, detail: refused.append(reason))
    meeting = run(uvloop.new_event_loop, meet(server, None))
    assert refused == ["not_tls"]
    assert not meeting.dialer.joined()
    assert not any(hasattr(side, "session") for side in meeting.acceptors)


def test_tls_hello_to_a_plain_port_is_refused(files: Files) -> None:
    meeting = run(uvloop.new_event_loop, meet(None, good(files.good[1])[1]))
    assert meeting.acceptors[0].reasons() == ["bad_magic"]
    with pytest.raises(WireError, match="got TLS; both sides must use certificates, or neither"):
        open_envelope(b"\x16\x03\x01\x00\xdc\x01\x00\x00")
    assert isinstance(meeting.failure, ssl.SSLError)
    assert refusal(meeting.failure)[0] == "not_tls"
    assert not meeting.dialer.joined()


def test_only_exact_names_of_agents_count(files: Files, tmp_path: Path) -> None:
    names = [
        "agent-1.p2pfrl",
        "agent-03.p2pfrl",
        "agent-4.p2pfrl.example",
        "x.agent-5.p2pfrl",
        "agent-2147483648.p2pfrl",
        "*.p2pfrl",
        "agent--1.p2pfrl",
        "lab",
        "coordinator.p2pfrl",
        "agent-2147483647.p2pfrl",
    ]
    both = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
    assert own_agents(good(signed(files.home, tmp_path / "names", names, both))) == (
        -1,
        1,
        2147483647,
    )


def test_a_thousand_agents_fit_in_one_certificate(files: Files) -> None:
    ids = range(2**31 - 1000, 2**31)
    assert own_agents(good(pki.issue(files.home, ids))) == tuple(ids)


def test_unusable_files_are_found_before_anyone_is_called(files: Files, tmp_path: Path) -> None:
    ours, home, missing = files.good[0], files.home / "ca.crt", tmp_path / "missing.pem"
    junk = tmp_path / "junk.pem"
    junk.write_text("junk")
    locked = tmp_path / "locked.key"
    key = serialization.load_pem_private_key(ours.key.read_bytes(), password=None)
    secret = serialization.BestAvailableEncryption(b"x")
    locked.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, secret)
    )
    both = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
    nameless = signed(files.home, tmp_path / "nameless", ["lab-3"], both)
    loose = signed(files.home, tmp_path / "loose", ["agent-1.p2pfrl"], both, names_issuer=False)
    bad = files.bad
    cases = [
        (
            missing,
            ours.certificate,
            ours.key,
            r"missing\.pem: expected the authority's certificate, got: No such file",
        ),
        (home, missing, ours.key, r"missing\.pem: expected the certificate, got: No such file"),
        (
            home,
            ours.certificate,
            missing,
            r"missing\.pem: expected the private key, got: No such file",
        ),
        (
            junk,
            ours.certificate,
            ours.key,
            r"junk\.pem: expected the authority's certificate in PEM",
        ),
        (home, junk, ours.key, r"junk\.pem, .*: expected a certificate and its key in PEM"),
        (home, ours.certificate, junk, r"junk\.pem: expected a certificate and its key in PEM"),
        (
            home,
            ours.certificate,
            locked,
            r"locked\.key: expected a private key without a passphrase",
        ),
        (
            home,
            ours.certificate,
            files.good[1].key,
            r"agent-1\.key: expected the key of .*agent-0\.crt",
        ),
        (
            home,
            bad["expired"].certificate,
            bad["expired"].key,
            r"expired\.crt: .* has expired; issue a new one",
        ),
        (
            home,
            bad["early"].certificate,
            bad["early"].key,
            r"early\.crt: .* time has not begun; compare the clocks",
        ),
        (
            home,
            bad["wrong authority"].certificate,
            bad["wrong authority"].key,
            "agent-1.crt: .*got one of another",
        ),
        (
            home,
            bad["no purpose"].certificate,
            bad["no purpose"].key,
            r"purpose\.crt: .*certificate purpose",
        ),
        (
            home,
            loose.certificate,
            loose.key,
            r"loose\.crt: expected a certificate that p2pfrl issued",
        ),
        (home, nameless.certificate, nameless.key, r"nameless\.crt: expected the name of an agent"),
    ]
    for authority, certificate, private, message in cases:
        with pytest.raises(CertificateError, match=message):
            contexts(authority, certificate, private)
