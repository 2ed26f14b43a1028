"""Which velocity or stop a Go2 is sent next. No thread, no lock and no I/O; times are monotonic seconds.

The newest velocity wins. A stop is never dropped: it is sent before any later velocity, as StopMove, and again and
again until the robot confirms it. Once it is confirmed nothing more is sent, so that the remote control has its say.
A robot that was lost while it moved gets a stop before anything else when it is heard again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

_RETRY_S = 0.1
_RETRY_GONE_S = 1.0
_DAMP_S = 2.0


@dataclass(frozen=True)
class Go2Calls:
    """What to call now: a stop or a velocity (m/s, rad/s), and whether to let go of the joints."""

    stop: bool = False
    damp: bool = False
    velocity: tuple[float, float] | None = None


class Go2Driving:
    """Takes what is wanted and what the robot has answered.

    Args:
        silence_s: seconds without a velocity after which a moving robot is stopped.
    """

    def __init__(self, silence_s: float) -> None:
        self._silence_s = silence_s
        self.moving = False
        self.stop_first = False
        """After a loss: until the robot has confirmed a stop."""
        self._wanted: tuple[float, float] | None = None
        self._told = 0.0
        self._stop_unsent = False
        self._stop_unconfirmed = False
        self._next_try = 0.0
        self._damp_until = 0.0

    @property
    def stop_pending(self) -> bool:
        """Whether a stop is wanted that the robot has not confirmed."""
        return self._stop_unsent or self._stop_unconfirmed

    @property
    def underway(self) -> bool:
        """Whether the robot moves or is about to."""
        return self.moving or self._wanted is not None

    def move(self, vx: float, wz: float, now: float) -> None:
        """Go at these velocities; zero (or no number) stops the robot."""
        self._told = now
        if (math.isfinite(vx) and math.isfinite(wz)) and (vx != 0.0 or wz != 0.0):
            self._wanted = (float(vx), float(wz))
        # A stop under way is newer than all that was sent; beginning anew with every zero would never end
        # where a confirmation takes longer than it takes for the next zero to come.
        elif self._wanted is not None or (self.moving and not self.stop_pending):
            self.stop()

    def stop(self) -> None:
        """Stop, even a robot that stands."""
        self._wanted = None
        self._stop_unsent = True
        self._next_try = 0.0

    def damp(self, now: float) -> None:
        """Let go of all joints; tried for two seconds."""
        self._damp_until = now + _DAMP_S
        self.stop()

    def lost(self) -> None:
        """The robot is not heard any more."""
        if self.moving or self.stop_pending:
            self.stop_first = True
            self.stop()

    def found(self) -> None:
        """The robot is heard again, or for the first time."""
        self._stop_unsent = self._stop_unsent or self.stop_first
        self._next_try = 0.0

    def has_calls(self, now: float) -> bool:
        """Whether something is to be called now."""
        return self._stop_is_due(now) or self._damp_is_due(now) or self._wanted is not None

    def wait_s(self, now: float) -> float:
        """Seconds until something has to be called without being told."""
        return max(0.001, self._next_try - now) if self.stop_pending else self._silence_s / 4.0

    def next_calls(self, now: float, may_move: bool) -> Go2Calls:
        """What to call now; from here on it counts as under way."""
        silent = now - self._told > self._silence_s
        if self.moving and silent:
            self.stop()
        damp = self._damp_is_due(now)
        if self._stop_is_due(now):
            self._stop_unsent, self._stop_unconfirmed = False, True
            return Go2Calls(stop=True, damp=damp)
        velocity, self._wanted = self._wanted, None
        if velocity is None or silent:
            return Go2Calls(damp=damp)
        if not may_move:
            if self.moving:
                self.stop()
            return Go2Calls(damp=damp)
        # What the robot is told now is newer than a stop that was sent and has no answer yet.
        self._stop_unconfirmed = False
        self.moving = True
        return Go2Calls(damp=damp, velocity=velocity)

    def stop_answered(self, confirmed: bool, connected: bool, now: float) -> bool:
        """The robot has answered a stop, or not; whether it stands."""
        if self._stop_unsent:
            return False  # another one was asked for meanwhile, and goes out at once
        if confirmed:
            self._stop_unconfirmed = self.stop_first = self.moving = False
            return True
        self._next_try = now + (_RETRY_S if self.moving or connected else _RETRY_GONE_S)
        return False

    def damped(self) -> None:
        """The joints are let go."""
        self._damp_until = 0.0

    def _stop_is_due(self, now: float) -> bool:
        return self.stop_pending and now >= self._next_try

    def _damp_is_due(self, now: float) -> bool:
        return now < self._damp_until
