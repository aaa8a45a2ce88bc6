"""Public keys of the processes of a run, from their greetings: for masks between neighbors.

Two agents that a neighbor hears share masks that it must not know. So their processes connect to
each other, and the greeting of each has its public key. With certificates the connection proves
whose it is. A process has one key for all its agents, and keeps it: masks of messages that were
sent would not cancel with another one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from p2pfrl.core.errors import P2PFRLError
from p2pfrl.core.files import read_regular, write_atomically
from p2pfrl.net.fleet import show_agents
from p2pfrl.net.records import MASKS, Identity

_BYTES = 32
_HEX = re.compile(f"[0-9a-f]{{{2 * _BYTES}}}")
PRIVATE = "masks.key"
"""The file of a process's private key in its directory."""


def kept_key(folder: Path) -> bytes:
    """Return the private key of a process, 32 bytes; a new one of the operating system at first.

    Raises:
        P2PFRLError: its file is damaged.
    """
    path = folder / PRIVATE
    try:
        found = read_regular(path, _BYTES)
    except FileNotFoundError:
        found = os.urandom(_BYTES)
        write_atomically(path, found, mode=0o600)
    except OSError as error:
        raise P2PFRLError(f"{path}: cannot be read: {error.strerror}") from error
    if len(found) != _BYTES:
        raise P2PFRLError(
            f"{path}: expected a key of {_BYTES} bytes, got {len(found)}: the masks of this run are lost; start all "
            "processes anew with another --out"
        )
    return found


class Acquaintances:
    """The key of this process, and those of the processes that it has met.

    Args:
        private: its private key.
        public: its public key.
    """

    def __init__(self, private: bytes, public: bytes) -> None:
        self._private, self._own = private, public
        self._known: dict[int, bytes] = {}

    @property
    def settings(self) -> dict[str, str]:
        """What a greeting says of it."""
        return {MASKS: self._own.hex()}

    def live(self, agents: Sequence[int]) -> None:
        """Note that agents live in this process."""
        self._known |= dict.fromkeys(agents, self._own)

    def private(self, agent: int) -> bytes:
        """Return the private key of an agent of this process."""
        assert self._known.get(agent) == self._own, "only its own keys are known"
        return self._private

    def public(self, agent: int) -> bytes:
        """Return the public key of an agent that was met.

        Raises:
            P2PFRLError: it was not.
        """
        if agent not in self._known:
            raise P2PFRLError(f"agent {agent} has not been met, so no mask is shared with it")
        return self._known[agent]

    def refusal(self, peer: Identity) -> tuple[str, str] | None:
        """Return why a process is refused for its key, or None."""
        found = peer.settings.get(MASKS, "")
        if not _HEX.fullmatch(found):
            return "bad_key", f"hello.settings.{MASKS}: expected {2 * _BYTES} hexadecimal digits"
        key = bytes.fromhex(found)
        if any(self._known.get(agent, key) != key for agent in peer.agents):
            return "bad_key", (
                f"agents {show_agents(peer.agents)} had another key for masks before, and masks would not cancel with "
                "this one: start that process with the directory that it had, or all processes anew"
            )
        if key == self._own:
            return "bad_key", f"agents {show_agents(peer.agents)} have the key of this process"
        return None

    def note(self, peer: Identity) -> None:
        """Note the key of a process that has joined."""
        self._known |= dict.fromkeys(peer.agents, bytes.fromhex(peer.settings[MASKS]))
