"""The faults of one robot: what goes wrong, what guards against it, how it is injected and how it is ended."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass

from spec_decode_ros.lab.faults.rig import Rig

_STORM_S = 0.5
_CLOCK_JUMP_S = 10.0

Step = Callable[[Rig], None]


def _nothing(rig: Rig) -> None:
    pass


@dataclass(frozen=True)
class Case:
    """One fault: what goes wrong, and what stops the robot.

    `inject` injects it while the robot walks, and `heal` ends it. `prepare` makes it possible before the robot walks,
    `while_walking` when it walks. If it `lasts`, the robot has to stand until it is over; else one stop is enough. If it
    `resumes`, the robot goes on by itself afterwards; else it waits for a command.
    """

    name: str
    hazard: str
    guard: str
    inject: Step
    heal: Step = _nothing
    prepare: Step = _nothing
    while_walking: Step = _nothing
    lasts: bool = True
    resumes: bool = True


def _signal(process: str, number: signal.Signals) -> Step:
    return lambda rig: rig[process].signal(number)


def _kill(process: str) -> Step:
    return lambda rig: rig[process].kill()


def _start(process: str) -> Step:
    return lambda rig: rig[process].start()


def _start_motion(rig: Rig, *arguments: str) -> None:
    rig["motion_node"].start(*arguments)
    rig["motion_node"].wait_for_line("ready: ", 30.0)


def _use_own_clock(rig: Rig) -> None:
    """Restart motion_node on a clock that can be made to jump; cameras and models stay on the system's."""
    if rig.operator.clock_offset_s is None:
        rig.operator.clock_offset_s = 0.0
        rig["motion_node"].interrupt()
        rig["motion_node"].finish()
        _start_motion(rig, "-p", "use_sim_time:=true")


def _clock_offset(seconds: float) -> Step:
    def set_offset(rig: Rig) -> None:
        rig.operator.clock_offset_s = seconds

    return set_offset


_storm_over = threading.Event()


def _begin_storm(rig: Rig) -> None:
    _storm_over.clear()
    rig.operator.storm(lambda: not _storm_over.is_set())
    rig.watch(_STORM_S)


def _end_storm(rig: Rig) -> None:
    _storm_over.set()
    rig.operator.release()


def _old_frames(rig: Rig) -> None:
    rig["camera_node"].signal(signal.SIGSTOP)
    rig.operator.repeat_frame(True)


def _new_frames(rig: Rig) -> None:
    rig.operator.repeat_frame(False)
    rig["camera_node"].signal(signal.SIGCONT)


CASES = (
    Case(
        "link-lost",
        "the link to the cloud is lost in mid-action",
        "an action ends after 0.42 s, and no draft outlives the last verdict",
        lambda rig: rig.link.cut(),
        lambda rig: rig.link.mend(),
    ),
    Case(
        "cloud-killed",
        "the verifier is killed",
        "the same",
        _kill("verifier"),
        lambda rig: rig.restart_verifier(),
    ),
    Case(
        "drafter-hung",
        "drafter_node hangs (SIGSTOP)",
        "an action ends after 0.42 s; the watchdog is in motion_node",
        _signal("drafter_node", signal.SIGSTOP),
        _signal("drafter_node", signal.SIGCONT),
    ),
    Case(
        "drafter-killed",
        "drafter_node crashes (SIGKILL) and is started again",
        "the same; a new drafter_node has no command and asks for nothing",
        _kill("drafter_node"),
        _start("drafter_node"),
        resumes=False,
    ),
    Case(
        "camera-frozen",
        "the robot's camera gives the same picture again and again",
        "drafter_node stops a moving robot after 0.35 s without a new picture",
        _signal("go2-sim", signal.SIGUSR1),
        _signal("go2-sim", signal.SIGUSR1),
    ),
    Case(
        "camera-old",
        "the same old frame comes again and again, with its old stamp",
        "the same",
        _old_frames,
        _new_frames,
    ),
    Case(
        "camera-killed",
        "camera_node crashes (SIGKILL) and is started again",
        "the same",
        _kill("camera_node"),
        _start("camera_node"),
    ),
    Case(
        "not-a-number",
        "a verified action of NaN arrives",
        "motion_node stops at once and says why",
        lambda rig: rig.operator.act(math.nan, 0.0),
        lasts=False,
    ),
    Case(
        "operator-stop",
        "the operator says “stop”",
        "motion_node stops at once, without any model, and waits for the next command",
        lambda rig: rig.operator.say("stop"),
        resumes=False,
    ),
    Case(
        "emergency-stop",
        "emergency stop while walking",
        "motion_node stops at once and latches until it is released",
        lambda rig: rig.operator.emergency_stop(),
        lambda rig: rig.operator.release(),
    ),
    Case(
        "action-storm",
        "emergency stop in a storm of 1000 wild actions a second",
        "the same; of a storm the newest action counts, within all limits",
        lambda rig: rig.operator.emergency_stop(),
        _end_storm,
        while_walking=_begin_storm,
    ),
    Case(
        "motion-hung",
        "motion_node itself hangs (SIGSTOP)",
        "a second process holds the Go2's brake",
        _signal("motion_node", signal.SIGSTOP),
        _signal("motion_node", signal.SIGCONT),
    ),
    Case(
        "motion-killed",
        "motion_node crashes (SIGKILL) and is started again",
        "the same; a new motion_node waits for a command",
        _kill("motion_node"),
        _start_motion,
        resumes=False,
    ),
    Case(
        "clock-back",
        "the clock of motion_node jumps back by 10 s",
        "motion_node stops at once; frames from the future are refused",
        _clock_offset(-_CLOCK_JUMP_S),
        _clock_offset(0.0),
        prepare=_use_own_clock,
    ),
    Case(
        "clock-ahead",
        "the clock of motion_node leaps ahead by 10 s",
        "motion_node stops at once; stale frames are refused",
        _clock_offset(_CLOCK_JUMP_S),
        _clock_offset(0.0),
        prepare=_use_own_clock,
    ),
)

QUICK = ("link-lost", "camera-frozen", "emergency-stop", "motion-hung")
"""The cases of a short run."""
