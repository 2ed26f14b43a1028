"""Whether the link to the verifier is lost, from what was heard of it. No clock, no thread and no ROS."""

from __future__ import annotations

WITHOUT_LINK = {
    "hold": "the robot stands until it does",
    "draft": "the draft model drives alone, unverified and slower",
    "stop": "the robot stands until it is told what to do",
}
"""What the robot does while the link is lost, by the value of ``on_link_loss``."""

ON_LINK_LOSS = tuple(WITHOUT_LINK)

SILENCE_S = 2.5
"""The verifier answers a ping every second; without any message for this long, the link is lost."""


class LinkWatch:
    """Counts the link as lost after an action without a verdict, or after silence, until the next message comes.

    Times are monotonic seconds, all of the same clock.
    """

    def __init__(self) -> None:
        self._lost_at: float | None = None

    @property
    def lost(self) -> bool:
        return self._lost_at is not None

    def no_verdict(self, now: float) -> bool:
        """Note an action that ended without a verdict; whether the link was not lost before."""
        news = not self.lost
        self._lost_at = now
        return news

    def heard(self, silence_s: float, now: float) -> bool:
        """Note for how long nothing has been heard; whether the link is lost."""
        if self._lost_at is None:
            if silence_s > SILENCE_S:
                self._lost_at = now
        elif now - silence_s > self._lost_at:
            self._lost_at = None
        return self.lost
