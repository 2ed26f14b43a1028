"""How long a robot that shall stand is told so, before others may drive it. No clock and no I/O.

A source of velocities that says zero for ever takes the robot from every source that ranks below it. So a stop is said
for a while and until odometry says that the robot stands, and then there is silence. An emergency stop has no such end:
it is there to keep the others from driving too.
"""

from __future__ import annotations

import math

from spec_decode_ros.robots.guard_types import MotionOutput, MotionState

SILENT, ZEROS = "silent", "zeros"

SAY_S = 1.0
"""Seconds without motion that a stop is said: twice the longest time-out that a driver of velocities should have."""

FOUND_S = 4.0
"""Seconds in which the other listeners are found behind the first one: a terminal may be found before the legs."""

MOVES_MPS, MOVES_RADPS = 0.05, 0.1
"""Odometry above one of these is a robot that moves; below, it is the noise and the sway of one that stands."""


def moves(speed: float, wz: float) -> bool:
    """Whether odometry of m/s and rad/s is that of a robot that moves; what is no number moves."""
    return not (speed <= MOVES_MPS and abs(wz) <= MOVES_RADPS)


class IdleOutput:
    """Says which velocities are sent and which are not worth saying.

    Args:
        idle: :data:`SILENT`, or :data:`ZEROS` for zeros as long as nothing moves.
    """

    def __init__(self, idle: str = SILENT) -> None:
        self._idle = idle
        # The last velocity, stop, or motion of a robot that was told to stand.
        self._since: float | None = None
        self._moves = False
        self.silent = False

    def odometry(self, vx: float, vy: float, wz: float) -> None:
        """What the robot does, m/s and rad/s. The last word counts: odometry that ends while it moves is no standing."""
        self._moves = moves(math.hypot(vx, vy), wz)

    def stop(self, now: float) -> None:
        """A stop has come: it is said, whoever drives the robot."""
        if self._since is not None:  # else it is about to be said anyway
            self._since = max(self._since, now)
        self.silent = False

    def says(self, output: MotionOutput, now: float, heard: bool = True) -> bool:
        """Whether this velocity is sent; to be asked in every step. What nobody has ``heard`` is not said yet."""
        held = self._idle == ZEROS or output.moves or output.state is MotionState.EMERGENCY
        if self._since is None or not heard:
            self._since = now + FOUND_S
        # Once silent, whatever moves the robot is somebody else's.
        elif held or (self._moves and not self.silent):
            self._since = max(self._since, now)
        self.silent = now - self._since > SAY_S
        return not self.silent
