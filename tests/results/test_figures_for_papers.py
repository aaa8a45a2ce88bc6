"""Figures for papers: their data as CSV, one horizontal axis, axes of one's own, maps and films."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from factory import record, ring
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

import p2pfrl
from p2pfrl.cli import main
from p2pfrl.core.errors import P2PFRLError, RecordError
from p2pfrl.results.fairness import fairness
from p2pfrl.results.groups import group
from p2pfrl.results.plots import FIGURES, Look, draw, register
from p2pfrl.results.plots import Figure as Kind
from p2pfrl.results.plots.agreeing import film_of_consensus
from p2pfrl.results.plots.data import encode_data
from p2pfrl.results.plots.style import Drawing, panels, style
from p2pfrl.results.plots.timeline import window
from p2pfrl.results.record import save


def rows_of(content: bytes) -> list[dict[str, str]]:
    comment, *lines = content.decode().splitlines()
    assert comment.startswith("# data of the figure")
    return list(csv.DictReader(lines))


def test_lines_bands_marks_bars_and_maps_are_in_the_data() -> None:
    runs = [record(4, rounds=6, seed=seed) for seed in range(5)]
    look = Look(formats=(), only=("consensus",), x="bytes_sent", has_data=True)
    (picture,) = draw(group(runs), look)
    rows = rows_of(picture.files["csv"])
    curve = group(runs)[0].curve("bytes_sent", "consensus_distance")
    points = [row for row in rows if row["series"] == "measured"]
    assert [float(row["y"]) for row in points] == pytest.approx(curve.mean.tolist(), rel=1e-7)
    bands = [row for row in rows if row["kind"] == "band"]
    assert [float(row["y_end"]) for row in bands] == pytest.approx(curve.high.tolist(), rel=1e-7)
    assert {row["panel"] for row in rows} == {"bytes sent, all agents (kB)"}
    one = runs[0]
    look = Look(formats=(), only=("agents", "graph", "staleness", "timeline"), has_data=True)
    found = {p.name: rows_of(p.files["csv"]) for p in draw(group([one]), look)}
    cells = [row for row in found["agents"] if row["panel"] == "return" and row["value"]]
    assert len(cells) == np.isfinite(one.agents["return"]).sum()
    third = [row["value"] for row in cells if (row["x"], row["y"]) == ("6", "3")]
    assert float(third[0]) == pytest.approx(one.agents["return"][-1])
    assert [row["value"] for row in found["graph"] if row["panel"] == "final return"] == [
        f"{value:.9g}" for value in one.agents["return"][-4:]
    ]
    assert float(found["staleness"][0]["y_end"]) == pytest.approx(100 * 700 / 1181)
    end = window(one.timeline)
    trained = {(i.agent, i.start) for i in one.timeline if i.kind == "train" and i.start < end}
    bars = [row for row in found["timeline"] if row["series"] == "train"]
    assert {int(row["agent"]) for row in bars} == {agent for agent, _ in trained}
    assert len(bars) == len(trained)
    for row in found["timeline"]:
        assert float(row["y"]) < int(row["agent"]) + 0.2 < float(row["y_end"])
    assert [row["agent"] for row in found["graph"]] == ["0", "1", "2", "3"] * 2
    assert {row["agent"] for row in cells if row["y"] == "3"} == {"3"}


def test_a_dot_of_the_last_evaluation_has_its_agent() -> None:
    one = record(4)
    names = ("evaluation_own", "evaluation_optimum")
    one.agents.update(
        {name: np.linspace(k, 9, len(one.agents["agent"])) for k, name in enumerate(names)}
    )
    (picture,) = draw(group([one]), Look(formats=(), only=("beside",), has_data=True))
    dots = [row for row in rows_of(picture.files["csv"]) if row["kind"] == "point"]
    last = one.agents["evaluation_own"][-4:]
    shown = {int(row["agent"]): float(row["y"]) for row in dots[:4]}
    assert shown == pytest.approx(dict(zip(one.agents["agent"][-4:].tolist(), last, strict=True)))


def test_the_data_name_coordinators_and_what_bars_stand_for() -> None:
    (picture,) = draw(
        group([record(3, mode="central")]), Look(formats=(), only=("graph",), has_data=True)
    )
    agents = [row["agent"] for row in rows_of(picture.files["csv"])]
    assert agents == ["0", "1", "2", "coordinator"] * (len(agents) // 4)
    figure = Figure()
    axes = figure.subplots()
    axes.bar([0, 1], [3.0, 4.0], width=0.6)
    axes.scatter([0.2, 0.5, 0.8], [1.0, 2.0, 3.0])
    axes.set_xticks([0, 1], ["one", "other"])
    rows = rows_of(encode_data(figure, "mine"))
    assert [row["x_label"] for row in rows if row["kind"] == "bar"] == ["one", "other"]
    assert [row["x_label"] for row in rows if row["kind"] == "point"] == ["one", "", "other"]


def test_the_data_of_a_map_of_settings_has_their_values() -> None:
    runs = [
        replace(run, scenario=f"{run.scenario}\n[learner]\nlr = {lr}\nclip = {clip}\n")
        for run in [record(2, rounds=3)]
        for lr in (0.05, 0.1)
        for clip in (1.0, 2.0)
    ]
    look = Look(formats=(), only=("settings",), has_data=True)
    (picture,) = draw(group(runs), look)
    comment = picture.files["csv"].decode().splitlines()[0]
    assert "; final return, mean of agents: x is clip, y is lr;" in comment
    cells = [row for row in rows_of(picture.files["csv"]) if row["kind"] == "cell"]
    names = {(row["x_label"], row["y_label"]) for row in cells}
    assert {frozenset(pair) for pair in names} == {
        frozenset((lr, clip)) for lr in ("0.05", "0.1") for clip in ("1", "2")
    }


def test_a_map_of_two_keys_of_one_name_has_whole_keys() -> None:
    runs = [
        replace(run, scenario=f"{run.scenario}\n[a]\nlr = {one}\n[b]\nlr = {other}\n")
        for run in [record(2, rounds=3)]
        for one in (0.05, 0.1)
        for other in (1.0, 2.0)
    ]
    (picture,) = draw(group(runs), Look(formats=(), only=("settings",)))
    assert picture.title == "a.lr by b.lr"


def test_figures_of_each_group_are_named_by_its_label() -> None:
    first = record(2, rounds=3)
    other = replace(first, scenario=f"{first.scenario}\n[learner]\nlr = 0.5\n")
    names = {p.name for p in draw(group([first, other]), Look(formats=(), only=("graph",)))}
    assert names == {"graph_0_lr_not_set", "graph_1_lr_0_5"}


def test_the_caption_of_a_map_is_about_the_panels_that_are_there() -> None:
    run = record(4, rounds=6)
    (both,) = draw(group([run]), Look(formats=(), only=("agents",)))
    assert "The return is" in both.caption
    assert "Disagreement is" in both.caption
    nothing = np.full_like(run.agents["return"], np.nan)
    (one,) = draw(
        group([replace(run, agents=run.agents | {"return": nothing})]),
        Look(formats=(), only=("agents",)),
    )
    assert "return" not in one.caption


def test_a_wrong_axis_is_refused_by_name() -> None:
    with pytest.raises(P2PFRLError, match="x: expected one of rounds, bytes, seconds, steps, got"):
        p2pfrl.plots.consensus(record(2, rounds=3), x="nope")  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_figure_for_a_paper_is_as_wide_as_a_column_with_text_of_7_to_9_points(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    groups = group([record(4, rounds=6)])
    with style(paper=True):
        for name in ("fairness", "graph"):
            drawing = FIGURES[name].draw(groups)
            assert drawing is not None
            assert drawing.figure.get_figwidth() == pytest.approx(3.4)
            drawing.figure.draw_without_rendering()
            sizes = {t.get_fontsize() for t in drawing.figure.findobj(Text) if t.get_text().strip()}
            assert min(sizes) >= 7
            assert max(sizes) <= 9
    save(record(4, rounds=6), tmp_path / "run")
    words = ["plot", str(tmp_path / "run"), "--figure", "fairness", "--style", "paper", "--out"]
    assert main([*words, str(tmp_path / "f")]) == 0
    assert {p.suffix for p in (tmp_path / "f").iterdir()} == {".svg", ".png", ".pdf", ".csv"}
    assert main([*words, str(tmp_path / "f")]) == 0  # ours are replaced
    capsys.readouterr()
    assert main([*words[:2], "--figure", "graph", "--x", "bytes"]) == 2
    assert "--x: expected figures out of modes, return, consensus, fairness, got graph" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(("x", "label"), [("steps", "environment steps"), ("seconds", "virtual")])
def test_curves_have_one_panel_against_what_was_asked_for(x: str, label: str) -> None:
    column = {"steps": "env_steps", "seconds": "virtual_seconds"}[x]
    runs = [record(4, rounds=6, mode=mode) for mode in ("gossip", "central")]
    with style(x=column):
        for name, kind in FIGURES.items():
            if kind.takes_x:
                drawing = kind.draw(group(runs))
                assert drawing is not None
                labels = {axes.get_xlabel() for axes in drawing.figure.axes}
                assert len(labels) == 1, name
                assert labels.pop().startswith(label), name


def test_figures_are_drawn_on_axes_of_ones_own() -> None:
    figure = Figure()
    left, right = figure.subplots(1, 2)
    run = record(4, rounds=6)
    assert p2pfrl.plots.consensus(run, ax=left, x="seconds") is figure
    assert p2pfrl.plots.returns([run, record(4, rounds=6, mode="central")], ax=right) is figure
    assert left.get_xlabel() == "virtual time (ms)"
    assert left.get_legend() is not None
    assert {line.get_label() for line in right.lines} >= {"gossip", "central"}
    with pytest.raises(P2PFRLError, match="expected 2 axes for this figure, got 1"):
        p2pfrl.plots.fairness(run, ax=[left])
    with pytest.raises(P2PFRLError, match="no figure 'consensuss'; did you mean 'consensus'"):
        p2pfrl.plots.figure("consensuss", run)
    with pytest.raises(P2PFRLError, match="no data for the figure 'profile'"):
        p2pfrl.plots.profile(run)


def test_a_figure_of_another_part_is_drawn_with_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pfrl.results.plots.FIGURES", {})

    def suspicion(groups: object) -> Drawing:
        figure, _ = panels(1)
        return Drawing(figure, "Who was suspected.")

    kind = Kind("Suspicion", suspicion)
    register("suspicion", kind)
    register("suspicion", kind)
    assert [p.title for p in draw(group([record(2, rounds=2)]), Look(()))] == ["Suspicion"]
    with pytest.raises(P2PFRLError, match="there is a figure 'suspicion'"):
        register("suspicion", Kind("Other", suspicion))
    with pytest.raises(P2PFRLError, match="expected a name of lower-case letters"):
        register("My figure", kind)


def test_fairness_is_that_of_the_agents_in_every_round() -> None:
    run = record(10, rounds=6)
    drawing = FIGURES["fairness"].draw(group([run]))
    assert drawing is not None
    returns = run.agents["return"].reshape(6, 10)[1:]
    known = [fairness(row) for row in returns]
    p10, mean = drawing.figure.axes[0].lines[:2]
    assert np.array(p10.get_ydata()).tolist() == [one["p10"] for one in known]
    assert np.array(mean.get_ydata()).tolist() == pytest.approx(returns.mean(axis=1).tolist())
    (jain,) = drawing.figure.axes[1].lines
    assert np.array(jain.get_ydata()).tolist() == [one["jain"] for one in known]


def test_a_map_of_many_agents_and_rounds_is_averaged_and_says_so() -> None:
    run = record(600, rounds=900, graph=ring(600))
    drawing = FIGURES["agents"].draw(group([run]))
    assert drawing is not None
    assert "mean of up to 3 agents and 3 rounds" in drawing.caption
    cells = drawing.figure.axes[0].images[0].get_array()
    assert cells is not None
    assert cells.shape == (256, 400)
    returns = run.agents["return"]
    assert float(np.nanmean(np.ma.filled(cells, np.nan))) == pytest.approx(
        float(np.nanmean(returns)), rel=0.01
    )


def test_the_film_of_consensus_has_a_frame_per_round_and_darker_agents_disagree(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = record(4, rounds=5, quadratic=True)
    far = np.where(run.agents["round"] == 1, 1.0, 1e-3)
    run = replace(run, agents=run.agents | {"disagreement": far})
    save(run, tmp_path / "run")
    out = tmp_path / "film.gif"
    assert main(["render", str(tmp_path / "run"), "--graph", "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}: 5 rounds\n"
    sums = []
    with Image.open(out) as film:
        assert film.n_frames == 5
        for frame in (0, 4):
            film.seek(frame)
            sums.append(int(np.asarray(film.convert("L"), dtype=np.int64).sum()))
    assert sums[0] < sums[1]
    agreed = replace(run, agents=run.agents | {"disagreement": np.zeros(20)})
    with pytest.raises(RecordError, match="no round in which agents disagree"):
        film_of_consensus(agreed, out)
    assert main(["render", str(tmp_path / "run"), "--graph", "--agent", "1"]) == 2
    assert "--graph: has no episode" in capsys.readouterr().err
