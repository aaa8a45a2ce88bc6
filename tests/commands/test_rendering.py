"""Episodes as animated pictures."""

from pathlib import Path
from typing import ClassVar

import gymnasium
import numpy as np
import pytest
from PIL import Image

import p2pfrl
from p2pfrl.cli import main
from p2pfrl.core.scene import Disc, Rod, Scene
from p2pfrl.learning.environments.acrobot import Acrobot
from p2pfrl.learning.environments.cartpole import CartPole
from p2pfrl.learning.environments.junction import Junction
from p2pfrl.learning.environments.mountain_car import MountainCar
from p2pfrl.learning.environments.pendulum import Pendulum
from p2pfrl.learning.environments.signal_grid import SignalGrid
from p2pfrl.learning.environments.warehouse import Warehouse
from p2pfrl.scenario import loads

TEXT = """
name = "pictures"
agents = 2
stop = {{rounds = 1}}
environment = {{{environment}, instances = 1}}
learner = {{kind = "a2c", steps = 2, hidden = [2]}}
evaluation = {{episodes = 0}}
"""


def run(folder: Path, environment: str) -> None:
    p2pfrl.run(loads(TEXT.format(environment=environment)), out=folder)


@pytest.fixture(scope="module")
def junction(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("junction") / "run"
    run(folder, 'id = "junction", members = 2, max_steps = 4')
    return folder


@pytest.mark.parametrize("policy", ["own", "full_throttle"])
def test_an_episode_of_a_shared_world_is_a_gif_of_its_steps(junction, policy, tmp_path, capsys):
    out = tmp_path / "episode.gif"
    words = ["render", str(junction), "--agent", "1", "--policy", policy, "--out", str(out)]
    assert main(words) == 0
    assert f"agent 1, policy {policy}, return" in capsys.readouterr().out
    with Image.open(out) as image:
        assert (image.size, image.n_frames) == ((320, 320), 4)
    assert main([*words, "--steps", "2"]) == 0
    with Image.open(out) as image:
        assert image.n_frames == 2


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--agent", "2"], "--agent: expected an agent from 0 to 1, got 2"),
        (["--agent", "-1"], "--agent: expected an agent from 0 to 1, got -1"),
        (["--policy", "webster"], "expected one of own, full_throttle, first_come_first_served"),
        (["--out", "x.mp4"], "expected a name that ends in .gif"),
        (["--steps", "0"], "--steps: expected at least 1, got 0"),
    ],
)
def test_what_cannot_be_rendered_is_refused_in_words(junction, words, complaint, capsys):
    assert main(["render", str(junction), *words]) == 2
    assert complaint in capsys.readouterr().err


def test_an_environment_without_pictures_says_so(tmp_path, capsys):
    run(tmp_path / "run", 'id = "lqr"')
    assert main(["render", str(tmp_path / "run"), "--out", str(tmp_path / "x.gif")]) == 1
    assert capsys.readouterr().err == "render: the environment has no pictures\n"
    run(tmp_path / "own", 'id = "own_envs:Together"')
    assert main(["render", str(tmp_path / "own"), "--out", str(tmp_path / "x.gif")]) == 1
    assert (
        "no pictures; it has if its constructor takes and keeps render_m" in capsys.readouterr().err
    )


def test_an_environment_of_pettingzoo_shows_itself(tmp_path):
    run(tmp_path / "run", 'id = "pettingzoo:own_envs:Pair"')
    words = ["render", str(tmp_path / "run"), "--agent", "1", "--out", str(tmp_path / "x.gif")]
    assert main([*words, "--steps", "3"]) == 0
    with Image.open(tmp_path / "x.gif") as image:
        assert image.n_frames == 3


def rods(environment, *state: float) -> list[Rod]:
    scene = environment.scene(np.array(state))
    return [shape for shape in scene.shapes if isinstance(shape, Rod)]


def test_pictures_of_classic_tasks_show_their_angles(tmp_path, capsys):
    (_, pole) = rods(CartPole(), 0.5, 0.0, np.pi / 2, 0.0)
    assert pole.ends[1][0] - pole.ends[0][0] == pytest.approx(1.0)  # it has fallen to the right
    assert pole.ends[1][1] == pytest.approx(pole.ends[0][1])
    (rod,) = rods(Pendulum(), 0.0, 0.0)
    assert rod.ends[1] == pytest.approx((1.2, 2.2))  # upright
    line, _, link = rods(Acrobot(), np.pi, 0.0, 0.0, 0.0)
    assert link.ends[1][1] - line.ends[0][1] == pytest.approx(1.0)  # a link above the bar
    left, right = (MountainCar().scene(np.array((x, 0.0))).shapes[-1] for x in (-0.5, 0.4))
    assert isinstance(left, Disc)
    assert isinstance(right, Disc)
    assert right.x - left.x == pytest.approx(0.9)
    assert right.y > left.y
    run(tmp_path / "run", 'id = "CartPole-v1", max_steps = 3')
    out = tmp_path / "cart.gif"
    assert main(["render", str(tmp_path / "run"), "--out", str(out)]) == 0
    assert "return 3" in capsys.readouterr().out
    with Image.open(out) as image:
        assert image.size == (320, 134)


class Lamp(gymnasium.Env):
    """A picture of one color, which grows lighter with every step."""

    metadata: ClassVar = {"render_modes": ["rgb_array"]}
    observation_space = gymnasium.spaces.Box(0.0, 1.0, (1,))
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.t = 0

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return np.zeros(1, dtype=np.float32), {}

    def step(self, action):
        self.t += 1
        return np.zeros(1, dtype=np.float32), 1.0, self.t == 3, False, {}

    def render(self):
        return np.full((20, 30, 3), 80 * self.t, dtype=np.uint8)


def test_environments_of_gymnasium_give_their_pixels(tmp_path, capsys):
    gymnasium.register("Lamp-v0", Lamp)
    try:
        run(tmp_path / "run", 'id = "Lamp-v0"')
        out = tmp_path / "lamp.gif"
        assert main(["render", str(tmp_path / "run"), "--out", str(out)]) == 0
    finally:
        del gymnasium.registry["Lamp-v0"]
    assert "return 3" in capsys.readouterr().out
    with Image.open(out) as image:
        assert (image.size, image.n_frames) == ((30, 20), 3)
        image.seek(2)
        assert image.convert("RGB").getpixel((5, 5)) == (160, 160, 160)


def discs(scene: Scene | None) -> list[tuple[float, float, str]]:
    assert scene is not None
    return [(shape.x, shape.y, shape.text) for shape in scene.shapes if isinstance(shape, Disc)]


def test_vehicles_are_drawn_where_they_drive_and_those_that_have_passed_are_not():
    state = np.array([4.0, 24.0, 44.0, 10, 10, 10, 1, 0, -1, 1, 1, 1])
    assert discs(Junction(members=3).scene(state)) == [(70, 80, "0"), (70, 20, "2")]


def test_robots_are_drawn_in_their_cells():
    state = np.array([0.0, 20.0, 0, 1, 6, 6, 50, 50])
    found = discs(Warehouse(members=2, aisles=2, shelves=3).scene(state))
    assert found == [(0.5, 6.5, "0"), (2.5, 0.5, "1")]


def test_queues_are_bars_as_long_as_they_are():
    environment = SignalGrid(rows=1, columns=1)
    state = np.zeros(environment.spec.state)
    state[:4] = 6.0, 0.0, 12.0, 24.0
    bars = environment.scene(state).shapes[1:]
    longest = [round(max(bar.width, bar.height), 3) for bar in bars]
    assert longest == [round(6 / 36, 3), 0.06, round(12 / 36, 3), round(12 / 36, 3)]
    assert len({bar.color for bar in bars}) == 2
