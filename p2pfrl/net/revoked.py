"""The list of revoked certificates: an X.509 CRL in PEM, signed by the authority of a fleet."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from p2pfrl.core.files import read_regular
from p2pfrl.net.tls import CertificateError

REVOKED = "revoked.crl"
"""Name of the list, beside the certificates."""
_MOST = 2**24
_EXPECTED = (
    "expected a list of revoked certificates of the authority, as p2pfrl pki revoke makes it"
)


def read_revoked(path: Path, authority: x509.Certificate) -> dict[int, datetime]:
    """Return the serial numbers of revoked certificates, each with its time; none without a file.

    Args:
        path: the list.
        authority: who must have signed it.

    Raises:
        CertificateError: it cannot be read, is damaged, or is of another authority.
    """
    try:
        content = read_regular(path, _MOST)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise CertificateError(f"{path}: cannot be read: {error.strerror or error}") from error
    public = authority.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey), "p2pfrl pki makes no other keys"
    try:
        found = x509.load_pem_x509_crl(content)
    except ValueError as error:
        raise CertificateError(f"{path}: {_EXPECTED}, got something else") from error
    try:
        if found.issuer != authority.subject or not found.is_signature_valid(public):
            raise ValueError("not signed by the authority")
        return {entry.serial_number: entry.revocation_date_utc for entry in found}
    except (ValueError, TypeError) as error:
        reason = "one that is not signed by the authority"
        raise CertificateError(f"{path}: {_EXPECTED}, got {reason}") from error
