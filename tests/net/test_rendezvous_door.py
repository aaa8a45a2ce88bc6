"""The lead's door: connections that say nothing or nonsense are bounded and given up.

They do not keep others out.
"""

import asyncio
import contextlib

import pytest
from test_bad_input import Log

from p2pfrl.core.errors import P2PFRLError
from p2pfrl.core.wire import Decoder
from p2pfrl.net.fleet import Fleet
from p2pfrl.net.listener import listen
from p2pfrl.net.mesh import Security, Timing
from p2pfrl.net.records import Identity
from p2pfrl.net.rendezvous import Rendezvous, join

TIMING = Timing(heartbeat=0.2, timeout=0.6, start=20.0)


def test_silent_connections_at_the_lead_are_given_up_and_whoever_comes_properly_joins() -> None:
    async def main() -> None:
        decoder = Decoder("run", agents=2, parts=("p",), size=4, dtype="float32")
        own = Identity("run", "hash", "layout", (0,), 0, bytes(16), ("127.0.0.1", 7000))
        said: list[str] = []
        rendezvous = Rendezvous(
            own,
            own.address,
            everyone=[0, 1],
            decoder=decoder,
            security=Security(),
            timing=TIMING,
            progress=said.append,
            log=Log(),
        )
        listener, where = await listen(("127.0.0.1", 0), None)
        gathering = asyncio.create_task(rendezvous.gather(listener))
        silent = [await asyncio.open_connection(*where) for _ in range(100)]
        try:
            async with asyncio.timeout(20):
                for reader, _ in silent:
                    with contextlib.suppress(ConnectionError):
                        while await reader.read(4096):
                            pass
            assert len(rendezvous._admission) == 0
            guest = Identity("run", "hash", "layout", (), 0, bytes(16), ("127.0.0.1", 7001))
            options = {
                "decoder": decoder,
                "security": Security(),
                "timing": TIMING,
                "progress": said.append,
            }
            with pytest.raises(P2PFRLError, match="live elsewhere"):
                await join(guest, where, wanted=[0], count=1, **options)  # type: ignore[arg-type]
            fleet, yours = await join(guest, where, wanted=[], count=1, **options)  # type: ignore[arg-type]
            assert yours == (1,)
            assert (
                fleet
                == await gathering
                == Fleet({("127.0.0.1", 7000): (0,), ("127.0.0.1", 7001): (1,)})
            )
        finally:
            gathering.cancel()
            listener.server.close()
            for _, writer in silent:
                writer.transport.abort()
            await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(main(), 60))
