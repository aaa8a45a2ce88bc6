"""Benchmarks: ratios of speeds measured in one run, so that the machine's speed cancels out.

Each family runs in a process of its own, with one thread for linear algebra.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from difflib import get_close_matches
from importlib import import_module
from multiprocessing import get_context

from p2pfrl.bench.measure import Result
from p2pfrl.core.children import one_thread_each
from p2pfrl.core.errors import ScenarioError

BENCHMARKS: dict[str, str] = {
    "ppo_vs_naive_n64": "ppo:versus_naive",
    "ppo_flatness_n64_n1024": "ppo:flatness",
    "engine_ppo_vs_naive_n64": "engines:ppo",
    "engine_a2c_vs_torch_n64": "engines:a2c",
    "engine_dqn_vs_torch_n16": "engines:dqn",
    "async_vs_serial_n256": "asynchrony:bench",
    "events_vs_heap_n256": "events:small",
    "events_vs_heap_n10000": "events:large",
    "agents_vs_heap_n256": "population:whole",
    "bytes_per_agent": "population:memory",
    "gossip_round_vs_copy_n10000": "population:gossip",
    "agent_rounds_per_second_n256": "agents:bench",
    "agent_round_n16384_vs_n64": "agents:scale",
    "message_complete_n512_vs_degree_4": "agents:complete",
    "record_share_n256": "agents:record",
    "shared_worlds_n1024": "worlds:bench",
    "wire_18kb_vs_socket": "wire:small",
    "wire_1mb_vs_socket": "wire:medium",
    "wire_100mb_vs_socket": "wire:large",
    "wire_tls_vs_plain": "wire:tls",
    "tcp_16_agents_vs_alone": "deployment:bench",
    "world_signals_n1024": "native:bench",
    "robust_round_vs_plain_n1000": "robust:bench",
    "live_view_vs_none_n256": "live:bench",
    "secure_sum_n10": "secure:bench",
    "startup_help": "startup:bench",
    "evaluation_vs_3_rounds_n1024": "whole:evaluation",
    "kilobytes_per_agent_d4675": "whole:memory",
    "ring_16_vs_import_torch": "whole:command",
    "workers_2_vs_1_n1024": "workers:bench",
}
"""Name -> module and function that measure it."""


def run(
    names: Sequence[str] = (),
    quick: bool = False,
    progress: Callable[[Result], object] | None = None,
) -> list[Result]:
    """Measure `names`, or all if empty, each in a new process.

    A benchmark may give more than one result.

    Args:
        names: keys of `BENCHMARKS`.
        quick: whether to use small sizes to test that it runs; the values have no meaning then.
        progress: called with every result as it arrives.

    Raises:
        ScenarioError: a name is not known.
    """
    for name in names:
        if name not in BENCHMARKS:
            close = get_close_matches(name, BENCHMARKS, 1)
            hint = (
                f"did you mean {close[0]}?" if close else f"expected one of {', '.join(BENCHMARKS)}"
            )
            raise ScenarioError([f"bench: unknown benchmark {name!r}: {hint}"])
    results: list[Result] = []
    with one_thread_each():
        for name in names or tuple(BENCHMARKS):
            with ProcessPoolExecutor(1, get_context("spawn")) as process:
                for result in process.submit(measure, name, quick).result():
                    results.append(result)
                    if progress is not None:
                        progress(result)
    return results


def against(
    packages: Sequence[str],
    quick: bool = False,
    progress: Callable[[Result], object] | None = None,
) -> list[Result]:
    """Measure against other packages, each in a new process; arguments as of `run`.

    Raises:
        ScenarioError: a package is not known, or not installed.
    """
    from p2pfrl.bench.against import BENCHES

    for name in packages:
        if name not in BENCHES:
            known = ", ".join(BENCHES)
            raise ScenarioError([f"bench --against {name}: expected some of {known}"])
    results: list[Result] = []
    with one_thread_each():
        for name in packages:
            with ProcessPoolExecutor(1, get_context("spawn")) as process:
                for result in process.submit(measure_against, name, quick).result():
                    results.append(result)
                    if progress is not None:
                        progress(result)
    return results


def measure_against(package: str, quick: bool) -> list[Result]:
    """Return the results of a benchmark against a package, measured in this process."""
    from p2pfrl.bench.against import BENCHES

    return list(BENCHES[package](quick))


def measure(name: str, quick: bool) -> list[Result]:
    """Return the results of one benchmark, measured in this process."""
    module, _, function = BENCHMARKS[name].partition(":")
    bench: Callable[[bool], Iterator[Result]] = getattr(
        import_module(f"p2pfrl.bench.{module}"), function
    )
    return list(bench(quick))
