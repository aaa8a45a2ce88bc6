"""Tables of what members of a series have in common: runs that are one run, and notes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from p2pfrl.experiment.jobs import members_in_words
from p2pfrl.results.report import Table


def equal_members(digests: Mapping[str, Mapping[object, str]]) -> tuple[tuple[str, ...], ...]:
    """Return the members that are one run: all their seeds end with the same digests.

    Args:
        digests: of every member its digests by seed. A seed whose run failed has none.

    >>> equal_members({"a": {0: "x"}, "b": {0: "y"}, "c": {0: "x"}, "d": {}})
    (('a', 'c'),)
    """
    groups: dict[tuple[tuple[object, str], ...], list[str]] = {}
    for label, own in digests.items():
        if own:
            groups.setdefault(tuple(own.items()), []).append(label)
    return tuple(tuple(labels) for labels in groups.values() if len(labels) > 1)


def equal_table(groups: Sequence[Sequence[str]]) -> tuple[Table, ...]:
    """Return the table of members that are one run; empty if there are none."""
    rows = tuple((f"{', '.join(own[:-1])} and {own[-1]} are one run",) for own in groups)
    caption = (
        "On every seed they end with the same digest: what differs between them had no effect."
    )
    return (Table("Equal", caption, ("members",), rows),) if rows else ()


def notes_table(notes: Mapping[str, Sequence[str]], labels: Sequence[str]) -> tuple[Table, ...]:
    """Return the table of notes on the scenarios of members; empty if there are none.

    Args:
        notes: whose it is, by note.
        labels: of all members.
    """
    rows = tuple(
        (members_in_words([*dict.fromkeys(own)], labels) or "all", note)
        for note, own in notes.items()
    )
    caption = "Settings without effect, and what messages reveal."
    return (Table("Notes", caption, ("member", "note"), rows),) if rows else ()
