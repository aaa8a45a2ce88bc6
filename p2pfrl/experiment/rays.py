"""A Ray cluster, and its workers for the updates of one run.

Ray runs what it is sent: its network must be one's own, or its tokens on. Scenarios travel as text,
with the files that they name. Every machine needs this package, and environments and rules of one's
own.
"""

from __future__ import annotations

import socket
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from p2pfrl.build.training import trained
from p2pfrl.core.causes import FOREIGN, cause
from p2pfrl.core.errors import P2PFRLError
from p2pfrl.core.finder import install
from p2pfrl.core.lazy import LazyModule
from p2pfrl.core.parameters import aligned_zeros
from p2pfrl.experiment.parcel import Files, packed, unpacked
from p2pfrl.learning.learners.base import Batch, Outcome, Stack, State
from p2pfrl.learning.remote import GoneError
from p2pfrl.learning.workers import Greeting, computed
from p2pfrl.results.versions import versions
from p2pfrl.scenario import Scenario

ray: Any = LazyModule("ray")

_SAME = ("p2pfrl", "numpy", "torch", "machine")
"""Versions in which machines have to agree, so that they compute the same bits."""
_FIX = "start one by `ray start --head` and give the --address that it prints, or --address local"
_SECONDS = 10.0
"""Seconds within which the head of a cluster takes a connection. Ray itself waits for minutes."""


def require_ray() -> None:
    """Refuse to go on without Ray.

    Raises:
        P2PFRLError: it is not installed.
    """
    if find_spec("ray") is None:
        raise P2PFRLError(f"--executor ray: ray is not installed: {install('ray')}")


@contextmanager
def connected(address: str | None) -> Iterator[int]:
    """Connect to a cluster in the block; yield its CPUs.

    Args:
        address: of its head, such as "10.0.0.1:6379"; "local" starts one on this machine; None:
            the one that runs on this machine.

    Raises:
        P2PFRLError: Ray is not installed, or there is no cluster.
    """
    require_ray()
    if address not in (None, "auto", "local") and "://" not in address:
        _reach(address)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on settings of its own
            more = {"include_dashboard": False} if address == "local" else {}
            ray.init(address=address or "auto", log_to_driver=False, logging_level="ERROR", **more)
    except FOREIGN as error:
        where = "on this machine" if address in (None, "auto", "local") else f"at {address}"
        raise P2PFRLError(f"--executor ray: no cluster {where}: {cause(error)}; {_FIX}") from error
    try:
        yield max(1, int(ray.cluster_resources().get("CPU", 1)))
    finally:
        ray.shutdown()


def _reach(address: str) -> None:
    """Refuse an address at which nobody listens.

    Raises:
        P2PFRLError: nobody does, or it is no address.
    """
    host, _, port = address.rpartition(":")
    if host and port.isdecimal() and int(port) < 2**16:
        try:
            socket.create_connection((host.strip("[]"), int(port)), _SECONDS).close()
        except OSError as error:
            why = error.strerror or str(error)
        else:
            return
    else:
        why = "expected HOST:PORT"
    raise P2PFRLError(f"--executor ray: no cluster at {address}: {why}; {_FIX}")


class Remote:
    """A worker: it runs on a machine of the cluster.

    Args:
        files: the scenario.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._folder = TemporaryDirectory()
        self._stack: Stack | None = None
        self._limits = threadpool_limits(1, "blas")

    def greet(self, here: Mapping[str, str]) -> Greeting | str:
        """Make the learner, and return what it is, or why there is none.

        Args:
            here: versions where the run is.
        """
        try:
            self._stack = trained(unpacked(self._files, Path(self._folder.name)))
        except FOREIGN as error:
            return cause(error)
        found = versions(self._stack.traits.engine)
        for name in _SAME:
            if found[name] != here[name]:
                return f"{name} is {found[name]} there and {here[name]} here"
        return Greeting.of(self._stack)

    def update(
        self, agents: Sequence[int], index: Sequence[int], parameters: Any, state: Mapping[str, Any]
    ) -> Outcome | str:
        """Compute a chunk; return why it could not be, otherwise."""
        assert self._stack is not None
        # What Ray hands out can be read only, and is not aligned.
        rows = aligned_zeros(parameters.shape, parameters.dtype)
        rows[:] = parameters
        own: State = {name: np.array(values) for name, values in state.items()}
        said = computed(self._stack, 0, Batch(agents, index, rows, own))
        return said.failure or said.outcome(rows, own)


class RayCluster:
    """Workers of a Ray cluster for the updates of one scenario (`Cluster`).

    Args:
        scenario: whose.
        engine: what computes here.
    """

    def __init__(self, scenario: Scenario, engine: str) -> None:
        self._files = ray.put(packed(scenario))
        self._versions = versions(engine)
        self._class: Any = ray.remote(num_cpus=1, max_restarts=0)(Remote)

    def hire(self) -> Any:
        """Start a worker."""
        return self._class.remote(self._files)

    def dismiss(self, worker: Any) -> None:
        """End a worker."""
        ray.kill(worker)

    def greet(self, worker: Any) -> Any:
        """Ask a worker for its greeting."""
        return worker.greet.remote(self._versions)

    def update(self, worker: Any, batch: Batch) -> Any:
        """Let a worker compute a chunk."""
        return worker.update.remote(
            tuple(batch.agents), tuple(batch.index), batch.parameters, batch.state
        )

    def wait(self, references: Sequence[Any], seconds: float) -> Sequence[Any]:
        """Return the references of which something is there."""
        done, _ = ray.wait([*references], num_returns=1, timeout=seconds)
        more, _ = ray.wait([*references], num_returns=len(references), timeout=0)
        return [reference for reference in references if reference in {*done, *more}]

    def get(self, reference: Any) -> object:
        """Return what is there.

        Raises:
            GoneError: its worker died.
        """
        try:
            found: object = ray.get(reference)
        except ray.exceptions.RayError as error:
            raise GoneError(str(error).partition("\n")[0]) from error
        return found
