"""Ids of environments that people use: each runs, or is refused in one sentence."""

import gymnasium
import pytest

import p2pfrl
from p2pfrl.core.errors import ScenarioError

TEXT = """name = "ids"
agents = 2
stop = {rounds = 1}
environment = {id = "CartPole-v1", instances = 1}
learner = {kind = "ppo", steps = 4, num_minibatches = 1, hidden = [4]}
evaluation = {episodes = 0}
"""
SMALL = {"environment.resize": [84, 84], "environment.gray": True}
RUN = {
    "FrozenLake-v1": {},
    "Taxi-v4": {},
    "Blackjack-v1": {},
    "CliffWalking-v1": {},
    "LunarLander-v3": {},
    "BipedalWalker-v3": {},
    "CarRacing-v3": SMALL,
    "Hopper-v5": {},
    "ale_py:ALE/Breakout-v5": SMALL,
    "minigrid:MiniGrid-Empty-5x5-v0": {},
    "own_envs:Nested": {},
    "own_envs:Several": {},
    "own_envs:Free": {},
    "own_envs:made": {},
    "pettingzoo:own_envs:Pair": {},
    "pettingzoo:mpe2.simple_spread_v3": {"agents": 3},
    "pettingzoo:mpe2.simple_tag_v3": {"agents": 4},
}
REFUSED = {
    "Taxi-v3": r"deprecated",
    "CartPole-v9": r"CartPole-v9",
    "CarRacing-v3": r"96 x 96 x 3 is 27,648 numbers.*messages of",
    "ale_py:ALE/Breakout-v5": r"210 x 160 x 3 is 100,800 numbers",
    "ALE/Breakout-v5": r"write ale_py:ALE/Breakout-v5",
    "MiniGrid-Empty-5x5-v0": r"write minigrid:MiniGrid-Empty-5x5-v0",
    "highway-v0": r"write highway_env:highway-v0",
    "own_envs:Nope": r"own_envs has no class Nope",
    "own_envs:nothing": r"made None; expected an environment",
    "own_envs:Late": r"autoreset mode NEXT_STEP",
    "no_such_module:Env": r"No module named 'no_such_module'",
    "pettingzoo:no_such_game_v1": r"No module named 'no_such_game_v1'",
    "pettingzoo:own_envs:Mixed": r"expected discrete ones of all members, or bounded boxes",
    "not an id": r"expected one of .* or a Gymnasium id",
}
NEEDED = {
    "LunarLander-v3": "Box2D",
    "BipedalWalker-v3": "Box2D",
    "CarRacing-v3": "Box2D",
    "Hopper-v5": "mujoco",
    "ale_py:ALE/Breakout-v5": "ale_py",
    "minigrid:MiniGrid-Empty-5x5-v0": "minigrid",
    "pettingzoo:mpe2.simple_spread_v3": "mpe2",
    "pettingzoo:mpe2.simple_tag_v3": "mpe2",
}
"""Id -> the module without which it is not tried."""


def skip_without(id: str) -> None:
    if id in NEEDED:
        pytest.importorskip(NEEDED[id], exc_type=ImportError)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("id", "options"), RUN.items())
def test_an_id_runs(id: str, options: dict) -> None:
    skip_without(id)
    record = p2pfrl.run(p2pfrl.loads(TEXT, {"environment.id": id, **options}))
    assert record.summary["rounds"] == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("id", "reason"), REFUSED.items())
def test_an_id_is_refused_in_one_sentence(
    id: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_without(id)
    if "write" in reason:  # another test may have imported what registers it
        monkeypatch.delitem(gymnasium.registry, id, raising=False)
    with pytest.raises(ScenarioError, match=reason) as caught:
        p2pfrl.loads(TEXT, {"environment.id": id})
    assert len(caught.value.problems) == 1
    assert "\n" not in str(caught.value)
