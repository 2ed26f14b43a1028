"""The motion guard: a state machine between any model and the robot's velocity input.

:class:`MotionGuard` has no clock, no thread and no I/O. Its caller passes the time in, offers actions as they come
(:meth:`~MotionGuard.command`, :meth:`~MotionGuard.command_text`) and asks at a fixed rate what to send
(:meth:`~MotionGuard.step`). It trusts nothing that it is given:

*Magnitude.* Every velocity that comes out is within :class:`MotionLimits`.

*Acceleration and jerk.* Between two steps a velocity changes by no more than its acceleration limit allows, and
its acceleration by no more than the jerk limit allows (see :mod:`~spec_decode_ros.robots.ramp`), with one
exception: **a zero is never delayed**. Where a component of the wanted velocity is zero, that component is
zero in the very next step. Stopping late is worse than stopping hard, and a walking controller decelerates
the body itself. So braking to a lower speed is smooth, stopping is at once.

*Expiry.* An action ends after its duration, and after ``watchdog_s`` (at most 0.5 s) in any case. What
comes out then is an explicit zero, in every further step, until a fresh action is accepted.

*Freshness.* ``stamp`` says when the camera frame behind an action was taken. An action that is too old,
from the future, or not newer than the last one accepted is refused; it changes nothing and the watchdog
runs on. The verified action for a frame does follow the draft for the same frame, never the other way
round. A draft may be revised for the same frame, which does not prolong it. A zero is obeyed whatever its
stamp is.

*Unverified actions* run at ``unverified_factor`` of what they ask for, at 0 not at all. Only speed that a
still valid verified action also asks for, in the same direction, is not reduced; so a confirmed walk does
not stutter with every draft.

*Awaited drafts.* A draft whose verdict is still awaited runs no longer than the last verified action does, so a
robot whose verdicts stay away stops as soon as one whose actions stay away. Only after
:meth:`~MotionGuard.new_command` may one such draft set a standing robot in motion, for one action's time.

*Bad input.* NaN, infinities, non-numbers and text that is not an action stop the robot and say why.

*Holds.* An emergency stop latches until :meth:`~MotionGuard.release`. The operator's ``stop`` and sitting
down hold the robot in the same way, each until it is lifted. No action from before the lifting is carried
out after it.

*Clocks.* ``now`` drives expiry and ramps and should be monotonic; ``clock`` is the clock of the stamps and
is ``now`` if not given. If either runs backwards, or ``clock`` leaps ahead of ``now``, the robot stops and waits
for an action with a stamp of the new time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from spec_decode_ros.actions.action import Action, ActionError, parse_action
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.robots.guard_types import (
    EMERGENCY,
    START,
    GuardDecision,
    MotionLimits,
    MotionOutput,
    MotionState,
)
from spec_decode_ros.robots.ramp import Ramp

MAX_STEP_S = 0.1
"""Seconds of acceleration that one step may make up for after missed steps."""

MAX_CLOCK_LEAP_S = 0.5
"""Seconds that the clock of the stamps may gain on the monotonic one between two looks at both."""


@dataclass(frozen=True)
class _Active:
    vx: float
    wz: float
    until: float


class MotionGuard:
    """Applies the rules above. Not thread-safe: call it from one thread or under one lock."""

    def __init__(self, limits: MotionLimits | None = None, held: str = "") -> None:
        """``held``: why it begins with a hold named :data:`START`; without a reason it does not."""
        self._limits = limits or MotionLimits()
        self._verified: _Active | None = None
        self._draft: _Active | None = None
        self._holds: dict[str, str] = {START: held} if held else {}
        self._newest: tuple[float, bool] | None = None  # (stamp, verified) of the last action accepted
        self._newest_until = 0.0
        self._not_before = -math.inf  # stamps up to here are from before a stop or a release
        self._now: float | None = None
        self._clock: float | None = None
        self._stepped: float | None = None
        self._vx, self._wz = Ramp(), Ramp()
        self._awaited_until = -math.inf  # how long awaited drafts may run
        self._may_start_on_draft = True  # whether an awaited draft may set it in motion
        self._state = MotionState.IDLE
        self._reason = held or "no action yet"

    @property
    def limits(self) -> MotionLimits:
        return self._limits

    def set_limits(self, limits: MotionLimits) -> None:
        """Change the limits; the robot stops and the next action runs under the new ones."""
        self._limits = limits
        self._stop("the limits were changed")

    @property
    def holds(self) -> dict[str, str]:
        """Name of each hold in force and why it was set."""
        return dict(self._holds)

    # -- actions in ---------------------------------------------------------------------------------------

    def command(
        self,
        vx: float,
        wz: float,
        *,
        stamp: float,
        now: float,
        verified: bool,
        awaited: bool = False,
        duration_s: float | None = None,
        clock: float | None = None,
    ) -> GuardDecision:
        """Offer an action.

        Args:
            vx: m/s forward.
            wz: rad/s, left positive.
            stamp: seconds, when the frame behind the action was taken, on ``clock``.
            now: seconds, monotonic.
            verified: whether the target model has confirmed it.
            awaited: whether its verdict is still to come; of no meaning where it is verified.
            duration_s: seconds that it lasts from now; the watchdog's time if None, and never longer.
            clock: seconds on the clock of the stamps; ``now`` if None.
        """
        clock = now if clock is None else clock
        duration_s = self._limits.watchdog_s if duration_s is None else duration_s
        if problem := _not_finite(vx=vx, wz=wz, stamp=stamp, now=now, clock=clock, duration_s=duration_s):
            return self.reject(problem)
        if not self._keep_time(now, clock):
            return GuardDecision(False, self._reason, stopped=True)
        if vx == 0.0 and wz == 0.0:
            return self._take_zero(stamp, now, clock, verified)
        if refusal := self._why_refused(stamp, clock, verified):
            return GuardDecision(False, refusal)
        if duration_s <= 0.0:
            return self.reject(f"the action lasts {duration_s!r} s, which is no time at all")
        until = now + min(duration_s, self._limits.watchdog_s)
        if (stamp, verified) == self._newest:
            until = min(until, self._newest_until)
        if awaited and not verified:
            if now >= self._awaited_until and not self._may_start_on_draft:
                return GuardDecision(False, "the verdict on the last draft is still awaited")
            until = self._limit_awaited(until, now)
        self._accept(vx, wz, stamp, verified, until)
        return GuardDecision(True, "verified action" if verified else "unverified action")

    def _why_refused(self, stamp: float, clock: float, verified: bool) -> str | None:
        if self._holds:
            return f"the robot is held: {self._hold_reason()}"
        if refusal := self._why_not_fresh(stamp, clock, verified):
            return refusal
        if not verified and self._limits.unverified_factor == 0.0:
            return "unverified actions are switched off (unverified_factor is 0)"
        return None

    def _limit_awaited(self, until: float, now: float) -> float:
        """When a draft ends that awaits its verdict; with no verified action running, it sets the robot in motion."""
        if now >= self._awaited_until:
            self._awaited_until = until
        self._may_start_on_draft = False
        return min(until, self._awaited_until)

    def _accept(self, vx: float, wz: float, stamp: float, verified: bool, until: float) -> None:
        active = _Active(_clamp(vx, self._limits.max_vx), _clamp(wz, self._limits.max_wz), until)
        if verified:
            self._awaited_until = until
            self._verified, self._draft = active, None
        else:
            self._draft = active
        self._newest, self._newest_until = (stamp, verified), until

    def new_command(self) -> None:
        """The operator wants something new: the next draft may set the robot in motion before its verdict."""
        if not self._holds:
            self._may_start_on_draft = True

    def command_text(
        self, text: str, *, stamp: float, now: float, verified: bool, clock: float | None = None
    ) -> tuple[GuardDecision, Action | None]:
        """Offer an action as the model wrote it; text that is not an action stops the robot."""
        try:
            action = parse_action(text)
        except ActionError as error:
            return self.reject(str(error)), None
        decision = self.command(action.vx, action.wz, stamp=stamp, now=now, verified=verified, clock=clock)
        return decision, action

    def reject(self, reason: str) -> GuardDecision:
        """Stop because of unusable input; ``reason`` says what is wrong with it."""
        self._stop(reason)
        return GuardDecision(False, reason, stopped=True)

    # -- stops and holds -----------------------------------------------------------------------------------

    def emergency_stop(self, reason: str = "emergency stop") -> None:
        """Zero in the next step and in all further ones until :meth:`release`."""
        self.hold(EMERGENCY, reason)

    def release(self, *, clock: float) -> bool:
        """Lift the emergency stop; whether there was one. Frames from before ``clock`` stay refused."""
        return self.lift(EMERGENCY, clock=clock)

    def hold(self, name: str, reason: str) -> None:
        """Zero from the next step on until :meth:`lift` with the same name."""
        self._holds[name] = reason
        self._awaited_until, self._may_start_on_draft = -math.inf, False
        self._stop(reason)

    def lift(self, name: str, *, clock: float) -> bool:
        """Lift one hold; whether it was set. The robot does not move before a newer frame asks for it."""
        if name not in self._holds:
            return False
        if not _is_finite(clock):
            raise SpecDecodeError(f"the time of a release is {clock!r}, but must be a finite number")
        del self._holds[name]
        self._not_before = max(self._not_before, clock)
        self._stop("released, waiting for a new action")
        return True

    def start_from_rest(self) -> None:
        """The robot stands and has not followed the output: the next velocities begin at zero again."""
        self._vx.stop()
        self._wz.stop()

    @property
    def next_expiry(self) -> float | None:
        """When, on the monotonic clock, the next of the present actions ends: the time of the next step at the latest."""
        return min((active.until for active in (self._verified, self._draft) if active), default=None)

    # -- velocities out -------------------------------------------------------------------------------------

    def step(self, *, now: float, clock: float | None = None) -> MotionOutput:
        """What to send now. Call it at a fixed rate (20 Hz), and at once when a decision says ``stopped``."""
        clock = now if clock is None else clock
        if not (_is_finite(now) and _is_finite(clock)):
            self._stop(f"the clock reads {now!r}, {clock!r}; the robot stops")
            return self._emit(0.0, 0.0, 0.0)
        if not self._keep_time(now, clock):
            self._stepped = now
            return self._emit(0.0, 0.0, 0.0)
        elapsed = 0.0 if self._stepped is None else min(max(now - self._stepped, 0.0), MAX_STEP_S)
        self._stepped = now
        vx, wz = self._wanted(now)
        return self._emit(vx, wz, elapsed)

    def _wanted(self, now: float) -> tuple[float, float]:
        if self._holds:
            return 0.0, 0.0
        verified = self._verified if self._verified and now < self._verified.until else None
        draft = self._draft if self._draft and now < self._draft.until else None
        if (self._verified or self._draft) and not (verified or draft):
            self._stop("the last action has expired and no fresh one has come")
            return 0.0, 0.0
        self._verified, self._draft = verified, draft
        if draft:
            self._state, self._reason = MotionState.UNVERIFIED, "unverified action"
            factor = self._limits.unverified_factor
            seen = verified or _Active(0.0, 0.0, now)
            return _reduce(draft.vx, seen.vx, factor), _reduce(draft.wz, seen.wz, factor)
        if verified:
            self._state, self._reason = MotionState.VERIFIED, "verified action"
            return verified.vx, verified.wz
        return 0.0, 0.0

    def _emit(self, vx: float, wz: float, elapsed: float) -> MotionOutput:
        limits = self._limits
        return MotionOutput(
            _clamp(self._vx.step(vx, elapsed, limits.max_ax, limits.max_jx), limits.max_vx),
            _clamp(self._wz.step(wz, elapsed, limits.max_aw, limits.max_jw), limits.max_wz),
            self._state,
            self._reason,
        )

    # -- rules ----------------------------------------------------------------------------------------------

    def _take_zero(self, stamp: float, now: float, clock: float, verified: bool) -> GuardDecision:
        kind = "a verified" if verified else "an unverified"
        late = self._why_not_fresh(stamp, clock, verified)
        if not self._holds:
            self._stop(f"{kind} action says stop")
        if not late:
            self._newest, self._newest_until = (stamp, verified), now + self._limits.watchdog_s
        return GuardDecision(True, f"{kind} action says stop", stopped=True)

    def _why_not_fresh(self, stamp: float, clock: float, verified: bool) -> str | None:
        age = clock - stamp
        if age > self._limits.max_age_s:
            return (
                f"the frame behind the action is {age:.2f} s old, at most {self._limits.max_age_s:g} s are "
                "allowed; is the link slow, or is the stamp not set?"
            )
        if age < -self._limits.max_future_s:
            return f"the action is stamped {-age:.2f} s in the future; the clocks differ"
        if stamp <= self._not_before:
            return "the frame behind the action is from before the last stop was lifted"
        revised = not verified and (stamp, verified) == self._newest
        if self._newest is not None and (stamp, verified) <= self._newest and not revised:
            return "an action for this frame or a newer one has come already"
        return None

    def _keep_time(self, now: float, clock: float) -> bool:
        """Note the time; False if a clock jumped, and then nothing from before it counts any more."""
        last_now, last_clock = self._now, self._clock
        self._now, self._clock = now, clock
        if last_now is None or last_clock is None:
            return True
        if now < last_now or clock < last_clock:
            jump = "ran backwards"
        elif (clock - last_clock) - (now - last_now) > MAX_CLOCK_LEAP_S:
            jump = "leapt ahead"
        else:
            return True
        self._newest = None
        self._not_before = clock
        self._stop(f"the clock {jump}; waiting for a new action")
        return False

    def _stop(self, reason: str) -> None:
        self._verified = self._draft = None
        if self._holds:
            self._state = MotionState.EMERGENCY if EMERGENCY in self._holds else MotionState.HELD
            self._reason = self._hold_reason()
        else:
            self._state, self._reason = MotionState.STOPPED, reason

    def _hold_reason(self) -> str:
        name = EMERGENCY if EMERGENCY in self._holds else next(iter(self._holds))
        reason = self._holds[name]
        return reason if reason == name else f"{name}: {reason}"


def _not_finite(**values: object) -> str:
    """Which of the values is not a finite number, in words; empty if all are."""
    bad = next((name for name, value in values.items() if not _is_finite(value)), None)
    return "" if bad is None else f"{bad} is {values[bad]!r}, which is no finite number; the robot stops"


def _is_finite(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer too large for a float
        return False


def _clamp(value: float, limit: float) -> float:
    return max(-limit, min(limit, float(value)))


def _reduce(draft: float, verified: float, factor: float) -> float:
    """A draft at ``factor``, or as far as a verified action in the same direction goes, if that is more."""
    confirmed = min(abs(draft), abs(verified)) if draft * verified > 0.0 else 0.0
    return math.copysign(max(abs(draft) * factor, confirmed), draft)
