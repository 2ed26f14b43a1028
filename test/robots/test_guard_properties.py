"""No sequence of inputs gets more out of the guard than its limits allow."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from spec_decode_ros.robots.guard import MAX_CLOCK_LEAP_S, MAX_STEP_S, MotionGuard, MotionLimits
from spec_decode_ros.robots.ramp import CLOSE, Ramp

limits = st.builds(
    MotionLimits,
    max_vx=st.floats(0.0, 3.0),
    max_wz=st.floats(0.0, 4.0),
    max_ax=st.floats(0.01, 20.0),
    max_aw=st.floats(0.01, 40.0),
    max_jx=st.floats(0.1, 1000.0),
    max_jw=st.floats(0.1, 1000.0),
    watchdog_s=st.floats(0.01, 0.5),
    max_age_s=st.floats(0.01, 10.0),
    max_future_s=st.floats(0.0, 1.0),
    unverified_factor=st.floats(0.0, 1.0),
)
# Mostly sensible numbers, so that the robot moves at all, and some that are anything.
speeds = st.one_of(st.floats(-2.0, 2.0), st.sampled_from([0.0, -0.0]), st.floats())
ages = st.one_of(st.floats(0.0, 0.3), st.floats(-1.0, 12.0), st.floats())
waits = st.one_of(st.floats(0.0, 0.2), st.floats(0.0, 5.0))


class GuardMachine(RuleBasedStateMachine):
    """Drives a guard at random and keeps an account of its own of what may come out."""

    @initialize(limits=limits)
    def begin(self, limits: MotionLimits) -> None:
        self.guard = MotionGuard(limits)
        self.now = 1000.0
        self.clock = 1_700_000_000.0
        self.stepped: float | None = None
        self.out = (0.0, 0.0)
        self.rate = (0.0, 0.0)  # m/s² and rad/s² of the last step, which lasted rate_over seconds
        self.rate_over = MAX_STEP_S
        self.latched = False
        self.may_begin = True
        self.confirmed_until = -math.inf  # the longest that anything may run on advances
        self.fresh_until = -math.inf  # the longest that any accepted action may live
        self.verified_until = -math.inf
        self.verified_most = (0.0, 0.0)
        self.draft_most = (0.0, 0.0)
        self.must_stop = False

    @rule(
        vx=speeds,
        wz=speeds,
        age=ages,
        verified=st.booleans(),
        awaited=st.booleans(),
        duration=st.none() | st.floats(-1.0, 2.0),
    )
    def command(self, vx, wz, age, verified, awaited, duration):
        stamp, times = self.clock - age, {"now": self.now, "clock": self.clock, "duration_s": duration}
        verdict = self.guard.command(vx, wz, stamp=stamp, verified=verified, awaited=awaited, **times)
        if not all(math.isfinite(value) for value in (vx, wz, stamp)):
            assert not verdict.accepted
            assert verdict.stopped
        if vx == 0.0 and wz == 0.0 and math.isfinite(age):
            assert verdict.stopped
        if verdict.stopped:
            self.must_stop = True
            self.fresh_until = -math.inf
        elif verdict.accepted:
            self.must_stop = False
            assert not self.latched
            assert age <= self.guard.limits.max_age_s + 1e-6
            longest = self.now + self.guard.limits.watchdog_s
            self.fresh_until = max(self.fresh_until, longest)
            if verified or not awaited:
                self.confirmed_until = longest
            elif self.now >= self.confirmed_until:
                assert self.may_begin, "an advance where there is nothing to advance on"
                self.confirmed_until = longest
            self.may_begin = self.may_begin and (verified or not awaited)
            if verified:
                self.verified_until, self.verified_most = longest, (abs(vx), abs(wz))
                self.draft_most = (0.0, 0.0)
            else:
                self.draft_most = (abs(vx), abs(wz))

    @rule(text=st.text(max_size=60))
    def any_text(self, text):
        verdict, action = self.guard.command_text(
            text, stamp=self.clock, now=self.now, clock=self.clock, verified=True
        )
        if action is None:
            assert verdict.stopped
            self.must_stop = True

    @rule(wait=waits)
    def step(self, wait):
        self.now += wait
        self.clock += wait
        self.take_step()

    def take_step(self, backwards: bool = False) -> None:
        out = self.guard.step(now=self.now, clock=self.clock)
        limits = self.guard.limits
        assert math.isfinite(out.vx)
        assert math.isfinite(out.wz)
        assert abs(out.vx) <= limits.max_vx
        assert abs(out.wz) <= limits.max_wz
        elapsed = 0.0 if self.stepped is None else max(0.0, min(self.now - self.stepped, MAX_STEP_S))
        self.rate = (
            self.check_change(out.vx, self.out[0], self.rate[0], elapsed, limits.max_ax, limits.max_jx),
            self.check_change(out.wz, self.out[1], self.rate[1], elapsed, limits.max_aw, limits.max_jw),
        )
        self.rate_over = elapsed or self.rate_over
        if self.latched or self.must_stop or backwards or self.now >= self.fresh_until:
            assert (out.vx, out.wz) == (0.0, 0.0)
        if self.now >= self.confirmed_until:
            assert (out.vx, out.wz) == (0.0, 0.0)
        self.stepped, self.out = self.now, (out.vx, out.wz)
        assert out.reason

    def check_change(self, new, old, rate, elapsed, most, jerk) -> float:
        """The rate of change, after making sure that it and its own change are allowed."""
        if new == 0.0:
            return 0.0  # a zero is never delayed: the one exception from both limits
        if elapsed == 0.0:
            assert new == old
            return rate
        # A velocity that is nearly there is set to what is wanted; that may be seen as acceleration and as jerk.
        rounding = CLOSE / elapsed + CLOSE / self.rate_over
        assert abs(new - old) <= most * elapsed + CLOSE
        assert abs((new - old) / elapsed - rate) <= jerk * elapsed * (1.0 + 1e-9) + rounding + 1e-6
        return (new - old) / elapsed

    @rule(ahead=st.floats(MAX_CLOCK_LEAP_S + 0.001, 1000.0))
    def leap_ahead(self, ahead):
        """The clock of the stamps alone; nothing shown before may be carried out after."""
        self.clock += ahead
        self.fresh_until = -math.inf
        self.must_stop = True
        self.take_step()

    @rule(back=st.floats(0.001, 1000.0), which=st.sampled_from(["now", "clock", "both"]))
    def jump_back(self, back, which):
        before = self.guard.step(now=self.now, clock=self.clock)
        if self.stepped is not None and self.now == self.stepped:
            assert (before.vx, before.wz) in (self.out, (0.0, 0.0), (self.out[0], 0.0), (0.0, self.out[1]))
        self.out, self.stepped = (before.vx, before.wz), self.now
        if which != "clock":
            self.now -= back
        if which != "now":
            self.clock -= back
        self.fresh_until = -math.inf
        self.must_stop = True
        self.take_step(backwards=True)

    @rule()
    def emergency(self):
        self.guard.emergency_stop("test")
        self.latched = self.must_stop = True
        self.may_begin = False

    @rule()
    def new_command(self):
        self.guard.new_command()
        self.may_begin = self.may_begin or not self.latched

    @rule()
    def release(self):
        assert self.guard.release(clock=self.clock) == self.latched
        if self.latched:
            self.must_stop = True
            self.fresh_until = -math.inf
        self.latched = False

    @invariant()
    def latch_is_reported(self):
        if hasattr(self, "guard"):
            assert bool(self.guard.holds) == self.latched


@settings(max_examples=300)
@given(
    wanted=st.lists(st.tuples(st.floats(-3.0, 3.0), st.floats(0.0, MAX_STEP_S)), min_size=1, max_size=60),
    acceleration=st.floats(0.01, 20.0),
    jerk=st.floats(0.1, 1e5),
)
def test_a_ramp_stays_within_what_was_wanted(wanted, acceleration, jerk):
    ramp = Ramp()
    for velocity, elapsed in wanted:
        ramp.step(velocity, elapsed, acceleration, jerk)
        assert -CLOSE + min(0.0, *(v for v, _ in wanted)) <= ramp.velocity
        assert ramp.velocity <= max(0.0, *(v for v, _ in wanted)) + CLOSE


@settings(max_examples=200)
@given(
    wanted=st.floats(-3.0, 3.0),
    begin=st.floats(-3.0, 3.0),
    acceleration=st.floats(0.5, 20.0),
    jerk=st.floats(5.0, 1e5),
    period=st.floats(0.01, MAX_STEP_S),
)
def test_a_ramp_gets_there(wanted, begin, acceleration, jerk, period):
    ramp = Ramp()
    for _ in range(5):
        ramp.step(begin, period, acceleration, jerk)
    for _ in range(2500):
        ramp.step(wanted, period, acceleration, jerk)
    assert ramp.velocity == wanted


TestGuardMachine = GuardMachine.TestCase
TestGuardMachine.settings = settings(max_examples=300, stateful_step_count=40)


@settings(max_examples=300)
@given(
    limits=limits,
    vx=st.floats(-2, 2),
    wz=st.floats(-2, 2),
    verified=st.lists(st.tuples(st.floats(-2, 2), st.floats(-2, 2)), max_size=1),
)
def test_unverified_speed_is_reduced_or_confirmed(limits, vx, wz, verified):
    guard = MotionGuard(limits)
    guard.step(now=1.0)
    for confirmed in verified:
        guard.command(*confirmed, stamp=1.0, now=1.0, verified=True)
    guard.command(vx, wz, stamp=1.005, now=1.005, verified=False)
    confirmed = verified[0] if verified else (0.0, 0.0)
    factor = limits.unverified_factor
    bounds = [max(abs(v) * factor, abs(c)) for v, c in zip((vx, wz), confirmed, strict=True)]
    now = 1.0
    for _ in range(60):
        now += 0.01
        out = guard.step(now=now)
        assert abs(out.vx) <= bounds[0] + 1e-12
        assert abs(out.wz) <= bounds[1] + 1e-12
    assert not out.moves
