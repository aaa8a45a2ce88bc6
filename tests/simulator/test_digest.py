import struct
from hashlib import blake2b

import numpy as np
import pytest

from p2pfrl.core.errors import ClockError
from p2pfrl.simulator.digest import DELIVER, SEND, TRAIN, Log


@pytest.mark.parametrize("count", [0, 1, 4095, 4096, 4097, 10_000])
def test_the_digest_is_blake2b_of_every_event_in_order_and_then_the_parameters(count):
    log, plain = Log(trace=True), blake2b(digest_size=16)
    events = [
        (k * 1000, (SEND, DELIVER, TRAIN)[k % 3], k % 7 - 1, k % 5, k, k * 31) for k in range(count)
    ]
    for event in events:
        log.add(*event)
        plain.update(struct.pack("<qBiiqI", *event))
    parameters = np.arange(12, dtype=np.float32).reshape(3, 4)
    plain.update(parameters.tobytes())
    assert log.digest(parameters) == log.digest(parameters) == plain.hexdigest()
    assert log.events == events


def test_every_field_the_order_and_the_parameters_change_the_digest():
    def digest(*events, parameters=(0.0, 0.0)):
        log = Log(trace=False)
        log.extend(events)
        return log.digest(np.array(parameters))

    one, two = (1, SEND, 0, 1, 5, 9), (1, DELIVER, 0, 1, 5, 9)
    others = [tuple(v + (i == j) for j, v in enumerate(one)) for i in range(6)]
    seen = [
        digest(),
        digest(one),
        digest(one, two),
        digest(two, one),
        *(digest(other) for other in others),
    ]
    seen += [digest(one, parameters=(1.0, 1.0)), digest(one, parameters=(0.0, 0.0, 0.0))]
    assert len(set(seen)) == len(seen)
    assert Log(trace=False).events is None


def test_how_events_are_added_makes_no_difference():
    events = [(k, SEND, 0, 1, k, k) for k in range(9000)]
    first, second, third = Log(trace=True), Log(trace=True), Log(trace=True)
    for event in events:
        first.add(*event)
        third.append(event)
    second.extend(events)
    nothing = np.zeros(0)
    assert first.digest(nothing) == second.digest(nothing) == third.digest(nothing)
    assert first.events == second.events == third.events == events


def test_a_clock_that_runs_out_is_said_and_no_error_of_numbers():
    log = Log(trace=False)
    log.append((2**63, SEND, 0, 1, 0, 0))
    with pytest.raises(ClockError, match="expected at most 292 years"):
        log.digest(np.zeros(2))
    log = Log(trace=False)
    log.append((5, SEND, 2**40, 1, 0, 0))
    with pytest.raises(struct.error):
        log.digest(np.zeros(2))
