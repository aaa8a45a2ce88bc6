"""Every process joins once, under ids that nobody has and that its certificate names."""

from typing import Any

import pytest
from test_bad_input import Log

from p2pfrl.core.wire import Decoder
from p2pfrl.net.mesh import Security, Timing
from p2pfrl.net.records import Identity
from p2pfrl.net.rendezvous import Rendezvous
from p2pfrl.net.session import Control


class Guest:
    """The lead's end of a connection: what it is told is kept."""

    def __init__(self, port: int, names: tuple[int, ...] | None) -> None:
        self.session = self
        self.port, self.names = port, names
        self.said: list[tuple[str, Any]] = []

    def say(self, say: str, **body: Any) -> None:
        self.said.append((say, body))

    def tls(self) -> object:
        return self

    def close(self) -> None:
        """Nothing to close."""

    def asks(self, lead: Rendezvous, *agents: int, count: int = 1) -> str:
        """Ask to join; return the reason of a refusal, "" where there is none."""
        body = {"agents": list(agents), "count": count, "host": "127.0.0.1", "port": self.port}
        lead._admit(self, Control("join", body))  # type: ignore[arg-type]
        return str(self.said[-1][1]["detail"]) if self.said else ""


def lead(agents: int = 6) -> Rendezvous:
    own = Identity("run", "hash", "layout", (0,), 0, bytes(16), ("127.0.0.1", 7000))
    return Rendezvous(
        own,
        own.address,
        everyone=range(agents),
        decoder=Decoder("run", agents=agents, parts=("p",), size=4, dtype="float32"),
        security=Security(names=lambda tls: tls.names),  # type: ignore[attr-defined, arg-type]
        timing=Timing(),
        progress=lambda line: None,
        log=Log(),
    )


def test_a_process_joins_once():
    here, guest = lead(), Guest(7001, (1, 2))
    assert guest.asks(here, 1) == ""
    assert guest.asks(here, 2) == "a process joins once"


@pytest.mark.parametrize("names", [(1, 2), (1, 2, 3)])
def test_ids_are_those_of_the_certificate(names):
    assert Guest(7001, names).asks(lead(), 1, 2) == ""


@pytest.mark.parametrize("names", [(), (1,), (2, 3), (0, 3)])
def test_ids_that_the_certificate_does_not_name_are_refused(names):
    assert "the certificate names agents" in Guest(7001, names).asks(lead(), 1, 2)


@pytest.mark.parametrize("taken", [(0,), (1,), (0, 1), (1, 2)])
def test_ids_that_somebody_has_are_refused(taken):
    here = lead()
    assert Guest(7001, tuple(range(6))).asks(here, 1) == ""
    assert Guest(7002, tuple(range(6))).asks(here, *taken) != ""
    assert Guest(7003, tuple(range(6))).asks(here, 2, 3) == ""
