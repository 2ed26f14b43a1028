"""What the terminal knows of the robot, gathered from its events. No terminal and no clock in here.

Values that have not been refreshed for a while are not shown any more.
"""

from __future__ import annotations

import enum
import math
import re
from collections import deque
from dataclasses import dataclass, field

from spec_decode_ros.robots.guard_types import EMERGENCY, OPERATOR, START, MotionState
from spec_decode_ros.teleop.port import Event, Notice, PartReport, PlanReport, PlanText, Velocity
from spec_decode_ros.viz.decoded_action import DecodedAction

REPORT_S = 3.0
"""Seconds without a report (they come once a second) after which a part counts as silent."""

VELOCITY_S = 0.6
"""Seconds without a velocity (20 a second) after which none is shown, unless the motion node says that it is silent."""

CONFIRM_S = 2.5
"""Seconds that a stop may remain unconfirmed before the operator is told to use the remote control."""

ANSWER_S = 2.0
"""Seconds after which the last action counts as over; the motion node's watchdog is stricter."""

OBEY_S = 0.6
"""The same while the legs are still told to move."""

_GOOD_RTT_MS = (80.0, 160.0, 320.0)
_BATTERY_KEYS = ("battery_percent", "battery", "battery_soc", "soc")
_ANSWERS = 16
_LOG = 200


class BannerKind(enum.Enum):
    """What the banner says, most pressing last."""

    UNKNOWN = "unknown"
    RESTING = "resting"
    MOVING = "moving"
    UNVERIFIED = "unverified"
    STOPPED = "stopped"
    STOPPING = "stopping"
    EMERGENCY = "emergency"
    ALARM = "alarm"


@dataclass(frozen=True)
class Banner:
    """What the robot may do now, and why."""

    kind: BannerKind
    title: str
    detail: str = ""


@dataclass(frozen=True)
class LinkBars:
    """The link to the cloud: ``bars`` 0 to 4, 0 is down; None if unknown."""

    bars: int | None
    word: str
    rtt_ms: float | None = None


@dataclass(frozen=True)
class LogLine:
    """One line of the log. ``kind``: ``you``, ``robot``, ``note``, ``alarm``."""

    when: float
    kind: str
    text: str


@dataclass
class RobotStatus:
    """All events so far. ``now`` is in seconds of one monotonic clock throughout."""

    reports: dict[str, tuple[float, PartReport]] = field(default_factory=dict)
    draft: DecodedAction | None = None
    plan: PlanReport | None = None
    plan_text: DecodedAction | None = None
    answers: deque[DecodedAction] = field(default_factory=lambda: deque(maxlen=_ANSWERS))
    log: deque[LogLine] = field(default_factory=lambda: deque(maxlen=_LOG))
    _velocity: tuple[float, Velocity] | None = None
    _answered: float = float("-inf")
    _stop_asked: float | None = None
    _emergency_asked: float | None = None
    _topic: str = ""
    _troubles: dict[str, str] = field(default_factory=dict)

    # -- in -------------------------------------------------------------------------------------------------

    def take(self, event: Event, now: float) -> None:
        """Note one event."""
        if isinstance(event, Velocity):
            self._velocity = (now, event)
        elif isinstance(event, PartReport):
            self._take_report(event, now)
        elif isinstance(event, Notice):
            if not (self.log and self.log[-1].text == event.text):
                self.note(now, "alarm" if event.urgent else "note", event.text)
        elif isinstance(event, PlanReport):
            self._take_plan(event, now)
        elif isinstance(event, PlanText):
            self.plan_text = event.decoded
        elif event.state == "draft":
            self.draft = event
        else:
            self._take_answer(event, now)

    def _take_report(self, report: PartReport, now: float) -> None:
        self.reports[report.part] = (now, report)
        if report.part == "motion":
            self._confirm(report)  # the banner says the rest
            return
        # Numbers change with every report; only another sentence is logged.
        trouble = re.sub(r"[\d.]+", "", report.message) if report.level > 0 else ""
        if trouble != self._troubles.get(report.part, ""):
            self._troubles[report.part] = trouble
            kind = "alarm" if report.level > 1 else "note"
            self.note(now, kind, f"{report.part}: {report.message or 'well again'}")

    def _take_plan(self, plan: PlanReport, now: float) -> None:
        before, self.plan = self.plan, plan
        if self.plan_text is not None and self.plan_text.command != plan.sentence:
            self.plan_text = None
        if plan.sentence and plan != before:
            self.note(now, "alarm" if plan.urgent else "robot", plan.summary)

    def _confirm(self, report: PartReport) -> None:
        if {OPERATOR, EMERGENCY} & _holds(report):
            self._stop_asked = None
        if report.values.get("emergency_stop") == "True":
            self._emergency_asked = None

    def _take_answer(self, answer: DecodedAction, now: float) -> None:
        self.answers.appendleft(answer)
        self._answered = now
        topic = answer.problem or _summary(answer)
        if topic != self._topic:
            self._topic = topic
            self.note(now, "alarm" if answer.problem else "robot", answer.problem or topic)

    def note(self, now: float, kind: str, text: str) -> None:
        """Add a line to the log."""
        self.log.append(LogLine(now, kind, text))

    def said(self, command: str, now: float) -> None:
        """The operator has given a command."""
        self._stop_asked = None
        self._topic = ""
        self.note(now, "you", command)

    def stop_asked(self, now: float) -> None:
        """The operator wants the robot to stop; the first one counts until it is confirmed."""
        if self._stop_asked is None:
            self._stop_asked = now

    def emergency_asked(self, now: float) -> None:
        """The same for the emergency stop, which only a report confirms."""
        self.stop_asked(now)
        if self._emergency_asked is None:
            self._emergency_asked = now

    @property
    def stop_unconfirmed(self) -> bool:
        """Whether a stop was sent that the motion node has not confirmed: it has to be sent again."""
        return self._stop_asked is not None or self._emergency_asked is not None

    @property
    def emergency_unconfirmed(self) -> bool:
        """The same for the emergency stop."""
        return self._emergency_asked is not None

    def release_asked(self) -> None:
        """The emergency stop is no longer wanted."""
        self._emergency_asked = None

    # -- out ------------------------------------------------------------------------------------------------

    def report(self, part: str, now: float) -> PartReport | None:
        """The newest report of a part; None if it is silent."""
        when, report = self.reports.get(part, (float("-inf"), None))
        return report if now - when <= REPORT_S else None

    def velocity(self, now: float) -> Velocity | None:
        """What is sent to the legs; None if nothing is."""
        if self._velocity is not None and now - self._velocity[0] <= VELOCITY_S:
            return self._velocity[1]
        motion = self.report("motion", now)
        return Velocity(0.0, 0.0) if motion is not None and motion.values.get("silent") == "True" else None

    @property
    def emergency(self) -> bool:
        """Whether the emergency stop is in force or wanted, as far as is known."""
        _, report = self.reports.get("motion", (0.0, None))
        latched = report is not None and report.values.get("emergency_stop") == "True"
        return latched or self._emergency_asked is not None

    def answer(self, now: float) -> DecodedAction | None:
        """The answer that counts now; None if it is none or an old one."""
        return self.answers[0] if self.answers and now - self._answered <= ANSWER_S else None

    def battery(self, now: float) -> float | None:
        """Percent, from the first part that reports it."""
        for part in self.reports:
            for key in _BATTERY_KEYS:
                percent = self.number(part, key, now)
                if percent is not None and 0.0 <= percent <= 100.0:
                    return percent
        return None

    def number(self, part: str, name: str, now: float) -> float | None:
        """One number of a part's report; None if there is none."""
        report = self.report(part, now)
        return _number(report.values.get(name, "")) if report else None

    def link(self, now: float) -> LinkBars:
        """The link to the cloud."""
        drafter = self.report("drafter", now)
        if drafter is None:
            return LinkBars(None, "no drafter")
        if "connected" not in drafter.values:
            return LinkBars(None, "no cloud used")
        if drafter.values["connected"] != "True":
            return LinkBars(0, "cloud gone")
        rtt = _number(drafter.values.get("rtt_ms", ""))
        if rtt is None:
            return LinkBars(1, "connecting")
        bars = 4 - sum(rtt > limit for limit in _GOOD_RTT_MS)
        return LinkBars(bars, ("", "poor", "slow", "fair", "good")[bars], rtt)

    def banner(self, now: float) -> Banner:
        """What the robot may do, from the motion node's reports and velocities."""
        for asked, what in ((self._emergency_asked, "emergency stop"), (self._stop_asked, "stop")):
            if asked is not None and now - asked > (OBEY_S if self._moves(now) else CONFIRM_S):
                return Banner(
                    BannerKind.ALARM,
                    f"{what.upper()} NOT CONFIRMED",
                    "use the remote control! it is sent again and again",
                )
        if self.stop_unconfirmed:
            return Banner(BannerKind.STOPPING, "STOPPING")
        motion = self.report("motion", now)
        if motion is None:
            return Banner(
                BannerKind.UNKNOWN, "NO MOTION NODE", "nothing is heard from it; is robot.launch.py running?"
            )
        return self._banner_of(motion, now)

    def _moves(self, now: float) -> bool:
        velocity = self.velocity(now)
        return velocity is not None and (velocity.vx != 0.0 or velocity.wz != 0.0)

    def _banner_of(self, motion: PartReport, now: float) -> Banner:
        state = motion.values.get("state", "")
        if motion.values.get("emergency_stop") == "True":
            return Banner(BannerKind.EMERGENCY, "EMERGENCY STOP", "latched until you release it: F6, F6")
        if _holds(motion) == {START}:
            return Banner(BannerKind.RESTING, "READY", "say what to do")
        if state == MotionState.HELD.value:
            return Banner(BannerKind.STOPPED, "STOPPED", motion.message)
        moves = self._moves(now)
        last = self.answer(now)
        if state == MotionState.UNVERIFIED.value or (
            last is not None and last.state == "unverified" and moves
        ):
            return Banner(BannerKind.UNVERIFIED, "UNVERIFIED", "on drafts alone, slower")
        if moves:
            return Banner(
                BannerKind.MOVING,
                "MOVING",
                "verified by the cloud" if state == MotionState.VERIFIED.value else "",
            )
        if state == MotionState.IDLE.value:
            return Banner(BannerKind.RESTING, "READY", "say what to do")
        return Banner(BannerKind.RESTING, "STANDING", motion.message)


def _holds(motion: PartReport) -> set[str]:
    """The motion guard's holds in force."""
    return {name.strip() for name in motion.values.get("holds", "").split(",")} - {""}


def _summary(answer: DecodedAction) -> str:
    """What the robot does, without the numbers that change with every frame."""
    note = answer.text.partition("|")[2].strip() or answer.text.strip()
    words = [word for word in note.split() if not re.fullmatch(r"[-+]?[\d.]+|left|right|ahead", word)]
    summary = " ".join(words)
    return summary if answer.state == "verified" else f"{summary} (unverified)"


def _number(text: str) -> float | None:
    try:
        value = float(text.strip().removesuffix("%"))
    except ValueError:
        return None
    return value if math.isfinite(value) else None
