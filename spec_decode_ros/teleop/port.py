"""The interface between terminal and robot: four requests, and six kinds of events."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from spec_decode_ros.viz.decoded_action import DecodedAction


class RobotPort(Protocol):
    """What the operator can ask of the robot. Every call returns at once; what comes of it arrives as an event."""

    def say(self, command: str) -> None:
        """Give the robot a command in plain language."""

    def stop(self) -> None:
        """Stop now and stay until the next command; needs no model and no cloud."""

    def emergency_stop(self) -> None:
        """Stop now and stay until :meth:`release`, whatever command comes."""

    def release(self) -> None:
        """Lift the emergency stop."""


@dataclass(frozen=True)
class Velocity:
    """The velocities sent to the legs: m/s ahead and rad/s to the left."""

    vx: float
    wz: float


@dataclass(frozen=True)
class PartReport:
    """The diagnostics of one part of the robot (``motion``, ``drafter``); level as in diagnostic_msgs, 0 is OK."""

    part: str
    level: int
    message: str
    values: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Notice:
    """A sentence for the operator's log."""

    text: str
    urgent: bool = False


@dataclass(frozen=True)
class PlanReport:
    """How far the plan is.

    Attributes:
        sentence: what was said.
        summary: in a few words.
        steps: of the plan, each with its state: `waiting`, `running`, `done`, or how it failed.
        urgent: whether the operator has to do something.
    """

    sentence: str
    summary: str
    steps: tuple[tuple[str, str], ...] = ()
    urgent: bool = False


@dataclass(frozen=True)
class PlanText:
    """What has been decoded of the plan so far."""

    decoded: DecodedAction


Event = DecodedAction | Velocity | PartReport | Notice | PlanReport | PlanText
Tell = Callable[[Event], None]
"""Takes an event from any thread and returns at once."""
