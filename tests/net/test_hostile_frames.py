"""A live peer refuses what hypothesis makes, each frame with its reason.

Honest rounds continue.
"""

import asyncio
import json
import os
import statistics
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvloop
from test_bad_input import House, house

import p2pfrl
from p2pfrl.net.mesh import Timing

FEEDER = Path(__file__).with_name("hostile_feeder.py")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(p2pfrl.__file__).parents[1])}
ROUNDS = 5
"""Honest rounds without hostile frames before each batch, and at the least beside it."""

WORK = np.linspace(0, 1, 2_000_000, dtype=np.float32)
TRAIN = partial(np.sin, WORK, WORK.copy())
"""A millisecond or two of work, so that hostile frames come in most rounds.

Otherwise they would come between rounds.
"""
MORE = 64 * 2**20
"""Bytes by which the memory of the process may grow."""


def resident() -> int:
    """Return the bytes of memory that this process holds; 0 where nobody says."""
    path = Path("/proc/self/statm")
    return int(path.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if path.exists() else 0


class Storm:
    """What came of one run."""

    def __init__(self) -> None:
        self.sent: dict[str, int] = {}
        self.counted: Counter[str] = Counter()
        self.calm: list[float] = []
        self.stormy: list[float] = []
        self.seconds = 0.0
        self.grown = 0
        self.crashes: list[dict[str, Any]] = []
        self.lines: list[dict[str, Any]] = []

    @property
    def ratio(self) -> float:
        """Median round beside hostile frames over the median round without them.

        Both are measured in this run, in turns.
        """
        return statistics.median(self.stormy) / statistics.median(self.calm)


async def storm(frames: int, seed: int, rate: float) -> Storm:
    """Let honest rounds go on, in turns alone and beside a feeder.

    The feeder sends a batch at `rate` frames per second.
    """
    found = Storm()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: found.crashes.append(context))
    async with house(timing=Timing(timeout=30.0)) as there:
        command = [
            sys.executable,
            str(FEEDER),
            "{}:{}".format(*there.address),
            str(frames),
            str(seed),
            str(rate),
        ]
        pipe = asyncio.subprocess.PIPE
        feeder = await asyncio.create_subprocess_exec(
            *command, stdin=pipe, stdout=pipe, env=ENVIRONMENT
        )
        assert feeder.stdin is not None
        assert feeder.stdout is not None
        pool = ThreadPoolExecutor(1)
        try:
            assert await asyncio.wait_for(feeder.stdout.readline(), 60) == b"ready\n"
            await rounds(there, pool, 100)
            before, delivered, said = resident(), 0, b"sent\n"
            while said == b"sent\n":
                found.calm += await rounds(there, pool, ROUNDS)
                feeder.stdin.write(b"go\n")
                answer = asyncio.create_task(feeder.stdout.readline())
                began = time.perf_counter()
                while not answer.done():
                    found.stormy += await rounds(there, pool, ROUNDS)
                found.seconds += time.perf_counter() - began
                delivered += len(there.applied)
                there.applied.clear()
                said = answer.result()
            found.grown = resident() - before
            found.sent = json.loads(said)
            found.counted = Counter({**there.victim.refusals, "delivered": delivered})
            found.lines = [line for line in there.log.lines if line["what"] == "refused"]
            assert await asyncio.wait_for(feeder.wait(), 30) == 0
        finally:
            pool.shutdown()
            if feeder.returncode is None:
                feeder.kill()
                await feeder.wait()
    return found


async def rounds(there: House, pool: ThreadPoolExecutor, count: int) -> list[float]:
    """Let the honest pair train, in a thread as agents do, and exchange; return the seconds."""
    seconds = []
    for _ in range(count):
        began = time.perf_counter()
        await asyncio.get_running_loop().run_in_executor(pool, TRAIN)
        await there.rounds(1)
        seconds.append(time.perf_counter() - began)
    return seconds


def run(frames: int, seed: int, *, rate: float, limit: float) -> Storm:
    return uvloop.run(asyncio.wait_for(storm(frames, seed, rate), limit))


def check(found: Storm, frames: int) -> None:
    sent = dict(found.sent)
    assert sent.pop("frames") >= frames
    sent.pop("connections")
    assert found.crashes == []
    # What was sent was refused for the reason for which it had to be, as often as it came, and
    # nothing else was.
    assert +found.counted == Counter(sent)
    assert len(found.counted) >= 10
    assert found.grown < MORE
    assert {line["reason"] for line in found.lines} == set(found.counted) - {"delivered"}


def test_300_frames_that_hypothesis_makes_are_refused_by_a_live_peer_as_they_should_be() -> None:
    check(run(300, 0, rate=1e6, limit=300), 300)


@pytest.mark.slow
def test_100_000_frames_that_hypothesis_makes_crash_nothing_and_500_a_second_slow_rounds_by_a_fifth_at_most(
    record_property: Any,
) -> None:
    found = run(100_000, 1, rate=500.0, limit=1500)
    said = {
        "frames per second": round(found.sent["frames"] / found.seconds),
        "ratio": round(found.ratio, 3),
        "ratio of means": round(statistics.mean(found.stormy) / statistics.mean(found.calm), 3),
        "calm": statistics.median(found.calm),
        "grown": found.grown,
        **found.sent,
    }
    record_property("storm", said)
    print(said)
    check(found, 100_000)
    assert found.ratio <= 1.2
