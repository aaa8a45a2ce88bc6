"""Benchmark of links on loopback against two blocking sockets that send the same bytes.

Times are wall times. The extra work of a link has two parts. Records, the header with all its
checks, and a separate buffer per payload belong to the transport. Work that reads every number (the
checksum at both ends, the search for NaN and infinity) does not, and is reported separately. The
sockets do neither and receive every message into the same memory. A link does so for large payloads
only, once nothing refers to the last one.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import numpy as np

from p2pfrl.bench.measure import Result, rates
from p2pfrl.bench.streams import HERE, THERE, Stream, decoder_for, encode, links, sockets
from p2pfrl.core.wire import Encoder
from p2pfrl.experiment.run import fewer_collections
from p2pfrl.net import certificates as pki

SIZES = {"18kb": 4_610, "1mb": 2**18, "100mb": 25_000_000}
"""Numbers in a message: those of the usual MLP for CartPole, 1 MiB, 100 MB."""

_TURN = {"18kb": 6000, "1mb": 128, "100mb": 2}
_QUICK = {"18kb": 10, "1mb": 2, "100mb": 1}
_QUICK_SIZE = 2**21


def small(quick: bool) -> Iterator[Result]:
    """Yield the speed of a stream of 18 KB messages."""
    return _against_socket("18kb", 0.7, quick)


def medium(quick: bool) -> Iterator[Result]:
    """Yield the speed of a stream of 1 MB messages."""
    return _against_socket("1mb", 0.85, quick)


def large(quick: bool) -> Iterator[Result]:
    """Yield the speed of a stream of 100 MB messages."""
    return _against_socket("100mb", 0.9, quick)


def tls(quick: bool) -> Iterator[Result]:
    """Yield the speed of mutual TLS 1.3 over that of plain TCP, both of them links."""
    sizes = (("1mb", ""), ("18kb", "_18kb"), ("100mb", "_100mb"))
    for name, shown in sizes[:1] if quick else sizes:
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
            paths = [
                pki.init(Path(folder)),
                *(pki.issue(Path(folder), [agent]) for agent in (HERE, THERE)),
            ]
            trust = [(paths[0].authority, one.certificate, one.key) for one in paths[1:]]
            plain = stack.enter_context(links(SIZES[name], is_checked=False))
            encrypted = stack.enter_context(
                links(SIZES[name], is_checked=False, trust=(trust[0], trust[1]))
            )
            speeds = _take_turns([plain, encrypted], *_amount(name, quick))
        yield Result(
            f"wire_tls_vs_plain{shown}",
            speeds[1] / speeds[0],
            "x",
            f"plain TCP, {speeds[0]:,.0f} MB/s; at least 0.35",
        )


def _against_socket(name: str, bound: float, quick: bool) -> Iterator[Result]:
    size = _size(name, quick)
    with contextlib.ExitStack() as stack:
        plain = stack.enter_context(sockets(size))
        link = stack.enter_context(links(size, is_checked=False))
        whole = stack.enter_context(links(size, is_checked=True))
        speeds = _take_turns([plain, link, whole], *_amount(name, quick))
    against = f"blocking sockets, {speeds[0]:,.0f} MB/s"
    yield Result(
        f"wire_{name}_vs_socket", speeds[1] / speeds[0], "x", f"{against}; at least {bound}"
    )
    yield Result(
        f"wire_encoded_decoded_{name}_vs_socket",
        speeds[2] / speeds[0],
        "x",
        f"{against} that check nothing",
    )
    encoding, decoding = _codec(name, quick)
    yield Result(f"wire_encode_{name}", encoding, "MB/s", "one core, checksum included")
    yield Result(
        f"wire_decode_{name}",
        decoding,
        "MB/s",
        "one core, checksum and search for NaN and infinity included",
    )


def _size(name: str, quick: bool) -> int:
    """Return the numbers in a message."""
    return min(SIZES[name], _QUICK_SIZE) if quick else SIZES[name]


def _amount(name: str, quick: bool) -> tuple[int, int]:
    """Return the number of messages per turn, and the number of turns."""
    return (_QUICK[name], 1) if quick else (_TURN[name], 21)


def _take_turns(streams: list[Stream], count: int, turns: int) -> list[float]:
    """Return the median MB/s of wall time of each stream, after one turn that does not count."""
    times: list[list[float]] = [[] for _ in streams]
    for turn in range(turns + 1):
        for stream, seen in zip(streams, times, strict=True):
            stream.prepare(count)
            with fewer_collections():
                start = time.perf_counter()
                stream.run()
                took = time.perf_counter() - start
            if turn:
                seen.append(count * stream.nbytes / took / 1e6)
    return [median(seen) for seen in times]


def _codec(name: str, quick: bool) -> tuple[float, float]:
    """Return MB/s of (encoding, decoding), each in CPU time."""
    count, turns = _amount(name, quick)
    vector = np.ones(_size(name, quick), "<f4")
    encoder, decoder = Encoder("run", HERE), decoder_for(vector.size, is_checked=True)
    frame = encode(encoder, vector)

    def encoding() -> float:
        for _ in range(count):
            encode(encoder, vector)
        return count * frame.nbytes / 1e6

    def decoding() -> float:
        for _ in range(count):
            decoder.parse(frame.head, frame.payload)
        return count * frame.nbytes / 1e6

    return rates(lambda: encoding, lambda: decoding, turns=turns)
