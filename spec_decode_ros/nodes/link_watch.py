"""Whether a verdict can be hoped for. No clock, no thread and no ROS."""

from __future__ import annotations

from typing import Literal

OnLinkLoss = Literal["hold", "draft", "stop"]
"""``hold``: stand until verdicts come again; ``draft``: go on with drafts; ``stop``: stand until the next command."""

ON_LINK_LOSS: tuple[OnLinkLoss, ...] = ("hold", "draft", "stop")

SILENCE_S = 2.5
"""The verifier answers a ping every second; this long without any word from it, the link is gone."""


class LinkWatch:
    """Lost with an action that got no verdict, or with silence; found with the next word from the verifier.

    Times are monotonic seconds, all of the same clock.
    """

    def __init__(self) -> None:
        self._lost_at: float | None = None

    @property
    def lost(self) -> bool:
        return self._lost_at is not None

    def no_verdict(self, now: float) -> bool:
        """An action has ended without a verdict; whether that is news."""
        news = not self.lost
        self._lost_at = now
        return news

    def heard(self, silence_s: float, now: float) -> bool:
        """Nothing has been heard for so long; whether the link is lost."""
        if self._lost_at is None:
            if silence_s > SILENCE_S:
                self._lost_at = now
        elif now - silence_s > self._lost_at:
            self._lost_at = None
        return self.lost
