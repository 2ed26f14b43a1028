"""The faults: what goes wrong, what guards against it, how it is injected and how it ends."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass

from spec_decode_ros.lab.faults.rig import Rig

_STORM_S = 0.5
_CLOCK_JUMP_S = 10.0


def _nothing(rig: Rig) -> None:
    pass


@dataclass(frozen=True)
class Case:
    """One fault.

    Attributes:
        name: of the case.
        hazard: what goes wrong, for the table.
        guard: what stops the robot.
        inject: makes it go wrong while the robot walks; the time is taken just before.
        heal: ends it.
        prepare: brings about the conditions, before the robot walks.
        while_walking: likewise, when it walks already.
        lasts: whether the robot has to stand until the fault is over; without it, one stop is what is asked for.
        resumes: whether the robot goes on by itself afterwards; without it, it waits for a command.
    """

    name: str
    hazard: str
    guard: str
    inject: Callable[[Rig], None]
    heal: Callable[[Rig], None] = _nothing
    prepare: Callable[[Rig], None] = _nothing
    while_walking: Callable[[Rig], None] = _nothing
    lasts: bool = True
    resumes: bool = True


def _respawn_motion(rig: Rig) -> None:
    rig.motion.start()
    rig.motion.wait_for_line("ready: ", 30.0)


def _use_own_clock(rig: Rig) -> None:
    """motion_node on a clock that can be made to jump; cameras and models stay on the system's."""
    if rig.operator.clock_offset_s is None:
        rig.operator.clock_offset_s = 0.0
        rig.motion.stop()
        rig.motion.start("-p", "use_sim_time:=true")
        rig.motion.wait_for_line("ready: ", 30.0)


def _jump(seconds: float) -> Callable[[Rig], None]:
    def jump(rig: Rig) -> None:
        rig.operator.clock_offset_s = seconds

    return jump


_storm_over = threading.Event()


def _storm(rig: Rig) -> None:
    """Begin the storm, and only then press the button."""
    _storm_over.clear()
    rig.operator.storm(lambda: not _storm_over.is_set())
    rig.watch(_STORM_S)


def _after_storm(rig: Rig) -> None:
    _storm_over.set()
    rig.operator.release()


def _old_frames(rig: Rig) -> None:
    rig.camera.signal(signal.SIGSTOP)
    rig.operator.repeat_frame(True)


def _new_frames(rig: Rig) -> None:
    rig.operator.repeat_frame(False)
    rig.camera.signal(signal.SIGCONT)


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
        lambda rig: rig.cloud.kill(),
        lambda rig: rig.restart_cloud(),
    ),
    Case(
        "drafter-hung",
        "drafter_node hangs (SIGSTOP)",
        "an action ends after 0.42 s; the watchdog is in motion_node",
        lambda rig: rig.drafter.signal(signal.SIGSTOP),
        lambda rig: rig.drafter.signal(signal.SIGCONT),
    ),
    Case(
        "drafter-killed",
        "drafter_node crashes (SIGKILL) and is started again",
        "the same; a new drafter_node has no command and asks for nothing",
        lambda rig: rig.drafter.kill(),
        lambda rig: rig.drafter.start(),
        resumes=False,
    ),
    Case(
        "camera-frozen",
        "the robot's camera gives the same picture again and again",
        "drafter_node stops a moving robot after 0.35 s without a new picture",
        lambda rig: rig.robot.signal(signal.SIGUSR1),
        lambda rig: rig.robot.signal(signal.SIGUSR1),
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
        lambda rig: rig.camera.kill(),
        lambda rig: rig.camera.start(),
    ),
    Case(
        "not-a-number",
        "a verified action of NaN arrives",
        "motion_node stops at once and says why",
        lambda rig: rig.operator.not_a_number(),
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
        _after_storm,
        while_walking=_storm,
    ),
    Case(
        "motion-hung",
        "motion_node itself hangs (SIGSTOP)",
        "a second process holds the Go2's brake",
        lambda rig: rig.motion.signal(signal.SIGSTOP),
        lambda rig: rig.motion.signal(signal.SIGCONT),
    ),
    Case(
        "motion-killed",
        "motion_node crashes (SIGKILL) and is started again",
        "the same; a new motion_node waits for a command",
        lambda rig: rig.motion.kill(),
        _respawn_motion,
        resumes=False,
    ),
    Case(
        "clock-back",
        "the clock of motion_node jumps back by 10 s",
        "motion_node stops at once; frames from the future are refused",
        _jump(-_CLOCK_JUMP_S),
        _jump(0.0),
        prepare=_use_own_clock,
    ),
    Case(
        "clock-ahead",
        "the clock of motion_node leaps ahead by 10 s",
        "motion_node stops at once; stale frames are refused",
        _jump(_CLOCK_JUMP_S),
        _jump(0.0),
        prepare=_use_own_clock,
    ),
)

QUICK = ("link-lost", "camera-frozen", "emergency-stop", "motion-hung")
"""The cases that a short run tries."""
