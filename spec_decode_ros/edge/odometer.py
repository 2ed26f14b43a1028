"""How far the robot has turned and walked, by its odometry. No clock, no thread and no ROS."""

from __future__ import annotations

import bisect
import math
from collections import deque
from dataclasses import dataclass

FASTEST_M_S, FASTEST_RAD_S = 5.0, 8.0
"""No legged robot is faster: a pose farther from the last one is a jump of the odometry, not a motion."""

MAX_AGE_S = 0.3
"""Poses older than this say nothing about now."""

_KEPT = 200
_RATE_OVER_S = 0.1
"""Time over which the present rates are taken."""


@dataclass(frozen=True)
class Travel:
    """Radians turned, left positive, and metres walked along the robot's heading, both since some beginning."""

    turned: float
    walked: float


class Odometer:
    """Sums a robot's motion over its poses; jumps do not count."""

    def __init__(self) -> None:
        self._stamps: deque[float] = deque(maxlen=_KEPT)
        self._travels: deque[Travel] = deque(maxlen=_KEPT)
        self._pose = (0.0, 0.0, 0.0)

    def add(self, stamp: float, x: float, y: float, yaw: float) -> None:
        """A pose in metres and radians and its stamp in seconds; one that is not finite or not newer is left out."""
        if not all(map(math.isfinite, (stamp, x, y, yaw))):
            return
        if self._stamps and stamp < self._stamps[-1] - 1.0:
            # The clock has been set back.
            self._stamps.clear()
            self._travels.clear()
        if not self._stamps:
            self._pose = (x, y, yaw)
            self._append(stamp, Travel(0.0, 0.0))
            return
        took = stamp - self._stamps[-1]
        if took <= 0.0:
            return
        dx, dy = x - self._pose[0], y - self._pose[1]
        turned = math.remainder(yaw - self._pose[2], math.tau)
        middle = self._pose[2] + turned / 2
        self._pose = (x, y, yaw)
        last = self._travels[-1]
        if math.hypot(dx, dy) <= FASTEST_M_S * took and abs(turned) <= FASTEST_RAD_S * took:
            last = Travel(last.turned + turned, last.walked + dx * math.cos(middle) + dy * math.sin(middle))
        self._append(stamp, last)

    def at(self, stamp: float, ahead_s: float = 0.0) -> Travel | None:
        """The travel at a time, and `ahead_s` seconds later if the robot goes on as it does; None if poses are missing."""
        if not self._stamps or not self._stamps[0] <= stamp <= self._stamps[-1] + MAX_AGE_S:
            return None
        newest = bisect.bisect_right(self._stamps, stamp) - 1
        after = min(newest + 1, len(self._stamps) - 1)
        before = newest
        while before > 0 and self._stamps[after] - self._stamps[before] < _RATE_OVER_S:
            before -= 1
        span = self._stamps[after] - self._stamps[before]
        share = (stamp + ahead_s - self._stamps[newest]) / span if span > 0.0 else 0.0
        here, first, last = self._travels[newest], self._travels[before], self._travels[after]
        return Travel(
            here.turned + share * (last.turned - first.turned),
            here.walked + share * (last.walked - first.walked),
        )

    def _append(self, stamp: float, travel: Travel) -> None:
        self._stamps.append(stamp)
        self._travels.append(travel)
