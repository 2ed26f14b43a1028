"""Health rules: whether a service is alive, and whether robots should be sent to it. Pure functions."""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple


class ServicePhase(enum.Enum):
    """Where a service is in its life."""

    LOADING = "loading"
    SERVING = "serving"
    DRAINING = "draining"
    ENDED = "ended"


class Worker(NamedTuple):
    """A thread that a service needs.

    `round_s` is for how many seconds its present `round` of work has been running: None while idle, infinite where the
    thread has ended.
    """

    name: str
    round_s: float | None = None
    round: str = "round of work"


@dataclass(frozen=True)
class HealthReport:
    """The health of a service; `status` is one word, `sentence` says the same to people."""

    ok: bool
    status: str
    sentence: str
    phase: str
    round_s: float = 0.0

    def as_json(self) -> str:
        """One line."""
        return json.dumps({**asdict(self), "round_s": round(self.round_s, 3)})


def alive(phase: ServicePhase, workers: Sequence[Worker], stuck_s: float) -> HealthReport:
    """Whether the process works at all; if not, only a restart helps.

    Args:
        stuck_s: a round of work that takes longer than so many seconds will not end.
    """
    ended = [worker for worker in workers if worker.round_s == math.inf]
    working = [worker for worker in workers if worker.round_s is not None and worker not in ended]
    slowest = max(working, key=lambda worker: worker.round_s or 0.0, default=Worker("service"))
    round_s = slowest.round_s or 0.0
    if phase in (ServicePhase.SERVING, ServicePhase.DRAINING):
        if ended:
            sentence = f"The {ended[0].name} thread has ended; restart the service."
            return HealthReport(False, "dead", sentence, phase.value)
        if round_s > stuck_s:
            sentence = f"The {slowest.name} has been at one {slowest.round} for {round_s:.0f} s; restart the service."
            return HealthReport(False, "stuck", sentence, phase.value, round_s)
    return HealthReport(True, "ok", f"The service is {phase.value}.", phase.value, round_s)


def ready(
    phase: ServicePhase, workers: Sequence[Worker], stuck_s: float, behind: int | None = None
) -> HealthReport:
    """Whether robots should be sent here now: loaded, not about to end, and alive.

    Args:
        behind: how many verifiers behind this service answer; None where it verifies by itself.
    """
    health = alive(phase, workers, stuck_s)
    if health.ok and phase is not ServicePhase.SERVING:
        sentence = f"The service is {phase.value}; ask another one."
        return HealthReport(False, phase.value, sentence, phase.value)
    if health.ok and behind == 0:
        sentence = "No verifier behind this service answers; its log says why."
        return HealthReport(False, "alone", sentence, phase.value)
    return health
