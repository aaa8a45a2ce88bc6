"""Verification of a run: its scenario runs again, and digests, files and summary are compared.

A run of processes is compared with the simulator by its final parameters and the part of its
rows and summary that do not depend on times. They are equal, bit for bit, if the run was
synchronous, no deadline expired and no process was lost. What cannot be compared is named.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typing_extensions import Unpack

from p2pfrl.build.devices import choice_of_engine, using
from p2pfrl.core.arguments import checked_call
from p2pfrl.core.errors import IdleWarning, RecordError, ScenarioError
from p2pfrl.experiment.rules import AllRules, knowing_learner, left_out, recorded_otherwise
from p2pfrl.experiment.run import Progress, simulate
from p2pfrl.learning.learners.base import NO_ENGINE, OWN_ENGINE
from p2pfrl.results.differences import differences as find_differences
from p2pfrl.results.differences import read_files, unchecked
from p2pfrl.results.files import refusing
from p2pfrl.results.record import FAILURE, checked_file, load_summary
from p2pfrl.results.versions import versions
from p2pfrl.scenario import Scenario, loads
from p2pfrl.scenario.given import Given, knowing
from p2pfrl.scenario.sources import differences, sources

_TOGETHER = ("stop.target_return", "stop.env_steps", "stop.virtual_time")
"""Limits of a run as a whole.

No process knows the first two, and a process that ended by its rounds met none of them."""


_READ = (
    "stopped_by",
    "deadlines_expired",
    "messages_dropped",
    "versions",
    "digest",
    "parameters_digest",
)
"""Keys of the summary that are read."""


@dataclass(frozen=True)
class Verdict:
    """The result of running a scenario again.

    Attributes:
        recorded: the digest in the run directory.
        replayed: the digest of the new run.
        changed: what differs from the recorded run among the versions, the processor and the
            kernels, on which a digest depends: name -> (then, now); and
            "course", if the run was resumed without all that environments and learners remember.
        different: what differs between the files of the run and the replay, a line each:
            "metrics.csv: line 3, return_mean: recorded ..., replayed ...".
        unchecked: what cannot be compared with a replay, and is only known by its checksum.
    """

    recorded: str
    replayed: str
    changed: dict[str, tuple[str, str]]
    different: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()

    @property
    def is_equal(self) -> bool:
        """Whether both digests are equal, and the files of the run are those of the replay."""
        return self.recorded == self.replayed and not self.different


@checked_call
def verify(
    directory: Path | str,
    progress: Progress | None = None,
    *,
    environment: Given | None = None,
    **rules: Unpack[AllRules],
) -> Verdict:
    """Run the scenario of a run directory again and compare.

    A rule of the user's own is imported from the module that the record names.

    Args:
        directory: the run directory.
        progress: called with every new row of metrics.
        environment: the class, function or environment from Python with which the run was made, if
            it cannot be imported.
        rules: by axis, those from Python with which the run was made, if they cannot be imported;
            of a `LocalLearner` and of a network the class.

    Raises:
        RecordError: the directory is not a finished run, it was interrupted, or a file is missing.
        ScenarioError: it is an asynchronous run of processes, which cannot be repeated.
    """
    folder = Path(directory)
    summary = load_summary(folder)
    with refusing(folder / "summary.json"):
        missing = [name for name in _READ if name not in summary]
        if missing:
            raise KeyError(missing[0])
    if (reason := summary["stopped_by"]) in ("interrupt", FAILURE):
        what = "was interrupted" if reason == "interrupt" else f"failed: {summary.get('failure')}"
        raise RecordError(
            f"{folder}: the run {what}, so that it cannot be compared with a whole one"
        )
    is_real = summary.get("transport") == "tcp"
    text = checked_file(folder, "scenario.toml", summary)
    files = read_files(folder, summary)
    with knowing(environment, text=text), knowing_learner(rules, text=text):
        overrides = dict.fromkeys((*_TOGETHER[: 3 * is_real], *left_out(rules)))
        scenario = loads(text, overrides, source=str(folder / "scenario.toml"))
        if is_real:
            _check_repeatable(folder, scenario, summary)
        has_trace = "events.jsonl" in files
        device = choice_of_engine(str(dict(summary["versions"]).get("engine")))
        with warnings.catch_warnings(), using(device):
            warnings.simplefilter("ignore", IdleWarning)  # the run has said it
            replayed = simulate(
                scenario, progress=progress, trace=has_trace, **recorded_otherwise(rules)
            )
        own = differences(dict(summary.get("sources", {})), sources(scenario))
    digest = "parameters_digest" if is_real else "digest"
    then = {"engine": "torch", **summary["versions"]}  # the only one of early records
    now = versions(replayed.summary["versions"]["engine"])
    if then["engine"] == "torch" and now["engine"] in (NO_ENGINE, OWN_ENGINE):
        then["engine"] = now["engine"]  # earlier versions recorded torch
    changed = {
        name: (str(then.get(name, "not recorded")), now[name])
        for name in now
        if then.get(name) != now[name]
    }
    changed |= own
    if summary.get("episodes_began_anew"):
        changed["course"] = ("resumed, with a loss of state", "uninterrupted")
    different = find_differences(files, summary, replayed, has_changed=bool(changed))
    return Verdict(
        summary[digest], replayed.summary[digest], changed, different, unchecked(summary)
    )


def _check_repeatable(folder: Path, scenario: Scenario, summary: Mapping[str, Any]) -> None:
    """Refuse a run of processes that a simulated one cannot equal."""
    if scenario.schedule.is_asynchronous:
        raise ScenarioError(
            [
                f"{folder}: an asynchronous run of processes cannot be repeated: what every agent mixed depended on "
                "when messages really arrived; run the scenario in the simulator, whose runs can"
            ]
        )
    if (
        summary["stopped_by"] != "rounds"
        or summary["deadlines_expired"]
        or summary["messages_dropped"]
    ):
        counts = f"{summary['deadlines_expired']} expired deadlines, {summary['messages_dropped']} dropped messages"
        raise RecordError(
            f"{folder}: a run of processes that ended by {summary['stopped_by']}, with {counts}, cannot be compared "
            "with a simulated one"
        )
