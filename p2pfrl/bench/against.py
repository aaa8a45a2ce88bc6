"""Benchmarks against other packages, where they are installed: CPU time of one thread, in one run.

They do not do the same: what differs is said beside each figure.
"""

from __future__ import annotations

import logging
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from importlib.util import find_spec
from io import StringIO

from p2pfrl.bench.engines import best
from p2pfrl.bench.measure import Result, Work, paired
from p2pfrl.bench.ppo import stacked, updates
from p2pfrl.build.world import build
from p2pfrl.core.errors import ScenarioError
from p2pfrl.scenario import loads

PACKAGES: dict[str, tuple[str, str]] = {
    "gossipy": ("ring_vs_gossipy_n64", "gossipy-dfl"),
    "sb3": ("ppo_vs_sb3_n16", "stable-baselines3"),
}
"""Name of a package -> the figure, and what pip installs."""
_GOSSIPY, _SB3 = 20, 120
_RING = """
name = "ring"
agents = {agents}
stop = {{rounds = {rounds}}}
environment = {{id = "CartPole-v1", instances = 4}}
evaluation = {{episodes = 0}}
learner = {{kind = "ppo", steps = 8, shared_trunk = true, num_minibatches = 1, update_epochs = 4}}
topology = {{kind = "ring"}}
"""


def gossipy(quick: bool) -> Iterator[Result]:
    """Yield rounds of 64 agents on a ring, with four gradients of 32 samples each, per CPU second.

    Both have networks 4-64-64. gossipy trains on samples that are there, by SGD, and sends to one
    neighbor; here agents step 32 environments for them, train by Adam, send to both neighbors
    through codec and network, and have a record.
    """
    _require("gossipy", "gossipy")
    n, rounds = (6, 1) if quick else (64, 8)
    found = paired(
        lambda: _our_ring(n, rounds), lambda: _gossipy_ring(n, rounds), turns=1 if quick else 3
    )
    against = f"gossipy, {1000 / found.other:.3g} ms; {found.span}; at least {_GOSSIPY}"
    yield Result(PACKAGES["gossipy"][0], found.ratio, "x", against)


def sb3(quick: bool) -> Iterator[Result]:
    """Yield environment steps of PPO on CartPole per CPU second: 16 agents against one of SB3.

    Four instances of 64 steps, four epochs of minibatches of 64. SB3 has an actor and a critic of
    64-64 each, here they share a trunk.
    """
    _require("sb3", "stable_baselines3")
    warnings.simplefilter("ignore")
    import torch
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env

    torch.set_num_threads(1)
    rounds = 1 if quick else 12
    engine, note = best()
    model = PPO(
        "MlpPolicy",
        make_vec_env("CartPole-v1", 4, seed=1),
        n_steps=64,
        batch_size=64,
        n_epochs=4,
        ent_coef=0.0,
        learning_rate=3e-3,
        seed=1,
        device="cpu",
        policy_kwargs={"net_arch": [64, 64]},
    )
    population = stacked(4 if quick else 16, engine)

    def theirs() -> float:
        model.learn(256 * rounds, reset_num_timesteps=False)
        return float(256 * rounds)

    found = paired(lambda: updates(population, rounds), lambda: theirs, turns=1 if quick else 5)
    against = f"SB3, {found.other:,.0f} steps/s; {found.span}; at least {_SB3}{note}"
    yield Result(PACKAGES["sb3"][0], found.ratio, "x", against)


def _require(name: str, module: str) -> None:
    """Raise an error if a package is not installed.

    Raises:
        ScenarioError: with the command that installs it.
    """
    if find_spec(module) is None:
        how = f"pip install {PACKAGES[name][1]}"
        raise ScenarioError([f"bench --against {name}: it is not installed; {how}"])


def _our_ring(n: int, rounds: int) -> Work:
    world = build(loads(_RING.format(agents=n, rounds=rounds)), on_row=lambda row: False)

    def work() -> float:
        world.simulation.run()
        return float(n * rounds)

    return work


def _gossipy_ring(n: int, rounds: int) -> Work:
    """Return the ring in gossipy; every node merges and trains once per message."""
    if "torchvision" not in sys.modules and find_spec("torchvision") is None:
        for name in ("torchvision", "torchvision.transforms", "torchvision.datasets"):
            sys.modules[name] = types.ModuleType(name)  # for data sets, of which none is used here
    import networkx as nx
    import torch

    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)
    from gossipy.core import AntiEntropyProtocol, CreateModelMode, StaticP2PNetwork
    from gossipy.data import DataDispatcher
    from gossipy.data.handler import ClassificationDataHandler
    from gossipy.model.handler import TorchModelHandler
    from gossipy.model.nn import TorchMLP
    from gossipy.node import GossipNode
    from gossipy.simul import GossipSimulator

    # Its evaluation is left out, as is that of the run here; with numpy 2 it fails.
    setattr(TorchModelHandler, "evaluate", _no_evaluation)  # noqa: B010  (no attribute of a stub)
    x = torch.randn(n * 128, 4)
    y = (x.sum(1) > 0).long()
    data = DataDispatcher(
        ClassificationDataHandler(x, y, x[:64], y[:64]), n=n, eval_on_user=False, auto_assign=True
    )
    nodes = GossipNode.generate(
        data_dispatcher=data,
        p2p_net=StaticP2PNetwork(n, topology=nx.to_numpy_array(nx.cycle_graph(n))),
        model_proto=TorchModelHandler(
            net=TorchMLP(4, 2, hidden_dims=(64, 64)),
            optimizer=torch.optim.SGD,
            optimizer_params={"lr": 0.01},
            criterion=torch.nn.CrossEntropyLoss(),
            batch_size=32,
            create_model_mode=CreateModelMode.MERGE_UPDATE,
        ),
        round_len=20,
        sync=True,
    )
    simulator = GossipSimulator(
        nodes=nodes,
        data_dispatcher=data,
        delta=20,
        protocol=AntiEntropyProtocol.PUSH,
        sampling_eval=1e-9,
    )
    simulator.init_nodes(seed=42)

    def work() -> float:
        with redirect_stdout(StringIO()):  # a bar of progress
            simulator.start(n_rounds=rounds)
        return float(n * rounds)

    return work


def _no_evaluation(*_: object) -> dict[str, float]:
    return {"accuracy": 0.0}


BENCHES: dict[str, Callable[[bool], Iterator[Result]]] = {"gossipy": gossipy, "sb3": sb3}
"""Name of a package -> its benchmark."""
