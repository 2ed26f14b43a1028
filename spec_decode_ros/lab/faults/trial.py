"""Tries faults one after the other, and measures in the robot's log when it stopped."""

from __future__ import annotations

import itertools
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.faults.cases import Case
from spec_decode_ros.lab.faults.rig import Rig

LIMIT_S = 0.5
"""Longest time that a fault may leave the robot moving."""

_OBSERVE_S = 2.0
_SHORTLY_S = 0.6
_ANY_PHASE_S = 0.35
_TRIES = 3
"""A try in which the robot's command was over before it could go on does not count, and is repeated."""


@dataclass(frozen=True)
class FaultResult:
    """The result of one try.

    Attributes:
        stop_s: seconds from the fault to the order to stop, at the robot; None if none came.
        stand_s: seconds from the fault until the body stood still; None if it had not after two seconds.
        way_m: metres that the body went after the fault. Both are None for a stop that does not last.
        recovered_s: seconds from the end of the fault until the robot walked again.
        resumes: whether it did so by itself, without a command.
        max_vx, max_wz, largest_step: of the orders meanwhile: largest velocities and increase of speed, m/s and rad/s.
    """

    name: str
    hazard: str
    guard: str
    stop_s: float | None
    stand_s: float | None
    way_m: float | None
    recovered_s: float
    resumes: bool
    max_vx: float
    max_wz: float
    largest_step: float

    @property
    def passed(self) -> bool:
        """Whether the robot was stopped in time."""
        return self.stop_s is not None and self.stop_s <= LIMIT_S

    def as_row(self) -> dict[str, object]:
        """For JSON."""
        row = {
            name: round(value, 4) if isinstance(value, float) else value
            for name, value in asdict(self).items()
        }
        return {**row, "passed": self.passed}


def try_case(rig: Rig, case: Case, rng: random.Random) -> FaultResult:
    """Let the robot walk, inject the fault at a random time between two actions, end it, and wait until it walks again."""
    case.prepare(rig)
    rig.wait_walking()
    rig.watch(rng.uniform(0.0, _ANY_PHASE_S))
    case.while_walking(rig)
    account = rig.account
    seen = len(account.orders)
    fault = time.monotonic()
    case.inject(rig)
    rig.watch(_OBSERVE_S if case.lasts else _SHORTLY_S)
    stop_s = account.last_stop(fault) if case.lasts else account.first_stop(fault)
    stand_s = account.stands_since(fault) if case.lasts else None
    way_m = account.way(fault) if case.lasts else None
    healed = time.monotonic()
    case.heal(rig)
    commanded = rig.wait_walking(command=not case.resumes)
    recovered_s = time.monotonic() - healed
    orders = account.orders[max(0, seen - 1) :]
    return FaultResult(
        name=case.name,
        hazard=case.hazard,
        guard=case.guard,
        stop_s=stop_s,
        stand_s=stand_s,
        way_m=way_m,
        recovered_s=recovered_s,
        resumes=not commanded,
        max_vx=max((abs(order.vx) for order in orders), default=0.0),
        max_wz=max((abs(order.wz) for order in orders), default=0.0),
        largest_step=max((abs(b.vx) - abs(a.vx) for a, b in itertools.pairwise(orders)), default=0.0),
    )


def try_cases(
    rig: Rig,
    cases: Sequence[Case],
    repeats: int = 1,
    show: Callable[[FaultResult], None] = lambda outcome: None,
) -> list[FaultResult]:
    """Try each case `repeats` times with the same processes; ``show`` gets each result at once.

    Raises SpecDecodeError if the robot does not walk again, or not by itself where it has to.
    """
    rng = random.Random(0)
    outcomes: list[FaultResult] = []
    for case in cases:
        for _ in range(repeats):
            for _ in range(_TRIES):
                outcomes.append(try_case(rig, case, rng))
                show(outcomes[-1])
                if outcomes[-1].resumes == case.resumes:
                    break
            else:
                raise SpecDecodeError(f"the robot has not gone on by itself in {_TRIES} tries of {case.name}")
    return outcomes


def slowest(outcomes: Sequence[FaultResult]) -> list[FaultResult]:
    """For each case the try in which the stop took longest."""
    kept: dict[str, FaultResult] = {}
    for outcome in outcomes:
        before = kept.get(outcome.name)
        if before is None or _stop_s(outcome) > _stop_s(before):
            kept[outcome.name] = outcome
    return list(kept.values())


def _stop_s(outcome: FaultResult) -> float:
    return math.inf if outcome.stop_s is None else outcome.stop_s
