"""Robust aggregators that bound the length of every vector: around a center, or around zero."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field
from typing_extensions import override

from p2pfrl.consensus.aggregators.base import Arrived, Memory
from p2pfrl.consensus.aggregators.distances import coordinate_median, norms
from p2pfrl.consensus.aggregators.robust import Place, Robust, Rows, mean
from p2pfrl.core.needs import Needs, OneOf
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule


@rule
class CenteredClipping(Robust):
    """v <- v + (1/k) sum_i clip(x_i - v, radius), clip(y, r) = y min(1, r / ||y||).

    It begins at the aggregate of the round before, which is what makes it robust against attacks
    that are small in every round; in the first round at the median of every coordinate; between
    neighbors at the agent's own vector.

    Attributes:
        radius: the longest distance from v that counts in full; by default the median distance.
        steps: how often v moves in a round.

    Reference: Karimireddy, He, Jaggi, Learning from history for Byzantine robust optimization, ICML
        2021, arXiv 2012.10333.
    """

    reads_byzantine: ClassVar[bool] = False

    radius: float | None = Field(default=None, gt=0)
    steps: int = Field(default=1, ge=1)

    @override
    def place(self, received: Sequence[Arrived], state: Memory) -> Place:
        return Place(last=state.get("last"))

    @override
    def remember(self, aggregate: Vector) -> Memory:
        return {"last": aggregate}

    @override
    def reduce(self, rows: Rows, f: int, place: Place) -> Vector:
        wide = rows.astype(np.float64, copy=False)
        center = place.last if place.own is None else place.own
        v = coordinate_median(wide) if center is None else center.astype(np.float64)
        for _ in range(self.steps):
            v = v + mean(clipped(wide - v, self.radius))
        return v


@rule
class NormClipping(Robust):
    """(1/k) sum_i clip(x_i, radius), clip(y, r) = y min(1, r / ||y||).

    No vector counts more than any other, so f of k move the mean by at most 2 f radius / k. This is
    a bound and no robustness: attackers that stay within the radius count in full. It clips changes
    around zero; between neighbors, around the agent's own vector.

    Attributes:
        radius: the longest vector that counts in full; by default the median norm.

    Reference: Sun, Kairouz, Suresh, McMahan, Can you really backdoor federated learning?, 2019,
        arXiv 1911.07963.
    """

    needs: ClassVar[Needs] = (OneOf("exchange.payload", ("delta", "gradient"), "it clips changes"),)
    reads_byzantine: ClassVar[bool] = False

    radius: float | None = Field(default=None, gt=0)

    @override
    def reduce(self, rows: Rows, f: int, place: Place) -> Vector:
        wide = rows.astype(np.float64, copy=False)
        if place.own is None:
            return mean(clipped(wide, self.radius))
        own = place.own.astype(np.float64)
        return own + mean(clipped(wide - own, self.radius))


@rule
class CosineTrust(Robust):
    """sum_i t_i y_i / sum_i t_i, t_i = relu(cos(x_i, x_0)), y_i = x_i ||x_0|| / ||x_i||.

    Any number of others may be Byzantine: the result is no longer than x_0 and at an acute angle to
    it. It is for changes, which have a direction. The paper's server trains x_0 on data of its own;
    here a trusted agent does. If its vector did not arrive, the median of every coordinate is x_0.
    Between neighbors x_0 is the agent's own change since the last exchange.

    Attributes:
        trusted: id of the agent that trains x_0 at a coordinator.

    Reference: Cao, Fang, Liu, Gong, FLTrust: Byzantine-robust federated learning via trust
        bootstrapping, NDSS 2021, arXiv 2012.13995.
    """

    needs: ClassVar[Needs] = (
        OneOf("exchange.payload", ("delta", "gradient"), "it compares directions of changes"),
    )
    needs_of_neighbors: ClassVar[Needs] = (
        OneOf("exchange.order", ("adapt_then_combine",), "it compares directions of changes"),
    )
    of_coordinators: ClassVar[tuple[str, ...]] = ("trusted",)
    bears: ClassVar[tuple[int, int]] = (1, 1)
    reads_byzantine: ClassVar[bool] = False

    trusted: int = Field(default=0, ge=0)

    @override
    def place(self, received: Sequence[Arrived], state: Memory) -> Place:
        found = [arrived.vector for arrived in received if arrived.sender == self.trusted]
        return Place(own=found[0] if found else None)

    @override
    def reduce(self, rows: Rows, f: int, place: Place) -> Vector:
        wide = rows.astype(np.float64, copy=False)
        trusted = coordinate_median(wide) if place.own is None else place.own.astype(np.float64)
        start = np.zeros_like(trusted) if place.start is None else place.start.astype(np.float64)
        change, changes = trusted - start, wide - start
        length, lengths = float(norms(change[None])[0]), norms(changes)
        if length == 0.0:
            return trusted
        units = changes / np.where(lengths > 0.0, lengths, 1.0)[:, None]
        trust = np.maximum(0.0, np.einsum("kd,d->k", units, change / length))
        if trust.sum() == 0.0:
            return trusted
        weights = length * trust / trust.sum()
        out: Vector = start + (units * weights[:, None]).sum(axis=0)
        return out


def clipped(rows: Rows, radius: float | None) -> Rows:
    """Return rows of at most length `radius`, by default the median length."""
    lengths = norms(rows)
    limit = float(np.median(lengths)) if radius is None else radius
    factors = np.where(lengths > limit, limit / np.where(lengths > 0.0, lengths, 1.0), 1.0)
    shorter: Rows = rows * factors[:, None]
    return shorter
