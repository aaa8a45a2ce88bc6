"""A lead says by multicast DNS where it is, on loopback.

A peer finds the lead of its scenario, or hears why not.
"""

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from p2pfrl.core.errors import P2PFRLError
from p2pfrl.net.discovery import announcing, discover
from p2pfrl.net.records import Identity

HERE = "127.0.0.1"
WAIT = 15.0
LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [
    uvloop.new_event_loop,
    asyncio.new_event_loop,
]
RING = """
name = "found"
agents = 4
[stop]
rounds = 5
[learner]
kind = "quadratic"
dimension = 8
[evaluation]
episodes = 0
"""


def identity(scenario: str, run: str = "run") -> Identity:
    return Identity(run, scenario, "layout", (0,), 0, bytes(16), (HERE, 1))


def run(
    main: Coroutine[Any, Any, None],
    loop: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop,
) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(asyncio.wait_for(main, 60))


@pytest.fixture(scope="module")
def multicast() -> None:
    """Skip where a lead is not heard at all."""
    pytest.importorskip(
        "zeroconf", reason="the package zeroconf is not installed (pip install -e '.[lan]')"
    )

    async def main() -> None:
        async with announcing(identity("probe"), (HERE, 7)):
            await discover(identity("probe"), HERE, deadline=5.0)

    try:
        run(main())
    except P2PFRLError as error:
        pytest.skip(f"no multicast on loopback here: {error}")


@pytest.mark.usefixtures("multicast")
@pytest.mark.parametrize("loop", LOOPS, ids=["uvloop", "asyncio"])
def test_of_several_leads_the_one_of_the_scenario_is_found(
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def main() -> None:
        async with contextlib.AsyncExitStack() as stack:
            for name, run, port in (
                ("f1", "run", 7001),
                ("f2", "run", 7002),
                ("f1", "other", 7003),
            ):
                await stack.enter_async_context(announcing(identity(name, run), (HERE, port)))
            assert await discover(identity("f2"), HERE, deadline=WAIT) == (HERE, 7002)

    run(main(), loop)


@pytest.mark.usefixtures("multicast")
def test_a_lead_that_comes_later_is_found_when_it_comes() -> None:
    async def main() -> None:
        asking = asyncio.create_task(discover(identity("late"), "localhost", deadline=WAIT))
        await asyncio.sleep(0.3)
        assert not asking.done()
        async with announcing(identity("late"), ("localhost", 7001)):
            assert await asking == (HERE, 7001)

    run(main())


@pytest.mark.usefixtures("multicast")
def test_where_only_leads_of_other_scenarios_answer_their_hashes_are_named() -> None:
    async def main() -> None:
        async with announcing(identity("hash-b", "ring\x1b[31m"), (HERE, 7001)):
            with pytest.raises(P2PFRLError) as raised:
                await discover(identity("hash-a"), HERE, deadline=2.0)
        assert (
            "no lead of run hash-a announced itself on the network of 127.0.0.1 within 2 s"
            in str(raised.value)
        )
        assert "ring?[31m hash-b at 127.0.0.1:7001" in str(raised.value)

    run(main())


@pytest.mark.usefixtures("multicast")
def test_two_leads_of_one_scenario_are_refused_and_both_named() -> None:
    async def main() -> None:
        async with (
            announcing(identity("two"), (HERE, 7001)),
            announcing(identity("two"), (HERE, 7002)),
        ):
            with pytest.raises(
                P2PFRLError, match=r"2 leads .* at 127\.0\.0\.1:7001; .* at 127\.0\.0\.1:7002"
            ):
                await discover(identity("two"), HERE, deadline=WAIT)

    run(main())


@pytest.mark.usefixtures("multicast")
@pytest.mark.parametrize("host", ["0.0.0.0", "::1", "example.org"])
def test_a_host_that_is_not_one_interface_is_refused(host: str) -> None:
    async def main() -> None:
        with pytest.raises(P2PFRLError, match="expected one IPv4 address of ours in --bind"):
            await discover(identity("a"), host, deadline=WAIT)
        with pytest.raises(P2PFRLError, match="expected one IPv4 address of ours in --bind"):
            async with announcing(identity("a"), (host, 7001)):
                pass

    run(main())


@pytest.mark.usefixtures("multicast")
def test_an_address_that_is_not_ours_is_refused() -> None:
    async def main() -> None:
        with pytest.raises(P2PFRLError, match=r"no multicast on the interface of 192\.0\.2\.1"):
            await discover(identity("a"), "192.0.2.1", deadline=WAIT)

    run(main())


def test_without_the_package_one_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zeroconf", None)
    with pytest.raises(P2PFRLError, match=r"pip install .*\[lan\]'"):
        run(discover(identity("a"), HERE, deadline=WAIT))  # type: ignore[arg-type]


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "p2pfrl",
        "peer",
        *map(str, arguments),
        "--discover",
        "--json",
        "--quiet",
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.usefixtures("multicast")
def test_peers_that_were_told_no_address_run_together(tmp_path: Path) -> None:
    file = tmp_path / "found.toml"
    file.write_text(RING)
    seed = (
        "--seed",
        abs(hash(str(tmp_path))) % 2**31,
    )  # of its own: other runs of this test may be on this machine
    peers = [
        start(file, "--lead", "--agents", "0-1", "--out", tmp_path / "a", *seed),
        start(file, "--count", "2", "--out", tmp_path / "b", *seed, "--start-timeout", "60"),
    ]
    try:
        said = [peer.communicate(timeout=90) for peer in peers]
    finally:
        for peer in peers:
            peer.kill()
            peer.wait(30)
    assert [peer.returncode for peer in peers] == [0, 0], said
    assert "rendezvous" in said[0][0].splitlines()[0]
    assert [json.loads(out.splitlines()[-1])["agents"] for out, _ in said] == [[0, 1], [2, 3]]
    assert [json.loads(out.splitlines()[-1])["rounds"] for out, _ in said] == [5, 5]


@pytest.mark.parametrize(
    "options",
    [
        ["--peers", "0-3=127.0.0.1:7000"],
        pytest.param(["--rendezvous", "127.0.0.1:7000"], marks=pytest.mark.slow),
    ],
)
def test_whoever_knows_the_address_need_not_ask_for_it(options: list[str], tmp_path: Path) -> None:
    file = tmp_path / "found.toml"
    file.write_text(RING)
    peer = start(file, "--agents", "0", "--out", tmp_path / "a", *options)
    _, said = peer.communicate(timeout=60)
    assert peer.returncode == 2
    assert "--discover" in said
