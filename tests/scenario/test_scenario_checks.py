"""Combinations that mean nothing are refused, with the reason."""

from dataclasses import replace

import pytest

from p2pfrl.core.errors import ScenarioError
from p2pfrl.experiment.run import simulate
from p2pfrl.scenario import loads
from p2pfrl.scenario.checks.leaving import refuse_leaving
from p2pfrl.scenario.checks.notes import notes
from p2pfrl.scenario.checks.sections import CHECKS
from p2pfrl.scenario.render import resolved
from p2pfrl.scenario.sections import Stop

QUADRATIC = """
name = "q"
agents = 4
[stop]
rounds = 5
[learner]
kind = "quadratic"
"""
CARTPOLE = QUADRATIC.replace("quadratic", "ppo") + '[environment]\nid = "CartPole-v1"\n'


def refused(text: str, **overrides: object) -> tuple[str, ...]:
    with pytest.raises(ScenarioError) as caught:
        loads(text, overrides)
    return tuple(problem.removeprefix("overrides: ") for problem in caught.value.problems)


def fault(kind: str, at: float = 1.0, **options: object) -> dict[str, object]:
    return {"kind": kind, "at": at, **options}


def test_plain_scenarios_pass_every_check():
    for mode in ("gossip", "central", "hierarchical", "independent", "pooled"):
        loads(CARTPOLE, {"mode": mode})
        loads(QUADRATIC, {"mode": mode})


def test_a_run_that_might_never_end_is_refused():
    assert refused(QUADRATIC, **{"stop.rounds": None})[0].endswith(
        "the run might never end: set rounds, virtual_time or env_steps"
    )
    (problem,) = refused(CARTPOLE, **{"stop.rounds": None, "stop.target_return": 100.0})
    assert "might never end" in problem
    still = {
        "stop": {"virtual_time": "1s", "rounds": None},
        "mode": "independent",
        "compute.seconds_per_env_step": 0,
    }
    assert "virtual time stands still" in refused(QUADRATIC, **still)[0]


def test_a_target_return_needs_returns():
    assert refused(QUADRATIC, **{"stop.target_return": 3.0}) == (
        "stop.target_return: there are no returns without an [environment]",
    )


def test_learner_and_environment_must_fit():
    assert "add an [environment]" in refused(CARTPOLE, environment=None)[0]
    (problem,) = refused(QUADRATIC + '[environment]\nid = "CartPole-v1"\n')
    assert (
        problem
        == "<text>:8:2: environment: learner 'quadratic' has a problem of its own: remove this section"
    )
    (problem,) = refused(CARTPOLE, **{"learner.num_minibatches": 7})
    assert problem.startswith("learner.num_minibatches: must divide steps x instances = 256")


def test_an_unknown_environment_offers_the_nearest():
    assert "did you mean 'cartpole'?" in refused(CARTPOLE, **{"environment.id": "cartpol"})[0]


def test_only_physics_that_exist_can_vary_with_one_value_per_agent():
    assert refused(CARTPOLE, **{"environment.vary": {"gravty": 1.0, "length": [0.5, 0.6]}}) == (
        "environment.vary.gravty: CartPole-v1 has nothing of this name; did you mean 'gravity'?",
        "environment.vary.length: expected one value per agent (4), got a list of 2",
    )
    assert refused(CARTPOLE, **{"compute.speed": [1.0]}) == (
        "compute.speed: expected one value per agent (4), got a list of 1",
    )


def test_speeds_are_positive_and_latencies_not_negative():
    assert (
        "must be at least 1e-06"
        in refused(CARTPOLE, **{"compute.speed": {"kind": "normal", "mean": 1.0}})[0]
    )
    latency = {"kind": "normal", "mean": "20ms", "std": "10ms"}
    assert "must be at least 0" in refused(CARTPOLE, **{"network.latency": latency})[0]


def test_what_is_shared_exists():
    assert refused(CARTPOLE, **{"exchange.shared": ["actor", "critc"]}) == (
        "exchange.shared.1: the parameters have no part 'critc'; did you mean 'critic'?",
    )
    assert "nothing would travel" in refused(CARTPOLE, **{"exchange.shared": []})[0]


def test_moments_need_an_optimizer_that_has_some():
    assert refused(QUADRATIC, **{"learner.moments": "reset"}) == (
        "learner.moments: learner 'quadratic' has no optimizer moments to reset",
    )
    loads(CARTPOLE, {"learner.moments": "average"})


def test_a_payload_that_no_message_holds_is_refused():
    assert "a message holds" in refused(QUADRATIC, **{"learner.dimension": 10**9})[0]


def test_the_graph_must_fit_agents_and_mixing():
    assert refused(QUADRATIC, agents=6, **{"topology.kind": "hypercube"}) == (
        "topology: a hypercube has a power of two of agents, got 6: 4 or 8 would fit",
    )
    (problem,) = refused(QUADRATIC + "[mixing]\n", **{"topology.kind": "directed_ring"})
    assert "needs an undirected graph" in problem
    (problem,) = refused(QUADRATIC, **{"mixing.kind": "laplacian", "mixing.alpha": 0.6})
    assert problem.startswith("mixing.alpha: 0.6 does not converge on this graph")
    loads(QUADRATIC, {"topology.kind": "directed_ring", "mode": "independent"})


def test_graph_files_are_found_by_name_and_give_latencies():
    abilene = {
        "topology": {"kind": "file", "path": "abilene.graphml"},
        "network.latency": {"kind": "edge"},
    }
    loads(QUADRATIC, {**abilene, "agents": 11})
    assert "has 11 nodes, the scenario 4 agents" in refused(QUADRATIC, **abilene)[0]
    abilene["topology"] = {"kind": "file", "path": "abilen.graphml"}
    assert "did you mean 'abilene.graphml'?" in refused(QUADRATIC, **abilene)[0]
    (problem,) = refused(QUADRATIC, **{"network.latency": {"kind": "edge"}})
    assert problem.startswith("network.latency: the topology gives no latency from agent 0 to 1")


def test_the_coordinator_sits_at_a_node_of_the_graph():
    abilene = {
        "topology": {"kind": "file", "path": "abilene.graphml"},
        "network.latency": {"kind": "edge"},
    }
    assert refused(QUADRATIC, agents=11, mode="central", **abilene, **{"coordinator.at": 11}) == (
        "coordinator.at: expected a node below 11, got 11",
    )


def test_orders_and_payloads_that_mean_nothing_in_a_mode_are_refused():
    order = {"exchange.order": "combine_while_adapting"}
    loads(QUADRATIC, order)
    assert "mode central has one" in refused(QUADRATIC, mode="central", **order)[0]
    assert (
        "needs a synchronous schedule"
        in refused(QUADRATIC, **order, **{"schedule.kind": "asynchronous"})[0]
    )
    assert "start from different points" in refused(QUADRATIC, **{"exchange.payload": "delta"})[0]
    loads(QUADRATIC, {"exchange.payload": "delta", "mode": "central"})


def test_symmetric_loss_needs_both_ends_to_know():
    symmetric = {"mixing.on_loss": "symmetric"}
    loads(QUADRATIC, {**symmetric, "network.loss": 0.2})
    assert (
        "use kind = 'synchronous'"
        in refused(QUADRATIC, **symmetric, **{"schedule.kind": "asynchronous"})[0]
    )
    crash = [fault("crash", agents=[1])]
    assert (
        "'crash' breaks this; remove the fault" in refused(QUADRATIC, faults=crash, **symmetric)[0]
    )
    burst = {"kind": "burst", "good_to_bad": 0.1, "bad_to_good": 0.5}
    assert (
        "give network.loss as a probability"
        in refused(QUADRATIC, **symmetric, **{"network.loss": burst})[0]
    )
    moved = {"kind": "norm", "threshold": 0.5, "max_silence": 3}
    assert (
        "gate.kind: mixing 'metropolis' with on_loss = 'symmetric' needs both ends"
        in refused(QUADRATIC, **symmetric, gate=moved)[0]
    )
    now_and_then = {**symmetric, "gate": {"kind": "every", "tau": 2}}
    loads(QUADRATIC, now_and_then)
    assert (
        "if an agent sits out a round"
        in refused(QUADRATIC, **now_and_then, **{"availability.dropout": 0.1})[0]
    )


def test_availability_is_a_dropout_or_a_trace_that_can_be_read(tmp_path):
    trace = tmp_path / "there.csv"
    trace.write_text("agent,from,until\n3,10s,20s\n")
    loads(QUADRATIC, {"availability.trace": str(trace)})
    assert "not both" in refused(QUADRATIC, availability={"dropout": 0.1, "trace": str(trace)})[0]
    trace.write_text("4,10s,20s")
    (problem,) = refused(QUADRATIC, **{"availability.trace": str(trace)})
    assert problem.startswith(f"availability.trace: {trace}:1: ")
    assert "cannot read" in refused(QUADRATIC, **{"availability.trace": "nosuch.csv"})[0]


def test_a_run_that_waits_for_updates_of_agents_that_are_gone_needs_an_end(tmp_path):
    trace = tmp_path / "there.csv"
    trace.write_text("".join(f"{agent},0,{agent + 5}s\n" for agent in range(4)))
    waiting = {
        "mode": "central",
        "schedule": {"kind": "asynchronous"},
        "availability": {"trace": str(trace)},
    }
    (problem,) = refused(QUADRATIC, **waiting)
    assert problem.startswith("availability.trace: no agent is available after 8 s")
    loads(QUADRATIC, {**waiting, "stop.virtual_time": "20s"})
    loads(QUADRATIC, {**waiting, "schedule": {"kind": "synchronous"}})
    trace.write_text("0,0,5s")
    loads(QUADRATIC, waiting)


@pytest.mark.parametrize(
    ("faults", "expected"),
    [
        ([fault("crash", agents=[4])], "faults.0.agents: there is no agent 4: agents are 0 to 3"),
        (
            [fault("restart", agents=[1])],
            "faults.0.agents: agent 1 is running at this time, it must be crashed",
        ),
        (
            [fault("crash", agents=[1, 1])],
            "faults.0.agents: agent 1 is crashed at this time, it must be running",
        ),
        (
            [fault("leave", agents=[1]), fault("crash", 2.0, agents=[1])],
            "faults.1.agents: agent 1 is gone at this time",
        ),
        (
            [fault("crash", agents=[1]), fault("restart", 0.5, agents=[1])],
            "faults.1.agents: agent 1 is running",
        ),
        (
            [fault("join", agents=[1]), fault("crash", 0.5, agents=[1])],
            "faults.1.agents: agent 1 is yet to join",
        ),
        (
            [fault("partition", groups=[[0, 1], [1]])],
            "faults.0.groups: agent 1 is in group 0 and in group 1",
        ),
        ([fault("partition", groups=[[0, 9]])], "faults.0.groups: there is no agent 9"),
        ([fault("partition", groups=[[]])], "faults.0.groups: a group is empty"),
        (
            [fault("partition", groups=[[0, 1, 2, 3]])],
            "faults.0.groups: one group of all agents cuts no link",
        ),
        ([fault("heal")], "faults.0.kind: nothing is partitioned at this time"),
        ([fault("join", agents=[0, 1, 2, 3])], "faults: all agents join later"),
        ([fault("straggle", agents=[-1])], "faults.0.agents: there is no agent -1"),
        ([fault("straggle", agents=["coordinator"])], "faults.0.agents.0: expected an integer"),
        (
            [fault("crash", agents=["edge"])],
            "faults.0.agents.0: expected an agent's number, 'coordinator' or an edge such as 'edge0'",
        ),
        ([fault("crash", agents=[True])], "faults.0.agents.0: expected an agent's number"),
        (
            [fault("crash", agents=[-1])],
            "faults.0.agents.0: there is no agent -1; coordinators have names: 'coordinator'",
        ),
    ],
)
def test_faults_that_cannot_happen_are_refused(faults: list[dict[str, object]], expected: str):
    assert refused(QUADRATIC, faults=faults)[0].startswith(expected)


@pytest.mark.parametrize(
    ("faults", "expected"),
    [
        (
            [fault("crash", agents=["edge2"])],
            "faults.0.agents: there is no edge2: edges are edge0 to edge1",
        ),
        (
            [fault("restart", agents=["coordinator"])],
            "faults.0.agents: coordinator is running at this time, it must be crashed",
        ),
        (
            [fault("crash", agents=["edge1", "edge1"])],
            "faults.0.agents: edge1 is crashed at this time, it must be running",
        ),
    ],
)
def test_faults_of_coordinators_that_cannot_happen_are_refused(faults, expected):
    assert refused(QUADRATIC, mode="hierarchical", faults=faults)[0].startswith(expected)


def test_a_fault_of_a_coordinator_is_left_out_in_a_mode_without_it_and_refuses_no_rule_there():
    timeline = [
        fault("crash", agents=["coordinator", "edge1"]),
        fault("restart", 2.0, agents=["edge1", "coordinator"]),
    ]
    for mode in ("central", "hierarchical", "gossip", "independent"):
        scenario = loads(QUADRATIC, {"mode": mode, "faults": timeline})
        assert scenario.faults[0].agents == (-1, -3)
        written = resolved(scenario)
        assert 'agents = ["coordinator", "edge1"]' in written
        assert loads(written) == scenario
        assert simulate(replace(scenario, stop=Stop(rounds=3))).summary["rounds"] == 3
    loads(QUADRATIC, {"mixing": {"kind": "extra"}, "faults": timeline})
    (note,) = notes(loads(QUADRATIC, {"faults": timeline, "mode": "central"}))
    assert note == "in mode 'central' without effect: faults.0 of edge1, faults.1 of edge1"


def test_a_timeline_that_can_happen_passes():
    timeline = [
        fault("restart", 3.0, agents=[1]),
        fault("crash", 1.0, agents=[1]),
        fault("partition", 1.0, groups=[[0, 1], [2]]),
        fault("heal", 2.0),
        fault("join", 2.0, agents=[3]),
        fault("leave", 4.0, agents=[3]),
        fault("straggle", 4.0, agents=[0], factor=2.0),
        fault("loss", 5.0, probability=0.5),
    ]
    assert len(loads(QUADRATIC, {"faults": timeline}).faults) == 8


def test_problems_of_several_checks_are_told_together():
    found = refused(
        QUADRATIC,
        faults=[fault("heal")],
        **{"learner.moments": "reset", "topology.kind": "directed_ring"},
    )
    assert len(found) == 3
    assert len(CHECKS) == len(set(CHECKS))


def test_participation_by_chance_needs_rounds_in_which_it_is_drawn():
    text = 'name = "q"\nagents = 8\nmode = "central"\n[stop]\nrounds = 5\n[learner]\nkind = "quadratic"\n'
    text += '[coordinator]\nparticipation = {kind = "uniform", fraction = 0.25}\n'
    assert loads(text).coordinator.participation.fraction == 0.25
    with pytest.raises(
        ScenarioError, match=r"coordinator\.participation 'uniform' needs a synchronous schedule"
    ):
        loads(text, {"schedule.kind": "asynchronous"})


def test_a_coordinator_that_nobody_hears_would_send_for_ever():
    deaf = {"mode": "central", "schedule.kind": "asynchronous", "network.loss": 1.0}
    assert "repeat every model forever" in refused(QUADRATIC, **deaf)[0]
    loads(QUADRATIC, {**deaf, "network.loss": 0.9})
    loads(QUADRATIC, {**deaf, "stop.virtual_time": "1s"})


def test_nothing_stands_in_for_a_round_where_there_are_none():
    assert (
        "agents do not wait"
        in refused(QUADRATIC, **{"schedule.kind": "asynchronous", "mixing.on_loss": "last_known"})[
            0
        ]
    )
    loads(QUADRATIC, {"mixing.on_loss": "last_known"})


def link(sender: int, receiver: int, **options: object) -> dict[str, object]:
    return {"from": sender, "to": receiver, **(options or {"latency": "80ms"})}


def test_a_single_link_must_exist_and_differ():
    def problems(*links: dict[str, object], **overrides: object) -> tuple[str, ...]:
        return refused(QUADRATIC, **{"network.links": list(links), **overrides})

    assert problems(link(0, 2)) == (
        "network.links.0: agent 0 sends nothing to 2: no neighbors in this topology",
    )
    (problem,) = problems(link(0, 1), link(1, 4))
    assert (
        problem == "network.links.1.to: expected an agent below 4, or -1 for the coordinator, got 4"
    )
    assert problems(link(1, 1)) == ("network.links.0.to: 1 sends nothing to itself",)
    assert problems(link(0, 1), link(0, 1)) == (
        "network.links.1: the link from 0 to 1 is listed twice",
    )
    assert "without them the link is like all others" in problems({"from": 0, "to": 1})[0]
    assert problems({"from": 0, "latency": 1.0})[0] == "network.links.0.to: this key is required"
    assert "finite and not negative, got -1.0" in problems(link(0, 1, latency=-1.0))[0]
    assert "must be above 0" in problems(link(0, 1, bandwidth=0))[0]
    assert problems(link(-2, 1))[0] == "network.links.0.from: must be at least -1, got -2"
    for mode in ("gossip", "central", "independent"):
        loads(
            QUADRATIC,
            {"mode": mode, "network.links": [link(0, 1), link(1, 0), link(-1, 0), link(3, -1)]},
        )


def test_single_links_stand_in_the_resolved_file_and_are_read_back():
    text = (
        QUADRATIC
        + '[[network.links]]\nfrom = 0\nto = 1\nlatency = {kind = "lognormal", median = "80ms", sigma = 0.1}\n'
    )
    scenario = loads(text, {"network.bandwidth": "10Mbit/s"})
    assert "[[network.links]]\nfrom = 0\nto = 1\n" in resolved(scenario)
    assert loads(resolved(scenario)) == scenario
    with pytest.raises(
        ScenarioError, match=r"^<text>:10:1: network\.links\.0\.to: must be at least -1"
    ):
        loads(text.replace("to = 1", "to = -7"))


def test_leaving_is_refused_without_a_word_of_faults() -> None:
    scenario = loads(QUADRATIC, {"mixing.kind": "push_sum"})
    with pytest.raises(ScenarioError, match="an agent that leaves changes it; let the process run"):
        refuse_leaving(scenario, [1])
