"""Calibrated on real peers, the simulator predicts their rounds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hosts import Hosts
from ring import QUADRATIC, Run, made

import p2pfrl
from p2pfrl.calibrate import calibrate, predicted_rounds, typical, write
from p2pfrl.core.errors import RecordError
from p2pfrl.scenario import hash8, load
from p2pfrl.scenario.render import resolved
from p2pfrl.world.stopwatch import Arrived, Sent, Timings, Worked, write_timings


@pytest.fixture
def shaped() -> Iterator[Hosts]:
    """Four hosts with interfaces of 100 Mbit/s, 20 ms apart."""
    yield from made(4, rate="100mbit", delay=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("topology", ["ring", "complete"])
def test_the_calibrated_simulator_predicts_the_round_time_within_15_percent(
    topology: str, shaped: Hosts, tmp_path: Path
) -> None:
    overrides = {
        "stop.rounds": 120, "learner.dimension": 16_000, "learner.curvature": [1.0, 1.0], "topology.kind": topology,
    }  # fmt: skip
    run = Run(shaped, tmp_path / "run", overrides)
    run.end(range(4))
    out = tmp_path / "calibrated"
    said = write([run.directory(host) for host in range(4)], out)
    print(said, (out / "network.toml").read_text())
    assert said["message_bytes"] > 128_000
    assert 0.01 < said["latency_median"] < 0.06
    assert 4e6 < said["bandwidth"] < 25e6, "at least 256 KB at once through 12.5 MB/s, of which 64 KB may burst"
    assert said["round_seconds_predicted"] == pytest.approx(said["round_seconds_real"], rel=0.15)
    again = load(out / "calibrated.toml")
    assert again.network.bandwidth == said["bandwidth"]
    rounds = np.diff(p2pfrl.run(again).metrics["virtual_seconds"])
    assert typical([rounds]) == pytest.approx(said["round_seconds_predicted"])


FLIGHT, STEP, SIZE = 0.01, 0.004, 644
AIR = 0.005


def synthetic(scenario: str, *, offsets: tuple[float, ...] = (0.0, 5.0, -3.0, 1.0)) -> list[Timings]:
    """Return what peers of a ring would have seen in a network exactly as the simulator has it, clocks apart."""
    peers = [Timings(scenario, (i,)) for i in range(4)]
    for peer in peers:
        peer.round_trips = {(peer.agents[0] + d) % 4: 2 * FLIGHT for d in (1, 3)}
    ready = dict.fromkeys(range(4), 0.0)
    for round in range(30):
        arrivals: list[tuple[float, int, int]] = []
        for i, peer in enumerate(peers):
            sent = ready[i] + STEP
            to = tuple(sorted(((i + 1) % 4, (i + 3) % 4)))
            peer.worked.append(Worked(i, stamp(ready[i], offsets[i]), stamp(sent, offsets[i]), 2))
            peer.sent.append(Sent(i, to, round + 1, round, SIZE, stamp(sent, offsets[i])))
            arrivals += [(sent + (place + 1) * AIR + FLIGHT, j, i) for place, j in enumerate(to)]
        for arrival, j, i in sorted(arrivals):
            ready[j] = max(arrival, ready[j] + AIR)
            peers[j].arrived.append(Arrived(j, i, round + 1, round, stamp(ready[j], offsets[j])))
    return peers


def stamp(seconds: float, offset: float) -> int:
    return round((seconds + offset + 10.0) * 1e9)


def test_a_network_as_the_simulator_has_it_is_found_again_whatever_the_clocks_show(tmp_path: Path) -> None:
    directories = measured_in(tmp_path)
    scenario, found = calibrate(directories)
    assert found.latency == pytest.approx(FLIGHT, rel=0.05)
    assert found.sigma < 0.2, "these messages left one after the other, those of TCP leave side by side"
    assert found.bandwidth == pytest.approx(SIZE / AIR, rel=0.2)
    assert found.seconds_per_env_step == pytest.approx(STEP / 2, rel=0.02)
    predicted = typical([predicted_rounds(scenario, found)])
    assert predicted == pytest.approx(found.round_time, rel=0.02)


def measured_in(folder: Path) -> list[Path]:
    scenario = load(QUADRATIC, overrides={"learner.steps": 2})
    directories = []
    for i, timings in enumerate(synthetic(hash8(scenario))):
        directories.append(folder / str(i))
        directories[-1].mkdir()
        (directories[-1] / "scenario.toml").write_text(resolved(scenario))
        write_timings(directories[-1] / "timings.json", timings)
    return directories


def test_directories_that_do_not_belong_together_are_refused_by_name(tmp_path: Path) -> None:
    directories = measured_in(tmp_path)
    with pytest.raises(RecordError, match=r"no directory holds agents \[3\]"):
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
