"""Every scenario that comes with the project runs, and says what it shows."""

from pathlib import Path

import golden
import numpy as np
import pytest

import p2pfrl

FILES = sorted((Path(p2pfrl.__file__).parents[1] / "scenarios").glob("*.toml"))
pytestmark = pytest.mark.skipif(not FILES, reason="scenarios are found in a source checkout")


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def file(request):
    if request.param.stem.endswith("_mujoco"):
        pytest.importorskip("mujoco", reason="needs the extra: pip install -e '.[mujoco]'")
    return request.param


DEAR = {
    "acrobot_small_world",
    "fleet_regions",
    "glucose_ring",
    "private_cartpole",
    "signal_grid_torus",
    "warehouse_torus",
}
"""Scenarios that take half a second and more, whose parts others have, too: they are slow."""


@pytest.mark.parametrize(
    "file",
    [
        pytest.param(
            file,
            id=file.stem,
            marks=[pytest.mark.slow] * (file.stem.endswith("_mujoco") or file.stem in DEAR),
        )
        for file in FILES
    ],
    indirect=True,
)
def test_a_shipped_scenario_runs_three_rounds_as_it_always_did(file):
    record = p2pfrl.run(p2pfrl.load(file, overrides=golden.OVERRIDES))
    scenario = p2pfrl.load(file)
    assert record.summary["name"] == scenario.name
    assert record.summary["rounds"] >= 2
    assert record.summary["env_steps"] > 0
    assert record.parameters.shape[0] == scenario.agents
    assert np.isfinite(record.parameters).all()
    assert (record.summary["bytes_sent"] > 0) == (scenario.mode != "independent")
    if golden.is_known(file) and golden.holds_here():
        assert golden.line(file.stem, record.summary) in golden.known()


@pytest.mark.skipif(
    not golden.holds_here(), reason="digests hold for one processor type and one set of versions"
)
def test_run_directories_and_runs_over_tcp_are_what_they_always_were(tmp_path):
    assert set(golden.directories(tmp_path)) <= set(golden.known())


def test_a_shipped_scenario_is_named_after_its_file_and_says_what_it_shows(file):
    text = file.read_text("utf-8")
    comment = text[: text.index("\nname = ")]
    assert all(line.startswith("#") for line in comment.splitlines())
    assert len(comment.split()) > 10
    assert p2pfrl.load(file).name == file.stem
