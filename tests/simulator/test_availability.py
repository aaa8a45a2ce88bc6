import pytest

from p2pfrl.core.errors import P2PFRLError
from p2pfrl.simulator.availability import Presence


def read(tmp_path, text, agents=4):
    file = tmp_path / "trace.csv"
    file.write_text(text, encoding="utf-8")
    return Presence.read(file, agents)


def test_a_trace_says_when_whom_is_there_and_others_always_are(tmp_path):
    presence = read(
        tmp_path, "agent, from, until\n# nights\n3, 10s, 20s  # first\n\n3,1min,90\n0,0,500ms\n"
    )
    assert presence.has(3)
    assert not presence.has(1)
    times = (9.99, 10.0, 19.99, 20.0, 59.0, 60.0, 89.0, 90.0)
    assert [presence.is_there(3, t) for t in times] == [
        False,
        True,
        True,
        False,
        False,
        True,
        True,
        False,
    ]
    assert [presence.is_there(0, t) for t in (0.0, 0.49, 0.5)] == [True, True, False]


@pytest.mark.parametrize(
    "line",
    [
        "4,0,1",
        "-1,0,1",
        "1,2,2",
        "1,3,2",
        "1,0",
        "1,0,1,2",
        "x,0,1",
        "1.5,0,1",
        "1,-1,1",
        "1,nan,2",
        "1,0,inf",
        "1,0,1kB",
    ],
)
def test_a_line_that_means_nothing_is_named(tmp_path, line):
    with pytest.raises(
        P2PFRLError, match=r"trace.csv:2: expected `agent,from,until` with an agent below 4"
    ):
        read(tmp_path, f"1,0,1\n{line}\n")


def test_files_that_are_missing_huge_or_no_text_are_refused(tmp_path):
    with pytest.raises(P2PFRLError, match="cannot read"):
        Presence.read(tmp_path / "none.csv", 4)
    with pytest.raises(P2PFRLError, match="at most 1048576 bytes"):
        read(tmp_path, "#" * (2**20 + 1))
    (tmp_path / "binary.csv").write_bytes(b"1,0,1\n\xff\xfe\x00")
    with pytest.raises(P2PFRLError, match=r"binary.csv:2:1: not UTF-8 text"):
        Presence.read(tmp_path / "binary.csv", 4)


def test_a_trace_of_another_editor_is_read_or_named(tmp_path):
    file = tmp_path / "trace.csv"
    file.write_bytes(b"\xef\xbb\xbfagent,from,until\r\n1,0s,1s\r\n")
    assert Presence.read(file, 4).is_there(1, 0.5)
    file.write_bytes("1,0s,1s\n".encode("utf-16"))
    with pytest.raises(P2PFRLError, match=r"trace.csv:1:1: expected UTF-8 text, got UTF-16"):
        Presence.read(file, 4)
