"""Neighbors remember who opted out, also when they are started again."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from test_goodbye import pair
from test_takeover import WAIT, Side

from p2pfrl.core.errors import RecordError
from p2pfrl.net.departures import (
    MARK,
    REMEMBERED,
    RETURNS,
    Departures,
    Mark,
    come_back,
    opt_out,
    read_mark,
)
from p2pfrl.net.records import Identity

PYTHON = re.compile(r"object|NoneType|indices|subscript|Expecting|codec|recursion")
"""Words of Python's own errors."""
PEER = Identity("run", "hash", "layout", (3, 4), 0, b"", ("127.0.0.1", 1))


def back(times: str) -> Identity:
    return replace(PEER, settings={RETURNS: times})


def test_a_mark_is_durable_and_counts_how_often_a_process_came_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = list[int]()
    monkeypatch.setattr("os.fsync", synced.append)
    assert read_mark(tmp_path) == Mark() == come_back(tmp_path)
    assert not synced
    assert opt_out(tmp_path, lambda: 5.0) == read_mark(tmp_path) == Mark(True, 5.0, 0)
    assert synced, "the mark is on disk before the process acts on it"
    assert opt_out(tmp_path, lambda: 6.0) == Mark(True, 5.0, 0)
    assert come_back(tmp_path, lambda: 7.0) == read_mark(tmp_path) == Mark(False, 7.0, 1)
    opt_out(tmp_path)
    assert come_back(tmp_path).settings == {RETURNS: "2"}


@pytest.mark.parametrize(
    "content",
    ["", "[]", "null", "\xff", "{}", '{"is_out": 1, "since": 0, "returns": 0}', "[" * 9999],
)
def test_a_process_whose_mark_cannot_be_read_does_not_start(content: str, tmp_path: Path) -> None:
    (tmp_path / MARK).write_bytes(content.encode("latin-1"))
    with pytest.raises(RecordError, match=MARK) as refused:
        read_mark(tmp_path)
    assert "from a backup; or remove it, and `p2pfrl leave" in str(refused.value)
    assert not PYTHON.search(str(refused.value))


def test_who_opted_out_is_refused_until_it_says_that_it_has_come_back(tmp_path: Path) -> None:
    known = Departures(tmp_path)
    assert known.refusal(PEER) is None
    known.note(back("1"), 12)
    known = Departures(tmp_path)  # started again
    assert (3, 4) in known
    assert known.rounds() == {3: 12, 4: 12}
    for peer in (
        PEER,
        back("1"),
        back("-3"),
        back("9" * 30),
        back("²"),
        replace(PEER, agents=(4,)),
    ):
        reason, detail = known.refusal(peer) or ("", "")
        assert reason == "opted_out"
        assert "agents 3-4 opted out on" in detail
        assert "after 12 rounds" in detail
    assert known.refusal(back("2")) is None
    assert known.refusal(replace(PEER, agents=(5,))) is None
    known.forget((3, 4))
    assert known.refusal(PEER) is None is Departures(tmp_path).refusal(PEER)


@pytest.mark.parametrize(
    "content", ["{}x", "[1]", '[{"agents": [1]}]', "null", "7", "{}", '"ab"', "[[]]"]
)
def test_a_memory_that_cannot_be_read_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / REMEMBERED).write_text(content)
    with pytest.raises(RecordError, match=REMEMBERED) as refused:
        Departures(tmp_path)
    assert "from a backup; or remove it" in str(refused.value)
    assert not PYTHON.search(str(refused.value))


def test_a_goodbye_for_good_is_remembered_and_is_no_loss(tmp_path: Path) -> None:
    async def main() -> None:
        async with pair() as (left, right):
            right.mesh._departures = Departures(tmp_path)
            left.mesh.opted_out = 7
            await left.mesh.close()
            async with asyncio.timeout(WAIT):
                while not right.reports:
                    await asyncio.sleep(0)
            assert right.reports == [False], "the agents are told, or they would wait"
            assert right.log.said == ["joined", "opted_out"]
            assert right.mesh.lost == 0
            assert right.mesh.refusals == {}
            assert right.mesh.down() == ()

    asyncio.run(main())
    (known,) = json.loads((tmp_path / REMEMBERED).read_text())
    assert (known["agents"], known["rounds"]) == ([0], 7)


def test_a_process_that_comes_back_does_not_wait_for_who_has_opted_out(tmp_path: Path) -> None:
    async def main() -> None:
        known = Departures(tmp_path)
        known.note(replace(PEER, agents=(1,)), 3)
        side = Side(0, ("127.0.0.1", 1), ("127.0.0.1", 2))
        side.mesh._departures = Departures(tmp_path)
        try:
            await asyncio.wait_for(side.mesh.open(resuming=True), 1.0)  # else it waits for 20 s
            assert side.reports == [False]
            assert side.mesh.lost == 0
        finally:
            await side.mesh.close()

    asyncio.run(main())
