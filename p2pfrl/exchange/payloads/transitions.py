"""Experience sharing: agents send transitions, and store those of others in their buffers."""

from __future__ import annotations

from typing import ClassVar

from p2pfrl.core.needs import Breaks, Need, Needs
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule
from p2pfrl.core.turn import Turn
from p2pfrl.core.types import TRANSITIONS
from p2pfrl.exchange.payloads.base import Payload


@rule
class Transitions(Payload):
    """Chosen transitions (s, s', a, r, terminated) of the last local update, without parameters.

    They are for learners with a replay buffer (dqn), whose options `share.count` and `share.select`
    choose them. A transition is raw experience: whoever receives it knows where the sender was,
    what it did there and what it got.

    Reference: with share.select = "td_error", Gerstgrasser, Danino, Keren, "Selectively sharing
    experiences improves multi-agent reinforcement learning", NeurIPS 2023, arXiv 2311.00865
    (SUPER); there a threshold on the error chooses, here a number of transitions, so that every
    message has the same size.
    """

    modes: ClassVar[tuple[str, ...] | None] = ("gossip",)
    why: ClassVar[str] = (
        'agents send experience to each other; mode = "pooled" is the one that collects it'
    )
    reveals_experience: ClassVar[bool] = True
    is_averaged: ClassVar[bool] = False
    needs: ClassVar[Needs] = (Need.EXACT_MESSAGES,)
    breaks: ClassVar[Breaks] = (Need.PARAMETERS,)
    offer: ClassVar[str | None] = TRANSITIONS

    def extract(self, turn: Turn) -> Vector:
        """Return the transitions, one after the other."""
        return turn.memory.recall(TRANSITIONS)

    def parts(self, shared: tuple[str, ...]) -> tuple[str, ...]:
        """Return the name of raw experience."""
        return (TRANSITIONS,)

    def size(self, shared: int, offered: int | None) -> int | None:
        """Return how many numbers the learner's vector has."""
        return offered

    def target(self, model: Vector, aggregate: Vector) -> Vector:
        """Return the model: no coordinator uses this payload."""
        return model
