"""Connections to a TLS port that never say who they are.

They are counted, capped, and no burden to the others.
"""

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvloop
from test_bad_input import HONEST, VICTIM, WAIT, House, Log, decoder, house, identity

from p2pfrl.core.errors import P2PFRLError
from p2pfrl.net import certificates as pki
from p2pfrl.net import listener as listening
from p2pfrl.net.admission import EACH
from p2pfrl.net.mesh import Mesh, Security, Timing
from p2pfrl.net.options import Relay
from p2pfrl.net.rendezvous import Rendezvous, join
from p2pfrl.net.tls import agents_of, contexts

LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [
    uvloop.new_event_loop,
    asyncio.new_event_loop,
]
SILENT = 500


@pytest.fixture(name="certificates", scope="module")
def make_certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("door")
    for place in ("home", "foreign"):
        pki.init(root / place)
        for agent in (HONEST, VICTIM):
            pki.issue(root / place, [agent])
    return root


def security(authority: Path) -> Callable[[int], Security]:
    def of(agent: int) -> Security:
        relay, name = Relay(), authority / f"agent-{agent}"
        pair = contexts(
            authority / "ca.crt",
            name.with_suffix(".crt"),
            name.with_suffix(".key"),
            on_refused=relay,
        )
        return Security(b"", *pair, agents_of, relay)

    return of


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@contextlib.contextmanager
def sockets() -> Iterator[list[socket.socket]]:
    made: list[socket.socket] = []
    try:
        yield made
    finally:
        for sock in made:
            sock.close()


async def knock(there: House, silent: list[socket.socket], count: int) -> None:
    for _ in range(count):
        silent.append(socket.socket())
        silent[-1].setblocking(False)
        await asyncio.get_running_loop().sock_connect(silent[-1], there.address)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="descriptors are counted in /proc")
@pytest.mark.parametrize(
    "loop", [pytest.param(LOOPS[0], marks=pytest.mark.slow), LOOPS[1]], ids=["uvloop", "asyncio"]
)
def test_of_five_hundred_who_never_begin_tls_few_are_held_and_honest_ones_go_on_and_join(
    certificates: Path,
    loop: Callable[[], asyncio.AbstractEventLoop],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listening, "HANDSHAKE", 2.0)
    held = EACH + 2

    async def main() -> None:
        with sockets() as silent:
            async with house(security=security(certificates / "home")) as there:
                door = there.door.server
                assert isinstance(door, listening.TlsListener)
                before = descriptors()
                for _ in range(10):
                    await knock(there, silent, SILENT // 10)
                    await there.rounds(2)
                    assert len(door) <= held
                    # Those that were let go are gone when the loop has come round; one may just be
                    # accepted.
                    assert descriptors() - before - len(silent) <= held + SILENT // 10
                await there.until(lambda: there.victim.refusals.get("too_many", 0) >= SILENT - held)
                await there.rounds(2)
                assert descriptors() - before - SILENT <= held
                refused = [line for line in there.log.lines if line["what"] == "refused"]
                assert len(refused) <= 20
                assert refused[0]["where"].startswith("127.0.0.1:")
                # An honest one comes while they wait.
                honest = there.honest._current[there.address]
                there.honest._drop(honest)
                honest.abort()
                async with asyncio.timeout(WAIT):
                    while there.honest._current[there.address] is honest:
                        await asyncio.sleep(0.01)
                await there.rounds(5)
                await there.until(lambda: len(door) == 0)
                assert 0 < there.victim.refusals["greeting_timeout"] <= held
                assert sum(there.victim.refusals.values()) == SILENT
                assert descriptors() - before - SILENT <= 2

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(asyncio.wait_for(main(), 90))


@pytest.mark.parametrize("loop", LOOPS, ids=["uvloop", "asyncio"])
def test_a_refused_handshake_is_counted_by_reason_on_both_sides(
    certificates: Path, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def main() -> None:
        async with house(security=security(certificates / "home")) as there:
            common = {
                "decoder": decoder(),
                "timing": Timing(start=WAIT),
                "receive": lambda event: None,
                "report": lambda agents, up: None,
                "log": Log(),
            }
            stranger = Mesh(
                identity(HONEST),
                {there.address: (VICTIM,)},
                **common,  # type: ignore[arg-type]
                security=security(certificates / "foreign")(HONEST),
            )
            opening = asyncio.create_task(stranger.open())
            try:
                # The dialer looks first, and breaks off: the victim does not hear why.
                await there.refused("broken_off")
                await there.until(lambda: stranger.refusals.get("wrong_authority"))
            finally:
                opening.cancel()
                await stranger.close()
            assert stranger.refusals.keys() == {"wrong_authority"}
            assert there.victim.refusals.keys() == {"broken_off"}
            reader, writer = await asyncio.open_connection(*there.address)
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            await there.refused("not_tls")
            writer.transport.abort()
            nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            nobody.check_hostname = False
            nobody.load_verify_locations(certificates / "home" / "ca.crt")
            reader, writer = await asyncio.open_connection(
                *there.address, ssl=nobody, server_hostname=""
            )
            with pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
                await reader.read(100)
            await there.refused("no_certificate")

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(asyncio.wait_for(main(), 60))


@pytest.mark.parametrize("loop", LOOPS, ids=["uvloop", "asyncio"])
@pytest.mark.parametrize(
    ("authority", "hears", "reason"),
    [
        ("", "it expects TLS, got plain TCP; give --tls", "not_tls"),
        ("foreign", "one of another", "broken_off"),
    ],
)
def test_lead_and_follower_both_say_why_they_do_not_meet(
    certificates: Path,
    loop: Callable[[], asyncio.AbstractEventLoop],
    authority: str,
    hears: str,
    reason: str,
) -> None:
    async def main() -> None:
        home = security(certificates / "home")(VICTIM)
        common = {"decoder": decoder(), "timing": Timing(start=WAIT), "progress": lambda text: None}
        log = Log()
        listener, where = await listening.listen(("127.0.0.1", 0), home.server)
        own = identity(VICTIM)
        rendezvous = Rendezvous(own, where, everyone=[0, 1], security=home, log=log, **common)  # type: ignore[arg-type]
        gathering = asyncio.create_task(rendezvous.gather(listener))
        await asyncio.sleep(0)
        follower = security(certificates / authority)(HONEST) if authority else Security()
        try:
            for _ in range(2):
                with pytest.raises(P2PFRLError, match=hears):
                    await join(
                        identity(HONEST, agents=()),
                        where,
                        wanted=[1],
                        count=1,
                        security=follower,
                        **common,
                    )  # type: ignore[arg-type]
            async with asyncio.timeout(WAIT):
                while len(log.lines) < 2:
                    await asyncio.sleep(0.001)
        finally:
            gathering.cancel()
            listener.server.close()
        assert [(line["what"], line["reason"], line["count"]) for line in log.lines] == [
            ("refused", reason, 1),
            ("refused", reason, 2),
        ]

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(asyncio.wait_for(main(), 60))
