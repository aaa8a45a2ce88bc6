"""Options of a process's links: security, timing and the log."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, cast


class Relay:
    """Forwards (reason, detail) of refused TLS handshakes to a receiver that is set later.

    Attributes:
        to: the receiver; refusals are dropped until it is set.
    """

    def __init__(self) -> None:
        self.to: Callable[[str, str], None] = lambda reason, detail: None

    def __call__(self, reason: str, detail: str) -> None:
        """Forward a refusal."""
        self.to(reason, detail)


@dataclass(frozen=True, slots=True)
class Files:
    """The files of a process's certificate, in PEM.

    Attributes:
        authority: certificate of the authority.
        certificate: of the process.
        key: its private key.
    """

    authority: Path
    certificate: Path
    key: Path


@dataclass
class Current:
    """What of the certificates of a run may change while a process runs (net/credentials.py).

    Attributes:
        revoked: serial numbers of the certificates that are refused.
        renewals: how often the process's own certificate was replaced.
    """

    revoked: frozenset[int] = frozenset()
    renewals: int = 0

    def refusal(self, transport: asyncio.BaseTransport) -> tuple[str, str] | None:
        """Return (reason, detail) if the certificate at the other end is revoked, or None."""
        tls = transport.get_extra_info("ssl_object") if self.revoked else None
        if tls is None:
            return None
        serial = str((cast(ssl.SSLObject, tls).getpeercert() or {}).get("serialNumber", ""))
        if not serial or int(serial, 16) not in self.revoked:
            return None
        return "certificate_revoked", f"the authority has revoked certificate {serial}"


@dataclass(frozen=True)
class Security:
    """Shared secret and TLS contexts of a process.

    Attributes:
        secret: shared by all processes of the run; empty for none.
        server: TLS context of accepted connections; None for plain TCP.
        client: TLS context of own connections; None for plain TCP.
        names: a connection's TLS object -> agents named by the peer's certificate.
        relay: forwards the handshakes that `server` refused.
        files: of the certificate, where there is one.
        current: what of certificates may change meanwhile.
    """

    secret: bytes = b""
    server: ssl.SSLContext | None = None
    client: ssl.SSLContext | None = None
    names: Callable[[ssl.SSLObject], tuple[int, ...]] | None = None
    relay: Relay = field(default_factory=Relay)
    files: Files | None = None
    current: Current = field(default_factory=Current)


@dataclass(frozen=True)
class Timing:
    """Seconds between heartbeats, until a silent peer is dead, and until all must be connected."""

    heartbeat: float = 1.0
    timeout: float = 3.0
    start: float = 120.0


class Log(Protocol):
    """The receiver of log events."""

    def note(self, what: str, **details: object) -> None:
        """Log one event."""
