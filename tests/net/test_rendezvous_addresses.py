"""The table of processes has addresses at which others reach them, whatever they listen on."""

import asyncio

import pytest
from test_bad_input import Log

from p2pfrl.core.errors import P2PFRLError
from p2pfrl.core.wire import Decoder
from p2pfrl.net.fleet import Address, Fleet
from p2pfrl.net.listener import host_of, listen
from p2pfrl.net.mesh import Security, Timing
from p2pfrl.net.records import Identity
from p2pfrl.net.rendezvous import Rendezvous, join

TIMING = Timing(heartbeat=0.5, timeout=5.0, start=30.0)


def meet(lead: Address, guests: list[Address], *, at: str = "127.0.0.2") -> list[Fleet]:
    """Return the tables that the guests get from a lead whose rendezvous they reach at `at`."""
    n = len(guests) + 1
    decoder = Decoder("run", agents=n, parts=("p",), size=4, dtype="float32")
    options = {
        "decoder": decoder,
        "security": Security(),
        "timing": TIMING,
        "progress": lambda line: None,
    }

    async def main() -> list[Fleet]:
        own = Identity("run", "hash", "layout", (0,), 0, bytes(16), lead)
        rendezvous = Rendezvous(own, lead, everyone=range(n), log=Log(), **options)  # type: ignore[arg-type]
        listener, where = await listen(("0.0.0.0", 0), None)
        gathering = asyncio.create_task(rendezvous.gather(listener))
        asked = [
            join(
                Identity("run", "hash", "layout", (), 0, bytes(16), guest),
                (at, where[1]),
                wanted=[number],
                count=1,
                **options,  # type: ignore[arg-type]
            )
            for number, guest in enumerate(guests, start=1)
        ]
        try:
            return [fleet for fleet, _ in await asyncio.gather(*asked)]
        finally:
            gathering.cancel()
            listener.server.close()

    return asyncio.run(asyncio.wait_for(main(), 60))


def test_the_address_of_bind_is_handed_out_and_not_that_of_the_connection():
    (fleet,) = meet(("127.0.0.2", 7000), [("127.0.0.3", 7001)])
    assert fleet == Fleet({("127.0.0.2", 7000): (0,), ("127.0.0.3", 7001): (1,)})


@pytest.mark.parametrize("anywhere", ["0.0.0.0", "::"])
def test_whoever_listens_everywhere_hands_out_the_address_of_its_link_to_the_lead(anywhere):
    (fleet,) = meet(("127.0.0.2", 7000), [(anywhere, 7001)])
    assert fleet.processes[fleet.address(1)] == (1,)
    assert fleet.address(1) == ("127.0.0.1", 7001)


@pytest.mark.parametrize("at", ["127.0.0.2", "127.0.0.3"])
@pytest.mark.parametrize("anywhere", ["0.0.0.0", "::"])
def test_a_lead_that_listens_everywhere_hands_out_the_address_at_which_it_was_reached(anywhere, at):
    (fleet,) = meet((anywhere, 7000), [("127.0.0.4", 7001)], at=at)
    assert fleet == Fleet({(at, 7000): (0,), ("127.0.0.4", 7001): (1,)})


def test_two_processes_with_one_address_are_refused():
    with pytest.raises(P2PFRLError, match=r"at 127.0.0.3:7001 already; give --advertise"):
        meet(("127.0.0.2", 7000), [("127.0.0.3", 7001), ("127.0.0.3", 7001)])


@pytest.mark.parametrize("host", ["a b", "x" * 256, "10.0.0.1\n"])
def test_a_host_that_is_none_is_refused(host):
    with pytest.raises(P2PFRLError, match="the request to join is malformed"):
        meet(("127.0.0.2", 7000), [(host, 7001)])


@pytest.mark.parametrize(("bind", "host"), [("127.0.0.3", "127.0.0.3"), ("0.0.0.0", "0.0.0.0")])
def test_a_listener_knows_its_host_as_a_number(bind, host):
    async def main() -> str:
        listener, _ = await listen((bind, 0), None)
        try:
            return host_of(listener)
        finally:
            listener.server.close()

    assert asyncio.run(main()) == host
