"""Puts what odometry measured into notes that count, such as `turning 45`.

The pair knows how far it has turned or walked only from the number in its own last note, which it steps on as if the
robot had done exactly what it was told. Where there is odometry, the next prompt has that note with the number that
lets the pair arrive at what is really left.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from spec_decode_ros.actions.action import ACTION_PERIOD_S, ActionError, parse_action
from spec_decode_ros.actions.commands import TURN_STEP_DEG
from spec_decode_ros.edge.odometer import Travel

_COUNTING = re.compile(r"(searching|turning|walking) ([0-9]{1,3}(?:\.[0-9])?)", re.ASCII)

_PATIENCE = 2.0
"""Times the steps that a motion should take, after which the pair counts by itself again: a robot that is held fast
must not turn for ever."""


@dataclass(frozen=True)
class _Counted:
    """A note that counts: degrees turned so far, or degrees or metres left, when the action began."""

    word: str
    number: float
    direction: float
    step: float

    @classmethod
    def of(cls, text: str | None) -> _Counted | None:
        try:
            action = parse_action(text or "")
        except ActionError:
            return None
        match = _COUNTING.fullmatch(action.note)
        rate = action.vx if match and match[1] == "walking" else action.wz
        if not match or rate == 0.0:
            return None
        step = abs(rate) * ACTION_PERIOD_S
        if match[1] != "walking":
            step = math.degrees(step)
        return cls(match[1], float(match[2]), math.copysign(1.0, rate), step)


class ActionCounter:
    """Follows one command's counting from its first action on."""

    def __init__(self) -> None:
        self._begun: tuple[_Counted, Travel] | None = None
        self._steps = 0

    def decided(self, text: str | None, travel: Travel | None) -> None:
        """An action was decided on; ``travel`` is where the robot was when it began, None without odometry."""
        now = _Counted.of(text)
        if now is None or travel is None:
            self._begun = None
            return
        same = self._begun is not None and _same_motion(self._begun[0], now)
        self._steps = self._steps + 1 if same else 0
        if not same:
            self._begun = now, travel

    def measured(self, text: str, travel: Travel | None) -> str:
        """The last action's text with the number from which one more step leads to what ``travel`` has measured."""
        last = _Counted.of(text)
        if self._begun is None or travel is None or last is None or not _same_motion(self._begun[0], last):
            return text
        begun, start = self._begun
        whole = 360.0 if begun.word == "searching" else begun.number
        if self._steps > _PATIENCE * whole / begun.step + 2:
            return text
        if begun.word == "walking":
            covered = (travel.walked - start.walked) * begun.direction
            left = begun.number - covered + last.step
            return _with_number(text, f"{min(max(left, last.step), begun.number):.1f}")
        covered = math.degrees(travel.turned - start.turned) * begun.direction
        if begun.word == "searching":
            number = max(begun.number + covered - last.step, 0.0)
        else:
            number = min(max(begun.number - covered + last.step, last.step), begun.number)
        return _with_number(text, str(TURN_STEP_DEG * round(number / TURN_STEP_DEG)))


def _same_motion(one: _Counted, other: _Counted) -> bool:
    return (one.word, one.direction) == (other.word, other.direction)


def _with_number(text: str, number: str) -> str:
    return f"{text.rpartition(' ')[0]} {number}"
