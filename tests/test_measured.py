"""Texts state measured numbers as docs/measured.json has them, and none of a single seed."""

from __future__ import annotations

import json
import re

import pytest
from measure import CLAIMS, CONCLUSIONS, ENOUGH, FILE, ROOT, SEEDS, Claim, held, measure

MEASURED = json.loads(FILE.read_text(encoding="utf-8"))
COMMENTS = {
    path: " ".join(re.findall(r"^# ?(.*)$", path.read_text(encoding="utf-8"), re.MULTILINE))
    for folder in ("scenarios", "p2pfrl/recipes")
    for path in sorted((ROOT / folder).glob("*.toml"))
}


def text_of(name: str) -> str:
    path = ROOT / name
    return COMMENTS.get(path) or " ".join(path.read_text(encoding="utf-8").split())


@pytest.mark.parametrize("name", CLAIMS)
def test_files_state_the_mean_and_the_range_over_ten_seeds(name: str) -> None:
    claim, values = CLAIMS[name], MEASURED["claims"][name]
    assert len(values) == len(SEEDS) == 10
    for file in claim.files:
        assert claim.text(values) in text_of(file), file


def test_files_say_on_which_machine() -> None:
    for file in {file for claim in CLAIMS.values() for file in claim.files}:
        text = text_of(file)
        assert "docs/measured.json" in text or MEASURED["machine"]["processor"] in text, file


@pytest.mark.parametrize("name", CONCLUSIONS)
def test_conclusions_hold_on_nine_of_ten_seeds_here_and_on_another_processor(name: str) -> None:
    conclusion, found = CONCLUSIONS[name], MEASURED["conclusions"][name]
    assert set(MEASURED["conclusions"]) == set(CONCLUSIONS)
    more, less = (MEASURED["claims"][claim] for claim in (conclusion.more, conclusion.less))
    assert found["here"] == held(more, less) >= ENOUGH
    assert found["elsewhere"] >= ENOUGH


@pytest.mark.parametrize("path", COMMENTS, ids=lambda path: path.stem)
def test_comments_state_no_number_of_a_single_seed_or_of_a_clock(path: object) -> None:
    text = COMMENTS[path]  # type: ignore[index]
    assert not re.search(r"(?<!--)\bseeds? \d", text, re.IGNORECASE)
    assert not re.search(r"takes? about \d|\d (virtual )?seconds? of|on one core", text)


def test_a_claim_is_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error of FedAvg is in closed form up to the instance, so that every processor agrees."""
    monkeypatch.setattr("measure.SEEDS", range(1, 3))
    ((name, values),) = measure(["fedavg_drift"], None)
    assert name == "fedavg_drift"
    assert values == pytest.approx(MEASURED["claims"][name][:2], rel=1e-6)


def test_a_range_is_shown_with_the_digits_of_its_mean() -> None:
    claim = Claim("x", len, ".1f", ())  # type: ignore[arg-type]
    assert claim.text([1.0, 2.0, 4.04]) == "2.3 (1.0 to 4.0)"
