"""Keys of secure sums of a process: of the operating system, signed with its certificate.

A signature comes with the certificate of the process: `u16 length, ECDSA signature, certificate`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache, lru_cache
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from p2pfrl.build.secure import Keyring, OfRun
from p2pfrl.core.types import called
from p2pfrl.exchange.secure.errors import SecureError
from p2pfrl.exchange.secure.keys import Source, expanded, public_of
from p2pfrl.exchange.secure.members import Unsigned
from p2pfrl.net.acquaintances import Acquaintances, kept_key
from p2pfrl.net.options import Current, Files, Security
from p2pfrl.net.tls import CertificateError, name_of
from p2pfrl.scenario.traffic import SIGNATURE

SIGNED = "of the operating system, signed with the agents' certificates"
UNSIGNED = "of the operating system, not signed: --tls signs them"
MET = "of the operating system, exchanged under the agents' certificates"
MET_PLAINLY = "of the operating system, exchanged without certificates: --tls protects them"
_SHA256 = ec.ECDSA(hashes.SHA256())
_NOBODY = Acquaintances(b"", b"")


class Certified:
    """Signs with a process's certificate, and checks the certificates of others.

    Args:
        files: its certificate, its key, and the authority's certificate.
        current: which certificates are revoked, and whether the own one was renewed.

    Raises:
        CertificateError: the certificate names so many agents that it is too large to be sent.
    """

    def __init__(self, files: Files, current: Current) -> None:
        self._authority = x509.load_pem_x509_certificate(files.authority.read_bytes())
        self._files, self._current = files, current
        self._issued = lru_cache(maxsize=1024)(self._certificate)
        self._read()

    def _read(self) -> None:
        """Read the own certificate and its key."""
        files, self._renewals = self._files, self._current.renewals
        own = x509.load_pem_x509_certificate(files.certificate.read_bytes())
        key = serialization.load_pem_private_key(files.key.read_bytes(), password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey), "p2pfrl pki makes no other keys"
        self._key = key
        self._own = own.public_bytes(serialization.Encoding.DER)
        if len(self._signed(b"")) > SIGNATURE:
            raise CertificateError(
                f"{files.certificate}: secure sums send certificates of at most {SIGNATURE - 80} bytes, and this one "
                f"has {len(self._own)}: issue it for fewer agents"
            )

    def sign(self, text: bytes) -> bytes:
        """Return a signature of `text`, with the certificate that it can be checked with."""
        if self._renewals != self._current.renewals:
            self._read()
        return self._signed(text)

    def _signed(self, text: bytes) -> bytes:
        signature = self._key.sign(text, _SHA256)
        return len(signature).to_bytes(2, "little") + signature + self._own

    def verify(self, agent: int, text: bytes, signature: bytes) -> None:
        """Raise a `SecureError` unless a valid certificate that names `agent` signed `text`."""
        end = 2 + int.from_bytes(signature[:2], "little")
        try:
            certificate = self._issued(signature[end:])
            now = datetime.now(UTC)
            if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
                raise ValueError("it is not valid today")
            if certificate.serial_number in self._current.revoked:
                raise ValueError("it is revoked")
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
            if name_of(agent) not in names.value.get_values_for_type(x509.DNSName):
                raise ValueError(f"it does not name {called(agent)}")
            public = certificate.public_key()
            assert isinstance(public, ec.EllipticCurvePublicKey)
            public.verify(signature[2:end], text, _SHA256)
        except (ValueError, TypeError, x509.ExtensionNotFound, InvalidSignature) as error:
            why = str(error) or "it did not sign these keys"
            raise SecureError(
                "bad_signature", f"the certificate of {called(agent)}: {why}"
            ) from error

    def _certificate(self, data: bytes) -> x509.Certificate:
        """Return a certificate of the authority.

        Raises:
            ValueError, TypeError, InvalidSignature: it is none.
        """
        certificate = x509.load_der_x509_certificate(data)
        certificate.verify_directly_issued_by(self._authority)
        if not isinstance(certificate.public_key(), ec.EllipticCurvePublicKey):
            raise ValueError("its key is not one that p2pfrl issues")
        return certificate


def from_system() -> Callable[[int, int], Source]:
    """Return the random bytes of agents, which follow from a secret of each life of each agent."""

    @cache
    def source(agent: int, incarnation: int) -> Source:
        return expanded(os.urandom(32))

    return source


def acquaintances(folder: Path) -> Acquaintances:
    """Return the key of a process for masks between neighbors, as its directory has it."""
    private = kept_key(folder)
    return Acquaintances(private, public_of(private))


def real_keyring(security: Security, met: Acquaintances | None = None) -> Keyring:
    """Return the keys of a process, signed where it has a certificate.

    `met` has the keys of masks between neighbors, where there are any.
    """
    keys: OfRun = met or _NOBODY
    if security.files is None:
        origin = UNSIGNED if met is None else MET_PLAINLY
        return Keyring(from_system(), lambda agent: Unsigned(), keys, origin)
    signer = Certified(security.files, security.current)
    return Keyring(from_system(), lambda agent: signer, keys, SIGNED if met is None else MET)
