"""Numbers over a robot's newest actions, for its diagnostics. No ROS."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Sequence

from spec_decode_ros.edge.draft_motion import Correction
from spec_decode_ros.edge.pilot import Decision

_RECENT = 20


class ActionStatistics:
    """Counts of all actions, and times of the newest; the deciding thread writes, others read."""

    def __init__(self) -> None:
        self.actions = self.unverified = self.invalid = self.stale_frames = 0
        self.problem = self.text = ""
        self.corrections: deque[Correction] = deque(maxlen=_RECENT)
        self._ttva_ms: deque[float] = deque(maxlen=_RECENT)
        self._ttfa_ms: deque[float] = deque(maxlen=_RECENT)
        self._tokens: deque[tuple[int, int, int]] = deque(maxlen=_RECENT)

    def count(self, decision: Decision) -> None:
        """Take one decision into account."""
        result, stats = decision.result, decision.result.stats
        self.actions += 1
        self.text = result.text
        self.unverified += not (result.verified or result.without_model)
        self.invalid += decision.action is None
        for name, kept in (("ttva_ms", self._ttva_ms), ("ttfa_ms", self._ttfa_ms)):
            value = stats.get(name)
            if isinstance(value, (int, float)):
                kept.append(float(value))
        drafted, accepted, passes = (
            int(stats[name] or 0) for name in ("drafted", "accepted", "cloud_passes")
        )
        self._tokens.append((drafted, accepted, passes))

    def values(self) -> dict[str, object]:
        """By the names under which they are reported; what is not known yet is empty."""
        tokens, corrections = list(self._tokens), list(self.corrections)
        drafted, accepted, passes = (sum(counts[i] for counts in tokens) for i in range(3))
        return {
            "action": self.text,
            "actions": self.actions,
            "unverified_actions": self.unverified,
            "invalid_actions": self.invalid,
            "stale_frames": self.stale_frames,
            "ttva_ms": _median(self._ttva_ms),
            "ttfa_ms": _median(self._ttfa_ms),
            "corrected_m": _mean([correction.metres for correction in corrections]),
            "corrected_rad": _mean([correction.radians for correction in corrections]),
            "acceptance_rate": accepted / drafted if drafted else "",
            "cloud_passes": passes / len(tokens) if tokens else "",
        }


def _median(values: Sequence[float]) -> object:
    return statistics.median(list(values)) if values else ""


def _mean(values: Sequence[float]) -> object:
    return statistics.fmean(values) if values else ""
