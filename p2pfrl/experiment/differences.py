"""What a mode changes besides who averages: messages, barriers, interfaces, starts, samples of one update."""

from __future__ import annotations

from collections.abc import Callable

from p2pfrl.scenario.sections import Scenario


def differences(scenario: Scenario) -> tuple[str, ...]:
    """Return, as sentences, what comes with the mode of `scenario` beyond the mode itself."""
    return _FACTS[scenario.mode](scenario)


def _gossip(scenario: Scenario) -> tuple[str, ...]:
    n = scenario.agents
    graph = scenario.topology.at(n, scenario.seed, 0)
    degree = max((len(receivers) for receivers in graph.successors), default=0)
    return (
        f"{len(graph.edges)} messages per exchange, from every agent to its neighbors (at most {degree}), each over "
        f"its own interface of {_rate(scenario)}.",
        "An agent waits for its neighbors only; the parameters of agents differ, and their distance is reported.",
        f"One exchange averages with neighbors, by {_kind(scenario.mixing)} weights: information needs several to "
        "cross the graph.",
    )


def _central(scenario: Scenario) -> tuple[str, ...]:
    n = scenario.agents
    return (
        f"{2 * n} messages per exchange when all take part, every one through the coordinator's single interface of "
        f"{_rate(scenario)}, which limits a round.",
        f"An exchange takes two trips, model down and result up; the coordinator waits for everyone it awaits "
        f"({_kind(scenario.schedule)} schedule).",
        f"Participation is {_kind(scenario.coordinator.participation)}, aggregation "
        f"{_kind(scenario.coordinator.aggregator)}, the server's step {_kind(scenario.coordinator.server_optimizer)}; "
        "the graph and its mixing weights play no part.",
        "All agents train from one point"
        + (
            "."
            if scenario.learner.same_start
            else ": starting at different points has no effect after one exchange."
        ),
    )


def _hierarchical(scenario: Scenario) -> tuple[str, ...]:
    n, groups, period = (
        scenario.agents,
        scenario.hierarchy.members(scenario.agents),
        scenario.hierarchy.edge_rounds,
    )
    often = "each" if period == 1 else f"one of {period}"
    return (
        f"{2 * n} messages per exchange between agents and {len(groups)} edge coordinators when all take part, and "
        f"{2 * len(groups)} more between edges and cloud in {often}; no interface takes more than "
        f"{max(len(groups), *map(len, groups))} of one kind at a time.",
        f"An exchange takes two trips, and two more where the cloud averages; every edge waits for its own agents, "
        f"the cloud for all edges ({_kind(scenario.schedule)} schedule).",
        f"Edges aggregate by {_kind(scenario.coordinator.aggregator)}, the cloud by the mean, with server step "
        f"{_kind(scenario.coordinator.server_optimizer)}; the graph and its mixing weights play no part.",
        "Agents of one edge train from one point"
        + (
            "."
            if period == 1
            else ", those of different edges from different ones until the cloud averages."
        ),
    )


def _independent(scenario: Scenario) -> tuple[str, ...]:
    return (
        "Nothing is sent and nobody waits: a round lasts as long as the agent's own training.",
        "Every agent has only its own samples; graph, mixing weights and network play no part.",
    )


def _pooled(scenario: Scenario) -> tuple[str, ...]:
    instances = scenario.environment.instances if scenario.environment is not None else 1
    return (
        f"Agents upload transitions instead of parameters; one learner trains on {scenario.agents} x {instances} "
        "environment instances with as many minibatch steps as one agent, on minibatches that much larger.",
        "There is one set of parameters and of optimizer moments; training happens at the coordinator, after "
        "everyone's samples have arrived.",
        "Experience leaves the agents.",
    )


_FACTS: dict[str, Callable[[Scenario], tuple[str, ...]]] = {
    "gossip": _gossip,
    "central": _central,
    "hierarchical": _hierarchical,
    "independent": _independent,
    "pooled": _pooled,
}


def _kind(rule: object) -> str:
    """Return a rule's name as words: "staleness mix" of StalenessMix."""
    name = type(rule).__name__
    return "".join(f" {c.lower()}" if c.isupper() else c for c in name).strip()


def _rate(scenario: Scenario) -> str:
    return f"{scenario.network.bandwidth * 8 / 1e6:g} Mbit/s"
