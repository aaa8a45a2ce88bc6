"""The terms on which a process talks to others: whom it trusts, how long it waits, and who hears what happened."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol


class Relay:
    """Hands on (reason, detail) of TLS handshakes that were refused: contexts are made before whoever counts them.

    Attributes:
        to: who is told now; until someone says so, nobody.
    """

    def __init__(self) -> None:
        self.to: Callable[[str, str], None] = lambda reason, detail: None

    def __call__(self, reason: str, detail: str) -> None:
        """Hand it on."""
        self.to(reason, detail)


@dataclass(frozen=True)
class Security:
    """How a process knows who it talks to.

    Attributes:
        secret: shared by all processes of the run; empty for none.
        server: TLS context of accepted connections; None for plain TCP.
        client: TLS context of own connections; None for plain TCP.
        names: a connection's TLS object -> agents named by the peer's certificate.
        relay: is told by `server` of handshakes that it refused.
    """

    secret: bytes = b""
    server: ssl.SSLContext | None = None
    client: ssl.SSLContext | None = None
    names: Callable[[ssl.SSLObject], tuple[int, ...]] | None = None
    relay: Relay = field(default_factory=Relay)


@dataclass(frozen=True)
class Timing:
    """Seconds: between heartbeats, until a silent peer is dead, and until everyone must be there at the start."""

    heartbeat: float = 1.0
    timeout: float = 3.0
    start: float = 120.0


class Ear(Protocol):
    """Whoever is told what happens: the record, the live line."""

    def note(self, what: str, **details: object) -> None:
        """Something worth a line in the log happened."""
