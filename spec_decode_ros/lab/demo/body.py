"""The true state of the robot's body, as its odometry tells it."""

from __future__ import annotations

from dataclasses import dataclass

_STILL_MPS, _STILL_RADPS = 0.06, 0.15


@dataclass(frozen=True)
class BodyState:
    """Where the robot is and how it moves: seconds, metres, radians, m/s and rad/s."""

    t: float
    x: float
    y: float
    yaw: float
    height: float
    speed: float
    turn: float

    @property
    def pose(self) -> tuple[float, float, float]:
        """x, y and yaw."""
        return self.x, self.y, self.yaw

    @property
    def still(self) -> bool:
        """Whether it does not move, apart from the sway of a robot on legs."""
        return self.speed < _STILL_MPS and abs(self.turn) < _STILL_RADPS
