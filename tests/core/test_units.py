import math

import pytest

from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.rule import rule
from p2pfrl.core.units import Bytes, Rate, Seconds, rate, seconds, size

GOOD = [
    (seconds, "20ms", 0.02),
    (seconds, "10min", 600.0),
    (seconds, " 1.5 s ", 1.5),
    (seconds, "2e-3s", 0.002),
    (seconds, "3us", 3e-6),
    (seconds, "3µs", 3e-6),
    (seconds, "7ns", 7e-9),
    (seconds, "2h", 7200.0),
    (seconds, "1d", 86400.0),
    (seconds, 3, 3.0),
    (seconds, 0, 0.0),
    (size, "18KiB", 18432.0),
    (size, "1kB", 1000.0),
    (size, "2MiB", 2.0**21),
    (size, "1GB", 1e9),
    (size, "12B", 12.0),
    (rate, "100Mbit/s", 12.5e6),
    (rate, "1MB/s", 1e6),
    (rate, "8bit/s", 1.0),
    (rate, "1GiB/s", 2.0**30),
    (rate, 5.5, 5.5),
]
BAD = [
    (seconds, "20 m"),
    (seconds, "-1s"),
    (seconds, -1.0),
    (seconds, math.nan),
    (seconds, math.inf),
    (seconds, 1e300),
    (seconds, "1e9d"),
    (rate, 1e-300),
    (seconds, "1e999s"),
    (seconds, "s"),
    (seconds, ""),
    (seconds, "1"),
    (seconds, "1s2"),
    (seconds, "1KB"),
    (seconds, True),
    (seconds, None),
    (seconds, [1]),
    (size, "1s"),
    (size, "1Mbit"),
    (rate, "1MB"),
    (rate, "100Mbit"),
    (rate, "1 Mbit/h"),
    (seconds, "nan s"),
    (seconds, "0x10s"),
]


@pytest.mark.parametrize(("parse", "text", "value"), GOOD)
def test_units_become_si_numbers(parse, text, value):
    assert parse(text) == pytest.approx(value, rel=1e-15)
    assert type(parse(text)) is float


@pytest.mark.parametrize(("parse", "text"), BAD)
def test_what_is_no_quantity_is_refused_with_an_example(parse, text):
    with pytest.raises(ValueError, match=r"such as '(20ms|18KiB|100Mbit/s)'"):
        parse(text)


@rule
class Options:
    wait: Seconds = 1.0
    room: Bytes = 1.0
    speed: Rate = 1.0
    factor: float = 1.0


def test_options_parse_units_refuse_strangers_and_stay_as_they_are():
    options = Options(wait="20ms", room="1KiB", speed="8Mbit/s")  # type: ignore[arg-type]
    assert (options.wait, options.room, options.speed) == (0.02, 1024.0, 1e6)
    with pytest.raises(ScenarioError):
        Options(wate="1s")  # type: ignore[call-arg]
    with pytest.raises(ScenarioError):
        Options(factor=math.nan)
    with pytest.raises(AttributeError):
        options.wait = 3.0  # type: ignore[misc]
    assert repr(options) == "Options(wait=0.02, room=1024.0, speed=1000000.0, factor=1.0)"
