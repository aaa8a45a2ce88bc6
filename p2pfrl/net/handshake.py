"""Greeting of one connection, as a state machine without I/O.

Both sides send a hello (versions, run, scenario hash, layout, agents, incarnation, nonce), then
prove that they know the shared secret by an HMAC over both nonces, then send joined. A side has
joined when it has received "joined". Without a secret the proof shows only that the other side is
alive now. records.py defines the records of the stream.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from typing import Any

from p2pfrl.core.errors import WireError
from p2pfrl.core.wire import VERSION
from p2pfrl.net.fleet import show_agents, who
from p2pfrl.net.records import Identity, control, differences, parse_hello


class UnwelcomeError(WireError):
    """The other side is refused and informed of the reason. `detail` does not repeat the reason."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.detail = detail


class Handshake:
    """The greeting of one connection.

    Attributes:
        peer: the identity of the other side, once its hello has been accepted.

    Args:
        own: identity of this process.
        secret: shared secret; empty for none.
        dialer: whether this side opened the connection.
        allowed: agent ids in the other side's certificate; None for any.
        check: checks the other side's hello; returns (reason, detail) to refuse it, or None.
    """

    def __init__(
        self,
        own: Identity,
        *,
        secret: bytes,
        dialer: bool,
        allowed: Sequence[int] | None,
        check: Callable[[Identity], tuple[str, str] | None],
    ) -> None:
        self.peer: Identity | None = None
        self._own = own
        self._secret = secret
        self._role = b"dialer" if dialer else b"acceptor"
        self._other_role = b"acceptor" if dialer else b"dialer"
        self._allowed = allowed
        self._check = check
        self._proved = False
        self._joined = False

    @property
    def is_done(self) -> bool:
        """Whether both sides have joined."""
        return self._proved and self._joined

    def hello(self) -> bytes:
        """Return this side's first record."""
        own = self._own
        return control(
            "hello",
            version=VERSION,
            run=own.run,
            scenario=own.scenario,
            layout=own.layout,
            agents=list(own.agents),
            incarnation=own.incarnation,
            nonce=own.nonce,
            host=own.address[0],
            port=own.address[1],
            settings=dict(own.settings),
        )

    def step(self, say: str, body: dict[str, Any]) -> bytes:
        """Return the record that answers a step of the other side's greeting; empty after the last.

        Args:
            say: a key of `STEPS`.
            body: the other values of the record.

        Raises:
            UnwelcomeError: the other side may not join.
            WireError: it is not a step of a greeting, or out of order.
        """
        return STEPS[say](self, body)

    def _hello(self, body: dict[str, Any]) -> bytes:
        if self.peer is not None:
            raise WireError("malformed", "a second hello")
        peer = parse_hello(body)
        own = self._own
        for name in ("run", "scenario", "layout"):
            ours, theirs = getattr(own, name), getattr(peer, name)
            if ours != theirs:
                detail = f"{name}: expected {ours!r}, got {theirs!r}{differences(own, peer)}"
                raise UnwelcomeError(f"wrong_{name}", detail)
        if peer.nonce == own.nonce:
            raise UnwelcomeError("self_connection", "this is our own hello")
        if self._allowed is not None and not set(peer.agents) <= set(self._allowed):
            detail = f"the certificate is for {who(self._allowed)}, hello says {show_agents(peer.agents)}"
            raise UnwelcomeError("wrong_certificate", detail)
        problem = self._check(peer)
        if problem is not None:
            raise UnwelcomeError(*problem)
        self.peer = peer
        return control("proof", mac=self._mac(self._role, own.nonce, peer.nonce))

    def _proof(self, body: dict[str, Any]) -> bytes:
        if self.peer is None or self._proved:
            raise WireError("malformed", "a proof without a hello, or a second one")
        mac = body.get("mac")
        expected = self._mac(self._other_role, self.peer.nonce, self._own.nonce)
        if not isinstance(mac, bytes) or not hmac.compare_digest(mac, expected):
            raise UnwelcomeError("wrong_secret", "the other side does not know the shared secret")
        self._proved = True
        return control("joined")

    def _on_joined(self, body: dict[str, Any]) -> bytes:
        if not self._proved or self._joined:
            raise WireError("malformed", "joined before the proof, or for the second time")
        self._joined = True
        return b""

    def _mac(self, role: bytes, speaker: bytes, listener: bytes) -> bytes:
        return hmac.digest(self._secret or b"-", role + b"|" + speaker + b"|" + listener, "sha256")


STEPS: dict[str, Callable[[Handshake, dict[str, Any]], bytes]] = {
    "hello": Handshake._hello,
    "proof": Handshake._proof,
    "joined": Handshake._on_joined,
}
