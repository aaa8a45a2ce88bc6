"""What a page shows of processes over TCP, from their files and from pages of other hosts."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

import p2pfrl
from p2pfrl.build.assembly import Assembly
from p2pfrl.build.record import coordinated, talked
from p2pfrl.cli import main
from p2pfrl.core.errors import P2PFRLError, RecordError, ScenarioError
from p2pfrl.core.parameters import Layout, Tensor
from p2pfrl.core.traffic import Traffic
from p2pfrl.core.types import Update
from p2pfrl.deploy.journal import MAGIC, Journal
from p2pfrl.deploy.process import _MOST_PREDICTED, NETWORK
from p2pfrl.deploy.status import Status, statuses, waiting_status
from p2pfrl.deploy.status import row_of as statuses_row
from p2pfrl.results.formats import graph_to_json
from p2pfrl.scenario.render import resolved
from p2pfrl.watch import journals as reading
from p2pfrl.watch import serve as serving
from p2pfrl.watch import server
from p2pfrl.watch.deployed import Deployed
from p2pfrl.watch.remote import Pages, Remote, pages
from p2pfrl.watch.sources import Local, source_of

LAYOUT = Layout((Tensor("actor.x", (2,)),), "float64")


def deployment(tmp_path: Path) -> list[Path]:
    """Write the files of two processes with two agents each; the second was killed in round 2."""
    scenario = p2pfrl.load("ring_16", {"agents": 4, "stop.rounds": 10})
    assembly = Assembly(scenario)
    graph = graph_to_json(talked(assembly), coordinated(assembly))
    assembly.close()
    network = {
        **graph,
        "lambda_2": 0.5,
        "dtype": "float64",
        "processes": [
            {"agents": [0, 1], "where": "10.0.0.1:7000"},
            {"agents": [2, 3], "where": "10.0.0.2:7000"},
        ],
    }
    folders = [tmp_path / "peers" / name for name in ("0-1", "2-3")]
    for place, folder in enumerate(folders):
        folder.mkdir(parents=True)
        (folder / NETWORK).write_text(json.dumps(network))
        (folder / "scenario.toml").write_text(resolved(scenario))
        own = (2 * place, 2 * place + 1)
        rounds = (5, 2)[place]
        write_journal(folder, own, rounds)
        Status(
            own,
            rounds,
            10,
            float(place),
            20.0,
            1000,
            3,
            100,
            {},
            4e9,
            progress={str(a): [rounds, 7.0 + a, 0.5, 500] for a in own},
            waits={str(own[0]): f"agent {own[0]} waits in round {rounds} for {own[0] - 1}"},
            awaited={str(own[0]): [own[0] - 1]},
            heard={str((own[0] - 1) % 4): 1},
            down=(2, 3) if place == 0 else (),
            refusals={"bad_frame": 4} if place == 0 else {},
        ).write(folder)
    line = {"time": 5.0, "what": "lost", "agents": [2, 3], "detail": "closed"}
    (folders[0] / "log.jsonl").write_text(json.dumps(line) + "\n")
    return folders


def write_journal(folder: Path, own: tuple[int, ...], rounds: int) -> None:
    """Write entries of rounds in which agent a has the parameters (a, round)."""
    now = 0
    model: dict[int, np.ndarray[Any, Any]] = {}
    journal = Journal(
        folder / "journal.bin",
        agents=own,
        incarnation=0,
        seed=1,
        layout=LAYOUT,
        model=lambda agent: model[agent],
        now=lambda: now,
        every=1,
        save=lambda agent, round: None,
    )
    journal.traffic = Traffic()
    journal.begin()
    for round in range(rounds):
        now = (round + 1) * 10**9
        for agent in own:
            model[agent] = np.array([agent, round], dtype=np.float64)
            journal.trained(agent, Update(agent, 10, 0.0, (float(agent),)))
            journal.mixed(agent, round, {1: 0}, model[agent], model[agent])
    assert journal.ended == dict.fromkeys(own, rounds)
    journal.close()


@contextmanager
def running(folder: Path) -> Iterator[None]:
    """Hold the lock of a directory, as its process does."""
    import fcntl

    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        lock.flush()
        yield


def row_of(found: dict[str, Any], agents: str) -> dict[str, Any]:
    columns = found["processes"]["columns"]
    rows = {row[0]: dict(zip(columns, row, strict=True)) for row in found["processes"]["rows"]}
    return rows[agents]


def test_the_page_says_who_is_behind_who_is_down_and_who_waits_for_whom(tmp_path: Path) -> None:
    folders = deployment(tmp_path)
    with running(folders[0]):
        found = Local(tmp_path).read()
    assert found["run"]["state"] == "1 of 2 processes running"
    assert found["run"]["down"] == [2, 3]
    assert found["run"]["now"]["rounds"] == 5.0
    first, second = row_of(found, "0-1"), row_of(found, "2-3")
    assert first["state"] == "running"
    assert first["refusals"] == "bad_frame 4"
    assert (second["state"], second["round"], second["behind"]) == ("killed", 2, 3)
    assert second["where"] == "10.0.0.2:7000"
    assert found["colors"]["states"][2:] == "dd"
    lags = {row[0]: row[3] for row in found["agents"]["rows"]}
    assert lags == {0: 0, 1: 0, 2: 3, 3: 3}
    assert found["log"][0]["text"] == "0-1: lost agents 2-3: closed"


def test_a_process_that_runs_names_whom_it_waits_for_and_cannot_reach(tmp_path: Path) -> None:
    folders = deployment(tmp_path)
    with running(folders[0]):
        found = Local(tmp_path).read()
    assert found["waiting"] == {"0": [-1]}
    assert row_of(found, "2-3")["not reached by"] == "0-1"


def test_a_process_that_says_nothing_any_more_is_silent(tmp_path: Path) -> None:
    folders = deployment(tmp_path)
    now = json.loads((folders[0] / "status.json").read_text())
    (folders[0] / "status.json").write_text(json.dumps({**now, "time": time.time() - 40.0}))
    with running(folders[0]):
        assert row_of(Local(tmp_path).read(), "0-1")["state"] in (
            "silent for 40 s",
            "silent for 41 s",
        )


def test_curves_come_from_the_journals_as_far_as_all_have_written(tmp_path: Path) -> None:
    folders = deployment(tmp_path)
    page = Local(tmp_path)
    with running(folders[0]), running(folders[1]):
        found = page.read()["curves"]
        assert found["columns"]["round"] == [1.0, 2.0]
        assert found["columns"]["consensus_distance"] == pytest.approx([1.25**0.5] * 2, rel=1e-5)
        assert found["columns"]["return_mean"] == [1.5, 1.5]
        assert found["predicted"] == pytest.approx([1.25**0.5, 0.5 * 1.25**0.5], rel=1e-5)
    page._deployed._origin._folders = tuple(folders)
    with running(folders[0]):
        found = page.read()["curves"]  # of those that are there: agents 0 and 1 are 1/2 from (1/2)
    assert found["columns"]["round"] == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert found["columns"]["consensus_distance"][2:] == [0.5] * 3


class SlowClock:
    """A clock that goes on with each look, as a disk does that gives 50 entries a second."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.02
        return self.now


@pytest.mark.parametrize("most", [24, 4096])
@pytest.mark.parametrize("gone", [(), (0, 1), (2, 3), (0, 1, 2, 3)])
def test_journals_that_take_long_to_read_make_each_row_once_and_of_all_agents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: tuple[int, ...], most: int
) -> None:
    monkeypatch.setattr(reading, "_MOST_WAITING", most)
    paths = [tmp_path / name / "journal.bin" for name in ("0-1", "2-3")]
    for path, own, rounds in zip(paths, ((0, 1), (2, 3)), (60, 40), strict=True):
        path.parent.mkdir()
        write_journal(path.parent, own, rounds)
    journals = reading.Journals(paths, range(4), "float64", SlowClock())
    calls = [journals.read(gone) for _ in range(20)]
    rows = [row[:3] for call in calls for row in call]
    assert sum(map(bool, calls)) > 1
    last = 60 if 3 in gone else 40  # the others wait for those that ended after 40 rounds
    means = [1.5] * 40 + [0.5] * (last - 40)
    assert rows == [[float(r), float(r), mean] for r, mean in enumerate(means, 1)]


def test_rows_do_not_wait_for_an_agent_that_never_began(tmp_path: Path) -> None:
    for name in ("0-1", "2-3"):
        (tmp_path / name).mkdir()
    write_journal(tmp_path / "0-1", (0, 1), 40)
    (tmp_path / "2-3" / "journal.bin").touch()
    paths = [tmp_path / name / "journal.bin" for name in ("2-3", "0-1", "none")]
    journals = reading.Journals(paths, range(4), "float64", SlowClock())
    rows = [row[0] for _ in range(5) for row in journals.read(range(4))]
    assert rows == [float(round) for round in range(1, 41)]


def test_rounds_that_a_process_tells_again_after_a_restart_make_no_second_row(
    tmp_path: Path,
) -> None:
    write_journal(tmp_path, (0, 1), 5)
    path = tmp_path / "journal.bin"
    journals = reading.Journals([path], range(2), "float64")
    assert [row[0] for row in journals.read(range(2))] == [1.0, 2.0, 3.0, 4.0, 5.0]
    path.rename(tmp_path / "before")
    write_journal(tmp_path, (0, 1), 7)
    path.write_bytes((tmp_path / "before").read_bytes() + path.read_bytes()[len(MAGIC) :])
    assert [row[0] for row in journals.read(range(2))] == [6.0, 7.0]


def test_one_process_alone_shows_what_it_has_heard_of_the_others(tmp_path: Path) -> None:
    folders = deployment(tmp_path)
    found = source_of([folders[0]]).read()
    other = row_of(found, "2-3")
    assert (other["state"], other["round"]) == ("not watched", 1)
    assert "neither a directory nor a page" in found["notes"][0]
    curves = found["curves"]  # of its own agents: without the prediction, which is for all
    assert curves["columns"]["return_mean"] == [0.5] * 5
    assert curves["columns"]["consensus_distance"] == [0.5] * 5
    assert curves["predicted"] == []
    assert "Curves are of agents 0-1 only." in found["notes"]


@contextmanager
def served(folders: list[Path], token: str) -> Iterator[tuple[list[str], threading.Event]]:
    """Serve the pages of processes until an event: that these have ended."""
    over, urls, threads = threading.Event(), [], []
    for folder in folders:
        listener = serving.listening(("127.0.0.1", 0))
        urls.append(serving.url_of(listener, token))
        words = (Local(folder), listener, token)
        more = {"is_local": not token, "ended": over.wait}
        threads.append(threading.Thread(target=serving.serve, args=words, kwargs=more))
    for thread in threads:
        thread.start()
    try:
        yield urls, over
    finally:
        over.set()
        for thread in threads:
            thread.join(10.0)


def test_pages_of_peers_become_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "_HANDING_OVER", 0.0)
    folders = deployment(tmp_path)
    with served(folders, "a-token-of-the-page") as (urls, _):
        together = pages(urls, "")
        assert isinstance(together, Deployed)
        found = together.read()
        assert [row[0] for row in found["processes"]["rows"]] == ["0-1", "2-3"]
        # The second has ended after two rounds, so that rows wait for nobody.
        curves = found["curves"]
        assert curves["columns"]["round"] == [1.0, 2.0, 3.0, 4.0, 5.0]
        assert curves["columns"]["return_mean"] == [1.5, 1.5, 0.5, 0.5, 0.5]
        distances = [1.25**0.5] * 2 + [0.5] * 3
        assert curves["columns"]["consensus_distance"] == pytest.approx(distances, rel=1e-5)
        assert found["colors"]["disagreement"] == pytest.approx([0.5, 0.5, 0.5, 1.5])
        assert pages(urls[:1], "").read()["run"]["kind"] == "peers"
        with pytest.raises(P2PFRLError, match="expected the token of this page, got a wrong one"):
            pages([urls[0].partition("?")[0]], "another-token-here")
        with pytest.raises(P2PFRLError, match="expected the token of this page, got none"):
            pages([urls[0].partition("?")[0]], "")
    with pytest.raises(P2PFRLError, match="cannot be read"):
        pages(urls, "")


def test_what_follows_a_page_gets_the_last_state_of_a_run_that_ends(tmp_path: Path) -> None:
    folders = deployment(tmp_path)
    with served(folders, "") as (urls, over):
        together, alone = pages(urls, ""), pages(urls[:1], "")
        with running(folders[0]), running(folders[1]):
            assert together.read()["run"]["state"] == "running"
            assert alone.read()["run"]["state"] == "running"
        for folder in folders:
            end(folder)
        over.set()
        states = [together.read()["run"] for _ in range(2)]
        assert alone.read()["run"]["state"] == "ended by rounds"
    states.append(together.read()["run"])
    assert [(run["state"], run["down"]) for run in states] == [("ended by rounds", [])] * 3
    assert set(together.read()["colors"]["states"]) == {"e"}
    last = alone.read()
    assert (last["run"]["state"], last["problem"]) == ("ended by rounds", "")
    assert last["notes"][-1].startswith("The page of this run has ended")


@pytest.mark.parametrize("number", [1, 2])
def test_a_page_of_pages_has_their_last_state_though_no_browser_was_open_at_their_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(server, "PERIOD", 0.02)
    monkeypatch.setattr(server, "UNWATCHED", 0.04)
    folders = deployment(tmp_path)[:number]
    given: dict[str, Any] = {}

    def note(source: server.Source, listener: socket.socket, token: str, **more: Any) -> None:
        listener.close()
        given.update(more, source=source)

    async def follow(locks: ExitStack, over: threading.Event) -> server.Page:
        page = server.Page(given["source"], is_fleeting=given["is_fleeting"])
        following = asyncio.create_task(page.follow())
        async with asyncio.timeout(20.0):
            while not page.board.version:  # it has read once, and so follows the pages
                await asyncio.sleep(0.01)
            locks.close()
            for folder in folders:
                end(folder)
            over.set()
            while "ended by rounds" not in page.board.since(0):
                await asyncio.sleep(0.01)
        following.cancel()
        await asyncio.wait([following])
        return page

    with served(folders, "") as (urls, over), ExitStack() as locks:
        for folder in folders:
            locks.enter_context(running(folder))
        with monkeypatch.context() as patch:
            patch.setattr(serving, "serve", note)
            words = [word for url in urls for word in ("--url", url)]
            assert main(["watch", *words, "--no-open"]) == 0
        page = asyncio.run(follow(locks, over))
    asyncio.run(page.refresh())  # for a browser that is opened now
    found = json.loads(page.board.since(0))
    assert (found["run"]["state"], found["problem"]) == ("ended by rounds", "")


def end(folder: Path) -> None:
    """Write what a process writes at its end."""
    found = json.loads((folder / "status.json").read_text())
    (folder / "status.json").write_text(json.dumps({**found, "round": 10, "time": time.time()}))
    (folder / "peer.json").write_text(json.dumps({"stopped_by": "rounds", "rounds": 10}))


def test_a_process_whose_page_is_gone_is_unreachable_and_down_only_if_others_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "_HANDING_OVER", 0.0)
    folders = deployment(tmp_path)
    found = json.loads((folders[0] / "status.json").read_text())
    (folders[0] / "status.json").write_text(json.dumps({**found, "down": []}))
    with served(folders, "") as (urls, _):
        together, alone = pages(urls, ""), pages(urls[:1], "")
        with running(folders[0]):
            now = time.time()
            found = json.loads((folders[0] / "status.json").read_text())
            (folders[0] / "status.json").write_text(json.dumps({**found, "time": now - 2.0}))
            first = together.read(), alone.read()
    clock = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: clock + 40.0)
    second = together.read(), alone.read()
    for before, after in zip(first, second, strict=True):
        assert row_of(before, "0-1")["state"] == "running"
        assert 40.0 <= row_of(after, "0-1")["last sign"] - row_of(before, "0-1")["last sign"] < 60.0
    assert row_of(second[0], "0-1")["state"] == "unreachable"
    assert second[0]["run"]["state"] == "1 unreachable, 1 killed"
    assert second[0]["run"]["down"] == [2, 3]  # its last state was "killed"
    assert second[0]["colors"]["states"] == "??dd"
    assert (second[1]["run"]["state"], second[1]["run"]["running"]) == ("unreachable", False)
    assert "cannot be read" in second[1]["problem"]


def test_asynchronous_processes_have_their_own_updates_beside_their_rounds(tmp_path: Path) -> None:
    folders = deployment(tmp_path)
    text = resolved(p2pfrl.load("async_ring", {"agents": 4, "compute.speed": 1.0}))
    for folder in folders:
        (folder / "scenario.toml").write_text(text)
    found = Local(tmp_path).read()
    assert "updates are its own, since" in found["notes"][0]
    assert found["agents"]["columns"][:4] == ("agent", "round", "updates", "lag")
    status = json.loads((folders[0] / "status.json").read_text())
    status["updates"] = {"0": 5, "1": 2}
    (folders[0] / "status.json").write_text(json.dumps(status))
    rows = {row[0]: row[1:4] for row in Local(tmp_path).read()["agents"]["rows"]}
    assert rows == {0: [5, 5, 0], 1: [5, 2, 0], 2: [2, None, 3], 3: [2, None, 3]}


def test_a_process_that_waits_for_others_at_the_start_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "peer"
    folder.mkdir()

    async def wait() -> None:
        async with waiting_status(folder, (0, 1), 10, lambda: "agents 2-3 to join"):
            await asyncio.sleep(0)

    asyncio.run(wait())
    with running(folder):
        found = Local(folder).read()
        assert main(["status", str(folder)]) == 0
    assert found["run"]["state"] == "waiting for agents 2-3 to join"
    assert row_of(found, "0-1")["state"] == "running, waiting for agents 2-3 to join"
    assert row_of(found, "0-1")["round"] == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{folder}: running, waiting for agents 2-3 to join  round 0/10  ")
    assert statuses_row([folder]) is None  # it has not begun
    assert row_of(Local(folder).read(), "0-1")["state"] == "killed"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (P2PFRLError("no process took agents 2-3"), "failed: no process took agents 2-3"),
        (asyncio.CancelledError(), "ended by interrupt"),
    ],
)
def test_a_process_whose_partners_never_came_says_how_it_ended(
    error: BaseException, expected: str, tmp_path: Path
) -> None:
    async def wait() -> None:
        async with waiting_status(tmp_path, (0, 1), 10, lambda: "agents 2-3 to join"):
            await asyncio.sleep(0)
            raise error

    with pytest.raises(type(error)):
        asyncio.run(wait())
    (found,) = statuses(tmp_path)
    assert found["state"] == expected


def test_equal_lines_of_a_log_are_one_up_to_another_about_the_same_agents(tmp_path: Path) -> None:
    folders = deployment(tmp_path)
    gone = {"what": "unreachable", "address": ["10.0.0.2", 7000], "error": "refused"}
    other = {"what": "unreachable", "address": ["10.0.0.9", 7000], "error": "refused"}
    lines = [{"what": "lost", "agents": [2, 3], "detail": "closed"}]
    lines += [{**one, "count": count} for count in (1, 2, 8) for one in (gone, other)]
    lines += [{"what": "up", "agents": [2, 3]}, gone]
    text = "".join(json.dumps({"time": float(at), **line}) + "\n" for at, line in enumerate(lines))
    (folders[0] / "log.jsonl").write_text(text)
    found = [line["text"] for line in Local(tmp_path).read()["log"]]
    clock = datetime.fromtimestamp(0).strftime("%H:%M:")
    assert found == [
        "0-1: unreachable agents 2-3 at 10.0.0.2:7000: refused",
        "0-1: up agents 2-3",
        f"0-1: unreachable at 10.0.0.9:7000: refused (8 times since {clock}02)",
        f"0-1: unreachable agents 2-3 at 10.0.0.2:7000: refused (8 times since {clock}01)",
        "0-1: lost agents 2-3: closed",
    ]


@pytest.mark.parametrize("url", ["ftp://host", "http://", "http://host:99999999", ""])
def test_what_is_no_address_of_a_page_is_refused(url: str) -> None:
    with pytest.raises(ScenarioError, match="--url: expected an address such as"):
        Remote(url)


def test_a_page_that_never_answered_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    (process,) = Pages([Remote(url)]).parts().processes
    assert process["state"] == "unreachable"


def test_a_page_that_never_ends_its_answer_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr("p2pfrl.watch.remote._PATIENCE", 0.3)
        over = threading.Event()

        def drip() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n{")
                while not over.wait(0.02):
                    try:
                        connection.sendall(b" ")
                    except OSError:
                        return

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            with pytest.raises(P2PFRLError, match=r"no whole answer within 0\.3 s"):
                Remote(f"http://127.0.0.1:{server.getsockname()[1]}").fetch()
        finally:
            over.set()
            thread.join(5.0)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("status.json", {"agents": [[0]], "round": "x"}),
        ("status.json", {"agents": [0], "progress": {"a": 1}, "time": "now"}),
        ("network.json", {"agents": 4, "processes": [7]}),
        ("network.json", {"processes": [{"agents": 3}]}),
    ],
)
def test_files_that_no_process_has_written_are_an_error_with_their_place(
    tmp_path: Path, name: str, content: dict[str, Any]
) -> None:
    folders = deployment(tmp_path)
    (folders[0] / name).write_text(json.dumps(content))
    with pytest.raises(RecordError, match=r"peers.0-1: damaged or not a p2pfrl record"):
        source_of(folders[:1]).read()


def test_several_directories_are_of_peers(tmp_path: Path) -> None:
    folders = deployment(tmp_path)
    assert len(source_of(folders).read()["processes"]["rows"]) == 2
    with pytest.raises(ScenarioError, match="expected the directory of a peer"):
        source_of([folders[0], tmp_path])


def test_errors_of_the_status_port(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "token").write_text("a-token-of-sixteen")
    words = ["peer", "ring_16", "--lead", "--agents", "0-15", "--out", str(tmp_path / "run")]
    assert main([*words, "--status-token", str(tmp_path / "token")]) == 2
    assert "expected --status HOST:PORT too" in capsys.readouterr().err
    assert main(["watch", str(tmp_path), "--url", "http://127.0.0.1:1"]) == 2
    assert "expected addresses or directories, got both" in capsys.readouterr().err
    assert _MOST_PREDICTED >= 256
