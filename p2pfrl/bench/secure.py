"""Benchmark of secure sums: what masks cost beside a plain sum of the same vectors."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from p2pfrl.bench.measure import Result
from p2pfrl.core.types import UPDATE
from p2pfrl.exchange.secure.masked import SecureAggregation
from p2pfrl.laws.secure import one_round, people

_SIZES = ((10, 100_000), (100, 10_000))


def bench(quick: bool) -> Iterator[Result]:
    """Yield milliseconds of CPU time per agent and round, and bytes per agent beside its vector.

    Agents and coordinator are counted together, without and with as many dropouts as are allowed.
    """
    name = "secure_sum_n10"
    for n, size in ((4, 100), (5, 50)) if quick else _SIZES:
        rng = np.random.default_rng(1)
        vectors = dict(enumerate(rng.integers(0, 2**64, (n, size), dtype=np.uint64)))
        members, sums = people(n)
        dead = dict.fromkeys(range(n - 2 * n // 3 - 1), UPDATE)
        for what, gone, number in (("", {}, 1), (".dropouts", dead, 2)):
            start = time.process_time()
            found = one_round(members, sums, vectors, gone, number)
            spent = 1e3 * (time.process_time() - start) / n
            assert found is not None, "enough agents are there"
            against = f"{n} agents, {size:,} numbers, {len(gone)} dropouts: of CPU time per agent"
            label = name if (n, what) in ((10, ""), (4, "")) else f"{name}.{n}{what}"
            yield Result(label, spent, "ms", against)
        beside = sum(SecureAggregation().contents(n))
        yield Result(
            f"{name}.bytes_{n}",
            float(beside),
            "bytes",
            f"beside 8 x {size:,} of the vector, per agent",
        )
