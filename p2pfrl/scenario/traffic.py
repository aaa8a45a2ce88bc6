"""Traffic of a scenario: numbers and bytes per message."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pfrl.consensus.mixing.base import Mixing
from p2pfrl.consensus.mixing.metropolis import Metropolis
from p2pfrl.core.types import UPDATE
from p2pfrl.core.wire import Encoder
from p2pfrl.exchange.payloads import RULES as PAYLOADS
from p2pfrl.exchange.payloads.base import Parameters, Payload
from p2pfrl.exchange.secure.ring import Elements
from p2pfrl.learning.learners.base import Stack
from p2pfrl.scenario.modes import MODES
from p2pfrl.scenario.sections import Scenario


@dataclass(frozen=True)
class Sizes:
    """Numbers per message.

    Attributes:
        offered: numbers of the learner's own vector, if the payload consists of it instead of
            parameters; None if it varies.
        upload: numbers in an agent's message; None if it varies.
        model: numbers in a coordinator's message.
    """

    offered: int | None
    upload: int | None
    model: int


def shared_parts(scenario: Scenario, stack: Stack) -> tuple[str, ...]:
    """Return the parts that agents share: the named ones, else all parts in common."""
    return tuple(scenario.exchange.shared or stack.traits.common)


def sizes(
    scenario: Scenario,
    stack: Stack,
    parts: tuple[str, ...],
    payload: Payload,
    mixing: Mixing,
    *,
    coordinator: bool,
) -> Sizes:
    """Return how many numbers the messages have.

    Agents share `parts`, send `payload`, and mix or have a coordinator.
    """
    width = sum(tensor.size for tensor in stack.layout.tensors if tensor.part in parts)
    shared = width * (
        1 + (len(stack.traits.moments) if scenario.learner.moments == "average" else 0)
    )
    extra = scenario.correction.extras * shared if coordinator else 0
    offered = None if payload.offer is None else stack.exchange.offer_size(payload.offer)
    model = len(payload.first(np.zeros(shared, dtype=stack.layout.dtype), offered))
    size = payload.size(shared, offered)
    return Sizes(offered, None if size is None else mixing.size(size) + extra, model + extra)


SIGNATURE = 2048
"""Most bytes of a signature of an agent's keys, with its certificate."""


def elements(scenario: Scenario) -> Elements | None:
    """Return the encoding of masked vectors; None where vectors are not hidden."""
    if not scenario.secure.is_on:
        return None
    by_steps = MODES[scenario.mode].averages and scenario.coordinator.aggregator.reads_samples
    ring = scenario.secure.ring
    assert ring is not None, "vectors are hidden"
    longest = scenario.secure.longest(scenario.agents, signature=SIGNATURE)
    return Elements(int(by_steps), longest, ring.width, scenario.compressor.kept)


def message_bytes(scenario: Scenario, stack: Stack, parts: tuple[str, ...]) -> tuple[int, int]:
    """Return the maximum bytes of an agent's message and of a coordinator's, headers included."""
    payload = PAYLOADS[scenario.exchange.payload]()
    mode = MODES[scenario.mode]
    found = sizes(
        scenario,
        stack,
        parts,
        payload if payload.is_for(mode.name) else Parameters(),
        scenario.mixing if mode.mixes else Metropolis(),
        coordinator=mode.averages,
    )
    dtype = np.dtype(stack.layout.dtype)
    upload = found.upload or 0
    codec = elements(scenario) or scenario.compressor
    encoded = codec.limit(upload, dtype.itemsize)
    names = payload.parts(parts)
    return _frame(scenario, encoded, codec.encoding, names), _frame(
        scenario, found.model * dtype.itemsize, "raw", parts
    )


def beside(scenario: Scenario) -> int:
    """Return the bytes of an agent's messages in a round that carry no vector, headers included."""
    count = int(scenario.coordinator.participation.expected(scenario.agents))
    sizes = scenario.secure.contents(count) if MODES[scenario.mode].averages else ()
    return sum(_frame(scenario, size, "raw", ()) for size in sizes)


def _frame(scenario: Scenario, size: int, encoding: str, parts: tuple[str, ...]) -> int:
    encoder = Encoder(scenario.name, 0)
    weight = float(scenario.schedule.every)
    data: NDArray[Any] = np.zeros(size, dtype=np.uint8)
    return encoder.encode(
        data, kind=UPDATE, round=0, weight=weight, encoding=encoding, parts=parts
    ).nbytes
