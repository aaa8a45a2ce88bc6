"""Calibrated on real peers, the simulator predicts their rounds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hosts import Hosts
from ring import QUADRATIC, Run, made

import p2pfrl
from p2pfrl.cli import main
from p2pfrl.core.distributions.base import Constant
from p2pfrl.core.errors import RecordError
from p2pfrl.deploy.calibrate import calibrate, predicted_rounds, typical, write
from p2pfrl.net.timings import Arrived, Sent, Timings, Worked, write_timings
from p2pfrl.scenario import hash8, load
from p2pfrl.scenario.render import resolved


@pytest.fixture
def shaped() -> Iterator[Hosts]:
    """Four hosts with interfaces of 100 Mbit/s, 20 ms apart."""
    yield from made(4, rate="100mbit", delay=0.02)


@pytest.fixture
def uneven() -> Iterator[Hosts]:
    """The same, but for two that are 80 ms apart."""
    yield from made(4, rate="100mbit", delay=0.02, slow={(0, 1): 0.08})


@pytest.mark.slow
@pytest.mark.parametrize("topology", ["ring", "complete"])
def test_the_calibrated_simulator_predicts_the_round_time_within_15_percent(
    topology: str, shaped: Hosts, tmp_path: Path
) -> None:
    run = Run(shaped, tmp_path / "run", {**LARGE, "topology.kind": topology})
    run.end(range(4))
    out = tmp_path / "calibrated"
    said = write([run.directory(host) for host in range(4)], out)
    print(said, (out / "network.toml").read_text())
    assert said["message_bytes"] > 128_000
    assert said["not_measured"] is None
    assert said["links_apart"] == {}
    assert 0.01 < said["latency_median"] < 0.06
    assert 4e6 < said["bandwidth"] < 25e6, (
        "at least 256 KB at once through 12.5 MB/s, of which 64 KB may burst"
    )
    assert said["round_seconds_predicted"] == pytest.approx(said["round_seconds_real"], rel=0.15)
    again = load(out / "calibrated.toml")
    assert again.network.bandwidth == Constant(value=said["bandwidth"])
    rounds = np.diff(p2pfrl.run(again).metrics["virtual_seconds"])
    assert typical([rounds]) == pytest.approx(said["round_seconds_predicted"])


LARGE = {"stop.rounds": 120, "learner.dimension": 16_000, "learner.curvature": [1.0, 1.0]}


@pytest.mark.slow
def test_rounds_of_a_coordinator_on_a_host_of_its_own_are_predicted_within_15_percent(
    shaped: Hosts, tmp_path: Path
) -> None:
    run = Run(shaped, tmp_path / "run", {"mode": "central", **LARGE}, agents=[[-1], [0], [1], [2]])
    run.end(range(4))
    said = write([run.directory(host) for host in range(4)], tmp_path / "calibrated")
    print(said)
    assert said["latency_median"] == pytest.approx(0.02, rel=0.3)
    assert said["bandwidth"] == pytest.approx(12.5e6, rel=0.3)
    assert said["round_seconds_predicted"] == pytest.approx(said["round_seconds_real"], rel=0.15)


@pytest.mark.slow
def test_one_slow_link_is_told_from_the_others_and_its_rounds_are_predicted_within_15_percent(
    uneven: Hosts, tmp_path: Path
) -> None:
    run = Run(uneven, tmp_path / "run", LARGE)
    run.end(range(4))
    out = tmp_path / "calibrated"
    said = write([run.directory(host) for host in range(4)], out)
    print(said, (out / "network.toml").read_text())
    # Hosts share the processors of this machine: on a busy one, others may stand apart a little.
    apart = said["links_apart"]
    assert {name for name, seconds in apart.items() if seconds > 0.07} == {"0 to 1", "1 to 0"}
    assert all(seconds < 0.03 for seconds in apart.values() if seconds <= 0.07)
    assert said["latency_median"] < 0.03
    assert said["round_seconds_predicted"] == pytest.approx(said["round_seconds_real"], rel=0.15)
    again = load(out / "calibrated.toml")
    assert {f"{link.from_} to {link.to}" for link in again.network.links} == set(apart)
    even = replace(again, network=replace(again.network, links=()))
    rounds = typical([np.diff(p2pfrl.run(even).metrics["virtual_seconds"])])
    assert rounds < 0.7 * said["round_seconds_real"], "one latency for all would not have done"


FLIGHT, STEP, SIZE = 0.01, 0.004, 644
AIR = 0.005


def synthetic(
    scenario: str,
    *,
    offsets: tuple[float, ...] = (0.0, 5.0, -3.0, 1.0),
    trip: float = 2 * FLIGHT,
    fair: bool = False,
    slow: Mapping[tuple[int, int], float] | None = None,
    noise: float = 0.0,
) -> list[Timings]:
    """Return what peers of a ring would see in a network that is exactly the simulator's.

    Their clocks differ.

    Where it is `fair`, what is sent at once shares the interfaces at both ends and arrives
    together, as with TCP. With `noise`, every message is late by up to `noise` times the flight.
    """
    rng = np.random.default_rng(3)
    peers = [Timings(scenario, (i,)) for i in range(4)]
    flights = slow or {}
    for peer in peers:
        near = [(peer.agents[0], (peer.agents[0] + d) % 4) for d in (1, 3)]
        peer.round_trips = {edge[1]: 2 * flights.get(edge, trip / 2) for edge in near}
    ready, served = dict.fromkeys(range(4), 0.0), dict.fromkeys(range(4), 0.0)
    for round in range(30):
        arrivals: list[tuple[float, int, int]] = []
        for i, peer in enumerate(peers):
            sent = ready[i] + STEP
            to = tuple(sorted(((i + 1) % 4, (i + 3) % 4)))
            peer.worked.append(Worked(i, stamp(ready[i], offsets[i]), stamp(sent, offsets[i]), 2))
            peer.sent.append(Sent(i, to, round + 1, round, SIZE, stamp(sent, offsets[i])))
            arrivals += [
                (
                    sent
                    + (len(to) if fair else place + 1) * AIR
                    + flights.get((i, j), FLIGHT)
                    + noise * FLIGHT * rng.random() ** 2,
                    j,
                    i,
                )
                for place, j in enumerate(to)
            ]
        for arrival, j, i in sorted(arrivals):
            done = arrival if fair else max(arrival, served[j] + AIR)
            served[j], ready[j] = done, max(ready[j], done)
            peers[j].arrived.append(Arrived(j, i, round + 1, round, stamp(done, offsets[j])))
    return peers


def stamp(seconds: float, offset: float) -> int:
    return round((seconds + offset + 10.0) * 1e9)


def test_a_network_as_the_simulator_has_it_is_found_again_whatever_the_clocks_show(
    tmp_path: Path,
) -> None:
    directories = measured_in(tmp_path)
    scenario, found = calibrate(directories)
    assert found.links is not None
    assert found.links.latency.median == pytest.approx(FLIGHT, rel=0.3)
    assert found.links.latency.sigma < 0.2, (
        "these messages left one after the other, those of TCP leave side by side"
    )
    assert found.links.bandwidth == pytest.approx(SIZE / AIR, rel=0.2)
    assert found.seconds_per_env_step == pytest.approx(STEP / 2, rel=0.02)
    predicted = typical([predicted_rounds(scenario, found)])
    assert predicted == pytest.approx(found.round_time, rel=0.02)


def test_links_that_are_alike_are_not_told_apart(tmp_path: Path) -> None:
    for noise in (0.0, 0.3):
        scenario, found = calibrate(measured_in(tmp_path / f"{noise}", fair=True, noise=noise))
        assert found.links is not None
        assert found.links.own == {}
        assert typical([predicted_rounds(scenario, found)]) == pytest.approx(
            found.round_time, rel=0.1
        )


def test_a_slow_link_of_the_simulator_is_found_again_and_the_others_stay_alike(
    tmp_path: Path,
) -> None:
    scenario, found = calibrate(measured_in(tmp_path, fair=True, slow={(0, 1): 0.05, (1, 0): 0.05}))
    assert found.links is not None
    assert set(found.links.own) == {(0, 1), (1, 0)}
    for latency in found.links.own.values():
        assert latency.median == pytest.approx(0.05, rel=0.1)
    assert found.links.latency.median == pytest.approx(FLIGHT, rel=0.3)
    assert typical([predicted_rounds(scenario, found)]) == pytest.approx(found.round_time, rel=0.05)


def test_what_peers_on_one_machine_waited_for_is_not_taken_for_a_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directories = measured_in(tmp_path / "near", trip=8e-6)
    out = tmp_path / "out"
    assert main(["calibrate", *map(str, directories), "--out", str(out), "--json"]) == 0
    told = capsys.readouterr()
    said = json.loads(told.out)
    assert "round trip of 0.008 ms: the processes are on one machine" in said["not_measured"]
    assert f"network not measured, and nothing predicted. {said['not_measured']}." in told.err
    for name in ("latency_median", "bandwidth", "round_seconds_predicted", "error", "links_apart"):
        assert said[name] is None, name
    assert said["seconds_per_env_step"] == pytest.approx(STEP / 2, rel=0.02)
    text = (out / "network.toml").read_text()
    assert "[network]\n" not in text
    assert "# [network] was not measured. Even the slowest link" in text
    assert "# [compute] was, while 4 processes shared the cores" in text
    again, before = load(out / "calibrated.toml"), load(directories[0] / "scenario.toml")
    assert again.network == before.network
    assert again.compute.seconds_per_env_step == said["seconds_per_env_step"]
    assert not (out / "prediction.svg").exists()


def test_delays_that_are_mostly_noise_are_not_taken_for_a_network(tmp_path: Path) -> None:
    _, calm = calibrate(measured_in(tmp_path / "calm", fair=True, noise=0.1))
    _, wild = calibrate(measured_in(tmp_path / "wild", fair=True, noise=10.0))
    assert calm.links is not None
    assert wild.links is None
    assert "give or take" in wild.unmeasured


def measured_in(folder: Path, **options: Any) -> list[Path]:
    scenario = load(QUADRATIC, overrides={"learner.steps": 2})
    directories = []
    folder.mkdir(exist_ok=True)
    for i, timings in enumerate(synthetic(hash8(scenario), **options)):
        directories.append(folder / str(i))
        directories[-1].mkdir()
        (directories[-1] / "scenario.toml").write_text(resolved(scenario))
        write_timings(directories[-1] / "timings.json", timings)
    return directories


def test_directories_that_do_not_belong_together_are_refused_by_name(tmp_path: Path) -> None:
    directories = measured_in(tmp_path)
    with pytest.raises(RecordError, match=r"no directory holds agents 3: give"):
        calibrate(directories[:3])
    with pytest.raises(RecordError, match="expected the run directories"):
        calibrate([])
    path = directories[2] / "timings.json"
    good = path.read_text()
    for bad in ("", "{", "[1]", good.replace('"sent": [[', '"sent": [["x", '), "[" * 100_000):
        path.write_text(bad)
        with pytest.raises(RecordError, match=r"2/timings\.json: not the times of a peer"):
            calibrate(directories)
    path.write_text(good.replace(hash8(load(directories[2] / "scenario.toml")), "ffffffff"))
    with pytest.raises(RecordError, match=r"/2: expected scenario \w+, got ffffffff"):
        calibrate(directories)
    path.unlink()
    with pytest.raises(RecordError, match=r"2/timings\.json: cannot be read"):
        calibrate(directories)
