"""Measures the numbers that README, docs and comments of scenarios state, over ten seeds each.

`python tests/measure.py` runs everything and writes docs/measured.json; with names of claims it
measures only these. Complete runs in `--runs DIR` are kept, so that it can be interrupted. A test
compares every text with docs/measured.json, so a number changes in both or in none.

A conclusion compares two claims seed by seed. It is stated only if it holds on at least nine of ten
seeds, with the engine that a scenario gets here and with torch and the kernels of another processor
(`ATEN_CPU_CAPABILITY=default`): they add in another order, and training amplifies the difference
until runs of one seed have nothing in common.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import p2pfrl
from p2pfrl.learning.learners.base import EngineName
from p2pfrl.learning.native.choice import missing
from p2pfrl.results.versions import kernels, processor

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "docs" / "measured.json"
SEEDS = range(1, 11)
ENOUGH = 9
OTHER = {"ATEN_CPU_CAPABILITY": "default"}


def rounds(record: p2pfrl.Record) -> float:
    """Return the rounds to the target."""
    assert record.summary["time_to_target"] is not None, record.summary["stopped_by"]
    return float(record.summary["time_to_target"]["rounds"])


def of(*path: str) -> Callable[[p2pfrl.Record], float]:
    """Return what takes a number out of a summary."""

    def take(record: p2pfrl.Record) -> float:
        value: Any = record.summary
        for key in path:
            value = value[key]
        return float(value)

    return take


@dataclass(frozen=True)
class Claim:
    """A number of a scenario.

    Attributes:
        scenario: its name.
        value: takes the number out of a record.
        show: format of its digits.
        files: the files that state it, from the root of the repository.
        settings: values by dotted key.
    """

    scenario: str
    value: Callable[[p2pfrl.Record], float]
    show: str
    files: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def text(self, values: Sequence[float]) -> str:
        """Return the words of the files: the mean, and the range over seeds."""
        mean, low, high = (
            format(v, self.show) for v in (sum(values) / len(values), min(values), max(values))
        )
        return f"{mean} ({low} to {high})"


@dataclass(frozen=True)
class Conclusion:
    """The claim `more` is larger than the claim `less` on the same seed."""

    more: str
    less: str


def _in(scenario: str) -> tuple[str, ...]:
    return (f"scenarios/{scenario}.toml",)


_PROX = {"correction.kind": "prox", "correction.mu": 1.0}
_PLAIN = {"coordinator.server_optimizer": {"kind": "replace"}}
_DILUTED = {"exchange.payload": "parameters", "coordinator.aggregator.kind": "mean"}
_MEAN = {"coordinator.aggregator": {"kind": "mean"}}
_EQUAL = {"work.assign": "equal", **_MEAN}
_MEASURED = ("docs/measured.md",)
_RETURN = of("final_return", "mean")

CLAIMS: dict[str, Claim] = {
    "ring_16": Claim("ring_16", rounds, ".0f", (*_in("ring_16"), *_MEASURED)),
    "ring_16_worst": Claim("ring_16", of("final_return", "min"), ".0f", _MEASURED),
    **{
        f"return_{mode}": Claim("gossip_vs_central", _RETURN, ".0f", _MEASURED, {"mode": mode})
        for mode in ("gossip", "central", "independent")
    },
    **{
        f"seconds_{mode}": Claim(
            "gossip_vs_central", of("virtual_seconds"), ".2f", _MEASURED, {"mode": mode}
        )
        for mode in ("gossip", "central", "independent")
    },
    "fedavg_drift": Claim("fedavg_drift", of("final_error"), ".3f", _in("fedavg_drift")),
    "fedprox_drift": Claim("fedavg_drift", of("final_error"), ".3f", _in("fedavg_drift"), _PROX),
    "work_equal": Claim("work_speeds", of("final_error"), ".2f", _in("work_speeds"), _EQUAL),
    "work_mean": Claim("work_speeds", of("final_error"), ".2f", _in("work_speeds"), _MEAN),
    "work_normalized": Claim("work_speeds", of("final_error"), ".2f", _in("work_speeds")),
    "fedavgm_50": Claim(
        "fedavgm_small_steps",
        of("final_error"),
        ".2f",
        _in("fedavgm_small_steps"),
        {"stop.rounds": 50},
    ),
    "fedavg_50": Claim(
        "fedavgm_small_steps",
        of("final_error"),
        ".2f",
        _in("fedavgm_small_steps"),
        {"stop.rounds": 50, **_PLAIN},
    ),
    "importance": Claim(
        "importance_halves",
        of("final_error"),
        ".2f",
        _in("importance_halves"),
        {"stop.rounds": 20},
    ),
    "diluted": Claim(
        "importance_halves",
        of("final_error"),
        ".2f",
        _in("importance_halves"),
        {"stop.rounds": 20, **_DILUTED},
    ),
}
CONCLUSIONS: dict[str, Conclusion] = {
    "sharing": Conclusion("return_gossip", "return_independent"),
    "drift": Conclusion("fedavg_drift", "fedprox_drift"),
    "momentum": Conclusion("fedavg_50", "fedavgm_50"),
    "importance": Conclusion("diluted", "importance"),
}


def run(claim: Claim, seed: int, home: Path | None, engine: EngineName) -> p2pfrl.Record:
    """Return the record of a run of `seed`, from `home` if it is there."""
    settings = {**claim.settings, "seed": seed, "compute.engine": engine}
    if home is None:
        return p2pfrl.run(p2pfrl.load(f"{claim.scenario}.toml", overrides=settings))
    words = [json.dumps(settings[key]).strip('"{}') for key in sorted(claim.settings)]
    name = "-".join((claim.scenario, *words, f"s{seed}"))
    out = home / "".join(c if c.isalnum() or c in "-._" else "_" for c in name)
    if not (out / "summary.json").exists():
        p2pfrl.run(p2pfrl.load(f"{claim.scenario}.toml", overrides=settings), out=out)
    return p2pfrl.load_record(out)


def measure(
    names: Sequence[str], home: Path | None, engine: EngineName = "auto"
) -> Iterator[tuple[str, list[float]]]:
    """Yield the values of the claims, one per seed. Claims of the same runs share them."""
    if home is not None:
        home = home / f"{engine}_{kernels().split(',')[0].replace(' ', '_')}"
    groups: dict[tuple[str, str], list[str]] = {}
    for name in names:
        claim = CLAIMS[name]
        groups.setdefault((claim.scenario, repr(claim.settings)), []).append(name)
    for members in groups.values():
        records = [run(CLAIMS[members[0]], seed, home, engine) for seed in SEEDS]
        for name in members:
            values = [CLAIMS[name].value(record) for record in records]
            print(f"{name}: {CLAIMS[name].text(values)}", file=sys.stderr, flush=True)
            yield name, values


def elsewhere(names: Sequence[str], runs: Path | None) -> dict[str, list[float]]:
    """Return what `measure` finds with torch and other kernels."""
    if not names:
        return {}
    command = [sys.executable, __file__, "--print", "--engine", "torch", *names]
    command += [] if runs is None else ["--runs", str(runs)]
    done = subprocess.run(command, env=os.environ | OTHER, stdout=subprocess.PIPE, check=True)
    return dict(json.loads(done.stdout))


def held(more: Sequence[float], less: Sequence[float]) -> int:
    """Return the number of seeds on which `more` is larger."""
    return sum(a > b for a, b in zip(more, less, strict=True))


def main() -> None:
    """Measure claims and conclusions, and write or print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"claims: {', '.join(CLAIMS)}; all by default")
    parser.add_argument("--runs", type=Path, help="directory of the runs, which are kept")
    parser.add_argument("--print", action="store_true", help="print the values as JSON")
    parser.add_argument("--engine", choices=get_args(EngineName), default="auto")
    options = parser.parse_args()
    names = options.names or list(CLAIMS)
    if unknown := [name for name in names if name not in CLAIMS]:
        parser.error(f"no claim {', '.join(unknown)}")
    found = dict(measure(names, options.runs, options.engine))
    if options.print:
        print(json.dumps(found))
        return
    known = json.loads(FILE.read_text()) if FILE.exists() and options.names else {}
    claims = known.get("claims", {}) | found
    chosen = {key: c for key, c in CONCLUSIONS.items() if {c.more, c.less} & set(names)}
    there = elsewhere(sorted({n for c in chosen.values() for n in (c.more, c.less)}), options.runs)
    conclusions = known.get("conclusions", {}) | {
        key: {
            "here": held(claims[c.more], claims[c.less]),
            "elsewhere": held(there[c.more], there[c.less]),
        }
        for key, c in chosen.items()
    }
    content = {
        "machine": {
            "processor": processor(),
            "kernels": kernels(),
            "engine": "native" if missing() is None else "torch",
        },
        "seeds": [SEEDS[0], SEEDS[-1]],
        "claims": {name: claims[name] for name in CLAIMS if name in claims},
        "conclusions": {name: conclusions[name] for name in CONCLUSIONS if name in conclusions},
    }
    FILE.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
