"""Mutual TLS 1.3 between peers: a certificate identifies the other side.

The identity is the names `agent-3.p2pfrl`, `edge-0.p2pfrl` and `coordinator.p2pfrl` in the
certificate (subjectAltName). Host names and addresses are not part of it, because a peer may move.
Only certificates of the run's own authority are accepted, not those of the machine's authorities.
In TLS 1.3 a client finishes its handshake before the server has checked the client's certificate
(E. Rescorla, RFC 8446, 2018, section 2). So a connection that TLS reports as established has not
joined yet; only the session's "joined" counts.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from p2pfrl.core.errors import P2PFRLError
from p2pfrl.core.types import (
    COORDINATOR,
    HIGHEST_ID,
    LOWEST_ID,
    edge_id,
    is_standby,
    standby_id,
)

DOMAIN = "p2pfrl"
_IDS: dict[str, Callable[[int], int]] = {"agent": int, "edge": edge_id, "standby": standby_id}
_AGENT = re.compile(f"({'|'.join(_IDS)})" r"-(0|[1-9][0-9]{0,9})\." + DOMAIN)
_COORDINATOR = f"coordinator.{DOMAIN}"

_VERIFY = {
    9: "certificate_not_yet_valid",
    10: "certificate_expired",
    18: "wrong_authority",  # self-signed
    19: "wrong_authority",  # a chain to a root that we do not know
    20: "wrong_authority",  # the issuer is not ours
    21: "wrong_authority",
}
"""Reason of a failed check by OpenSSL's X509_V_ERR code."""

_REASONS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "no_certificate",
    "ALERT_CERTIFICATE_REQUIRED": "no_certificate",
    "ALERT_CERTIFICATE_EXPIRED": "certificate_expired",
    "ALERT_UNKNOWN_CA": "wrong_authority",
    "ALERT_BAD_CERTIFICATE": "bad_certificate",
    "ALERT_UNSUPPORTED_CERTIFICATE": "bad_certificate",
    "ALERT_CERTIFICATE_UNKNOWN": "bad_certificate",
    "ALERT_PROTOCOL_VERSION": "wrong_tls_version",
    "UNSUPPORTED_PROTOCOL": "wrong_tls_version",
    "HTTP_REQUEST": "not_tls",
    "WRONG_VERSION_NUMBER": "not_tls",
    "PACKET_LENGTH_TOO_LONG": "not_tls",
    "RECORD_LAYER_FAILURE": "not_tls",
}
"""Reason of a failed handshake by the end of OpenSSL's name for it.

The other side sent those that begin with ALERT.
"""

_MEANINGS = {
    "certificate_expired": "expected a certificate that is valid today, got one that has expired; issue a new one",
    "certificate_not_yet_valid": "expected a certificate that is valid today, got one whose time has not begun; "
    "compare the clocks of the machines, or issue a new one",
    "wrong_authority": "expected a certificate of the run's authority, got one of another; "
    "issue all certificates from one directory",
    "no_certificate": "expected a certificate, got none; pass the certificate and key that were issued for the peer",
    "bad_certificate": "expected a certificate that p2pfrl issued for a peer and that is valid today, got another",
    "wrong_tls_version": "expected TLS 1.3, got an older version",
    "not_tls": "expected TLS, got something else; both sides must use certificates, or neither",
    "tls_failed": "expected a TLS handshake, got an error",
}


class CertificateError(P2PFRLError):
    """A certificate or key cannot be used or created."""


def name_of(agent: int) -> str:
    """Return the name of `agent` in a certificate.

    >>> name_of(3), name_of(COORDINATOR), name_of(-2), name_of(standby_id(1))
    ('agent-3.p2pfrl', 'coordinator.p2pfrl', 'edge-0.p2pfrl', 'standby-1.p2pfrl')
    """
    assert LOWEST_ID <= agent <= HIGHEST_ID, f"{agent} is no agent id"
    if agent == COORDINATOR:
        return _COORDINATOR
    if is_standby(agent):
        return f"standby-{standby_id(agent)}.{DOMAIN}"
    return f"agent-{agent}.{DOMAIN}" if agent > COORDINATOR else f"edge-{edge_id(agent)}.{DOMAIN}"


def agents_of(ssl_object: ssl.SSLObject | ssl.SSLSocket) -> tuple[int, ...]:
    """Return the ids in the other side's certificate, sorted; coordinators are below 0.

    It is empty if the certificate has none or was not verified: such a peer may claim no agent.

    Args:
        ssl_object: `transport.get_extra_info("ssl_object")` of a connection with one of our
            contexts.
    """
    certificate = ssl_object.getpeercert() or {}
    agents: set[int] = set()
    for entry in certificate.get("subjectAltName", ()):
        kind, name = entry[0], entry[1]
        if kind != "DNS" or not isinstance(name, str):
            continue
        match = _AGENT.fullmatch(name)
        if match is not None:
            agents.add(_IDS[match[1]](int(match[2])))
        elif name == _COORDINATOR:
            agents.add(COORDINATOR)
    return tuple(sorted(agent for agent in agents if LOWEST_ID <= agent <= HIGHEST_ID))


def refusal(error: ssl.SSLError) -> tuple[str, str]:
    """Return (reason, detail) of a failed handshake or of the alert that ended a connection.

    `reason` is one of: certificate_expired, certificate_not_yet_valid, wrong_authority,
    no_certificate, bad_certificate, wrong_tls_version, not_tls, tls_failed. TLS has no alert for a
    certificate that is not yet valid, so the refused side receives `bad_certificate`.
    """
    name = error.reason or ""
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = _VERIFY.get(error.verify_code, "bad_certificate")
        return reason, f"the other side's certificate: {_MEANINGS[reason]} ({error.verify_message})"
    reason = next((reason for end, reason in _REASONS.items() if name.endswith(end)), "tls_failed")
    whose = "the other side refused us: " if "ALERT" in name else ""
    return reason, f"{whose}{_MEANINGS[reason]} ({name or error})"


def contexts(
    authority: Path,
    certificate: Path,
    key: Path,
    *,
    on_refused: Callable[[str, str], None] = lambda reason, detail: None,
) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return (server, client) contexts: TLS 1.3 only, both sides certified by `authority`.

    The process first connects to itself in memory, which finds a certificate that all other peers
    would refuse. Tickets are off, because a resumed connection would skip the check of the
    certificate. A server with this context should set `ssl_handshake_timeout` (60 s in asyncio) to
    the time limit of a greeting.

    Args:
        authority: PEM certificate of the authority.
        certificate: PEM certificate of this process.
        key: PEM private key of `certificate`, without a passphrase.
        on_refused: called with (reason, detail) for each handshake that the server refuses; see
            `refusal`.

    Raises:
        CertificateError: a file is missing or damaged, or peers would refuse this certificate.
    """
    server = _context(ssl.PROTOCOL_TLS_SERVER, authority, certificate, key)
    server.num_tickets = 0
    client = _context(ssl.PROTOCOL_TLS_CLIENT, authority, certificate, key)
    try:
        agents = own_agents((server, client))
    except ssl.SSLError as error:
        reason, _ = refusal(error)
        why = getattr(error, "verify_message", error.reason)
        raise CertificateError(
            f"{certificate}: {_MEANINGS[reason]} ({why}; the authority is {authority})"
        ) from error
    if not agents:
        raise CertificateError(
            f"{certificate}: expected the name of an agent such as {name_of(0)}, got none; is it a peer's certificate?"
        )
    server.sslobject_class = _reporting(on_refused)
    return server, client


def own_agents(pair: tuple[ssl.SSLContext, ssl.SSLContext]) -> tuple[int, ...]:
    """Return the ids in this process's own certificate.

    Args:
        pair: the contexts (server, client).
    """
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    dialer = pair[1].wrap_bio(to_client, to_server)
    acceptor = pair[0].wrap_bio(to_server, to_client, server_side=True)
    for side in (dialer, acceptor, dialer, acceptor):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return agents_of(dialer)


def _context(protocol: int, authority: Path, certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    for path, what in (
        (authority, "authority's certificate"),
        (certificate, "certificate"),
        (key, "private key"),
    ):
        try:
            with path.open("rb"):
                pass
        except OSError as error:
            raise CertificateError(
                f"{path}: expected the {what}, got: {error.strerror}; see p2pfrl pki"
            ) from error
    try:
        context.load_verify_locations(cafile=authority)
    except ssl.SSLError as error:
        raise CertificateError(
            f"{authority}: expected the authority's certificate in PEM, got something else"
        ) from error

    def refuse_passphrase() -> str:
        raise CertificateError(
            f"{key}: expected a private key without a passphrase, got an encrypted one"
        )

    try:
        context.load_cert_chain(certificate, key, password=refuse_passphrase)
    except ssl.SSLError as error:
        if (error.reason or "").endswith("MISMATCH"):
            problem = (
                f"{key}: expected the key of {certificate}, got the key of another certificate"
            )
        else:
            problem = f"{certificate}, {key}: expected a certificate and its key in PEM, got: {error.reason or error}"
        raise CertificateError(problem) from error
    return context


class Counted(ssl.SSLObject):
    """A server-side TLS object that counts refused handshakes.

    Attributes:
        reported: reported refusals of connections that have not ended yet.
    """

    reported: ClassVar[int] = 0


def was_reported(context: ssl.SSLContext) -> bool:
    """Return whether the handshake that just ended has been reported as refused.

    A refusal cannot be matched to its connection, but each refusal ends exactly one connection.
    """
    kind = context.sslobject_class
    if not (isinstance(kind, type) and issubclass(kind, Counted)) or kind.reported == 0:
        return False
    kind.reported -= 1
    return True


def _reporting(on_refused: Callable[[str, str], None]) -> type[ssl.SSLObject]:
    """Return a server-side TLS class that reports a refusal and sends the alert before it fails.

    asyncio and uvloop close the transport of a failed handshake at once, with OpenSSL's alert
    unsent, and report nothing, so the other side would only see the end of the stream. They send
    pending bytes if a handshake asks for more input, which this class does. A side that does not
    speak TLS cannot read an alert and is closed at once.
    """

    class Reporting(Counted):
        _error: ssl.SSLError | None = None

        def do_handshake(self) -> None:
            if self._error is not None:
                raise self._error
            try:
                super().do_handshake()
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                raise
            except ssl.SSLError as error:
                reason, detail = refusal(error)
                on_refused(reason, detail)
                if reason == "not_tls":
                    raise
                self._error = error
                Reporting.reported += 1
                raise ssl.SSLWantReadError(
                    ssl.SSL_ERROR_WANT_READ, "the alert goes out first"
                ) from error

    return Reporting
