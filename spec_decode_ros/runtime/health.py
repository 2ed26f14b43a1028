"""Whether a verifier service is alive, and whether robots should be sent to it: pure rules on what it says of itself."""

from __future__ import annotations

import enum
import json
import math
from dataclasses import dataclass
from typing import NamedTuple


class Phase(enum.Enum):
    """Where a service is in its life."""

    LOADING = "loading"
    SERVING = "serving"
    DRAINING = "draining"
    ENDED = "ended"


class Vitals(NamedTuple):
    """What a server's threads are doing.

    `round_s` is for how many seconds the models have been at one round of work: None while they wait, infinite where
    their thread has ended.
    """

    round_s: float | None = None
    socket_alive: bool = True


@dataclass(frozen=True)
class Report:
    """An answer to a question about health; `status` is one word, `sentence` says the same to people."""

    ok: bool
    status: str
    sentence: str
    phase: str
    round_s: float = 0.0

    def as_json(self) -> str:
        """One line."""
        return json.dumps(
            {
                "ok": self.ok,
                "status": self.status,
                "phase": self.phase,
                "round_s": round(self.round_s, 3),
                "sentence": self.sentence,
            }
        )


def alive(phase: Phase, vitals: Vitals, stuck_s: float) -> Report:
    """Whether the process works at all; if not, only a new start helps.

    Args:
        stuck_s: a round of work that takes longer than so many seconds will not end.
    """
    round_s = vitals.round_s or 0.0
    if phase in (Phase.SERVING, Phase.DRAINING):
        if round_s == math.inf:
            return Report(False, "dead", "The model thread has ended; restart the service.", phase.value)
        if not vitals.socket_alive:
            return Report(False, "dead", "The socket thread has ended; restart the service.", phase.value)
        if round_s > stuck_s:
            sentence = f"The model has been at one pass for {round_s:.0f} s; restart the service."
            return Report(False, "stuck", sentence, phase.value, round_s)
    return Report(True, "ok", f"The service is {phase.value}.", phase.value, round_s)


def ready(phase: Phase, vitals: Vitals, stuck_s: float) -> Report:
    """Whether robots should be sent here now: loaded, not about to end, and alive."""
    health = alive(phase, vitals, stuck_s)
    if health.ok and phase is not Phase.SERVING:
        return Report(False, phase.value, f"The service is {phase.value}; ask another one.", phase.value)
    return health
