"""Private certificate authority for one group of peers (EC P-256, PEM, no passphrase).

    authority    ca.crt, ca.key             ca.crt goes to every machine, ca.key stays
    peer         agent-3.crt, agent-3.key   both go to the machine of agent 3

Certificates are valid from the day before they were made, so clocks may differ by up to a day. The
authority has no name constraints: peers trust it for agents' names alone, and hosts may have any
name or address. Do not add it to the trusted authorities of a browser or an operating system.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from p2pfrl.core.files import write_atomically
from p2pfrl.core.types import (
    COORDINATOR,
    HIGHEST_ID,
    LOWEST_ID,
    edge_id,
    is_standby,
    standby_id,
)
from p2pfrl.net.fleet import runs_of
from p2pfrl.net.tls import DOMAIN, CertificateError, name_of

AUTHORITY_YEARS = 10
MAX_AGENTS = 1000
"""Maximum number of agents in one certificate. OpenSSL accepts chains of at most 100 KB."""

_MARGIN = timedelta(days=1)
_HOST = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)(\.(?!-)[a-z0-9-]{1,63}(?<!-))*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Paths:
    """The files that were written.

    Attributes:
        authority: the authority's certificate.
        certificate: the new certificate; for `init` the authority's.
        key: its private key, readable by the owner alone.
        said: message for the user.
    """

    authority: Path
    certificate: Path
    key: Path
    said: str


def init(directory: Path, *, now: datetime | None = None) -> Paths:
    """Create an authority.

    Args:
        directory: folder for its files; created if it does not exist.
        now: its time of creation; None for the system's time.

    Raises:
        CertificateError: there is one already, or the files cannot be written.
    """
    begin = _time(now)
    authority, secret = directory / "ca.crt", directory / "ca.key"
    _refuse_existing(
        authority, secret, "use the authority that is there, or name another directory"
    )
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, f"p2pfrl authority {os.urandom(4).hex()}")]
    )
    certificate = (
        _builder(
            name,
            name,
            key.public_key(),
            key.public_key(),
            begin,
            begin + timedelta(days=365 * AUTHORITY_YEARS),
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    _write_pair(secret, key, authority, certificate)
    said = (
        f"{authority}: the authority, valid until {_day(certificate)}; copy it to every machine\n"
        f"{secret}: its key; keep it here: whoever has it can make peers\n"
        "Next, for each process: p2pfrl pki issue AGENT"
    )
    return Paths(authority, authority, secret, said)


def issue(
    directory: Path,
    agents: Sequence[int],
    *,
    hosts: Sequence[str] = (),
    days: int = 365,
    now: datetime | None = None,
) -> Paths:
    """Create a key and a certificate for the process of `agents`, signed by the authority.

    Args:
        directory: folder of the authority; the new files are written there.
        agents: ids of the agents of the process; -1 is the coordinator, -2, -3, ... are edges.
        hosts: additional names and IP addresses for other tools; p2pfrl does not use them.
        days: validity in days, at most that of the authority.
        now: its time of creation; None for the system's time.

    Raises:
        CertificateError: the authority is missing or damaged, an argument is invalid, or files
            exist already or cannot be written.
    """
    ids = _agents(agents)
    names = [x509.DNSName(name_of(agent)) for agent in ids] + [_host(host) for host in hosts]
    begin = _time(now)
    if not 1 <= days <= 365 * AUTHORITY_YEARS:
        raise CertificateError(f"days: expected 1 to {365 * AUTHORITY_YEARS}, got {days}")
    end = begin + timedelta(days=days)
    authority, authority_key = _authority(directory)
    if end > authority.not_valid_after_utc:
        left = (authority.not_valid_after_utc - begin).days
        fix = (
            f"ask for at most {left}" if left >= 1 else "make a new authority in another directory"
        )
        raise CertificateError(
            f"days: expected an end no later than the authority's, {_day(authority)}, got {end:%Y-%m-%d}; {fix}"
        )
    stem = _stem(ids)
    path, secret = directory / f"{stem}.crt", directory / f"{stem}.key"
    _refuse_existing(path, secret, "to replace them, remove both files first")
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name_of(ids[0]))])
    purposes = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
    certificate = (
        _builder(
            subject, authority.subject, key.public_key(), authority_key.public_key(), begin, end
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    _write_pair(secret, key, path, certificate)
    said = (
        f"{path}: certificate of {stem}, valid until {_day(certificate)}\n"
        f"{secret}: its key\n"
        f"Copy both and {directory / 'ca.crt'} to the machine of {stem}."
    )
    return Paths(directory / "ca.crt", path, secret, said)


def _time(now: datetime | None) -> datetime:
    assert now is None or now.tzinfo is not None, "a time needs its zone"
    return (now or datetime.now(UTC)).replace(microsecond=0)


def _day(certificate: x509.Certificate) -> str:
    return f"{certificate.not_valid_after_utc:%Y-%m-%d}"


def _agents(agents: Sequence[int]) -> list[int]:
    ids = sorted(set(agents))
    if not 1 <= len(agents) <= MAX_AGENTS:
        raise CertificateError(f"agents: expected 1 to {MAX_AGENTS} of them, got {len(agents)}")
    if len(ids) != len(agents):
        raise CertificateError(f"agents: expected each once, got {list(agents)}")
    if not LOWEST_ID <= ids[0] <= ids[-1] <= HIGHEST_ID:
        raise CertificateError(
            f"agents: expected ids from {LOWEST_ID} to {HIGHEST_ID}, got {list(agents)}"
        )
    return ids


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    if len(host) > 253 or _HOST.fullmatch(host) is None:
        raise CertificateError(f"hosts: expected a host name or an IP address, got {host!r}")
    if host.lower().rpartition(".")[2] == DOMAIN:
        raise CertificateError(
            f"hosts: names below .{DOMAIN} are those of agents, got {host!r}; say it as an agent"
        )
    return x509.DNSName(host.lower())


def _stem(ids: Sequence[int]) -> str:
    """Return the file name for these ids.

    >>> _stem([3]), _stem([0, 1, 2, 3]), _stem([-1, 0, 5, 6]), _stem([-3, -2, 0])
    ('agent-3', 'agents-0-3', 'coordinator+agent-0+agents-5-6', 'edges-0-1+agent-0')
    """
    parts = ["coordinator"] if COORDINATOR in ids else []
    standbys = [i for i in ids if is_standby(i)]
    parts += _spans(
        "edge", [edge_id(i) for i in reversed(ids) if i < COORDINATOR and i not in standbys]
    )
    parts += _spans("standby", [standby_id(i) for i in standbys])
    return "+".join(parts + _spans("agent", [i for i in ids if i > COORDINATOR]))


def _spans(what: str, numbers: Sequence[int]) -> list[str]:
    return [f"{what}s-{run}" if "-" in run else f"{what}-{run}" for run in runs_of(numbers)]


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    signer: ec.EllipticCurvePublicKey,
    begin: datetime,
    end: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin - _MARGIN)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _authority(directory: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    path, secret = directory / "ca.crt", directory / "ca.key"
    fix = f"make an authority first: p2pfrl pki init {directory}"
    try:
        written, written_key = path.read_bytes(), secret.read_bytes()
    except OSError as error:
        raise CertificateError(
            f"{error.filename}: expected the authority, got: {error.strerror}; {fix}"
        ) from error
    try:
        certificate = x509.load_pem_x509_certificate(written)
    except ValueError as error:
        raise CertificateError(
            f"{path}: expected a certificate in PEM, got something else; {fix}"
        ) from error
    try:
        key = serialization.load_pem_private_key(written_key, password=None)
    except (ValueError, TypeError) as error:
        raise CertificateError(
            f"{secret}: expected a key in PEM without a passphrase, got something else"
        ) from error
    if (
        not isinstance(key, ec.EllipticCurvePrivateKey)
        or key.public_key() != certificate.public_key()
    ):
        raise CertificateError(
            f"{secret}: expected the key of {path}, got another key; they belong together"
        )
    return certificate, key


def _refuse_existing(certificate: Path, key: Path, fix: str) -> None:
    for path in (certificate, key):
        if path.exists():
            raise CertificateError(
                f"{path}: expected no file, got one; it is not overwritten: {fix}"
            )


def _write_pair(
    secret: Path, key: ec.EllipticCurvePrivateKey, path: Path, certificate: x509.Certificate
) -> None:
    """Write the key, then the certificate, so that a certificate never exists without its key."""
    packed = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write(secret, packed, 0o600)
    _write(path, certificate.public_bytes(serialization.Encoding.PEM), 0o644)


def _write(path: Path, content: bytes, mode: int) -> None:
    """Write a file atomically. With mode 0o600 no other user can read it at any time."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(path, content, mode=mode)
    except OSError as error:
        raise CertificateError(
            f"{path}: cannot be written: {error.strerror}; name another directory"
        ) from error
