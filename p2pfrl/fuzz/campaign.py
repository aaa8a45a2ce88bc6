"""Campaigns: many seeds, in several processes, with a file that says what became of each."""

from __future__ import annotations

import os
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import takewhile
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path

from p2pfrl import __version__
from p2pfrl.core.children import PATIENCE, follow, one_thread_each, withheld
from p2pfrl.core.errors import P2PFRLError, RecordError, ScenarioError, ScenarioWarning
from p2pfrl.core.interrupts import INTERRUPTED, raised
from p2pfrl.experiment.run import fewer_collections
from p2pfrl.fuzz.cases import Base, case
from p2pfrl.fuzz.draws import Table
from p2pfrl.fuzz.execute import FAILED, PASSED, REFUSED, STOPPED, Outcome, execute
from p2pfrl.fuzz.shrink import shrink
from p2pfrl.results.directory import Content, content_of
from p2pfrl.scenario import load
from p2pfrl.scenario.render import to_toml

TABLE = "seeds.csv"
"""The file in the directory of a campaign with a line per seed."""
_CHUNK = 8
"""Seeds that a process gets at once."""
_REPLAY = "# p2pfrl fuzz "
"""Begins the last line of the head of a scenario that failed."""
STATES = (PASSED, STOPPED, REFUSED, FAILED)


@dataclass(frozen=True)
class Result:
    """What became of a seed.

    Attributes:
        seed: of the case.
        state, kind: as of `Outcome`.
        why: as of `Outcome`; of a seed that failed, that of `toml`.
        refused: compositions that were refused before one was not.
        toml: of a seed that failed: the smallest scenario that was found to fail in the same way.
    """

    seed: int
    state: str
    kind: str = ""
    why: str = ""
    refused: int = 0
    toml: str = ""


@dataclass
class Summary:
    """What became of the seeds of a campaign so far.

    Attributes:
        counts: seeds by state.
        refused: compositions that were refused.
        failures: results of the seeds that failed.
        files: seed that failed -> the file with its scenario.
        seconds: that this campaign has taken.
        done: seeds that it ran itself, and not an earlier one that it goes on from.
        is_whole: whether all seeds were run.
    """

    counts: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    failures: list[Result] = field(default_factory=list)
    files: dict[int, Path] = field(default_factory=dict)
    seconds: float = 0.0
    done: int = 0
    is_whole: bool = False

    def add(self, result: Result) -> None:
        """Count a result."""
        self.counts[result.state] += 1
        self.refused += result.refused
        if result.state == FAILED:
            self.failures.append(result)


Progress = Callable[[Summary, int], None]
"""Receives the summary so far, and the number of all seeds."""


def campaign(
    file: str,
    seeds: Sequence[int],
    folder: Path,
    *,
    overrides: dict[str, object] | None = None,
    jobs: int = 1,
    resume: bool = False,
    progress: Progress | None = None,
) -> Summary:
    """Run the cases of seeds around a scenario and return what became of them.

    An interrupt ends the campaign early: the summary has the seeds that are done.

    Args:
        file: a scenario file or name.
        seeds: of the cases.
        folder: gets `seeds.csv` and the scenarios that fail.
        overrides: values of the scenario by dotted key.
        jobs: processes.
        resume: keep the results of an earlier campaign of this scenario and version in `folder`.
        progress: called now and then.

    Raises:
        ScenarioError: the scenario is not valid, or another campaign is in `folder`.
    """
    base = Base.of(file, overrides)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ScenarioWarning)
        load(file, overrides)  # small forms leave out what is refused, such as a misspelled key
    case(base, seeds[0])  # a scenario that is refused in any form is refused at once
    summary, began = Summary(), time.monotonic()
    head = f"# p2pfrl {__version__}, {base.source}, {_hash(base)}"
    kept = _kept(folder / TABLE, head, resume=resume)
    for seed in seeds:
        if seed in kept:
            summary.add(kept[seed])
    todo = [seed for seed in seeds if seed not in kept]
    folder.mkdir(parents=True, exist_ok=True)
    is_new = not (folder / TABLE).exists()
    try:
        with (folder / TABLE).open("a", encoding="utf-8") as table, raised():
            if is_new:
                print(f"{head}\nseed,state,refused,kind", file=table, flush=True)
            for result in _results(base, todo, jobs):
                _note(result, folder, table.write, summary)
                table.flush()
                summary.seconds = time.monotonic() - began
                if progress is not None:
                    progress(summary, len(seeds))
    except KeyboardInterrupt:
        return summary
    except OSError as error:
        raise RecordError(f"{folder}: cannot be written: {error}") from error
    summary.is_whole = True
    return summary


def _note(result: Result, folder: Path, write: Callable[[str], object], summary: Summary) -> None:
    summary.add(result)
    summary.done += 1
    write(f"{result.seed},{result.state},{result.refused},{result.kind.replace(',', ';')}\n")
    if result.state == FAILED:
        path = folder / f"seed-{result.seed}.toml"
        why = "".join(f"# {line}\n" for line in result.why.splitlines())
        text = f"# seed {result.seed}\n{why}{_REPLAY}{path} --replay\n{result.toml}"
        path.write_text(text, encoding="utf-8")
        summary.files[result.seed] = path


def _hash(base: Base) -> str:
    text = repr(sorted(base.values.items(), key=lambda item: item[0]))
    return blake2b(text.encode(), digest_size=8).hexdigest()


def _kept(path: Path, head: str, *, resume: bool) -> dict[int, Result]:
    """Return the results of an earlier campaign.

    Raises:
        ScenarioError: there are some, and they are not to be kept or are of another campaign.
    """
    if not path.exists():
        if content_of(path.parent) is not Content.NOTHING:
            fix = "give another --out"
            raise ScenarioError(
                [f"{path.parent}: expected an empty directory or a campaign; {fix}"]
            )
        return {}
    if not resume:
        fix = "--resume keeps the seeds that are done; or give another --out"
        raise ScenarioError([f"{path.parent}: expected no campaign, got one; {fix}"])
    first, *lines = path.read_text(encoding="utf-8").splitlines() or [""]
    if first != head:
        fix = "give another --out"
        raise ScenarioError([f"{path}: expected {head!r}, got {first!r}; {fix}"])
    found = {}
    for line in lines[1:]:
        words = line.split(",")
        if len(words) == 4 and words[0].isdigit() and words[1] in STATES and words[2].isdigit():
            seed = int(words[0])
            why = _reason(path.parent / f"seed-{seed}.toml")
            found[seed] = Result(seed, words[1], words[3], why, int(words[2]))
    return found


def _reason(file: Path) -> str:
    """Return why a seed failed, from the head of its scenario; "" where there is none."""
    if not file.exists():
        return ""
    _, *lines = file.read_text(encoding="utf-8").splitlines() or [""]
    head = takewhile(lambda line: line.startswith("# ") and not line.startswith(_REPLAY), lines)
    return "\n".join(line.removeprefix("# ") for line in head)


class Runner:
    """Runs the cases of seeds, one after the other, and shrinks the first failure of each kind."""

    def __init__(self, base: Base) -> None:
        self._base = base
        self._shrunk: set[str] = set()

    def run(self, seed: int) -> Result:
        """Run the case of a seed."""
        made = case(self._base, seed)
        outcome = execute(made.scenario, seed)
        if outcome.state != FAILED:
            return Result(seed, outcome.state, outcome.kind, outcome.why, made.refused)
        values, why = made.values, outcome.why
        if outcome.kind not in self._shrunk:
            self._shrunk.add(outcome.kind)

            def fails(smaller: Table) -> bool:
                nonlocal why
                if (found := self._outcome(smaller, outcome.kind)) is None:
                    return False
                why = found.why
                return True

            values = shrink(values, fails)
        return Result(seed, FAILED, outcome.kind, why, made.refused, to_toml(values))

    def _outcome(self, values: Table, kind: str) -> Outcome | None:
        """Return what becomes of tables that fail in the same way, and None of others."""
        try:
            scenario = self._base.load(values)
        except P2PFRLError:
            return None
        found = execute(scenario, thorough=kind in ("Again", "Resumed"))
        return found if found.state == FAILED and found.kind == kind else None


def _results(base: Base, seeds: Sequence[int], jobs: int) -> Iterator[Result]:
    """Yield the results of seeds, as they are done."""
    if jobs > 1 and len(seeds) > 1:
        yield from _spread(base, seeds, jobs)
        return
    from threadpoolctl import threadpool_limits

    runner = Runner(base)
    with fewer_collections(), threadpool_limits(1, "blas"):
        yield from map(runner.run, seeds)


def _spread(base: Base, seeds: Sequence[int], jobs: int) -> Iterator[Result]:
    """Yield the results of seeds that separate processes run.

    The seeds of a process that dies are run one at a time, so that the one that killed it is known.
    """
    chunks = deque(list(seeds[i : i + _CHUNK]) for i in range(0, len(seeds), _CHUNK))
    pool: list[_Worker] = []
    with one_thread_each():
        try:
            while chunks or any(worker.seeds for worker in pool):
                while chunks and len(pool) < jobs:
                    with withheld():
                        pool.append(_Worker(base))
                for worker in pool:
                    if chunks and not worker.seeds:
                        worker.give(chunks.popleft())
                ready = wait([worker.pipe for worker in pool if worker.seeds])
                for worker in [worker for worker in pool if worker.pipe in ready]:
                    seeds, results = worker.take()
                    if results is not None:
                        yield from results
                        continue
                    pool.remove(worker)
                    if len(seeds) == 1:
                        why = f"the process ended with code {worker.code}"
                        yield Result(seeds[0], FAILED, "Death", why)
                    else:
                        chunks.extendleft([seed] for seed in reversed(seeds))
        finally:
            for worker in pool:
                worker.end()


class _Worker:
    """A process that runs seeds. It starts with signals `withheld`.

    Attributes:
        pipe: to the process; it is ready when its seeds are done.
        seeds: those that it runs.
        code: with which the process ended.
    """

    def __init__(self, base: Base) -> None:
        context = get_context("spawn")
        self.pipe, other = context.Pipe()
        self.seeds: list[int] = []
        self.code: int | None = None
        self._process = context.Process(target=_work, args=(other, base))
        self._process.start()
        other.close()

    def give(self, seeds: list[int]) -> None:
        """Let it run seeds."""
        self.seeds = seeds
        with suppress(OSError):  # `take` reports a process that died
            self.pipe.send(seeds)

    def take(self) -> tuple[list[int], list[Result] | None]:
        """Return its seeds and their results; None if the process died."""
        seeds, self.seeds = self.seeds, []
        try:
            found: list[Result] = self.pipe.recv()
        except (EOFError, OSError):
            self.end()
            return seeds, None
        return seeds, found

    def end(self) -> None:
        """Let the process end, or interrupt it if it runs seeds."""
        if self.seeds:
            self._process.terminate()
        self.pipe.close()
        self._process.join(PATIENCE)
        self._process.kill()
        self._process.join()
        self.code = self._process.exitcode


def _work(pipe: Connection, base: Base) -> None:
    """Run seeds until the parent has none left; the main function of a process."""
    from threadpoolctl import threadpool_limits

    try:
        follow()
        runner = Runner(base)
        with fewer_collections(), threadpool_limits(1, "blas"):
            while True:
                pipe.send([runner.run(seed) for seed in pipe.recv()])
    except (EOFError, OSError):
        return
    except KeyboardInterrupt:
        os._exit(INTERRUPTED)
