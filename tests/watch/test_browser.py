"""The page in headless Chromium after twenty rounds: light and dark, narrow and wide.

It needs `pip install playwright`, and a Chromium: of the system, or of
`playwright install chromium`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from runs import write_scenario

pytest.importorskip("playwright.sync_api")
pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from playwright import sync_api as playwright

import p2pfrl
from p2pfrl.watch.serve import listening, serve, url_of
from p2pfrl.watch.sources import Local

pytestmark = pytest.mark.slow
VIEWS = [(scheme, width) for scheme in ("light", "dark") for width in (400, 1600)]
SCREENSHOTS = os.environ.get("P2PFRL_SCREENSHOTS")
"""A folder for pictures of the pages, to look at; none by default."""


@contextmanager
def chromium() -> Iterator[Any]:
    """Open a headless Chromium, of the system or of playwright."""
    own = shutil.which("chromium") or shutil.which("chromium-browser")
    with playwright.sync_playwright() as driver:
        try:
            browser = driver.chromium.launch(executable_path=own, args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"no Chromium: {error}")
        yield browser
        browser.close()


@contextmanager
def live(*words: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run a scenario with its page; yield the address of the page and the process."""
    command = [sys.executable, "-m", "p2pfrl", "scenario", *words, "--live", "--quiet", "--json"]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    try:
        lines = iter(process.stderr.readline, "")  # notes may come first
        found = next(filter(None, (re.search(r"watch: (http://\S+)", line) for line in lines)))
        yield found[1], process
    finally:
        process.terminate()
        process.wait(60)
        process.stderr.close()


def test_after_twenty_rounds_the_page_has_everything(tmp_path: Path) -> None:
    out = tmp_path / "run"
    endless = ("--set", "stop.rounds=20000", "--set", "stop.target_return=1e6")
    words = ("faults_ring", *endless, "--out", str(out))
    with chromium() as browser, live(*words) as (url, process):
        pages = {}
        wrong: list[str] = []
        for scheme, width in VIEWS:
            page = browser.new_page(
                viewport={"width": width, "height": 900},
                color_scheme=scheme,
                # Four animations would take the processors from the run.
                reduced_motion="reduce" if pages else "no-preference",
            )
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.on("console", lambda message: wrong.append(message.text))
            page.on("request", lambda request: foreign(request.url, url, wrong))
            page.goto(url)
            pages[scheme, width] = page
        grounds = set()
        for (scheme, width), page in pages.items():
            until(page, "!!S.run && S.run.now.rounds >= 20")
            if SCREENSHOTS:
                page.screenshot(path=f"{SCREENSHOTS}/{scheme}_{width}.png", full_page=True)
            check(page)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            grounds.add((scheme, page.evaluate("getComputedStyle(document.body).backgroundColor")))
        assert len({ground for _, ground in grounds}) == 2
        process.terminate()
        page = pages["light", 1600]
        until(page, "!!S.closed")
        assert page.inner_text("#link") == "run is over"
        assert page.inner_text("#state").startswith("ended by interrupt")
        assert process.wait(120) == 130
        assert wrong == []


def until(page: Any, condition: str, seconds: float = 300.0) -> None:
    """Wait for a condition; playwright's own way is not allowed by the policy of the page."""
    deadline = time.monotonic() + seconds
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, condition
        page.wait_for_timeout(100)


def foreign(asked: str, url: str, wrong: list[str]) -> None:
    """Note what a page asks of another address than its own."""
    if not asked.startswith((url, "data:")):
        wrong.append(asked)


def check(page: Any) -> None:
    """Check that a page shows a run of 16 agents with faults."""
    assert "faults_ring" in page.inner_text("#name")
    assert page.evaluate("S.graph.x.length") == 16
    assert page.locator("#agents tbody tr").count() == 16
    assert page.locator(".uplot").count() == 2
    assert "|λ₂| = 0.9493" in page.inner_text("#rate")
    assert "crash of agent 3" in page.inner_text("#log")
    for canvas in ("graph", "timeline"):
        colors = page.evaluate(
            f"(() => {{ const c = document.getElementById('{canvas}'); const d = c.getContext('2d')"
            ".getImageData(0, 0, c.width, c.height).data; const s = new Set();"
            "for (let i = 0; i < d.length; i += 4) s.add(d[i] << 16 | d[i + 1] << 8 | d[i + 2]);"
            "return s.size; })()"
        )
        assert colors > 5, canvas
    page.get_by_role("button", name="return ▲").or_(
        page.locator("#agents th button", has_text="return")
    ).first.click()
    column = page.locator("#agents th").all_inner_texts().index("return ▲")
    cells = [
        float(row.split("\t")[column].replace(",", ""))
        for row in page.locator("#agents tbody tr").all_inner_texts()
    ]
    assert cells == sorted(cells)


@contextmanager
def page_of(folder: Path) -> Iterator[str]:
    """Serve the page of a record; yield its address."""
    over, listener = threading.Event(), listening(("127.0.0.1", 0))
    more = {"is_local": True, "ended": over.wait}
    serving = threading.Thread(target=serve, args=(Local(folder), listener, ""), kwargs=more)
    url = url_of(listener, "")
    serving.start()
    try:
        yield url
    finally:
        over.set()
        serving.join(20.0)


OPACITY_OF_EDGES = """(() => {
  const c = document.getElementById('graph'), width = c.clientWidth, height = c.clientHeight;
  const side = Math.min(width, height) - 32, ratio = devicePixelRatio, E = S.graph.edges;
  const at = (v, all) => Math.round(ratio * ((all - side) / 2 + side * v));
  const darkest = [];
  for (let k = 0; k < E.length; k += 2) {
    const x = (S.graph.x[E[k]] + S.graph.x[E[k + 1]]) / 2;
    const y = (S.graph.y[E[k]] + S.graph.y[E[k + 1]]) / 2;
    const d = c.getContext('2d').getImageData(at(x, width) - 1, at(y, height) - 1, 3, 3).data;
    darkest.push(Math.max(...d.filter((_, i) => i % 4 === 3)));
  }
  return darkest.sort((a, b) => a - b)[Math.floor(darkest.length / 2)];
})()"""
"""The opacity, up to 255, of the darkest pixel in the middle of an edge; the median over edges."""


def test_words_of_an_asynchronous_record_and_edges_of_a_torus(tmp_path: Path) -> None:
    keys = {"compute.speed": [1.0, 1.0, 1.0, 0.2], "compute.seconds_per_env_step": "1ms"}
    scenario = p2pfrl.load(write_scenario(tmp_path), {"schedule.kind": "asynchronous", **keys})
    p2pfrl.run(scenario, out=tmp_path / "async")
    torus = p2pfrl.load(write_scenario(tmp_path), {"topology.kind": "torus", "agents": 256})
    p2pfrl.run(torus, out=tmp_path / "torus")
    with chromium() as browser:
        with page_of(tmp_path / "async") as url:
            page = browser.new_page()
            page.goto(url)
            until(page, "!!S.run && !!S.agents && !!S.curves")
            assert page.inner_text("#numbers dt >> nth=0") == "updates per agent"
            heads = page.locator("#agents th").all_inner_texts()
            assert heads[:3] == ["agent ▲", "updates", "lag"]
            assert "updates per agent" in page.inner_text("#plot-consensus")
            assert page.inner_text("#state") == "ended by rounds"
            assert not page.is_visible("#link")
        for scheme in ("light", "dark"):
            with page_of(tmp_path / "torus") as url:
                page = browser.new_page(color_scheme=scheme)
                page.goto(url)
                until(page, "!!S.graph && !!S.colors")
                assert page.evaluate(OPACITY_OF_EDGES) > 80
                assert "farthest from the average" in page.inner_text("#extremes")
