"""The invariants that are checked while a run runs, one class each."""

from __future__ import annotations

from p2pfrl.fuzz.checks.coordinators import Adopted, Aggregated, Committed
from p2pfrl.fuzz.checks.learning import Isolated, Restarted, Trained
from p2pfrl.fuzz.checks.messages import Counted, Faithful, Members, Numbered, Once, Refused
from p2pfrl.fuzz.checks.mixing import Mass, Mixed
from p2pfrl.fuzz.checks.packed import Compressed
from p2pfrl.fuzz.checks.privacy import Paid, Released
from p2pfrl.fuzz.checks.rounds import Absent, Complete, Finite, InOrder, Stale
from p2pfrl.fuzz.checks.runs import Digest, Recorded
from p2pfrl.fuzz.checks.sums import Hidden, Summed
from p2pfrl.fuzz.watch import Check

CHECKS: tuple[type[Check], ...] = (
    Counted,
    Numbered,
    Once,
    Faithful,
    Members,
    Refused,
    InOrder,
    Stale,
    Absent,
    Complete,
    Finite,
    Mixed,
    Mass,
    Aggregated,
    Committed,
    Adopted,
    Trained,
    Isolated,
    Restarted,
    Compressed,
    Paid,
    Released,
    Summed,
    Hidden,
    Digest,
    Recorded,
)
