"""Curves and messages of processes whose pages are on several machines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from p2pfrl.net.timings import LATEST, Stopwatch, Timings
from p2pfrl.results.distances import distances
from p2pfrl.watch.messages import traffic
from p2pfrl.watch.shares import SINGLE, SIZE, Joined, Share, Shares, merged, projected, share_of

PARTS = (range(3), range(3, 4), range(4, 4 + SINGLE + 3))
"""Agents of three pages; the last has too many to tell the parameters of each."""
N = PARTS[-1].stop


def told(round: int, rows: np.ndarray[Any, Any]) -> list[Share]:
    """Return what each page tells of a round, as it arrives."""
    shares = []
    for own in PARTS:
        vectors = {agent: rows[agent] for agent in own}
        returns = {agent: float(agent) if agent != 4 else float("nan") for agent in own}
        shares.append(share_of(round, float(own[0]), returns, vectors))
    return [Share.of_json(share.to_json()) for share in shares]


@pytest.mark.parametrize("is_merged", [False, True])
def test_rounds_of_pages_add_up_to_the_distance_of_all_agents(is_merged: bool) -> None:
    rows = 1e6 + np.random.default_rng(0).standard_normal((N, 7))
    shares = [merged(share) if is_merged else share for share in told(1, rows)]
    joined = Joined()
    [row] = joined.add([[share] for share in shares])
    apart, distance = distances(rows)
    known = [float(agent) for agent in range(N) if agent != 4]
    assert row[:5] == [1.0, 4.0, pytest.approx(np.mean(known)), 0.0, float(N - 1)]
    assert row[5] == pytest.approx(distance, rel=1e-6)
    singles = (3,) if is_merged else range(4)
    assert joined.disagreement == pytest.approx({a: apart[a] for a in singles}, rel=1e-6)
    assert not joined.is_projected


def test_distances_of_many_parameters_are_estimates() -> None:
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((200, 3 * SIZE))
    errors = [np.linalg.norm(projected(x)) / np.linalg.norm(x) - 1 for x in vectors]
    assert 0.04 < np.std(errors) < 0.08  # theory: about 1/2 sqrt(2/128) = 0.06
    rows = rng.standard_normal((N, 3 * SIZE))
    joined = Joined()
    [row] = joined.add([[share] for share in told(1, rows)])
    assert joined.is_projected
    assert row[5] == pytest.approx(distances(rows)[1], rel=0.2)


def test_rows_wait_for_all_pages_that_are_there() -> None:
    rows = np.zeros((N, 2))
    first, second, third = (told(round, rows) for round in (1, 2, 3))
    joined = Joined()
    pages = [[first[0], second[0]], [first[1]], [first[2], second[2], third[2]]]
    assert [row[0] for row in joined.add(pages)] == [1.0]
    assert joined.add(pages) == []
    assert [row[0] for row in joined.add(pages, gone=[1])] == [2.0]
    assert [row[0] for row in joined.add(pages, gone=[0, 1])] == [3.0]


def test_pages_at_work_for_different_times_have_rounds_in_common() -> None:
    kept = []
    for rounds in (1000, 1700):
        store = Shares()
        for round in range(1, rounds + 1):
            store.add(share_of(round, 0.0, {0: 1.0}, {0: np.zeros(2)}))
        found = store.to_json()
        assert len(found) <= 68
        assert found[-1][0] == rounds
        kept.append({share[0] for share in found})
    assert len(kept[0] & kept[1]) >= 30


def status(agents: tuple[int, ...], began: float, seconds: float, **latest: Any) -> dict[str, Any]:
    known = {"sent": [], "arrived": [], "worked": [], **latest}
    return {
        "agents": agents,
        "state": "running",
        "time": began + seconds,
        "seconds": seconds,
        "latest": known,
    }


def test_messages_of_two_processes_are_on_one_scale_of_time() -> None:
    one = status(
        (0,),
        100.0,
        9.0,
        sent=[[0, [1, 7], 1, 3.0], [0, [1], 2, 5.0], [0, [1], 3, 8.9]],
        worked=[[0, 1.0, 3.0]],
    )
    other = status((1,), 102.0, 6.0, arrived=[[1, 0, 0, 0.5], [1, 0, 1, 1.5], [1, 9, 4, 2.0]])
    found = traffic([one, other])
    assert found.messages == [
        [2.5, 2.5, 0, 1, "delivered"],  # sent before what the sender still knows
        [3.0, 3.0, 0, 7, "delivered"],  # nobody watches agent 7
        [3.0, 3.5, 0, 1, "delivered"],
        [4.0, 4.0, 9, 1, "delivered"],
        [5.0, 8.0, 0, 1, "flying"],  # the receiver wrote its status at 8.0
    ]
    assert found.flying == 1
    assert found.intervals == [[0, "train", 1.0, 3.0], [0, "send", 3.0, 3.5]]


def test_a_message_that_does_not_arrive_for_long_is_lost_and_one_that_was_just_sent_is_not_told() -> (
    None
):
    sent = [[0, [1], 1, 1.0], [0, [1], 2, 20.5]]
    found = traffic([status((0,), 0.0, 21.0, sent=sent), status((1,), 0.0, 20.0)])
    assert found.messages == [[1.0, 20.0, 0, 1, "lost"]]


def test_a_process_that_has_ended_tells_nothing_while_others_run() -> None:
    ended = {**status((0,), 0.0, 5.0, worked=[[0, 1.0, 2.0]]), "state": "ended by rounds"}
    assert traffic([ended, status((1,), 0.0, 9.0)]).intervals == []
    assert traffic([ended]).intervals == [[0, "train", 1.0, 2.0]]


def test_a_process_keeps_its_last_times() -> None:
    now = 0
    watch = Stopwatch(Timings("x", (0,)), lambda: now)
    for number in range(2 * LATEST):
        now = number * 10**9
        watch.starts(0)
        now += 10**8
        watch.ends(0, 1)
        watch.sends(0, (1,), number, 0, 8)
        watch.sends(0, (), number, 0, 8)  # to agents of its own process
        watch.arrives(0, 1, number, 0)
    found = watch.latest()
    assert [len(found[kind]) for kind in ("sent", "arrived", "worked")] == [
        LATEST,
        2 * LATEST,
        LATEST,
    ]
    assert found["sent"][-1] == [0, [1], 2 * LATEST - 1, 2 * LATEST - 0.9]
    assert found["worked"][-1] == [0, 2 * LATEST - 1.0, 2 * LATEST - 0.9]
