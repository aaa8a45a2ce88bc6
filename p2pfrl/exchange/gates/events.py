"""Gates that close for a while: by count, or until something worth sending has happened."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import ClassVar

import numpy as np
from pydantic import Field
from typing_extensions import override

from p2pfrl.core.needs import Breaks, Need, Needs
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule
from p2pfrl.core.turn import Turn
from p2pfrl.exchange.gates.base import Gate, State


@rule
class Every(Gate):
    """Send at every `tau`-th exchange and at no other: periodic averaging.

    Attributes:
        tau: exchanges from one that is sent to the next.

    Reference: McMahan et al., AISTATS 2017, arXiv 1602.05629; among neighbors: Wang, Joshi,
        Cooperative SGD, JMLR 22, 2021, arXiv 1808.07576.
    """

    is_common: ClassVar[bool] = True
    breaks: ClassVar[Breaks] = (Need.EVERY_MESSAGE, Need.EVERY_ANSWER, Need.WHOLE_EXCHANGES)
    tau: int = Field(ge=1)

    def init(self, start: Vector) -> State:
        """Return how many exchanges there were: 0."""
        return (np.zeros(1),)

    def decide(self, payload: Vector, turn: Turn, state: State) -> tuple[bool, State]:
        """Return whether the count is a multiple of tau."""
        count = state[0] + 1
        return count[0] % self.tau == 0, (count,)


@rule
class Event(Gate):
    """A gate that opens for a reason.

    It also opens at the first exchange, and when it has been closed for `max_silence` exchanges.

    Attributes:
        max_silence: exchanges in a row that may pass unsent; 0: any number.
    """

    max_silence: int = Field(default=0, ge=0)

    @property
    @override
    def needs(self) -> Needs:
        """The facts that a gate without `max_silence` needs: lossless links and progress."""
        silent = (Need.LOSSLESS_LINKS.of("max_silence"), Need.PROGRESS.of("max_silence"))
        return () if self.max_silence else silent

    def init(self, start: Vector) -> State:
        """Return how long the gate has been closed: long enough to open."""
        return (np.full(1, np.inf),)

    def decide(self, payload: Vector, turn: Turn, state: State) -> tuple[bool, State]:
        """Return whether there is a reason."""
        silence, *memory = state
        forced = not np.isfinite(silence[0]) or (0 < self.max_silence <= silence[0])
        is_open, kept = self.judge(payload, turn, tuple(memory), bool(forced))
        return is_open, (np.zeros(1) if is_open else silence + 1, *kept)

    @abstractmethod
    def judge(self, payload: Vector, turn: Turn, memory: State, forced: bool) -> tuple[bool, State]:
        """Return whether to send, and what is remembered.

        The gate must open where `forced`. Before the first exchange, `()` is remembered.
        """


@rule
class Norm(Event):
    """Send when ||payload - last sent|| > threshold: event-triggered communication.

    Attributes:
        threshold: the Euclidean distance.

    Reference: Dimarogonas, Frazzoli, Johansson, Distributed event-triggered control for multi-agent
        systems, IEEE Transactions on Automatic Control 57(5), 2012; for learning: George, Gurram,
        Distributed stochastic gradient descent with event-triggered communication, AAAI 2020, arXiv
        1909.05844.
    """

    threshold: float = Field(ge=0)

    def judge(self, payload: Vector, turn: Turn, memory: State, forced: bool) -> tuple[bool, State]:
        """Return whether the payload has moved far enough."""
        if forced or float(np.linalg.norm(payload - memory[0])) > self.threshold:
            return True, (payload.copy(),)
        return False, memory


@rule
class Performance(Event):
    """Send when the mean return has moved by at least `threshold` since the last one sent.

    Attributes:
        threshold: in units of the return, up or down.
        window: number of the newest training episodes of which the mean is taken.
    """

    threshold: float = Field(gt=0)
    window: int = Field(default=10, ge=1)

    @property
    @override
    def needs(self) -> Needs:
        """The returns, without which the gate never opens again, and which it shows."""
        return (*super().needs, Need.RETURNS, Need.CLEAR)

    def judge(self, payload: Vector, turn: Turn, memory: State, forced: bool) -> tuple[bool, State]:
        """Return whether the mean return is far from that of the last one sent.

        Episodes must have ended for that.
        """
        episodes, sent = memory or (np.zeros(0), np.full(1, np.nan))
        episodes = np.concatenate([episodes, np.asarray(turn.returns, dtype=np.float64)])[
            -self.window :
        ]
        now = np.full(1, episodes.mean() if len(episodes) else np.nan)
        is_news = len(episodes) > 0 and not abs(now[0] - sent[0]) < self.threshold
        is_open = forced or bool(is_news)
        return is_open, (episodes, now if is_open else sent)


@rule
class Reached(Gate):
    """Send while the mean return of the newest training episodes is at least `value`.

    So only agents that are good enough teach others. An agent whose gate is closed mixes what it
    receives all the same. The gate is closed until `window` episodes have ended.

    Attributes:
        value: the return to reach.
        window: number of the newest training episodes of which the mean is taken.
        once: stay open from the first time on, whatever the return is later.
    """

    value: float
    window: int = Field(default=10, ge=1)
    once: bool = False

    @property
    @override
    def needs(self) -> Needs:
        """The returns, which it shows, and an end of the run that does not depend on messages."""
        return (Need.RETURNS, Need.PROGRESS, Need.CLEAR)

    def init(self, start: Vector) -> State:
        """Return no episodes, and that the return has not been reached."""
        return (np.zeros(0), np.zeros(1))

    def decide(self, payload: Vector, turn: Turn, state: State) -> tuple[bool, State]:
        """Return whether the mean return is high enough, or was once."""
        episodes, before = state
        episodes = np.concatenate([episodes, turn.returns])[-self.window :]
        is_high = len(episodes) == self.window and bool(episodes.mean() >= self.value)
        is_open = is_high or (self.once and bool(before[0]))
        return is_open, (episodes, np.full(1, float(is_open)))


@rule
class Lag(Event):
    """Send g when ||g - last sent g||^2 exceeds what recent moves of the model account for.

    The gate opens if ||g - last sent g||^2 > 1 / (alpha^2 M^2) sum_{d=1}^D weight ||x^{k+1-d} -
    x^{k-d}||^2 + 6 variance. In LAG-WK the coordinator uses the last gradient it has in place of
    one that is left out: aggregator "latest" with reduce = "sum", payload "gradient", server
    optimizer "sgd" with lr = alpha. x^k is the model that the agent trained from in round k; moves
    before the first count zero. With noisy gradients (LAPG) the term 6 variance keeps the noise
    from opening the gate. All agents send in the first round.

    Attributes:
        alpha: step of the server along the sum of gradients.
        agents: M; all agents of the run when not given.
        memory: D, moves of the model that are remembered.
        weight: xi of each of them.
        variance: sigma^2 of a gradient, summed over its numbers.

    Reference: Chen, Giannakis, Sun, Yin, LAG: lazily aggregated gradient, NeurIPS 2018, arXiv
        1805.09965, equation 8a; with slack: Chen, Zhang, Giannakis, Basar, Communication-efficient
        policy gradient methods for distributed reinforcement learning, IEEE Transactions on Control
        of Network Systems 9(2), 2022, arXiv 1812.03239.
    """

    alpha: float = Field(gt=0)
    agents: int | None = Field(default=None, ge=1)
    memory: int = Field(default=10, ge=1)
    weight: float = Field(default=0.1, ge=0)
    variance: float = Field(default=0.0, ge=0)

    @property
    @override
    def needs(self) -> Needs:
        """Receivers that use the last message in place of one that was not sent."""
        return (*super().needs, Need.LAST_PAYLOADS)

    def bind(self, agents: int) -> Gate:
        """Return the rule with the run's number of agents, if it has none of its own."""
        return self if self.agents is not None else replace(self, agents=agents)

    def judge(self, payload: Vector, turn: Turn, memory: State, forced: bool) -> tuple[bool, State]:
        """Return whether the gradient has changed by more than the model's moves account for."""
        assert self.agents is not None, "bind comes first"
        before, moves, sent = memory or (turn.start, np.zeros(0), payload)
        moved = float(np.square(turn.start - before, dtype=np.float64).sum())
        moves = np.concatenate([[moved], moves[: self.memory - 1]])
        bound = (
            self.weight * float(moves.sum()) / (self.alpha * self.agents) ** 2 + 6.0 * self.variance
        )
        if forced or float(np.square(payload - sent, dtype=np.float64).sum()) > bound:
            return True, (turn.start.copy(), moves, payload.copy())
        return False, (turn.start.copy(), moves, sent)


@rule
class News(Gate):
    """Send when the learner says that there is news.

    Learner "ucbvi" has news when a count has doubled since the last exchange.

    Reference: Labbi et al., "Federated UCBVI: communication-efficient federated regret minimization
    with heterogeneous agents", AISTATS 2025, arXiv 2410.22908, section 3.
    """

    offer: ClassVar[str | None] = "news"

    def decide(self, payload: Vector, turn: Turn, state: State) -> tuple[bool, State]:
        """Return whether the learner has news."""
        assert self.offer is not None
        return bool(turn.memory.recall(self.offer)[0]), state
