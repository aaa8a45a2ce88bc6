"""Members of a comparison are all combinations of files, recipes, modes and values."""

from __future__ import annotations

from pathlib import Path

import pytest
from runs import fake, write_scenario

from p2pfrl.core.errors import P2PFRLError, ScenarioError
from p2pfrl.experiment.compare import compare
from p2pfrl.experiment.members import Member, members
from p2pfrl.scenario import load
from p2pfrl.scenario.sections import Scenario


def scenario_of(member: Member) -> Scenario:
    return load(member.scenario, dict(member.overrides))


def test_labels_have_what_differs_and_nothing_else(tmp_path: Path) -> None:
    file = write_scenario(tmp_path)

    def labels(*given: object, **more: object) -> list[str]:
        return [member.label for member in members([file], *given, **more)]  # type: ignore[arg-type]

    assert labels(["gossip"]) == ["gossip"]
    assert labels() == ["bowl"]
    assert labels((), ["fedavg", "dpsgd"]) == ["fedavg", "dpsgd"]
    assert labels((), (), {"learner.lr": [0.1, 0.2]}) == ["lr 0.1", "lr 0.2"]
    both = labels(["gossip", "central"], (), {"learner.lr": [0.1, 0.2], "agents": [4]})
    assert both == [
        f"{mode} · lr {lr} · agents 4" for mode in ("gossip", "central") for lr in (0.1, 0.2)
    ]


def test_directories_differ_and_depend_on_the_member_alone(tmp_path: Path) -> None:
    file = write_scenario(tmp_path)
    few = members([file], (), (), {"learner.lr": [0.1, 0.2]})
    many = members([file], (), (), {"learner.lr": [0.2, 0.3, 0.1]})
    assert {m.folder for m in few} < {m.folder for m in many}
    assert len({m.folder for m in many}) == 3
    assert members([file], ["central"])[0].folder == "central"


def test_a_recipe_wins_over_the_file_but_for_what_is_learned_and_who_is_near(
    tmp_path: Path,
) -> None:
    file = tmp_path / "own.toml"
    file.write_text(
        'extends = "fedprox"\nagents = 9\n[stop]\nrounds = 3\n[learner]\nkind = "quadratic"\n'
        '[topology]\nkind = "torus"\n[mixing]\nkind = "laplacian"\n[schedule]\nevery = 3\n'
    )
    fedavg, choco = map(scenario_of, members([file], (), ["fedavg", "choco"]))
    assert (fedavg.mode, choco.mode) == ("central", "gossip")
    assert type(fedavg.correction).__name__ != "Prox"
    assert type(choco.topology).__name__ == "Torus"
    assert type(choco.mixing).__name__ == "Choco"
    assert (fedavg.schedule.every, choco.schedule.every) == (5, 1)
    given = members([file], (), ["fedavg", "fedprox"], overrides={"schedule.every": 2})
    assert {scenario_of(member).schedule.every for member in given} == {2}


def test_equal_names_of_files_have_their_folders(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_scenario(tmp_path / name)
    files = [tmp_path / name / "bowl.toml" for name in ("a", "b")]
    assert [member.label for member in members(files)] == ["a/bowl", "b/bowl"]


def test_twins_and_invalid_members_are_refused_by_name(tmp_path: Path) -> None:
    file = write_scenario(tmp_path)
    with pytest.raises(P2PFRLError, match=r"lr 0\.05 and lr 0\.05"):
        compare(file, (), [0], tmp_path / "o", settings={"learner.lr": [0.05, 0.05]}, run=fake)
    with pytest.raises(ScenarioError, match=r"^lr -1: .*at least 0\.0, got -1\nlr -2: .*got -2"):
        compare(file, (), [0], tmp_path / "o", settings={"learner.lr": [-1, -2]}, run=fake)
    with pytest.raises(ScenarioError, match=r"^recipe fedq: exchange\.payload: this learner has"):
        compare(file, (), [0], tmp_path / "o", recipes=["fedq"], run=fake)
    with pytest.raises(ScenarioError, match=r"^recipe fedper: .* no part 'trunk'"):
        compare(file, (), [0], tmp_path / "o", recipes=["fedper"], run=fake)
    with pytest.raises(ScenarioError, match="no recipe 'fedavgg'; did you mean 'fedavg'"):
        members([file], (), ["fedavgg"])
    with pytest.raises(P2PFRLError, match="at least one scenario"):
        members([])
    with pytest.raises(P2PFRLError, match="agents: expected at least one value"):
        members([file], settings={"agents": []})
    with pytest.raises(P2PFRLError, match="files: expected different files"):
        members([file, file])
