"""The retry timer of the edge: when to resend what may be lost, when to ask a full server again, when to give up."""

from __future__ import annotations

from spec_decode_ros.decoding.request import Request

_LONGEST_BACKOFF = 8  # resend intervals
_LEAST_PAUSE_S = 0.02
"""Shortest pause before a full server is asked again, whatever it says itself."""


class RetryTimer:
    """Exponential backoff with a deadline. Times are seconds on the caller's clock, passed in by `begin` and `is_due`."""

    def __init__(self, request: Request) -> None:
        self._resend_s = request.resend_s
        self._deadline_s = request.deadline_s
        self._spread = request.spread
        self._interval = request.resend_s
        self._quiet_since = 0.0
        self._deadline: float | None = None
        self._news = False
        self._new_pause = False

    def begin(self, now: float) -> None:
        self._quiet_since = now
        if self._deadline_s is not None:
            self._deadline = now + self._deadline_s

    @property
    def wake_at(self) -> float | None:
        """When `is_due` has to be asked next; None for never."""
        due = self._quiet_since + (0.0 if self._new_pause else self._interval)
        return due if self._deadline is None else min(due, self._deadline)

    @property
    def deadline(self) -> float | None:
        return self._deadline

    def is_over(self, now: float) -> bool:
        """Whether the deadline has passed."""
        return self._deadline is not None and now >= self._deadline

    def heard(self) -> None:
        """A message arrived: the silence is measured from the next `is_due` on."""
        self._news, self._new_pause = True, False

    def shorten(self) -> None:
        """The next silence is as short as the first."""
        self._interval = self._resend_s

    def pause(self, retry_ms: float) -> None:
        """Leave a full server alone for `retry_ms`, from the next `is_due` on.

        A part of that is added, drawn for each action, so that those who were turned away together do not come back
        together.
        """
        self._interval = max(_LEAST_PAUSE_S, retry_ms / 1000.0) * (1.0 + 0.5 * self._spread)
        self._news, self._new_pause = False, True

    def outlasts(self, now: float) -> bool:
        """Whether the pause that is asked for lasts beyond the deadline."""
        return self._deadline is not None and now + self._interval >= self._deadline

    def is_due(self, now: float) -> bool:
        """Whether the silence, or the pause, has lasted long enough; if so, another one begins, and is longer."""
        if self._new_pause:
            self._new_pause, self._quiet_since = False, now
        elif self._news:
            self._news, self._quiet_since, self._interval = False, now, self._resend_s
        if now < self._quiet_since + self._interval:
            return False
        self._quiet_since = now
        self._interval = min(2 * self._interval, _LONGEST_BACKOFF * self._resend_s)
        return True
