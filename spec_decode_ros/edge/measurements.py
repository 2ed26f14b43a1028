"""Link statistics: what the controller has to know, as moving averages over the actions of one robot."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from spec_decode_ros.decoding.controller import Measurements
from spec_decode_ros.decoding.messages import Welcome

_NEWEST = 0.2
"""Weight of the newest action in an average."""

_FIRST_GUESS = 0.8
"""Acceptance that is assumed before anything was verified."""


@dataclass(frozen=True)
class ActionTimings:
    """The times of one action, each as often as it was measured; the names are those of `Measurements`.

    Attributes:
        draft_ms: single tokens of the draft model.
        step_ms: single passes of the target, the first one apart.
        upload_ms: the frame's way to the cloud beyond the round-trip time.
        uplink_mbps: bandwidth on that way.
    """

    draft_ms: Sequence[float] = ()
    step_ms: Sequence[float] = ()
    upload_ms: Sequence[float] = ()
    uplink_mbps: Sequence[float] = ()


class LinkStatistics:
    """Moving averages over a robot's actions, from which the next one is planned."""

    def __init__(self) -> None:
        self._averages: dict[str, float] = {}

    def observe(self, outcomes: Sequence[str], measured: ActionTimings) -> None:
        """Take one action into account.

        Args:
            outcomes: of its tokens, see :class:`~spec_decode_ros.edge.runtime.ActionResult`.
            measured: times of the same action.
        """
        counts = Counter(outcomes)
        judged = counts["accepted"] + counts["recovered"]
        if judged:
            self._blend("acceptance", counts["accepted"] / judged)
        if outcomes:
            self._blend("tokens", len(outcomes))
        for name, values in vars(measured).items():
            if values:
                self._blend(name, statistics.fmean(values))

    def measurements(self, rtt_ms: float | None, welcome: Welcome | None) -> Measurements | None:
        """What is known now; None as long as too little is."""
        known = dict(self._averages)
        # What is measured here includes what a server drafts by itself in a pass, so its own word goes first.
        measured_ms = known.pop("step_ms", 0.0)
        step_ms = (welcome.step_ms if welcome else 0.0) or measured_ms
        # A robot that had nothing to draft, as prompt lookup may, is not held up by drafting.
        draft_ms = known.pop("draft_ms", 0.0 if "tokens" in known else None)
        if rtt_ms is None or draft_ms is None or not step_ms:
            return None
        acceptance = known.pop("acceptance", _FIRST_GUESS)
        if welcome:
            known |= {
                "per_token_ms": welcome.per_token_ms,
                "server_draft_prefill_ms": welcome.server_draft_prefill_ms,
            }
        server_draft_ms = (welcome.server_draft_ms if welcome else 0.0) or None
        return Measurements(rtt_ms, draft_ms, step_ms, acceptance, server_draft_ms=server_draft_ms, **known)

    @property
    def uplink_mbps(self) -> float | None:
        """Bandwidth to the cloud, as far as it is known."""
        return self._averages.get("uplink_mbps")

    def _blend(self, name: str, value: float) -> None:
        old = self._averages.get(name, value)
        self._averages[name] = old + _NEWEST * (value - old)
