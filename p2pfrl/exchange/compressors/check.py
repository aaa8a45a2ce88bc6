"""The contract of compressors as a checker that anyone can run on a compressor of their own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from p2pfrl.core.contract import (
    described,
    frozen,
    name_of,
    pure,
    require,
    require_array,
    require_rule,
    turn_of,
)
from p2pfrl.core.needs import Need
from p2pfrl.core.rng import Purpose, generator
from p2pfrl.exchange.compressors.base import ENCODED, Compressor, is_encoded


def check_compressor(rule: Compressor) -> None:
    """Raise an error if a compressor breaks the contract of `Compressor`.

    Checked for vectors of one to forty numbers, in float32 and float64, over three messages each:
    bytes stay within `limit`; the decoded vector is the one that the sender says receivers know,
    byte for byte; inputs are left unchanged; equal inputs give equal messages; an exact compressor
    gives the vector back.

    Raises:
        ContractError: with the method, what was expected and what was got.
    """
    require_rule(rule, Compressor, "check_compressor")
    name, rng = name_of(rule), generator(5, Purpose.CHECK)
    for dtype in (np.dtype("<f4"), np.dtype("<f8")):
        for size in (1, 2, 7, 40):
            vector = rng.standard_normal(size).astype(dtype)
            state, known = rule.init(np.zeros_like(vector)), None
            for count in range(3):
                sent = frozen(np.multiply(vector, 1 + count, dtype=dtype))
                turn = turn_of(0, sent, round=count)
                call = lambda v=sent, t=turn, s=state: _plain(name, rule.encode(v, t, s))  # noqa: E731
                data, known_to_all, state = pure(f"{name}.encode", call, [sent])
                raw, most = data.tobytes(), rule.limit(size, dtype.itemsize)
                fits = len(raw) <= most
                require(fits, f"{name}.limit", f"{len(raw)} bytes for {size} numbers, limit {most}")
                decoded = rule.decode(memoryview(raw), size, dtype)
                if rule.is_difference:
                    message: Any = SimpleNamespace(payload=decoded, encoding=rule.encoding)
                    found = rule.receive(message, known)
                    is_two = isinstance(found, tuple) and len(found) == 2
                    what = f"expected (vector, state), got {described(found)}"
                    require(is_two, f"{name}.receive", what)
                    received, known = found
                    require(
                        received is not None, f"{name}.receive", "a message in order is unknown"
                    )
                    assert received is not None
                    decoded = received
                require_array(decoded, f"{name}.decode", (size,), dtype)
                agrees = decoded.tobytes() == known_to_all.tobytes()
                require(agrees, f"{name}.decode", "is not what the sender says receivers know")
                if Need.EXACT_MESSAGES not in rule.breaks:
                    exact = np.array_equal(decoded, sent)
                    require(exact, f"{name}.decode", "an exact compressor changed the vector")


def _plain(name: str, made: Any) -> tuple[Any, Any, Any]:
    got = f"expected {ENCODED}, got {described(made)}"
    require(is_encoded(made), f"{name}.encode", got)
    return made.data, made.known, made.state
