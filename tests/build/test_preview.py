"""What `validate` predicts: exact numbers, or bounds where an update's steps vary."""

from p2pfrl import loads
from p2pfrl.build.preview import preview
from p2pfrl.laws.runs import text

CART = {"id": "cartpole", "instances": 1, "max_steps": 50}


def of(**tables: object) -> dict[str, object]:
    return preview(loads(text(4, 1, mode="independent", environment=CART, **tables)))


def test_updates_of_whole_episodes_have_bounds_and_not_one_number() -> None:
    for kind in ("reinforce", "a2c", "ppo", "dqn"):
        found = of(learner={"kind": kind, "episodes": 3})
        assert found["env_steps_per_round"] == {"at least": 12, "at most": 600}
    assert of(learner={"kind": "reinforce", "steps": 8})["env_steps_per_round"] == 32
    plain = text(
        4, 1, mode="independent", environment=CART, learner={"kind": "reinforce", "steps": 8}
    )
    both = preview(loads(f"{plain}\n[[groups]]\nagents = [1]\nlearner = {{steps = 16}}\n"))
    assert both["env_steps_per_round"] == {"at least": 32, "at most": 64}


def test_evaluations_have_a_price() -> None:
    learner = {"kind": "reinforce", "steps": 8}
    found = of(learner=learner, evaluation={"every": 5, "episodes": 3})
    assert found["evaluation"] == {"every": 5, "env_steps at most": 2 * 3 * 4 * 50}
    assert of(learner=learner, evaluation={"episodes": 0})["evaluation"] is None
    assert preview(loads(text(4, 1, learner={"kind": "quadratic"})))["evaluation"] is None
