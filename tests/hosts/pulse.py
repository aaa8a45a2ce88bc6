"""A process that says something on a link twenty times a second, and prints what it hears and when.

`python pulse.py AGENT OWN_ADDRESS OTHER_ADDRESS` prints "heard SEQUENCE ROUND SECONDS" lines; the
seconds are of the clock that all processes of a machine share.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import numpy as np
import uvloop

from p2pfrl.core.types import UPDATE
from p2pfrl.core.wire import Decoder, Encoder
from p2pfrl.net.fleet import parse_address
from p2pfrl.net.listener import listen
from p2pfrl.net.mesh import Mesh, Security, Timing
from p2pfrl.net.records import Identity
from p2pfrl.net.session import Delivered

SIZE = 100
PULSE = 0.05


class Log:
    def note(self, what: str, **details: Any) -> None:
        print(what, time.monotonic(), details, file=sys.stderr, flush=True)


def received(event: Delivered) -> None:
    print("heard", event.message.sequence, event.message.round, time.monotonic(), flush=True)


async def main(agent: int, own: tuple[str, int], other: tuple[str, int]) -> None:
    listener, _ = await listen(own, None)
    identity = Identity("run", "hash", "layout", (agent,), 0, bytes(16), own)
    mesh = Mesh(
        identity,
        {other: (1 - agent,)},
        decoder=Decoder("run", agents=2, parts=("p",), size=SIZE, dtype="float32"),
        security=Security(),
        timing=Timing(start=30.0),
        receive=received,
        report=lambda agents, up: None,
        log=Log(),
    )
    listener.accept = mesh.accept
    await mesh.open()
    encoder, vector = Encoder("run", agent), np.zeros(SIZE, "<f4")
    for round in range(10**6):
        mesh.send(
            other,
            [1 - agent],
            encoder.encode(vector, kind=UPDATE, round=round, parts=("p",)),
            agent,
        )
        await asyncio.sleep(PULSE)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), parse_address(sys.argv[2]), parse_address(sys.argv[3])))
