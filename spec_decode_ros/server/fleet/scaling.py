"""How many replicas to start, and which ones to end: decided from a list of them, without any of them."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

_FIRST_DELAY_S = 1.0
_LONGEST_DELAY_S = 60.0


class ReplicaPhase(enum.Enum):
    """Where a replica is in its life."""

    STARTING = "starting"
    SERVING = "serving"
    LEAVING = "leaving"
    """It gets no more robots; those that it has move to others."""


@dataclass(frozen=True)
class ReplicaStatus:
    """One replica: its number (they count up), its phase, since when in seconds, and how many robots it has."""

    number: int
    phase: ReplicaPhase
    since: float
    robots: int = 0


@dataclass(frozen=True)
class ScalingPlan:
    """What is to be done now: start so many, and by number let some leave, keep some that were leaving, end some."""

    start: int = 0
    leave: tuple[int, ...] = ()
    stay: tuple[int, ...] = ()
    end: tuple[int, ...] = ()


def plan(rows: Sequence[ReplicaStatus], wanted: int, now: float, patience_s: float) -> ScalingPlan:
    """What brings the replicas to `wanted`.

    Too few: those that are leaving stay before new ones start. Too many: those that do not serve yet end first, then
    those with the fewest robots leave, the newest of them first. One that is leaving ends when it has no robots, or
    after `patience_s`.
    """
    leaving = [row for row in rows if row.phase is ReplicaPhase.LEAVING]
    staying = [row for row in rows if row.phase is not ReplicaPhase.LEAVING]
    missing = wanted - len(staying)
    if missing > 0:
        back = sorted(leaving, key=lambda row: (-row.robots, -row.number))[:missing]
        leaving = [row for row in leaving if row not in back]
        stay, start = tuple(row.number for row in back), missing - len(back)
    else:
        stay, start = (), 0
    order = sorted(staying, key=lambda row: (row.phase is not ReplicaPhase.STARTING, row.robots, -row.number))
    surplus = order[: max(0, -missing)]
    over = [row for row in leaving if not row.robots or now - row.since >= patience_s]
    return ScalingPlan(
        start=start,
        leave=tuple(row.number for row in surplus if row.phase is ReplicaPhase.SERVING),
        stay=stay,
        end=tuple(row.number for row in [*over, *surplus] if row.phase is not ReplicaPhase.SERVING),
    )


def delay_s(failures: int) -> float:
    """How long to wait before the next start after so many failures in a row."""
    if failures <= 0:
        return 0.0
    return min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2.0 ** min(failures - 1, 30))
