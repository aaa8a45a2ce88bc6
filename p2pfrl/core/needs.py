"""Needs of rules: what a rule of one axis requires of other rules, and what it breaks.

A rule declares `needs` and `breaks`. `scenario/checks/facts.py` computes which needs a scenario
meets, and one loop in `scenario/checks/needs.py` refuses the others. A new rule changes neither.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Need(Enum):
    """A property of a run that a rule can need. The value is its name in messages."""

    ROUNDS = "a synchronous schedule"
    NO_ROUNDS = "an asynchronous schedule, because it has no rounds"
    BARRIER = "the messages of all agents for one model"
    NEIGHBORS = "neighbors instead of a coordinator, as in mode gossip"
    COORDINATOR = "a coordinator"
    ONE_COORDINATOR = "one coordinator, as in mode central"

    EVERY_MESSAGE = "every message in its round, because it cannot recover a missing one"
    EVERY_ANSWER = "every agent's answer to a model in the next one"
    LOSSLESS_LINKS = "links without loss, because it treats a lost message as received"
    BOTH_ENDS = "both ends of a link to skip at once"
    WHOLE_EXCHANGES = "exchanges that happen completely or not at all"
    PROGRESS = "an agent that sends, because all may be silent and no update would arrive"
    CHOICE = "several updates for one model"
    LAST_PAYLOADS = "an aggregator that reuses the last payload of a silent agent"
    FULL_WEIGHT = "sums that count in full at any staleness"

    STATIC_GRAPH = "one graph for all rounds"
    ORDER = "a mixing rule without an order of its own"
    ACKNOWLEDGMENTS = "a coordinator and agents that agree on which updates counted"
    MEMORY = "the state of its agents besides their parameters"
    MASS = "the mass that every agent holds"

    EXACT_MESSAGES = "numbers that arrive exactly as they were sent"
    EVERY_NUMBER = "all numbers of a message"
    ADDS_UP = "encoded vectors that add up without being opened"
    KNOWN_COPIES = "receivers that keep a copy of each sender's vector"
    CHANGES = "a payload of changes"
    SUMMANDS = "payloads that can be summed"
    BOUNDED = "releases whose size can be bounded"
    EXTRAS = "vectors that travel beside the payload"
    CLEAR = "numbers of an agent's own in the clear"
    STEPS_OF_EACH = "the number of steps of every agent"
    SINGLE = "the vector of every agent, not their sum alone"
    PARAMETERS = "parameters that travel"
    FREE_MOMENTS = "second moments that are not averaged, because it steps beyond averages"

    STEPS = "a server optimizer that steps along a direction"
    TARGET = "a server optimizer that moves to its target"
    PLAIN_MEAN = "the plain mean, around which its vectors sum to zero"
    NO_CORRECTION = "local training without correction"
    ONE_SCORE = "the only score in a message"

    RETURNS = "returns of episodes"
    GRADIENTS = "a learner that gives its gradient"
    GRADIENT_STEPS = "a learner that takes gradient steps"
    PLAIN_DESCENT = "plain gradient descent, because it divides by learning rate times steps"
    EPISODES = "a learner whose updates are whole episodes"
    POLICY = "a learner with a policy that can be guided"

    def of(self, option: str) -> By:
        """Return this need as the need of one option of a rule."""
        return By(self, option)


@dataclass(frozen=True, slots=True)
class By:
    """A need that one option of a rule has or breaks.

    Attributes:
        need: the need.
        option: name of the option in scenario files.
    """

    need: Need
    option: str


@dataclass(frozen=True, slots=True)
class OneOf:
    """A need of one of several values under another key.

    Attributes:
        key: dotted key, such as "exchange.payload".
        values: values of an option, or kinds of a rule.
        why: the reason, after "because".
    """

    key: str
    values: tuple[object, ...]
    why: str


Needs = tuple[Need | By | OneOf, ...]
Breaks = tuple[Need | By, ...]


class Composable:
    """A rule that declares what it needs of other rules and which of their needs it breaks.

    Rules override `needs` and `breaks` with a class variable, or with a property if they depend on
    options. The base class of an axis overrides `implied`.
    """

    @property
    def implied(self) -> Needs:
        """Needs of the options that all rules of the axis have, in addition to `needs`."""
        return ()

    @property
    def needs(self) -> Needs:
        """Needs of the rule."""
        return ()

    @property
    def breaks(self) -> Breaks:
        """Needs that other rules cannot have together with this one."""
        return ()

    @property
    def idle(self) -> tuple[str, ...]:
        """Options without effect beside the values of the others, named as in files."""
        return ()

    def has_need(self, need: Need) -> bool:
        """Return whether the rule, or one of its options, has this need."""
        found = (one.need if isinstance(one, By) else one for one in (*self.implied, *self.needs))
        return any(one is need for one in found)
