"""PPO on the worlds' own scenarios, against optima and baselines, three seeds each."""

import pytest

import p2pfrl

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(
    ("name", "bar", "part"),
    [
        ("signals_ring", "optimum", 0.95),
        ("microgrid_ring", "optimum", 0.93),
        ("maintenance_ring", "optimum", 0.98),
        ("portfolio_ring", "optimum", 0.85),
        ("glucose_ring", "bolus", 0.85),
    ],
)
def test_agents_on_a_ring_learn_a_world(name: str, bar: str, part: float, seed: int) -> None:
    found = p2pfrl.run(p2pfrl.load(f"{name}.toml", overrides={"seed": seed})).summary["evaluation"]
    best = found["optimum"] if bar == "optimum" else found["baselines"][bar]
    ratio = found["own"] / best if best > 0 else best / found["own"]
    print(f"{name}, seed {seed}: {found['own']:.2f} is {ratio:.3f} of {bar} {best:.2f}")
    assert ratio >= part
