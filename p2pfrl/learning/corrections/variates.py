"""Control variates against client drift, those of SCAFFOLD and of SCAFFLSA.

SCAFFOLD's variates travel; with SCAFFLSA agents compute them alone.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from typing_extensions import override

from p2pfrl.core.needs import Need, Needs
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule
from p2pfrl.core.turn import Memory, Turn
from p2pfrl.learning.corrections.base import Again, Arrives, Correction, State, as_it_is

OF_VARIATES: Needs = (Need.ONE_COORDINATOR, Need.PLAIN_DESCENT, Need.PARAMETERS)
"""What a control variate needs that an agent works out from where its local steps led."""


@rule
class ControlVariate(Correction):
    """SCAFFOLD, option II: g <- g - c_i + c, with c_i and c updated after every round.

    The updates are c_i <- c_i - c + (x - y_i) / (K eta), and c += 1/N sum_i dc_i.

    x is where the round began, y_i where K local steps of size eta ended; c comes beside the
    coordinator's model, the change dc_i of c_i goes beside the payload: twice the bytes of FedAvg.
    The sum is over those who took part, divided by all N agents; the others keep c_i. An agent that
    sent nothing (it sat out, its gate was closed) keeps c_i too, so that c = mean c_i. One whose
    update the network lost, or that came too late, goes back to the c_i before it once the next
    model says so (`score` of that message), so that c = mean c_i holds through losses, crashes and
    restarts of agents and of the coordinator. Without rounds it does not: what is on its way when
    somebody crashes may count or not. In secure sums dc_i is rounded before it is added to c_i, and
    the next one makes up for it: c = mean c_i there, too, and nobody sees a single dc_i.

    Reference: Karimireddy, Kale, Mohri, Reddi, Stich, Suresh, "SCAFFOLD: stochastic controlled
    averaging for federated learning", ICML 2020, arXiv 1910.06378, Algorithm 1.
    """

    arrays: ClassVar[tuple[str, ...]] = ("control", "control_next", "control_shift")
    extras: ClassVar[int] = 1
    needs: ClassVar[Needs] = (
        *OF_VARIATES,
        Need.EXACT_MESSAGES,
        Need.ACKNOWLEDGMENTS,
        Need.EXTRAS,
    )

    @override
    def adjust(self, rows: Vector, gradient: Vector, state: State, again: Again) -> None:
        """Add c - c_i."""
        np.add(gradient, state["control_shift"], out=gradient)

    @override
    def extra(self, turn: Turn, arrives: Arrives = as_it_is) -> Vector | None:
        """Return dc_i, as it arrives.

        c_i follows when the next round begins, so that a repeated message has the same content.
        """
        memory = turn.memory
        control = memory.recall("control")
        after = control
        if turn.rate:
            after = (turn.start - turn.own) / turn.rate - memory.recall("control_shift")
        change = after - control
        arriving = arrives(change)
        memory.store("control_next", after if arriving is change else control + arriving)
        return arriving

    @override
    def begin(self, memory: Memory, before: Turn | None, start: Vector, extra: Vector) -> None:
        """Keep the c_i that was sent if the update counted, otherwise restore the previous one.

        The coordinator's c is taken over.
        """
        if before is not None and before.used is not None:
            kept, other = (
                ("control_next", "control") if before.used else ("control", "control_next")
            )
            memory.store(other, memory.recall(kept))
        if len(extra):
            memory.store("control_shift", extra - memory.recall("control"))

    @override
    def serve(self, extra: Vector, mean: Vector, share: float) -> Vector:
        """Return c + 1/N sum dc_i."""
        return extra + share * mean


@rule
class ResidualVariate(Correction):
    """SCAFFLSA: g <- g - xi_i; then xi_i += (theta - theta_i) / (eta H), from xi_i = 0.

    theta_i is where H local steps of size eta ended, theta what the exchange made of all of them.
    Nothing travels beside the payload. Where theta is the plain mean of the theta_i, sum_i xi_i
    stays 0, and the fixed point is the optimum of the mean problem, with xi_i the mean gradient of
    agent i there. Equal to SCAFFOLD's option II where everyone takes part, at half its bytes.
    Everyone must be asked every round: an agent learns theta from the next model alone. One that
    sat a round out keeps xi_i, and the sum is that of those who took part. The sum stays apart from
    0 for good after an update that the network lost or that came too late, and after a crash that
    lasts until the next model has gone out.

    Reference: Mangold, Samsonov, Labbi, Levin, Alami, Naumov, Moulines, "SCAFFLSA: taming
    heterogeneity in federated linear stochastic approximation and TD learning", NeurIPS 2024, arXiv
    2402.04114, Algorithm 2.
    """

    arrays: ClassVar[tuple[str, ...]] = ("residual",)
    needs: ClassVar[Needs] = (*OF_VARIATES, Need.EVERY_ANSWER, Need.PLAIN_MEAN, Need.TARGET)

    @override
    def adjust(self, rows: Vector, gradient: Vector, state: State, again: Again) -> None:
        """Subtract xi_i."""
        np.subtract(gradient, state["residual"], out=gradient)

    @override
    def begin(self, memory: Memory, before: Turn | None, start: Vector, extra: Vector) -> None:
        """Update xi_i by how far the exchange moved the agent."""
        if before is not None and before.rate:
            memory.store("residual", memory.recall("residual") + (start - before.own) / before.rate)
