"""What follows from the bytes and the silence of one connection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from p2pfrl.core.types import Message
from p2pfrl.net.records import Identity


@dataclass(frozen=True, slots=True)
class Opened:
    """Both sides have joined."""

    peer: Identity


@dataclass(slots=True)
class Delivered:
    """A frame arrived, decoded and checked."""

    to: tuple[int, ...]
    message: Message


@dataclass(frozen=True, slots=True)
class Told:
    """A control message of the application."""

    say: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Refused:
    """Something was refused; the connection lives on. `reason` is one of a small fixed set."""

    reason: str
    detail: str
    agents: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Closed:
    """The connection must be closed, or is."""

    reason: str
    detail: str


Event = Opened | Delivered | Told | Refused | Closed
