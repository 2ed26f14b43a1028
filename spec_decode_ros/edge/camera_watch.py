"""Detects a frozen or missing camera picture while the robot moves. No clock, no thread and no I/O."""

from __future__ import annotations

import math


class CameraWatch:
    """Tells when a moving robot has had no new picture for too long.

    A picture is new if its bytes and its stamp differ from those of the one before and its stamp is not old: a real
    camera has noise, so the same bytes are the same picture. Time counts only while the robot is told to move, because
    a simulator without noise draws the same picture for a robot that stands. Once blind, it stays so until a new
    picture comes or :meth:`reset` is called.

    Args:
        timeout_s: seconds of motion without a new picture.
        max_age_s: seconds that a stamp may differ from the clock.
    """

    def __init__(self, timeout_s: float, max_age_s: float) -> None:
        self.timeout_s, self.max_age_s = timeout_s, max_age_s
        self.blind = ""
        """Why the robot must stand, or empty."""
        self._picture = b""
        self._stamp: float | None = None
        self._new_at = -math.inf
        self._moving_since: float | None = None
        self._fault = "no frame has come"

    def frame(self, picture: bytes, stamp: float, *, clock: float, now: float) -> None:
        """A frame has come: JPEG bytes, its stamp on ``clock``, both in seconds; ``now`` is monotonic seconds."""
        if abs(clock - stamp) > self.max_age_s:
            self._fault = f"the frames that come are stamped {clock - stamp:.1f} s ago"
        elif stamp == self._stamp:
            self._fault = "the same frame with the same stamp has come"
        elif picture == self._picture:
            self._fault = "the very same picture has come"
        else:
            self._fault = "no frame has come"
            self._new_at = now
            self.blind = ""
        self._picture, self._stamp = picture, stamp

    def told_to_move(self, moves: bool, now: float) -> None:
        """The robot was told to move, or to stand."""
        if not moves:
            self._moving_since = None
        elif self._moving_since is None:
            self._moving_since = now

    def look(self, now: float) -> str:
        """Why the robot must stand, or an empty text."""
        if self._moving_since is not None:
            since = max(self._moving_since, self._new_at)
            if now - since >= self.timeout_s:
                self.blind = f"{self._fault} for {self.timeout_s:g} s; the robot stops until it sees"
        return self.blind

    def reset(self) -> None:
        """Forget the past: a new command may try again."""
        self.blind = ""
        self._moving_since = None
