"""A little world of state machines without a network: the test decides what happens next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from p2pfrl.core.types import COORDINATOR, UPDATE, Message, Received, Schedule, Trained, Update

SECOND = 1_000_000_000


def message(
    sender: int,
    round: int,
    *,
    kind: str = UPDATE,
    sequence: int | None = None,
    incarnation: int = 0,
    weight: float = 1.0,
    score: float = 0.0,
) -> Message:
    number = round + 1 if sequence is None else sequence
    return Message(
        kind, sender, incarnation, number, round, weight, "raw", (), 0, np.empty(0), score
    )


def received(sender: int, round: int, **options: object) -> Received:
    return Received(message(sender, round, **options))  # type: ignore[arg-type]


def model(round: int, **options: object) -> Received:
    return received(COORDINATOR, round, **{"kind": "model", **options})


def trained(agent: int = 0) -> Trained:
    return Trained(Update(agent, 1, 0.0))


def shape(actions: Sequence[object]) -> list[str]:
    """Return the actions as text that a test can compare.

    Examples are "train", "send update 3 to 0 2" and "mix 3 of 0 2".
    """
    words = []
    for action in actions:
        name = type(action).__name__
        if name == "Send":
            words.append(
                f"send {action.kind} {action.round} to {' '.join(map(str, action.to))}".strip()
            )  # type: ignore[attr-defined]
        elif name == "Mix":
            rounds = " ".join(str(m.sender) for m in action.received)  # type: ignore[attr-defined]
            words.append(
                f"mix {action.round} of {rounds}".strip()
                if action.active
                else f"sit out {action.round}"
            )  # type: ignore[attr-defined]
        elif name == "Adopt":
            words.append(f"adopt {action.message.round}")  # type: ignore[attr-defined]
        elif name == "Answer":
            words.append(f"{'repeat' if action.again else 'answer'} {action.message.sender}")  # type: ignore[attr-defined]
        elif name == "WaitUntil":
            words.append("wait" if action.time is not None else "no deadline")  # type: ignore[attr-defined]
        else:
            words.append(name.lower())
    return words


@dataclass
class Neighbors:
    """The same neighbors in every round."""

    out: Sequence[int]
    into: Sequence[int] = ()
    both: bool = field(default=True)

    def successors(self, round: int) -> Sequence[int]:
        return self.out

    def predecessors(self, round: int) -> Sequence[int]:
        return self.out if self.both else self.into


def feed(machine: Schedule, *events: object, now: int = 0) -> list[str]:
    """Feed events in turn and return what all the actions are."""
    return [word for event in events for word in shape(machine.handle(event, now))]  # type: ignore[arg-type]
