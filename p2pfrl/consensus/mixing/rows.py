"""Rows of mixing matrices: dicts, and for agents with many neighbors a smaller form."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import ItemsView, Iterator, Mapping, ValuesView

from typing_extensions import override

_FEW = 64
"""Number of entries up to which a row is a dict, which is faster."""


class Row(Mapping[int, float]):
    """A row that takes 12 bytes per entry; a dict takes 70 with its numbers.

    Args:
        weights: the entries, in ascending order of their keys.
    """

    __slots__ = ("_keys", "_values")

    def __init__(self, weights: Mapping[int, float]) -> None:
        self._keys, self._values = array("i", weights), array("d", weights.values())

    @override
    def __getitem__(self, agent: int) -> float:
        place = bisect_left(self._keys, agent)
        if place == len(self._keys) or self._keys[place] != agent:
            raise KeyError(agent)
        return self._values[place]

    @override
    def __iter__(self) -> Iterator[int]:
        return iter(self._keys)

    @override
    def __len__(self) -> int:
        return len(self._keys)

    @override
    def values(self) -> ValuesView[float]:
        return _Values(self)

    @override
    def items(self) -> ItemsView[int, float]:
        return _Items(self)

    def pairs(self) -> Iterator[tuple[int, float]]:
        """Return all entries, without a search for each."""
        return zip(self._keys, self._values, strict=True)


class _Values(ValuesView[float]):
    """The numbers of a `Row`."""

    _mapping: Row

    @override
    def __iter__(self) -> Iterator[float]:
        return (value for _, value in self._mapping.pairs())


class _Items(ItemsView[int, float]):
    """The entries of a `Row`."""

    _mapping: Row

    @override
    def __iter__(self) -> Iterator[tuple[int, float]]:
        return self._mapping.pairs()


def compact(weights: dict[int, float]) -> Mapping[int, float]:
    """Return a row whose keys are in ascending order in the form that suits its length."""
    return weights if len(weights) <= _FEW else Row(weights)


def with_own(row: dict[int, float], i: int) -> Mapping[int, float]:
    """Return the row with w_ii = 1 - sum_j w_ij inserted, keys sorted."""
    row[i] = 1.0 - sum(row.values())
    return compact(dict(sorted(row.items())))
