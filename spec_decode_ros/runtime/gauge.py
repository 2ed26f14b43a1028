"""What the controller has to know, as running averages over the actions of one robot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from spec_decode_ros.decoding.controller import Conditions
from spec_decode_ros.decoding.messages import Welcome

_NEWEST = 0.2
"""Weight of the newest action in an average."""

_FIRST_GUESS = 0.8
"""Acceptance that is assumed before anything was verified."""


class Gauge:
    """Watches a robot's actions and says under which conditions the next one will run."""

    def __init__(self) -> None:
        self._averages: dict[str, float] = {}

    def observe(self, fates: Sequence[str], draft_ms: Sequence[float], step_ms: Sequence[float]) -> None:
        """Take one action into account.

        Args:
            fates: of its tokens, see :class:`~spec_decode_ros.runtime.edge.ActionResult`.
            draft_ms: what single tokens took the draft model.
            step_ms: what single passes took the target, the first one apart.
        """
        counts = Counter(fates)
        judged = counts["accepted"] + counts["corrected"]
        if judged:
            self._blend("acceptance", counts["accepted"] / judged)
        for name, values in (("draft_ms", draft_ms), ("step_ms", step_ms)):
            if values:
                self._blend(name, sum(values) / len(values))

    def conditions(self, rtt_ms: float | None, welcome: Welcome | None) -> Conditions | None:
        """What is known now; None as long as too little is."""
        step_ms = self._averages.get("step_ms") or (welcome.step_ms if welcome else 0.0)
        draft_ms = self._averages.get("draft_ms")
        if rtt_ms is None or draft_ms is None or not step_ms:
            return None
        return Conditions(
            rtt_ms,
            draft_ms,
            step_ms,
            self._averages.get("acceptance", _FIRST_GUESS),
            own_ms=(welcome.own_ms if welcome else 0.0) or None,
        )

    def _blend(self, name: str, value: float) -> None:
        old = self._averages.get(name, value)
        self._averages[name] = old + _NEWEST * (value - old)
