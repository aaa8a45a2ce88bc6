"""Summary of a run as text or JSON. It does not import torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from p2pfrl.commands.streams import results
from p2pfrl.core.types import member_id
from p2pfrl.core.wording import printable
from p2pfrl.results.files import plain
from p2pfrl.results.record import DRAWN, NO_RETURN, Record
from p2pfrl.results.tables import measures, uploads


def conclude(record: Record, directory: Path, page: Path | None, *, as_json: bool) -> None:
    """Print the summary of a run and the paths of its results.

    Args:
        record: the run.
        directory: its directory.
        page: its report; None if it was not wanted, or an interrupt came before.
        as_json: whether to print JSON.
    """
    summary = record.summary
    if as_json:
        print(json.dumps(complete(record), indent=2), file=results())
        return
    lines = describe(summary)
    lines["run directory"] = str(directory)
    lines["report"] = str(page or _unwritten(summary, directory))
    print(columns(lines))


def _unwritten(summary: Mapping[str, Any], directory: Path) -> str:
    """Return why there is no report."""
    if summary["stopped_by"] == "interrupt":
        return "not written: interrupted"
    return f"not written: --no-report; `p2pfrl report {directory}` writes it"


def columns(lines: Mapping[str, str]) -> str:
    """Return titles and texts as two columns."""
    width = max(20, *map(len, lines))
    return "\n".join(
        f"{printable(title):{width}}  {printable(text)}" for title, text in lines.items()
    )


def complete(record: Record) -> Any:
    """Return the summary as a JSON object, with what is computed from the rest of the record."""
    more = {
        "lambda_2": record.lambda_2,
        "uploads": uploads(record.staleness),
        "heterogeneity": record.heterogeneity,
        "measures": measures(record.agents),
    }
    return plain({**record.summary, **more})


def _return(value: float) -> str:
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def _newcomers(found: Mapping[str, Any]) -> str:
    """Return what newcomers reach, before and after their own updates."""

    def shown(ends: Mapping[str, float | None], name: str) -> str:
        value = ends[name]
        return "-" if value is None else _return(value)

    learned, scratch, k = found["learned"], found["scratch"], found["updates"]
    if not k:
        return f"{shown(learned, 'before')} ({found['agents']} agents; untrained {shown(scratch, 'before')})"
    after = f"after {k} update{'s' if k > 1 else ''}"
    return (
        f"{shown(learned, 'before')}, {after} {shown(learned, 'after')} ({found['agents']} agents; "
        f"from scratch {shown(scratch, 'before')}, {shown(scratch, 'after')})"
    )


def _stopped(summary: Mapping[str, Any]) -> str:
    """Return why a run ended: its processes died if they say nothing of their end."""
    reason = str(summary["stopped_by"])
    if reason != "died":
        return reason.replace("_", " ")
    dead = [
        member_id(id)
        for peer in summary.get("peers") or ()
        if peer["stopped_by"] == reason
        for id in peer["agents"]
    ]
    if not dead:
        return reason
    from p2pfrl.net.fleet import show_agents

    return f"the death of a process ({show_agents(sorted(dead))})"


def _byzantine(found: Mapping[str, Any]) -> str:
    """Return who was Byzantine, and how many messages of theirs were refused."""
    from p2pfrl.net.fleet import show_agents

    agents = found["agents"]
    who = f"agent{'s' if len(agents) > 1 else ''} {show_agents(agents)}"
    refused = sum((found.get("refused") or {}).values())
    more = f", {refused:,} of their messages refused" if refused else ""
    return f"{who}{more}; returns are those of the others"


def _workers(summary: Mapping[str, Any]) -> str:
    """Return how many processes trained, if there were several."""
    count = summary.get("workers", 1)
    return f", {count} worker processes" if count > 1 else ""


def describe(summary: Mapping[str, Any]) -> dict[str, str]:
    """Return the summary as text: title -> what is known."""
    final, evaluation, target = (
        summary["final_return"],
        summary["evaluation"],
        summary["time_to_target"],
    )
    lines = {
        "scenario": f"{summary['name']}, {summary['mode']}, seed {summary['seed']}",
        "stopped by": _stopped(summary),
        "rounds": f"{summary['rounds']:,}",
        "environment steps": f"{summary['env_steps']:,}",
        "virtual time": f"{summary['virtual_seconds']:,.2f} s",
        "wall time": f"{summary['wall_seconds']:,.2f} s{_workers(summary)}",
    }
    if final["mean"] is not None:
        lines["final return"] = (
            f"{final['mean']:.1f} (agents: {final['min']:.1f} to {final['max']:.1f})"
        )
    elif summary.get(NO_RETURN):
        lines["final return"] = "none: no episode of training has ended"
    if evaluation["own"] is not None:
        how = "evaluation, drawn" if evaluation.get("actions") == DRAWN else "greedy evaluation"
        lines[how] = _return(evaluation["own"])
    if evaluation["mean_parameters"] is not None:
        lines["of the mean"] = _return(evaluation["mean_parameters"])
    if cut := evaluation.get("episodes_without_end"):
        lines["episodes without end"] = (
            f"{cut:,}, which count as they stand; set environment.max_steps"
        )
    for name, value in (evaluation.get("baselines") or {}).items():
        if value is not None:
            lines[f"baseline {name.replace('_', ' ')}"] = _return(value)
    if evaluation.get("optimum") is not None:
        lines["optimum"] = _return(evaluation["optimum"])
    if (new := summary.get("newcomers")) is not None:
        lines["of newcomers"] = _newcomers(new)
    if target is not None:
        steps = f"{target['env_steps']:,} environment steps"
        lines["target reached"] = (
            f"round {target['rounds']}, {steps}, {target['virtual_seconds']:.2f} virtual seconds"
        )
    elif summary["target_reached"] is False:
        lines["target reached"] = "no"
    if (error := summary.get("final_error")) is not None:
        lines["error"] = f"{error:.3g}, {summary.get('error_is', 'distance to the optimum (RMS)')}"
        if bound := summary.get("bound"):
            terms = [f"{name.replace('_', ' ')} {value:.3g}" for name, value in bound.items()]
            lines["bound's terms"] = ", ".join(terms)
        if (drift := summary["mean_drift"]) is not None:
            lines["drift of the mean"] = f"{drift:.3g}"
    if isinstance(liars := summary.get("byzantine"), dict):
        lines["byzantine"] = _byzantine(liars)
    if isinstance(privacy := summary.get("privacy"), dict):
        lines["epsilon"] = (
            f"{privacy['epsilon']:.3g}, delta {privacy['delta']:g}, {privacy['noise']}"
        )
    if isinstance(secure := summary.get("secure"), dict) and "sums" in secure:
        lost = sum(secure["given_up"].values())
        lines["secure sums"] = f"{secure['sums']}, {lost} given up; keys {secure['keys']}"
    if summary["consensus_distance"] is not None:
        lines["consensus distance"] = f"{summary['consensus_distance']:.3g}"
    empty = f" ({count:,} of them empty)" if (count := summary.get("messages_empty")) else ""
    counts = f"{summary['messages_dropped']:,} dropped, {summary['messages_late']:,} late"
    lines["messages"] = f"{summary['messages_sent']:,} sent{empty}, {counts}"
    if summary.get("messages_duplicate"):
        lines["messages"] += f", {summary['messages_duplicate']:,} twice"
    lines["bytes sent"] = f"{summary['bytes_sent']:,}"
    lines["digest"] = summary["digest"]
    return lines
