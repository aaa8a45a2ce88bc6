"""What a process tells its agents of rounds that a neighbor has jumped over."""

import asyncio

from test_bad_input import RING, RUN, process_of_two

from p2pfrl.build.assembly import Assembly
from p2pfrl.core.types import Missing
from p2pfrl.core.wire import Encoder
from p2pfrl.net.session import Delivered
from p2pfrl.scenario import loads

GAP = 1000
TOLD = 64


def test_who_waits_for_a_neighbor_that_is_a_thousand_rounds_ahead_is_told_the_round_that_it_waits_for() -> (
    None
):
    async def main() -> None:
        assembly = Assembly(loads(RING))
        node = process_of_two(assembly, spawn=lambda agent, port: None)
        own, other = Encoder(RUN, 2), Encoder(RUN, 1)
        waits_for = 10
        node._send(2, [1], own.encode(None, kind="skip", round=waits_for))
        node._receive(
            Delivered((2,), assembly.decoder.decode(other.encode(None, kind="skip", round=GAP)))
        )
        port = node._ports[2]
        events = [await port.receive() for _ in range(len(port))]
        told = [event.round for event in events if isinstance(event, Missing)]
        assert told[0] == waits_for
        assert set(range(waits_for, waits_for + TOLD)) <= set(told), "it comes to these next"
        assert set(range(GAP - TOLD, GAP)) <= set(told), "and these are the last ones"
        assert len(told) == len(set(told)) == 2 * TOLD, (
            "a gap of any size costs a mailbox no more than that"
        )

    asyncio.run(main())
