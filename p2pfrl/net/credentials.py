"""Certificates of a process while it runs.

A process looks at its files every second. A certificate that was renewed serves new connections
from then on; those that are open stay so. A new list of revoked certificates closes the connections
of those that it names, and refuses later ones. A file that is damaged, of another authority, or of
other agents changes nothing, and is reported. So is a certificate, or an authority, that is about
to expire.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from p2pfrl.core.errors import P2PFRLError
from p2pfrl.net.fleet import show_agents, who
from p2pfrl.net.options import Files, Log, Security
from p2pfrl.net.revoked import REVOKED, read_revoked
from p2pfrl.net.tls import CertificateError, contexts, own_agents

WARNED = timedelta(days=7)
"""Time before the end of a certificate from which on a process warns of it, once a day."""
_DAY = timedelta(days=1)


class Credentials:
    """The files of a process's certificate, and what others may present.

    Args:
        security: of the process's links; what changes is changed in it.
        files: of its certificate.
        agents: of the process.
        log: receives what has changed, and warnings.

    Raises:
        CertificateError: the list of revoked certificates is damaged, or names our own.
    """

    def __init__(self, security: Security, files: Files, agents: Sequence[int], log: Log) -> None:
        self._security = security
        self._files = files
        self._agents = frozenset(agents)
        self._log = log
        self._list = files.certificate.with_name(REVOKED)
        self._authority = x509.load_pem_x509_certificate(files.authority.read_bytes())
        self._own = _certificate(files)
        self._seen = self._stamps()
        self._warned: datetime | None = None
        self._revoke(frozenset(read_revoked(self._list, self._authority)))
        if self._own.serial_number in security.current.revoked:
            raise CertificateError(
                f"{files.certificate}: is revoked, as {self._list} says, and others refuse it; ask who has the "
                "authority for another one"
            )

    def look(self, now: datetime | None = None) -> bool:
        """Read what has changed; return whether there are newly revoked certificates.

        Args:
            now: the time; None for the system's.
        """
        before, self._seen = self._seen, self._stamps()
        if self._seen[:2] != before[:2]:
            self._try(self._renew)
        is_more = self._seen[2] != before[2] and self._try(self._read_list)
        self._warn(now or datetime.now(UTC))
        return is_more

    def _try(self, read: Callable[[], bool]) -> bool:
        """Read a file; return what reading it returned, or False where it is bad."""
        try:
            return read()
        except (P2PFRLError, OSError, ValueError) as problem:  # an SSLError is an OSError
            self._log.note("certificate", detail=f"not read again: {problem}")
            return False

    def _renew(self) -> bool:
        """Take the new certificate for connections that are still to come; return True."""
        files, security = self._files, self._security
        assert security.server is not None
        assert security.client is not None
        there = own_agents(contexts(files.authority, files.certificate, files.key))
        if not self._agents <= {*there}:
            raise CertificateError(
                f"{files.certificate}: expected a certificate that names {who(self._agents)}, got {show_agents(there)}"
            )
        own = _certificate(files)
        if own.serial_number in security.current.revoked:
            raise CertificateError(f"{files.certificate}: is revoked, as {self._list} says")
        for context in (security.server, security.client):
            context.load_cert_chain(files.certificate, files.key)
        self._own, self._warned = own, None
        security.current.renewals += 1
        self._log.note("certificate", detail=f"renewed: valid until {_end(own)}")
        return True

    def _read_list(self) -> bool:
        """Read the list of revoked certificates; return whether it names more than before."""
        found = frozenset(read_revoked(self._list, self._authority))
        before = self._security.current.revoked
        if lacking := len(before - found):
            raise CertificateError(
                f"{self._list}: lacks {lacking} certificates that were revoked before, which stay so; is it an old one?"
            )
        if found == before:
            return False
        self._revoke(found)
        is_ours = self._own.serial_number in found
        more = ", this process's own among them: others refuse it" if is_ours else ""
        self._log.note("certificate", detail=f"{len(found)} certificates are revoked{more}")
        return True

    def _revoke(self, numbers: frozenset[int]) -> None:
        self._security.current.revoked = numbers

    def _warn(self, now: datetime) -> None:
        """Warn of an end that is near, once a day."""
        if self._warned is not None and now - self._warned < _DAY:
            return
        for path, certificate, fix in (
            (self._files.certificate, self._own, "p2pfrl pki renew makes another one"),
            (self._files.authority, self._authority, "make another one, and all certificates anew"),
        ):
            left = certificate.not_valid_after_utc - now
            if left < WARNED:
                what = "expires on" if left > timedelta(0) else "has expired on"
                detail = f"{path} {what} {_end(certificate)}: {fix}, or no new connection succeeds"
                self._log.note("certificate", detail=detail)
                self._warned = now

    def _stamps(self) -> tuple[tuple[int, int, int], ...]:
        """Return what changes with the certificate, its key and the list."""
        return tuple(map(_stamp, (self._files.certificate, self._files.key, self._list)))


def _certificate(files: Files) -> x509.Certificate:
    return x509.load_pem_x509_certificate(files.certificate.read_bytes())


def _end(certificate: x509.Certificate) -> str:
    return f"{certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0, 0)
    return found.st_mtime_ns, found.st_size, found.st_ino
