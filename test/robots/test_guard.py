"""The rules of the motion guard, one by one."""

from __future__ import annotations

import itertools
import math

import pytest

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.robots.guard import MotionGuard
from spec_decode_ros.robots.guard_types import (
    EMERGENCY,
    MAX_WATCHDOG_S,
    OPERATOR,
    START,
    MotionLimits,
    MotionState,
)

TICK = 1 / 16  # s; a power of two, so that sums of it are exact


class Drive:
    """A guard with a clock of its own, stepped at 16 Hz; its jerk is as good as unlimited unless asked for."""

    def __init__(self, **limits: float) -> None:
        self.guard = MotionGuard(MotionLimits(**{"max_jx": 1e5, "max_jw": 1e5, **limits}))
        self.now = 128.0
        self.step()

    def command(self, vx: float, wz: float, verified: bool = True, age: float = 0.02, **more: float):
        return self.guard.command(vx, wz, stamp=self.now - age, now=self.now, verified=verified, **more)

    def step(self):
        return self.guard.step(now=self.now)

    def tick(self, count: int = 1):
        out = None
        for _ in range(count):
            self.now += TICK
            out = self.step()
        return out


def test_nothing_moves_before_the_first_action():
    out = Drive().tick(5)
    assert (out.vx, out.wz, out.state) == (0.0, 0.0, MotionState.IDLE)


def test_a_verified_action_is_reached_along_the_ramp_and_not_sooner():
    drive = Drive(max_ax=2.0, max_aw=4.0)
    assert drive.command(0.4, -0.8).accepted
    first = drive.tick()
    assert first.vx == pytest.approx(0.125)
    assert first.wz == pytest.approx(-0.25)
    last = drive.tick(4)
    assert (last.vx, last.wz, last.state) == (0.4, -0.8, MotionState.VERIFIED)


def test_velocities_are_clamped():
    drive = Drive()
    drive.command(50.0, -50.0)
    out = drive.tick(7)
    assert (out.vx, out.wz) == (0.8, -1.0)


@pytest.mark.parametrize("duration", [None, 0.2, 3.0])
def test_an_action_expires_into_an_explicit_stop(duration):
    drive = Drive()
    drive.command(0.4, 0.4, duration_s=duration)
    lasts = min(duration or MAX_WATCHDOG_S, MAX_WATCHDOG_S)
    drive.now += lasts - 0.001
    assert drive.step().moves
    drive.now += 0.001
    out = drive.step()
    assert (out.vx, out.wz, out.state) == (0.0, 0.0, MotionState.STOPPED)
    assert "expired" in out.reason
    assert not drive.tick(50).moves


@pytest.mark.parametrize("verified", [True, False])
def test_zero_is_forwarded_at_once(verified):
    drive = Drive()
    drive.command(0.8, 1.0)
    assert drive.tick(7).vx == 0.8
    verdict = drive.command(0.0, 0.0, verified=verified)
    assert verdict.stopped
    out = drive.step()
    assert (out.vx, out.wz) == (0.0, 0.0)
    assert "says stop" in out.reason


def test_a_zero_component_is_forwarded_at_once_while_the_other_ramps():
    drive = Drive()
    drive.command(0.8, 0.0)
    drive.tick(7)
    drive.command(0.0, 1.0)
    out = drive.tick()
    assert out.vx == 0.0
    assert 0.0 < out.wz < 1.0


def test_braking_to_a_lower_speed_is_smooth():
    drive = Drive(max_ax=2.0)
    drive.command(0.8, 0.0)
    drive.tick(7)
    drive.command(0.2, 0.0)
    assert drive.tick().vx == pytest.approx(0.675)


@pytest.mark.parametrize("age", [0.0, 5.0, -5.0])
def test_an_old_zero_is_obeyed_all_the_same(age):
    drive = Drive()
    drive.command(0.8, 0.0, age=0.0)
    drive.tick(3)
    drive.command(0.0, 0.0, age=age)
    assert not drive.step().moves


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, "0.4", [], True, 10**400])
@pytest.mark.parametrize("field", ["vx", "wz", "stamp", "duration_s", "clock"])
def test_what_is_not_a_number_stops_the_robot_and_says_why(field, bad):
    drive = Drive()
    drive.command(0.8, 0.5)
    assert drive.tick().moves
    arguments = {"vx": 0.1, "wz": 0.1, "stamp": drive.now, "now": drive.now, "verified": True}
    verdict = drive.guard.command(**{**arguments, field: bad})
    assert not verdict.accepted
    assert verdict.stopped
    assert field in verdict.reason
    out = drive.step()
    assert not out.moves
    assert out.reason == verdict.reason


def test_text_that_is_no_action_stops_the_robot_and_says_why():
    drive = Drive()
    drive.command(0.8, 0.5)
    drive.tick()
    text = "full speed ahead"
    verdict, action = drive.guard.command_text(text, stamp=drive.now, now=drive.now, verified=True)
    assert action is None
    assert verdict.stopped
    out = drive.step()
    assert not out.moves
    assert "full speed ahead" in out.reason


def test_text_that_is_an_action_moves():
    drive = Drive()
    text = "vx 0.4 wz -0.2 | red chair right 1.5"
    verdict, action = drive.guard.command_text(text, stamp=drive.now, now=drive.now, verified=True)
    assert verdict.accepted
    assert action is not None
    assert drive.tick(4).vx == 0.4


def test_stale_actions_are_refused_and_the_watchdog_runs_on():
    drive = Drive(max_age_s=1.0)
    drive.command(0.4, 0.0)
    for _ in range(12):
        verdict = drive.command(0.4, 0.0, age=1.01)
        assert not verdict.accepted
        assert "old" in verdict.reason
        out = drive.tick()
    assert not out.moves


def test_actions_from_the_future_are_refused():
    verdict = Drive().command(0.4, 0.0, age=-0.2)
    assert not verdict.accepted
    assert "future" in verdict.reason


def test_out_of_order_and_repeated_actions_are_refused():
    drive = Drive()
    assert drive.command(0.4, 0.0, age=0.1).accepted
    assert not drive.command(0.4, 0.0, age=0.1).accepted
    assert not drive.command(0.4, 0.0, age=0.2).accepted
    assert drive.command(0.4, 0.0, age=0.05).accepted


def test_the_verdict_follows_the_draft_of_its_frame_and_never_the_other_way_round():
    drive = Drive()
    assert drive.command(0.8, 0.0, verified=False, age=0.1).accepted
    assert drive.command(0.2, 0.0, verified=True, age=0.1).accepted
    assert not drive.command(0.8, 0.0, verified=False, age=0.1).accepted
    assert drive.tick(7).vx == 0.2


def test_a_draft_can_be_revised_for_its_frame_but_not_prolonged():
    drive = Drive(unverified_factor=1.0)
    stamp = drive.now
    for tick in range(12):
        drive.guard.command(0.4, 0.0 + 0.01 * tick, stamp=stamp, now=drive.now, verified=False)
        out = drive.tick()
        assert out.moves == (tick < 7), tick
        if out.moves:
            assert out.wz == 0.01 * tick


def test_unverified_actions_run_at_reduced_speed():
    drive = Drive(unverified_factor=0.5)
    drive.command(0.8, -1.0, verified=False)
    out = drive.tick(7)
    assert (out.vx, out.wz, out.state) == (0.4, -0.5, MotionState.UNVERIFIED)


def test_unverified_actions_can_be_switched_off_but_still_stop():
    drive = Drive(unverified_factor=0.0)
    verdict = drive.command(0.8, 0.0, verified=False)
    assert not verdict.accepted
    assert not drive.tick(4).moves
    drive.command(0.8, 0.0)
    assert drive.tick(4).moves
    drive.command(0.0, 0.0, verified=False)
    assert not drive.step().moves


def test_a_draft_keeps_speed_that_a_valid_verified_action_confirms():
    drive = Drive(unverified_factor=0.5)
    drive.command(0.4, 0.4)
    drive.tick(4)
    drive.command(0.6, -0.4, verified=False)
    out = drive.tick(3)
    assert (out.vx, out.wz) == (0.4, -0.2)


def test_a_draft_is_reduced_once_the_verified_action_has_expired():
    drive = Drive(unverified_factor=0.5)
    drive.command(0.4, 0.0)
    drive.tick(6)
    drive.command(0.4, 0.0, verified=False)
    assert drive.tick().vx == 0.4
    assert drive.tick(4).vx == 0.2


def test_the_emergency_stop_is_immediate_and_latches():
    drive = Drive()
    drive.command(0.8, 1.0)
    drive.tick(7)
    drive.guard.emergency_stop("button")
    out = drive.step()
    assert (out.vx, out.wz, out.state) == (0.0, 0.0, MotionState.EMERGENCY)
    assert "button" in out.reason
    for _ in range(5):
        assert not drive.command(0.4, 0.0).accepted
        drive.command(0.0, 0.0)
        assert drive.tick().state is MotionState.EMERGENCY
    drive.guard.command(math.nan, 0.0, stamp=drive.now, now=drive.now, verified=True)
    assert drive.tick().state is MotionState.EMERGENCY
    assert drive.guard.release(clock=drive.now)
    assert not drive.command(0.4, 0.0, age=0.02).accepted, "a frame from before the release"
    assert not drive.tick().moves
    assert drive.command(0.4, 0.0, age=0.02).accepted
    assert drive.tick().moves


def test_release_without_an_emergency_stop_says_so():
    assert not Drive().guard.release(clock=100.0)


def test_holds_are_independent():
    drive = Drive()
    drive.guard.hold(OPERATOR, "stop")
    drive.guard.emergency_stop()
    drive.guard.lift(OPERATOR, clock=drive.now)
    assert list(drive.guard.holds) == [EMERGENCY]
    drive.tick()
    assert not drive.command(0.4, 0.0).accepted
    drive.guard.hold(OPERATOR, "stop")
    drive.guard.release(clock=drive.now)
    drive.tick()
    assert "operator: stop" in drive.command(0.4, 0.0).reason


@pytest.mark.parametrize("which", ["now", "clock"])
def test_a_clock_that_runs_backwards_stops_the_robot_which_then_goes_on_with_the_new_time(which):
    guard = MotionGuard()
    now, clock = 1000.0, 5000.0
    guard.step(now=now, clock=clock)
    guard.command(0.4, 0.0, stamp=clock, now=now, clock=clock, verified=True)
    assert guard.step(now=now + TICK, clock=clock + TICK).moves
    if which == "now":
        now, clock = 10.0, clock + TICK
    else:
        now, clock = now + TICK, 50.0
    out = guard.step(now=now, clock=clock)
    assert not out.moves
    assert "backwards" in out.reason
    now, clock = now + TICK, clock + TICK
    assert not guard.step(now=now, clock=clock).moves
    assert guard.command(0.4, 0.0, stamp=clock - 0.01, now=now, clock=clock, verified=True).accepted
    assert guard.step(now=now + TICK, clock=clock + TICK).moves


def test_a_backwards_clock_does_not_lift_an_emergency_stop():
    drive = Drive()
    drive.guard.emergency_stop()
    drive.now -= 50.0
    assert drive.step().state is MotionState.EMERGENCY
    drive.tick()
    assert not drive.command(0.4, 0.0).accepted


def test_a_clock_that_is_no_number_stops_the_robot():
    drive = Drive()
    drive.command(0.4, 0.0)
    drive.tick()
    assert not drive.guard.step(now=math.nan).moves


def test_a_guard_that_begins_held_lets_nothing_through_before_it_is_lifted():
    guard = MotionGuard(held="waiting for the first command")
    assert "first command" in guard.step(now=1.0).reason
    assert not guard.command(0.4, 0.0, stamp=1.0, now=1.0, verified=True).accepted
    assert guard.lift(START, clock=0.0)
    assert guard.command(0.4, 0.0, stamp=1.0, now=1.1, verified=True).accepted, "the same frame will do"
    assert guard.step(now=1.2).moves


def test_a_robot_that_did_not_follow_starts_from_rest():
    drive = Drive(max_ax=2.0)
    for _ in range(10):
        drive.command(0.8, 1.0)
        drive.tick()
    drive.command(0.8, 1.0)
    drive.guard.start_from_rest()
    assert drive.tick().vx == pytest.approx(0.125)


def test_missed_steps_do_not_add_up_to_a_jump():
    drive = Drive(max_ax=2.0)
    drive.now += 60.0
    drive.command(0.8, 0.0)
    drive.now += 0.4
    assert drive.step().vx == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("watchdog_s", 0.51),
        ("watchdog_s", 0.0),
        ("max_vx", -1.0),
        ("max_ax", 0.0),
        ("max_jx", 0.0),
        ("max_jw", math.inf),
        ("unverified_factor", 1.1),
        ("max_vx", math.nan),
        ("max_vx", math.inf),
        ("max_wz", "1"),
        ("max_aw", None),
        ("max_age_s", True),
    ],
)
def test_limits_that_make_no_sense_are_refused_by_name(name, value):
    with pytest.raises(SpecDecodeError, match=name):
        MotionLimits(**{name: value})


def test_new_limits_stop_the_robot_first():
    drive = Drive()
    drive.command(0.8, 0.0)
    drive.tick(7)
    drive.guard.set_limits(MotionLimits(max_vx=0.1))
    assert not drive.step().moves
    drive.tick()
    drive.command(0.8, 0.0)
    assert drive.tick(4).vx == 0.1


def test_the_acceleration_itself_builds_up_within_the_jerk_limit():
    drive = Drive(max_ax=2.0, max_jx=8.0)
    drive.command(0.8, 0.0)
    speeds = [0.0, *(drive.tick().vx for _ in range(6))]
    rates = [0.0, *((new - old) / TICK for old, new in itertools.pairwise(speeds))]
    assert rates[:5] == pytest.approx([0.0, 0.5, 1.0, 1.5, 2.0])
    assert all(abs(new - old) <= 8.0 * TICK + 1e-9 for old, new in itertools.pairwise(rates))
    assert max(rates) == 2.0


def test_a_stop_is_not_limited_in_jerk():
    drive = Drive(max_jx=1.0, max_jw=1.0)
    drive.command(0.8, 1.0)
    for _ in range(30):
        drive.command(0.8, 1.0)
        assert drive.tick().moves
    drive.command(0.0, 0.0)
    assert not drive.step().moves


def walk_to_standstill(drive: Drive, verified: bool = False, awaited: bool = True) -> int:
    """Ticks that a robot moves for while one awaited draft follows the other; at most 40."""
    for tick in range(40):
        drive.command(0.8, 0.0, verified=verified, awaited=awaited)
        if not drive.tick().moves:
            return tick
    return 40


def test_drafts_whose_verdicts_stay_away_move_the_robot_no_longer_than_one_action():
    drive = Drive(watchdog_s=0.5)
    assert walk_to_standstill(drive) == 7
    assert walk_to_standstill(drive) == 0, "a verdict must come first"
    assert "awaited" in drive.command(0.8, 0.0, verified=False, awaited=True).reason
    drive.command(0.8, 0.0)
    assert walk_to_standstill(drive) == 7


def test_a_draft_may_begin_a_motion_once_for_every_command():
    drive = Drive()
    drive.command(0.8, 0.0)
    drive.tick(20)
    drive.guard.new_command()
    assert walk_to_standstill(drive) == 7
    drive.guard.emergency_stop()
    drive.guard.new_command()
    drive.guard.release(clock=drive.now)
    assert walk_to_standstill(drive) == 0, "a command that was given while the robot was held"


def test_unverified_actions_that_await_no_verdict_go_on_for_as_long_as_they_come():
    assert walk_to_standstill(Drive(), awaited=False) == 40


def test_the_next_expiry_is_when_a_step_stops_the_robot():
    drive = Drive()
    assert drive.guard.next_expiry is None
    drive.command(0.4, 0.0, duration_s=0.3)
    drive.tick(2)
    ends = drive.guard.next_expiry
    assert ends == pytest.approx(128.3)
    assert drive.guard.step(now=ends - 1e-6).moves
    assert not drive.guard.step(now=ends).moves
    assert drive.guard.next_expiry is None


def test_a_clock_that_leaps_ahead_stops_the_robot_until_a_frame_of_the_new_time_comes():
    guard = MotionGuard()
    guard.step(now=100.0, clock=5000.0)
    guard.command(0.4, 0.0, stamp=5000.0, now=100.0, clock=5000.0, verified=True)
    assert guard.step(now=100.05, clock=5000.05).moves
    out = guard.step(now=100.1, clock=5001.0)
    assert not out.moves
    assert "leapt" in out.reason
    assert not guard.command(0.4, 0.0, stamp=5000.9, now=100.2, clock=5001.1, verified=True).accepted
    assert guard.command(0.4, 0.0, stamp=5001.1, now=100.2, clock=5001.1, verified=True).accepted


def test_a_process_that_was_stopped_for_a_while_has_seen_no_leap():
    guard = MotionGuard()
    guard.step(now=100.0, clock=5000.0)
    assert guard.step(now=160.0, clock=5060.0).state is MotionState.IDLE
