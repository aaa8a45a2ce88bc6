"""Who leaves when all is done is not lost; who leaves before is."""

import asyncio

import pytest
from test_takeover import WAIT, Side

from p2pfrl.net.listener import listen


@pytest.mark.parametrize(
    ("left_is_done", "right_is_done", "noted"),
    [(True, False, "left"), (False, True, "left"), (True, True, "left"), (False, False, "lost")],
)
def test_a_neighbor_that_has_finished_or_is_not_needed_any_more_is_not_called_lost(
    left_is_done: bool, right_is_done: bool, noted: str
) -> None:
    async def main() -> None:
        (one, here), (two, there) = (
            await listen(("127.0.0.1", 0), None),
            await listen(("127.0.0.1", 0), None),
        )
        left, right = Side(0, here, there), Side(1, there, here)
        one.accept, two.accept = left.mesh.accept, right.mesh.accept
        try:
            await asyncio.gather(left.mesh.open(), right.mesh.open())
            left.mesh.is_done, right.mesh.is_done = left_is_done, right_is_done
            await left.mesh.close()
            async with asyncio.timeout(WAIT):
                while not right.reports:
                    await asyncio.sleep(0)
            assert right.reports == [False], "the agents are told either way, or they would wait"
            assert right.log.said == ["joined", noted]
            assert right.mesh.refusals == {}
        finally:
            await right.mesh.close()
            one.server.close()
            two.server.close()

    asyncio.run(main())
