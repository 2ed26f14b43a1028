"""What the motion guard is given and what it answers: limits, states, decisions, outputs, and the names of holds."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from spec_decode_ros.settings import check_settings, setting

MAX_WATCHDOG_S = 0.5
"""Seconds; no configuration lets an action live longer than this."""

EMERGENCY = "emergency stop"
OPERATOR = "operator"
START = "start"
SITTING = "sitting"
"""Names of holds; see :meth:`~spec_decode_ros.robots.guard.MotionGuard.hold`."""


@dataclass(frozen=True)
class MotionLimits:
    """What the guard lets through. Raises SpecDecodeError for limits that make no sense."""

    max_vx: float = setting(0.8, "m/s, largest forward or backward speed", 0.0, 3.0)
    max_wz: float = setting(1.0, "rad/s, largest turn rate", 0.0, 4.0)
    max_ax: float = setting(2.0, "m/s², largest change of speed; a stop is immediate", 0.01, 20.0)
    max_aw: float = setting(4.0, "rad/s², largest change of turn rate; a stop is immediate", 0.01, 40.0)
    max_jx: float = setting(20.0, "m/s³, largest change of acceleration; a stop is immediate", 0.1, 1e5)
    max_jw: float = setting(40.0, "rad/s³, the same of turning; a stop is immediate", 0.1, 1e5)
    watchdog_s: float = setting(0.5, "s without a fresh action until the robot stops", 0.01, MAX_WATCHDOG_S)
    max_age_s: float = setting(1.5, "s since the frame until an action is stale", 0.01, 10.0)
    max_future_s: float = setting(0.1, "s that a stamp may be ahead of the clock", 0.0, 1.0)
    unverified_factor: float = setting(0.5, "speed of drafts, 0: not at all", 0.0, 1.0)

    def __post_init__(self) -> None:
        check_settings(self)


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
