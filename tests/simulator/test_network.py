"""The network model against closed forms.

They are latency, transmission, queues at both interfaces, losses and partitions.
"""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from network_bench import MS, Wired

from p2pfrl.core.distributions.draws import Uniform
from p2pfrl.core.types import COORDINATOR, Received
from p2pfrl.simulator.links import Drawn, Fixed, Jittered, PerEdge
from p2pfrl.simulator.losses import Burst, Independent, LinkLosses, Symmetric

RATE = 1e6  # bytes per second: a byte takes a microsecond


def air(frame, rate=RATE):
    return int(frame.nbytes * 1e9 / rate)


def test_a_message_takes_its_transmission_and_its_latency():
    w = Wired(latency=Fixed(20 * MS))
    f = w.send(5 * MS, 0, [1])
    w.run()
    assert w.arrivals(1) == [(5 * MS + air(f) + 20 * MS, 0)]
    assert w.books() == (1, 1, 0)
    assert w.network.traffic.bytes_sent == w.network.traffic.bytes_by[0] == f.nbytes


def test_a_multicast_leaves_one_copy_after_the_other():
    w = Wired(latency=Fixed(20 * MS))
    f = w.send(0, 0, [3, 1, 2])
    w.run()
    for place, receiver in enumerate((3, 1, 2), start=1):
        assert w.arrivals(receiver) == [(place * air(f) + 20 * MS, 0)]
    assert w.network.traffic.bytes_sent == 3 * f.nbytes


def test_send_returns_when_the_last_byte_leaves():
    w = Wired()
    f = w.frame(0)
    assert w.network.send(0, [1, 2], f) == 2 * air(f)
    assert w.network.send(0, [1], f) == 3 * air(f)
    assert w.network.send(0, [], f) == 3 * air(f)
    assert w.network.send(1, [0], f) == air(f)


@pytest.mark.parametrize("k", [1, 2, 5, 12])
def test_k_senders_to_one_receiver_queue_at_its_interface(k):
    w = Wired(n=k + 1, latency=Fixed(20 * MS))
    frames = [w.send(0, i, [k]) for i in range(k)]
    w.run()
    assert w.arrivals(k) == [((i + 1) * air(frames[0]) + 20 * MS, i) for i in range(k)]


def test_the_coordinator_s_interface_is_the_bottleneck_of_a_central_round():
    n = 10
    w = Wired(n=n, latency=Fixed(5 * MS))
    f = w.send(0, COORDINATOR, range(n), size=1000)
    w.run()
    start = [w.arrivals(i)[0][0] for i in range(n)]
    assert start == [(i + 1) * air(f) + 5 * MS for i in range(n)]
    w.got.clear()
    answers = [w.send(100 * MS, i, [COORDINATOR], size=1000) for i in range(n)]
    w.run()
    assert [t for t, _ in w.arrivals(COORDINATOR)] == [
        100 * MS + 5 * MS + (i + 1) * air(answers[0]) for i in range(n)
    ]


def test_a_message_that_finds_the_receiver_busy_waits_and_one_that_does_not_passes():
    w = Wired(latency=PerEdge({(0, 3): 0, (1, 3): MS, (2, 3): 0}))
    big, small = w.send(0, 0, [3], size=25_000), w.send(0, 1, [3], size=10)
    late = w.send(300 * MS, 2, [3], size=10)
    w.run()
    first = air(small) + MS
    assert w.arrivals(3) == [
        (first, 1),
        (max(air(big), first + air(big)), 0),
        (300 * MS + air(late), 2),
    ]


def test_both_directions_of_an_interface_are_independent():
    w = Wired(n=2, latency=Fixed(MS))
    f, g = w.send(0, 0, [1], size=1000), w.send(0, 1, [0], size=1000)
    w.run()
    assert w.arrivals(1) == [(air(f) + MS, 0)]
    assert w.arrivals(0) == [(air(g) + MS, 1)]


def test_two_flows_between_different_pairs_do_not_share_anything():
    w = Wired(n=4)
    f = [w.send(0, 0, [1], size=500), w.send(0, 2, [3], size=500)]
    w.run()
    assert w.arrivals(1) == [(air(f[0]), 0)]
    assert w.arrivals(3) == [(air(f[1]), 2)]


def test_messages_of_one_sender_stay_in_order_on_a_link_of_constant_latency():
    w = Wired(latency=Fixed(3 * MS))
    frames = [w.send(0, 0, [1], round=r, size=50 * (9 - r)) for r in range(9)]
    w.run()
    ends = np.cumsum([air(f) for f in frames]) + 3 * MS
    assert w.arrivals(1) == [(end, 0) for end in ends]
    assert [e.message.round for _, _, e in w.got if isinstance(e, Received)] == list(range(9))


def test_an_edge_s_own_bandwidth_caps_it_and_never_raises_it():
    w = Wired(edge_bandwidth={(0, 1): RATE / 10, (0, 2): RATE * 10})
    f, g = w.send(0, 0, [1]), w.send(10**9, 0, [2])
    back = w.send(2 * 10**9, 1, [0])
    w.run()
    assert w.arrivals(1) == [(air(f, RATE / 10), 0)]
    assert w.arrivals(2) == [(10**9 + air(g), 0)]
    assert w.arrivals(0) == [(2 * 10**9 + air(back), 1)]


def test_bandwidth_beyond_measure_leaves_the_latency_alone():
    w = Wired(bandwidth=1e30, latency=Fixed(7))
    w.send(0, 0, [1, 2, 3], size=5000)
    w.run()
    assert [t for t, _, _ in w.got] == [7, 7, 7]


def test_the_coordinator_is_a_node_like_any_other():
    w = Wired(n=2)
    f, g = w.send(0, COORDINATOR, [0, 1]), w.send(0, 0, [COORDINATOR])
    w.run()
    assert w.arrivals(COORDINATOR) == [(air(g), 0)]
    assert w.network.traffic.bytes_by == {0: g.nbytes, -1: 2 * f.nbytes}


def binomial_bound(n: int, p: float) -> float:
    return 5.0 * (n * p * (1 - p)) ** 0.5


@pytest.mark.parametrize("p", [0.01, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("model", [Independent, Symmetric])
def test_the_share_of_lost_messages_is_the_probability(model, p):
    loss, n = LinkLosses(7, model(probability=p)), 4000
    lost = sum(loss.is_lost(0, 1, number, number) for number in range(n))
    assert abs(lost - n * p) < binomial_bound(n, p)


def test_losses_on_different_edges_seeds_and_messages_are_independent():
    half = Independent(probability=0.5)
    loss, other = LinkLosses(7, half), LinkLosses(8, half)
    draws = np.array(
        [
            [
                loss.is_lost(0, 1, k, k),
                loss.is_lost(1, 0, k, k),
                loss.is_lost(0, 2, k, k),
                other.is_lost(0, 1, k, k),
                loss.is_lost(0, 1, k + 1, k + 1),
            ]
            for k in range(3000)
        ],
        dtype=float,
    )
    correlation = np.corrcoef(draws.T) - np.eye(5)
    assert np.abs(correlation).max() < 5 / 3000**0.5


def test_symmetric_losses_take_both_directions_of_an_edge_in_a_round():
    loss = LinkLosses(3, Symmetric(probability=0.5))
    for round in range(200):
        assert loss.is_lost(4, 9, round, round) == loss.is_lost(9, 4, 77, round)


@pytest.mark.parametrize(
    ("to_bad", "to_good", "good", "bad"),
    [(0.05, 0.2, 0.0, 1.0), (0.1, 0.4, 0.02, 0.8), (0.5, 0.5, 0.0, 0.5)],
)
def test_bursts_have_the_stationary_loss_and_the_length_of_gilbert_and_elliott(
    to_bad, to_good, good, bad
):
    model = Burst(good_to_bad=to_bad, bad_to_good=to_good, loss_good=good, loss_bad=bad)
    loss, n = LinkLosses(5, model), 40_000
    lost = np.array([loss.is_lost(0, 1, k, 0) for k in range(n)])
    share = to_bad / (to_bad + to_good)
    expected = share * bad + (1 - share) * good
    memory = 2.0 / (to_bad + to_good)
    assert (
        abs(lost.mean() - expected) < 5 * (expected * (1 - expected) * max(1.0, memory) / n) ** 0.5
    )
    if (good, bad) == (0.0, 1.0):
        edges = np.flatnonzero(np.diff(np.r_[False, lost, False].astype(int)))
        lengths = edges[1::2] - edges[::2]
        assert lengths.mean() == pytest.approx(
            1 / to_good, rel=5 * ((1 - to_good) / len(lengths)) ** 0.5
        )


def test_every_link_has_bursts_of_its_own():
    model = Burst(good_to_bad=0.05, bad_to_good=0.2)
    loss = LinkLosses(5, model)
    first = [loss.is_lost(0, 1, k, 0) for k in range(300)]
    fresh = LinkLosses(5, model)
    mixed = [(fresh.is_lost(0, 1, k, 0), fresh.is_lost(0, 2, k, 0))[0] for k in range(300)]
    assert first == mixed


def test_a_lost_message_is_counted_and_its_gap_noticed_when_it_would_have_arrived():
    w = Wired(latency=Fixed(20 * MS), loss=LinkLosses(1, Independent(probability=1.0)))
    f = w.send(0, 0, [1, 2], round=6)
    w.run()
    assert w.books() == (2, 0, 2)
    assert w.missing() == [(air(f) + 20 * MS, 1, 0, 6), (2 * air(f) + 20 * MS, 2, 0, 6)]


def test_losses_by_a_fault_come_on_top_of_the_network_s_own():
    w = Wired(n=2, loss=LinkLosses(1, Independent(probability=0.3)))
    w.network.extra_loss = 0.5
    for k in range(2000):
        w.send(k * 10 * MS, 0, [1], round=k)
    w.run()
    p = 1 - 0.7 * 0.5
    assert abs(w.network.traffic.messages_dropped - 2000 * p) < binomial_bound(2000, p)


def test_duplicates_arrive_once_more_a_little_later_and_count_as_nothing():
    w = Wired(n=2, latency=Fixed(2 * MS), duplicate=0.25)
    frames = [w.send(k * 100 * MS, 0, [1], round=k) for k in range(2000)]
    w.run()
    rounds = Counter(e.message.round for _, _, e in w.got if isinstance(e, Received))
    assert set(rounds.values()) == {1, 2}
    twice = sum(count == 2 for count in rounds.values())
    assert abs(twice - 500) < binomial_bound(2000, 0.25)
    assert w.books() == (2000, 2000, 0)
    assert w.network.traffic.bytes_sent == sum(f.nbytes for f in frames)
    assert w.network.traffic.messages_duplicate == twice
    assert sum(e.again for _, _, e in w.got) == twice


def test_jitter_reorders_and_adds_less_than_itself():
    w = Wired(n=2, bandwidth=1e12, latency=Jittered(3, Fixed(10 * MS), 0.005))
    for k in range(400):
        w.send(k * MS, 0, [1], round=k)
    w.run()
    rounds = [e.message.round for _, _, e in w.got if isinstance(e, Received)]
    assert sorted(rounds) == list(range(400))
    assert rounds != sorted(rounds)
    delays = np.array([t - r * MS for (t, _), r in zip(w.arrivals(1), rounds, strict=True)])
    assert delays.min() >= 10 * MS
    assert delays.max() <= 15 * MS + 1000
    assert delays.mean() == pytest.approx(12.5 * MS, rel=0.03)


def test_drawn_latencies_follow_their_distribution_message_by_message():
    latency = Drawn(2, Uniform(low=0.01, high=0.03))
    times = np.array([latency.nanoseconds(0, 1, k) for k in range(4000)])
    assert times.min() >= 10 * MS
    assert times.max() < 30 * MS
    assert times.mean() == pytest.approx(20 * MS, rel=0.02)
    assert latency.nanoseconds(0, 1, 5) == times[5] != latency.nanoseconds(1, 0, 5)


@settings(max_examples=30)
@given(st.permutations([(0, 1), (1, 2), (2, 3), (3, 0), (0, 2), (1, 3)]))
def test_the_fate_of_a_message_does_not_depend_on_the_order_of_other_sends(order):
    def fates(pairs):
        w = Wired(
            n=4,
            bandwidth=1e12,
            latency=Jittered(3, Drawn(2, Uniform(low=0.01, high=0.03)), 0.01),
            loss=LinkLosses(4, Independent(probability=0.4)),
            duplicate=0.3,
        )
        for k in range(3):
            for i in range(4):
                to = [j for s, j in pairs if s == i]
                w.send(k * 1000 * MS, i, sorted(to))
        w.run()
        arrived = sorted(
            (t, e.message.sender, node) for t, node, e in w.got if isinstance(e, Received)
        )
        return arrived, sorted(w.missing())

    base = fates([(0, 1), (1, 2), (2, 3), (3, 0), (0, 2), (1, 3)])
    assert fates(order) == base


def test_sends_of_others_in_between_change_no_draw():
    def lost(noise: bool) -> list[int]:
        w = Wired(n=4, bandwidth=1e12, loss=LinkLosses(4, Independent(probability=0.5)))
        for k in range(100):
            if noise and k % 3 == 0:
                w.send(k * MS, 2, [3])
            w.send(k * MS, 0, [1], round=k)
        w.run()
        return [round for _, node, _, round in w.missing() if node == 1]

    assert lost(noise=True) == lost(noise=False)
    assert 20 < len(lost(noise=False)) < 80


def test_a_partition_drops_what_crosses_it_even_in_flight_and_says_nothing():
    w = Wired(latency=Fixed(20 * MS))
    w.send(0, 0, [1, 2])
    w.loop.post(10 * MS, setattr, w.network, "group", [0, 0, 1, 1, 0])
    w.send(15 * MS, 0, [3])
    w.send(15 * MS, 2, [3])
    w.loop.post(100 * MS, setattr, w.network, "group", None)
    w.send(110 * MS, 0, [2])
    w.run()
    assert len(w.arrivals(1)) == 1
    assert len(w.arrivals(3)) == 1
    assert [t > 110 * MS for t, _ in w.arrivals(2)] == [True]
    assert w.missing() == []
    assert w.books() == (5, 3, 2)


def test_a_node_that_is_down_gets_and_sends_nothing_not_even_what_was_in_flight():
    w = Wired(latency=Fixed(20 * MS), duplicate=1.0)
    w.send(0, 0, [1])
    w.send(0, 1, [0])
    w.loop.post(10 * MS, w.network.down.add, 1)
    w.loop.post(90 * MS, w.network.down.discard, 1)
    w.send(100 * MS, 0, [1])
    w.run()
    assert w.arrivals(0) == []
    assert len(w.arrivals(1)) == 2
    assert w.books() == (3, 1, 2)


def test_a_node_that_goes_down_while_its_interface_is_busy_loses_what_waits_there():
    w = Wired(n=4)
    frames = [w.send(0, i, [3], size=1000) for i in range(3)]
    w.loop.post(air(frames[0]) + 10, w.network.down.add, 3)
    w.run()
    assert len(w.arrivals(3)) == 1
    assert w.books() == (3, 1, 2)


@given(
    sends=st.lists(
        st.tuples(st.integers(0, 400), st.integers(0, 3), st.integers(0, 500)), max_size=40
    ),
    downs=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 3), st.booleans()), max_size=8),
    stop=st.integers(1, 600),
)
def test_sent_is_delivered_plus_dropped_plus_in_flight_at_every_moment(sends, downs, stop):
    w = Wired(
        latency=Fixed(20 * MS),
        loss=LinkLosses(4, Independent(probability=0.3)),
        duplicate=0.3,
        bandwidth=1e5,
    )
    sizes = 0
    for at, sender, size in sends:
        frame = w.send(at * MS, sender, [j for j in range(4) if j != sender], size=size)
        sizes += 3 * frame.nbytes
    for at, node, up in downs:
        w.loop.post(at * MS, w.network.down.discard if up else w.network.down.add, node)
    w.run(until=stop * MS)
    sent, delivered, dropped = w.books()
    assert sent >= delivered + dropped
    kinds = Counter(kind for _, kind, *_ in w.log.events or ())
    assert (kinds[1], kinds[3]) == (sent, dropped)
    assert kinds[2] >= delivered
    w.run()
    sent, delivered, dropped = w.books()
    assert sent == delivered + dropped == 3 * len(sends)
    assert w.network.traffic.bytes_sent == sum(w.network.traffic.bytes_by.values()) == sizes
