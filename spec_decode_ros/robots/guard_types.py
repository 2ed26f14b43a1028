"""What the motion guard is given and what it answers: limits, states, decisions, outputs, and the names of holds."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from spec_decode_ros.errors import SpecDecodeError

MAX_WATCHDOG_S = 0.5
"""Seconds; no configuration lets an action live longer than this."""

EMERGENCY = "emergency stop"
OPERATOR = "operator"
START = "start"
SITTING = "sitting"
"""Names of holds; see :meth:`~spec_decode_ros.robots.guard.MotionGuard.hold`."""


class LimitsError(SpecDecodeError):
    """A motion limit that makes no sense."""


@dataclass(frozen=True)
class MotionLimits:
    """What the guard lets through.

    Attributes:
        max_vx: m/s, largest forward or backward speed.
        max_wz: rad/s, largest turn rate.
        max_ax: m/s², largest change of ``vx`` (a stop excepted).
        max_aw: rad/s², largest change of ``wz`` (a stop excepted).
        max_jx: m/s³, largest change of the acceleration of ``vx`` (a stop excepted).
        max_jw: rad/s³, largest change of the acceleration of ``wz`` (a stop excepted).
        watchdog_s: seconds without a fresh action after which the robot stops, above 0 and at most 0.5.
        max_age_s: seconds since the camera frame after which an action is refused as stale.
        max_future_s: seconds by which a stamp may be ahead of the clock (clocks are never quite equal).
        unverified_factor: 0 to 1, speed of unverified actions; 0 refuses them.
    """

    max_vx: float = 0.8
    max_wz: float = 1.0
    max_ax: float = 2.0
    max_aw: float = 4.0
    max_jx: float = 20.0
    max_jw: float = 40.0
    watchdog_s: float = 0.5
    max_age_s: float = 1.5
    max_future_s: float = 0.1
    unverified_factor: float = 0.5

    def __post_init__(self) -> None:
        for name, low, high in (
            ("max_vx", 0.0, 3.0),
            ("max_wz", 0.0, 4.0),
            ("max_ax", 0.01, 20.0),
            ("max_aw", 0.01, 40.0),
            ("max_jx", 0.1, 1e5),
            ("max_jw", 0.1, 1e5),
            ("watchdog_s", 0.01, MAX_WATCHDOG_S),
            ("max_age_s", 0.01, 10.0),
            ("max_future_s", 0.0, 1.0),
            ("unverified_factor", 0.0, 1.0),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
                raise LimitsError(f"{name} is {value!r}, but must be a number from {low} to {high}")


class MotionState(enum.Enum):
    """Why the output is what it is."""

    IDLE = "idle"
    VERIFIED = "verified action"
    UNVERIFIED = "unverified action"
    STOPPED = "stopped"
    HELD = "held"
    EMERGENCY = "emergency stop"


@dataclass(frozen=True)
class GuardDecision:
    """Whether an action was accepted, and why or why not. ``stopped``: it stops the robot, so step at once."""

    accepted: bool
    reason: str
    stopped: bool = False


@dataclass(frozen=True)
class MotionOutput:
    """What to send to the robot now: m/s and rad/s, always finite and within limits."""

    vx: float
    wz: float
    state: MotionState
    reason: str

    @property
    def moves(self) -> bool:
        """Whether any velocity differs from zero."""
        return self.vx != 0.0 or self.wz != 0.0
