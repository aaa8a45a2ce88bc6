"""Private certificate authority for one group of peers (EC P-256, PEM, no passphrase).

    authority    ca.crt, ca.key             ca.crt goes to every machine, ca.key stays
    peer         agent-3.crt, agent-3.key   both go to the machine of agent 3
    revoked      revoked.crl                goes to every machine, beside its certificate
    issued       issued.jsonl               stays: what the authority has issued

Certificates are valid from the day before they were made, so clocks may differ by up to a day. The
authority has no name constraints: peers trust it for agents' names alone, and hosts may have any
name or address. Do not add it to the trusted authorities of a browser or an operating system.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from p2pfrl.core.files import read_regular, write_atomically
from p2pfrl.core.types import (
    COORDINATOR,
    HIGHEST_ID,
    LOWEST_ID,
    edge_id,
    is_standby,
    standby_id,
)
from p2pfrl.net.fleet import runs_of
from p2pfrl.net.revoked import REVOKED, read_revoked
from p2pfrl.net.tls import DOMAIN, CertificateError, name_of

AUTHORITY_YEARS = 10
MAX_AGENTS = 1000
"""Maximum number of agents in one certificate. OpenSSL accepts chains of at most 100 KB."""

ISSUED = "issued.jsonl"
"""The list of what an authority has issued: a JSON object per line, with `serial` and `agents`."""
_MOST_ISSUED = 2**26

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
    signer = _Signer(directory, days, now)
    stem = _stem(ids)
    path, secret = directory / f"{stem}.crt", directory / f"{stem}.key"
    _refuse_existing(path, secret, "to replace them, remove both files first")
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = signer.sign(ids, key.public_key(), x509.SubjectAlternativeName(names))
    _note_issued(directory, ids, certificate)
    _write_pair(secret, key, path, certificate)
    said = (
        f"{path}: certificate of {stem}, valid until {_day(certificate)}\n"
        f"{secret}: its key\n"
        f"Copy both and {directory / 'ca.crt'} to the machine of {stem}."
    )
    return Paths(directory / "ca.crt", path, secret, said)


def renew(
    directory: Path, agents: Sequence[int], *, days: int = 365, now: datetime | None = None
) -> Paths:
    """Replace the certificate of the process of `agents` by one with another validity.

    Names and key stay, so the key is not needed here. Processes that run read the new file.

    Args:
        directory: folder of the authority, with the certificate that it issued.
        agents: ids of the agents of the process.
        days: validity in days from now on, at most that of the authority.
        now: its time of creation; None for the system's time.

    Raises:
        CertificateError: authority or certificate are missing, damaged or revoked, an argument is
            invalid, or the file cannot be written.
    """
    ids = _agents(agents)
    signer = _Signer(directory, days, now)
    stem = _stem(ids)
    path = directory / f"{stem}.crt"
    old = _own_certificate(path, signer.authority)
    if old.serial_number in read_revoked(directory / REVOKED, signer.authority):
        raise CertificateError(
            f"{path}: is revoked; remove it and its key, and issue another one: p2pfrl pki issue"
        )
    public = old.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey), "p2pfrl pki makes no other keys"
    names = old.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    certificate = signer.sign(ids, public, names)
    _note_issued(directory, ids, certificate)
    _write(path, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
    said = (
        f"{path}: certificate of {stem}, valid until {_day(certificate)}, with the same key\n"
        f"Copy it to the machine of {stem} in place of the old one; a process that runs reads it."
    )
    return Paths(directory / "ca.crt", path, directory / f"{stem}.key", said)


def revoke(directory: Path, agents: Sequence[int], *, now: datetime | None = None) -> Paths:
    """Revoke every certificate that was issued for the process of `agents`.

    The list of all revoked ones is an X.509 CRL, signed by the authority, with its end as the time
    of the next one: peers use the one that they have.

    Args:
        directory: folder of the authority.
        agents: ids of the agents of the process, exactly those of its certificate.
        now: the time of the revocation; None for the system's time.

    Raises:
        CertificateError: nothing was issued for them, the authority is missing or damaged, or the
            list cannot be written.
    """
    ids, begin = _agents(agents), _time(now)
    authority, key = _authority(directory)
    stem, path = _stem(ids), directory / REVOKED
    certificate = directory / f"{stem}.crt"
    found = {entry["serial"] for entry in _issued(directory) if entry["agents"] == ids}
    if certificate.exists():
        found.add(_own_certificate(certificate, authority).serial_number)
    if not found:
        raise CertificateError(
            f"{directory}: expected a certificate issued for {stem}, got none; name exactly the agents that a "
            f"certificate names, as in the name of its file"
        )
    before = read_revoked(path, authority)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.subject)
        .last_update(begin)
        .next_update(authority.not_valid_after_utc)
    )
    times = before | {serial: begin for serial in found if serial not in before}
    for serial, time in sorted(times.items()):
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(time)
        builder = builder.add_revoked_certificate(entry.build())
    made = builder.sign(key, hashes.SHA256())
    _write(path, made.public_bytes(serialization.Encoding.PEM), 0o644)
    said = (
        f"{path}: {len(times)} revoked, {len(times) - len(before)} of them now, of {stem}\n"
        "Copy it to every machine, beside its certificate; processes that run read it and close the connections."
    )
    return Paths(directory / "ca.crt", certificate, directory / f"{stem}.key", said)


class _Signer:
    """The authority, and the time for which it is to certify."""

    def __init__(self, directory: Path, days: int, now: datetime | None) -> None:
        self._begin = _time(now)
        if not 1 <= days <= 365 * AUTHORITY_YEARS:
            raise CertificateError(f"days: expected 1 to {365 * AUTHORITY_YEARS}, got {days}")
        self._end = self._begin + timedelta(days=days)
        self.authority, self._key = _authority(directory)
        last = self.authority.not_valid_after_utc
        if self._end > last:
            left = (last - self._begin).days
            fix = (
                f"ask for at most {left}"
                if left >= 1
                else "make a new authority in another directory"
            )
            raise CertificateError(
                f"days: expected an end no later than the authority's, {_day(self.authority)}, got "
                f"{self._end:%Y-%m-%d}; {fix}"
            )

    def sign(
        self,
        ids: Sequence[int],
        public: ec.EllipticCurvePublicKey,
        names: x509.SubjectAlternativeName,
    ) -> x509.Certificate:
        """Return a certificate of a process."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name_of(ids[0]))])
        purposes = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        issuer, signer = self.authority.subject, self._key.public_key()
        return (
            _builder(subject, issuer, public, signer, self._begin, self._end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(names, critical=False)
            .sign(self._key, hashes.SHA256())
        )


def _own_certificate(path: Path, authority: x509.Certificate) -> x509.Certificate:
    """Return a certificate that the authority has issued."""
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        certificate.verify_directly_issued_by(authority)
    except OSError as error:
        raise CertificateError(
            f"{path}: expected the certificate that pki issue made, got: {error.strerror}"
        ) from error
    except (ValueError, TypeError, InvalidSignature) as error:
        raise CertificateError(
            f"{path}: expected a certificate of the authority beside it, got another file"
        ) from error
    return certificate


def _note_issued(directory: Path, ids: Sequence[int], certificate: x509.Certificate) -> None:
    """Note a certificate before it is written, so that all that exist can be revoked."""
    path, entry = directory / ISSUED, {"serial": hex(certificate.serial_number), "agents": ids}
    line = json.dumps({**entry, "until": _day(certificate)}).encode() + b"\n"
    try:
        with path.open("ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise CertificateError(f"{path}: cannot be written: {error.strerror}") from error


def _issued(directory: Path) -> list[dict[str, Any]]:
    """Return what an authority has issued; nothing if it was made before such lists were."""
    path = directory / ISSUED
    if not path.exists():
        return []
    found = []
    try:
        for line in read_regular(path, _MOST_ISSUED).splitlines():
            entry = json.loads(line)
            found.append({"serial": int(entry["serial"], 16), "agents": list(entry["agents"])})
    except OSError as error:
        raise CertificateError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CertificateError(
            f"{path}: expected a certificate per line, got something else; remove the damaged line"
        ) from error
    return found


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
