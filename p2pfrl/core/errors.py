"""Errors that a user or a network can cause. Our own bugs are assertions."""

from __future__ import annotations

from collections.abc import Sequence


class P2PFRLError(Exception):
    """The root of every error this package raises on purpose.

    Attributes:
        record: of a run that this error ended: what there was until then.
    """

    record: object = None


class ScenarioError(P2PFRLError):
    """A scenario file cannot be run.

    `problems` holds every reason, each as one line with its place.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))

    def __reduce__(self) -> tuple[type[ScenarioError], tuple[tuple[str, ...]]]:
        """Pickle the list of problems, which another process may have found."""
        return type(self), (self.problems,)


class ArgumentError(ScenarioError, TypeError):
    """Arguments of a function are not what it takes; `problems` has a line for each."""


class ScenarioWarning(UserWarning):
    """A key of a scenario has no effect, or what its environments return looks wrong."""


class IdleWarning(ScenarioWarning):
    """Something in the scenario of a run or a series of runs has no effect in its mode."""


class AgentError(P2PFRLError):
    """An agent cannot go on: its environment or a rule failed, or a number is not finite.

    Attributes:
        agent: its id; coordinators are below 0.
        detail: what happened.
        place: where in the run, such as "round 3"; "" if the world has not said.
    """

    def __init__(self, agent: int, detail: str, place: str = "") -> None:
        self.agent, self.detail, self.place = agent, detail, place
        from p2pfrl.core.types import COORDINATOR, called

        who = "the coordinator" if agent == COORDINATOR else called(agent)
        super().__init__(", ".join(filter(None, (who, place, detail))))

    def at(self, place: str) -> AgentError:
        """Return the error with a place, if it has none yet."""
        return self if self.place else AgentError(self.agent, self.detail, place)

    def __reduce__(self) -> tuple[type[AgentError], tuple[int, str, str]]:
        """Pickle the parts: another process may have failed."""
        return type(self), (self.agent, self.detail, self.place)


class TopologyError(P2PFRLError):
    """A graph is not what a rule needs (disconnected, wrong size, one-way edges, ...)."""


class DeadlockError(P2PFRLError):
    """All agents wait and no timer is left; the message names who waits for whom."""


class ClockError(P2PFRLError):
    """Virtual time has passed what 64 bits of nanoseconds hold."""

    def __init__(self) -> None:
        super().__init__(
            "virtual time: expected at most 292 years, got more; durations, bandwidths and speeds (compute, network, "
            "allocation) say how long things take"
        )

    def __reduce__(self) -> tuple[type[ClockError], tuple[()]]:
        """Pickle nothing: another process may have failed."""
        return type(self), ()


class WireError(P2PFRLError):
    """A frame is refused. `reason` is one of a small fixed set, counted per sender."""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        super().__init__(f"{reason}: {detail}")


class RecordError(P2PFRLError):
    """A run directory is missing, incomplete or not one of this package."""


class ContractError(P2PFRLError):
    """A rule, learner or environment breaks the contract of its axis.

    The functions `check_...` raise it and say how.
    """
