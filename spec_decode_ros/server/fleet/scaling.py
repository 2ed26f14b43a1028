"""Scaling plan: how many replicas to start, and which ones to end. Pure."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass


class ReplicaPhase(enum.Enum):
    """Where a replica is in its life."""

    STARTING = "starting"
    SERVING = "serving"
    LEAVING = "leaving"
    """It gets no more robots; those that it has move to others."""


@dataclass(frozen=True)
class ReplicaStatus:
    """One replica.

    Attributes:
        number: counts up over all replicas that were started.
        since: when the phase began, in seconds.
        robots: how many it has.
        endpoint: empty until it serves, like `status_url`, where its own metrics are.
    """

    number: int
    phase: ReplicaPhase
    since: float
    robots: int = 0
    endpoint: str = ""
    pid: int = 0
    status_url: str = ""


@dataclass(frozen=True)
class ScalingPlan:
    """What to do now: how many replicas to start, and the numbers of those to let leave, to keep after all, to end."""

    start: int = 0
    leave: tuple[int, ...] = ()
    stay: tuple[int, ...] = ()
    end: tuple[int, ...] = ()


def plan_scaling(
    replicas: Sequence[ReplicaStatus], wanted: int, now: float, patience_s: float
) -> ScalingPlan:
    """The plan that brings the replicas to `wanted`.

    Too few: leaving replicas stay before new ones start. Too many: those that do not serve yet end first, then those with
    the fewest robots leave, the newest of them first. A leaving one ends when it has no robots, or after `patience_s`.
    """
    leaving = [each for each in replicas if each.phase is ReplicaPhase.LEAVING]
    staying = [each for each in replicas if each.phase is not ReplicaPhase.LEAVING]
    missing = wanted - len(staying)
    kept = sorted(leaving, key=lambda each: (-each.robots, -each.number))[: max(0, missing)]
    over = [
        each for each in leaving if each not in kept and (not each.robots or now - each.since >= patience_s)
    ]
    order = sorted(
        staying, key=lambda each: (each.phase is not ReplicaPhase.STARTING, each.robots, -each.number)
    )
    surplus = order[: max(0, -missing)]
    return ScalingPlan(
        start=max(0, missing - len(kept)),
        leave=tuple(each.number for each in surplus if each.phase is ReplicaPhase.SERVING),
        stay=tuple(each.number for each in kept),
        end=tuple(each.number for each in [*over, *surplus] if each.phase is not ReplicaPhase.SERVING),
    )
