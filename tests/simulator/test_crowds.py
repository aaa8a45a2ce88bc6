"""Large multicasts and lines at interfaces: the same events as if each message were posted."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

from p2pfrl.build.world import World, build
from p2pfrl.consensus.mixing.metropolis import metropolis
from p2pfrl.consensus.topologies.hubs import Complete
from p2pfrl.core.state import decode, encode
from p2pfrl.scenario import loads
from p2pfrl.simulator import network
from p2pfrl.simulator.crowds import Arrivals, Line, Sent
from p2pfrl.simulator.loop import virtual_time

_RUN = """
name = "crowd"
agents = 14
stop = {{rounds = 4}}
learner = {{kind = "quadratic", dimension = 4}}
topology = {{kind = "{topology}"}}
network = {{latency = {latency}, bandwidth = {bandwidth}}}
"""
_FAULTS = """
[[faults]]
kind = "crash"
at = {at}
agents = [3]

[[faults]]
kind = "partition"
at = {at}
groups = [[0, 1, 2, 4, 5], [6, 7, 8, 9, 10, 11, 12, 13]]

[[faults]]
kind = "heal"
at = {later}
"""


def _world(
    topology: str, latency: str, bandwidth: str, faults: str = "", agents: int = 14
) -> World:
    text = _RUN.format(topology=topology, latency=latency, bandwidth=bandwidth) + faults
    return build(loads(text, {"agents": agents}), on_row=lambda row: False)


def _digest(world: World) -> str:
    world.simulation.run()
    return world.log.digest(world.trainer.parameters)


@pytest.mark.parametrize(
    ("topology", "latency", "bandwidth"),
    [
        ("complete", '"1ms"', '"1MB/s"'),
        ("complete", '{kind = "uniform", low = "0ms", high = "20ms"}', '"100kB/s"'),
        ("star", '{kind = "uniform", low = "0ms", high = "1ms"}', '"50kB/s"'),
        ("barabasi_albert", '"1ms"', '"50kB/s"'),
    ],
)
@pytest.mark.parametrize("faults", ["", _FAULTS.format(at='"4ms"', later='"60ms"')])
def test_digests_are_those_of_messages_that_are_posted_one_by_one(
    topology, latency, bandwidth, faults, monkeypatch
):
    crowds = _digest(_world(topology, latency, bandwidth, faults))
    monkeypatch.setattr(network, "_FEW", 10**9)
    assert crowds == _digest(_world(topology, latency, bandwidth, faults))


def test_what_is_under_way_is_listed_message_by_message():
    sizes, names = list[int](), set[str]()

    def look(world: World) -> None:
        found = world.loop.pending()
        flying = [entry for entry in found if entry[2].__name__ in ("arrive", "hand_over")]
        names.update(entry[2].__name__ for entry in flying)
        traffic = world.network.traffic
        assert len(flying) == traffic.messages_sent - traffic.messages_delivered
        assert len(flying) == world.loop.count(("arrive", "hand_over"))
        few = [e for e in world.loop.pending(1) if e[2].__name__ in ("arrive", "hand_over")]
        assert len(few) <= 2 * 14
        sizes.append(len(flying))

    world = _world("complete", '"1ms"', '"100kB/s"')
    for millisecond in range(1, 40):
        world.loop.post(millisecond * 1_000_000, look, world)
    world.simulation.run()
    assert max(sizes) > 100
    assert names == {"arrive", "hand_over"}


def test_arrivals_take_the_sequences_of_their_sending():
    loop, seen = virtual_time(), list[tuple[int, int]]()
    sent = Sent(9, None, 5)  # type: ignore[arg-type]  # no frame is looked at
    loop.post(20, seen.append, (20, -1))
    Arrivals(
        loop,
        [30, 20, 20, 10],
        (0, 1, 2, 3),
        sent,
        arrive=lambda *_: None,
        in_line=lambda receiver, _: seen.append((loop.now, receiver)),
    )
    loop.post(20, seen.append, (20, -2))
    loop.post(30, loop.stop)
    loop.run_forever()
    assert seen == [(10, 3), (20, -1), (20, 1), (20, 2), (20, -2), (30, 0)]


def test_a_line_forgets_the_times_of_those_who_left():
    loop, seen = virtual_time(), list[int]()
    line = Line(loop, 0, lambda sender, receiver, frame: seen.append(loop.now))
    for when in range(1000):
        line.join(when, Sent(1, None, 1))  # type: ignore[arg-type]  # as above
    loop.post(999, loop.stop)
    loop.run_forever()
    assert seen == list(range(1000))
    assert len(line._times) <= 64


def _traced(make: Callable[[], object]) -> tuple[object, int]:
    """Return what `make` returns, and how many bytes it takes."""
    tracemalloc.start()
    try:
        found = make()
        return found, tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def test_a_complete_graph_and_its_matrix_take_few_bytes_per_edge():
    n = 200
    graph, of_graph = _traced(lambda: Complete().at(n, 1, 0))
    rows, of_rows = _traced(lambda: metropolis(graph))
    assert of_graph < 12 * n**2, "with numbers of its own in every row it is 32"
    assert of_rows < 18 * n**2, "a row as a dict takes 70"
    assert len(rows) == n


def test_a_message_under_way_takes_few_bytes():
    loop, to = virtual_time(), tuple(range(2000))
    sent = Sent(9, None, 5)  # type: ignore[arg-type]  # as above

    def post() -> object:
        times = [receiver * 1_000_000 for receiver in to]
        return Arrivals(loop, times, to, sent, arrive=lambda *_: None, in_line=lambda *_: None)

    _, bytes_ = _traced(post)
    assert bytes_ < 20 * len(to), "as an entry of the heap it takes over 200"


@pytest.mark.slow
def test_a_round_of_a_complete_graph_takes_few_bytes_per_edge():
    _world("complete", '"1ms"', '"1MB/s"').simulation.run()  # imports
    few, many = 150, 250
    peaks = [
        _peak(lambda n=n: _world("complete", '"1ms"', '"1MB/s"', agents=n).simulation.run())[1]
        for n in (few, many)
    ]
    per_edge = (peaks[1] - peaks[0]) / (many**2 - few**2)
    assert per_edge < 180, "it was 520 when each message was an entry of the heap"


def _peak(run: Callable[[], object]) -> tuple[object, int]:
    tracemalloc.start()
    try:
        found = run()
        return found, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("faults", ["", _FAULTS.format(at='"9ms"', later='"60ms"')])
def test_a_saved_run_holds_each_multicast_once_and_goes_on_with_the_same_events(faults):
    text = _RUN.format(topology="complete", latency='"3ms"', bandwidth='"100kB/s"') + faults
    scenario = loads(
        text, {"agents": 40, "compute.speed": {"kind": "uniform", "low": 0.2, "high": 1}}
    )
    saved: list[tuple[int, bytes]] = []
    kinds = {Arrivals} if faults else {Arrivals, Line}  # after a fault nothing waits in lines

    def row(found: dict[str, float]) -> bool:
        if found["round"] == 2:
            whole.loop.when_idle(save)
        return False

    def save() -> None:
        groups = whole.loop.groups()
        assert {type(group) for group in groups} == kinds
        under_way = sum(map(len, groups))
        assert under_way > 200
        crowds = whole.network.save()["crowds"]
        columns = [values for values in crowds.values() if isinstance(values, np.ndarray)]
        assert sum(values.nbytes for values in columns) == 25 * under_way
        assert len(crowds["multicasts"]) <= 2 * 40
        assert whole.log.events is not None
        saved.append((len(whole.log.events), encode(whole.save({}))))

    whole = build(scenario, trace=True, on_row=row)
    whole.simulation.run()
    (events, state), *_ = saved
    again = build(scenario, trace=True, on_row=lambda row: False)
    again.restore(decode(state), {})
    assert {type(group) for group in again.loop.groups()} == kinds
    again.simulation.resume()
    assert whole.log.events is not None
    assert again.log.events == whole.log.events[events:]
    assert (again.trainer.parameters == whole.trainer.parameters).all()
    assert len(again.log.events) > 1000
