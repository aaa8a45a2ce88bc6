"""Command that shows what was learned."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from p2pfrl.commands.arguments import DONE, whole
from p2pfrl.core.errors import ScenarioError


def render(
    run: Path,
    *,
    agent: Annotated[int, Parameter(converter=whole, help="Whose environment.")] = 0,
    out: Annotated[Path, Parameter(help="A .gif file.")] = Path("episode.gif"),
    policy: Annotated[str, Parameter(help='"own", or the name of a baseline.')] = "own",
    steps: Annotated[
        int | None, Parameter(converter=whole, help="Steps of the episode at most.")
    ] = None,
    graph: Annotated[
        bool,
        Parameter(negative=(), help="The graph instead, colored by disagreement round by round."),
    ] = False,
) -> int:
    """Write an episode of an agent's final policy, or how agents agree, as an animated picture.

    For junction, warehouse, signal_grid, the classic tasks (CartPole and so on), and environments
    of Gymnasium and PettingZoo with render_mode "rgb_array". All members of a shared world act.

    Parameters
    ----------
    run
        Run directory.
    """
    from p2pfrl.build.rendering import render as write
    from p2pfrl.results.record import load

    if out.suffix.lower() != ".gif":
        raise ScenarioError([f"--out {out}: expected a name that ends in .gif"])
    if steps is not None and steps < 1:
        raise ScenarioError([f"--steps: expected at least 1, got {steps}"])
    if graph:
        from p2pfrl.results.plots.agreeing import film_of_consensus

        if agent or steps is not None or policy != "own":
            raise ScenarioError(["--graph: has no episode; give no --agent, --policy or --steps"])
        frames = film_of_consensus(load(run), out)
        print(f"{out}: {frames} rounds")
        return DONE
    record = load(run)
    n = len(record.parameters)
    if not 0 <= agent < n:
        raise ScenarioError([f"--agent: expected an agent from 0 to {n - 1}, got {agent}"])
    total = write(record, out, agent=agent, policy=policy, steps=steps)
    print(f"{out}: agent {agent}, policy {policy}, return {total:.4g}")
    return DONE
