"""Notices a robot that stands though it is told to move. No clock and no I/O.

A Go2 ignores velocities for some seconds after it stood up, a base may not understand the message, a wall may be in the
way: whoever watches only what is commanded sees a robot that walks.
"""

from __future__ import annotations

import math

from spec_decode_ros.robots.idle import MOVES_MPS, MOVES_RADPS, moves

PATIENCE_S = 1.5
"""Seconds that a robot may take for its first step."""

_HALT_S = 0.5
"""Seconds; shorter zeros are halts between two actions."""

_HEARD_S = 0.5
"""Seconds; older odometry says nothing of now."""


class FollowWatch:
    """Compares what a robot is told, m/s and rad/s, with what its odometry says. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._since: float | None = None  # told to move, and has not moved
        self._told = self._heard = -math.inf

    def odometry(self, speed: float, wz: float, now: float) -> None:
        """What the robot does."""
        self._heard = now
        if moves(speed, wz) and self._since is not None:
            self._since = now

    def told(self, vx: float, wz: float, now: float) -> None:
        """What the robot is told; to be called in every step."""
        if abs(vx) > 2.0 * MOVES_MPS or abs(wz) > 2.0 * MOVES_RADPS:  # else odometry could not tell
            self._since = now if self._since is None else self._since
            self._told = now
        elif now - self._told > _HALT_S:
            self._since = None

    def stands_s(self, now: float) -> float:
        """Seconds that it has stood though told to move; 0 while there is nothing to say."""
        if self._since is None or now - self._heard > _HEARD_S or now - self._since < PATIENCE_S:
            return 0.0
        return now - self._since
