"""Journals written by hand: what happened to their processes is known exactly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

import p2pfrl
from p2pfrl.build.assembly import Assembly
from p2pfrl.core.traffic import Traffic
from p2pfrl.core.types import Update
from p2pfrl.core.writes import strictly
from p2pfrl.deploy.journal import Journal
from p2pfrl.deploy.thinning import thinning_of
from p2pfrl.scenario import Scenario
from p2pfrl.scenario.render import resolved


def quadratic(agents: int = 2, **overrides: object) -> Scenario:
    base = Path(__file__).parents[1] / "hosts" / "quadratic_ring.toml"
    return p2pfrl.load(base, {"agents": agents, **overrides})


class Written:
    """One agent's process: a journal whose parameters of round r are all agent + r."""

    def __init__(
        self,
        scenario: Scenario,
        home: Path,
        agent: int,
        incarnation: int = 0,
        writes: Callable[[str, Callable[[], object]], bool] = strictly,
    ) -> None:
        home.mkdir(parents=True, exist_ok=True)
        (home / "scenario.toml").write_text(resolved(scenario))
        layout = Assembly(scenario).learning.stack.layout
        self.agent, self.clock, self.counts, self.home = agent, 0, Traffic(), home
        self.row = np.zeros(layout.size, dtype=layout.dtype)
        self.journal = Journal(
            home / "journal.bin",
            agents=[agent],
            incarnation=incarnation,
            seed=1,
            layout=layout,
            model=lambda agent: self.row,
            now=lambda: self.clock,
            every=1,
            save=lambda agent, round: None,
            keeps=thinning_of(scenario, layout).keeps,
            writes=writes,
        )
        self.journal.traffic = self.counts
        self.journal.begin()
        self.shift = 0.0

    def rounds(self, first: int, last: int) -> Written:
        for round in range(first, last + 1):
            self.clock += 1_000_000_000
            self.counts.bytes_sent += 100
            self.counts.bytes_by[self.agent] = self.counts.bytes_sent
            self.journal.trained(self.agent, Update(self.agent, 1, 0.5, (float(round),)))
            before, self.row = self.row, np.full_like(self.row, self.agent + round + self.shift)
            self.journal.mixed(self.agent, round, {1 - self.agent: 0}, before, self.row)
        return self

    def dies(self) -> Path:
        self.journal._file.close()
        return self.home

    def ends(self, reason: str = "rounds", incarnation: int = 0) -> Path:
        self.journal.close()
        (self.home / "peer.json").write_text(
            f'{{"stopped_by": "{reason}", "incarnation": {incarnation}}}'
        )
        return self.home
