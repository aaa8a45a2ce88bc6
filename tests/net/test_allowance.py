"""One sender cannot take the time of the others, however fast it sends."""

import asyncio

import pytest
from test_bad_input import attack, built, house, run

from p2pfrl.net.allowance import BURST, RATE, RATE_OF_AGENT, Allowance

FLOOD = 60_000


def test_a_connection_within_its_allowance_is_always_read():
    allowance = Allowance(0.0)
    assert allowance.spend(int(RATE * BURST), 0, 0.0) == 0.0
    assert [allowance.spend(int(RATE / 10), 0, k / 10) for k in range(1, 50)] == pytest.approx(
        [0.0] * 49
    )


def test_what_is_over_the_allowance_is_waited_for():
    allowance = Allowance(0.0)
    assert allowance.spend(int(RATE * BURST) + int(RATE), 0, 0.0) == 1.0
    assert allowance.spend(0, 0, 0.5) == 0.5
    assert allowance.spend(0, 0, 1.0) == 0.0
    assert allowance.spend(1, 0, 1.0) == pytest.approx(1 / RATE)


def test_unused_allowance_is_kept_for_a_while_and_agents_have_one_each():
    allowance = Allowance(0.0)
    allowance.spend(0, 10, 1000.0)
    rate = RATE + 10 * RATE_OF_AGENT
    assert allowance.spend(int(rate * BURST), 10, 1000.0) == 0.0
    assert allowance.spend(int(rate), 10, 1000.0) == 1.0


def test_honest_rounds_go_on_at_their_rate_beside_a_flood() -> None:
    async def main() -> None:
        async with house() as there, attack(there.address, join=True) as attacker:
            clock = asyncio.get_running_loop().time

            async def seconds() -> float:
                began = clock()
                await there.rounds(500)
                return clock() - began

            quiet = await seconds()
            attacker.send(built(sequence=2) * FLOOD)
            await there.until(lambda: there.victim.refusals.get("replay", 0) >= RATE * BURST)
            stormy = await seconds()
            assert there.victim.refusals["replay"] < FLOOD - 1, "the flood still comes"
            assert stormy < 10 * quiet

    run(main())
