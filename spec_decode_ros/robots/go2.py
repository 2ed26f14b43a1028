"""A Unitree Go2, driven through its own sport service.

The SDK's calls wait for the robot, and where it is gone they wait in vain. So nothing here calls it in the caller's
thread: :meth:`Go2.move` and the others only say what is wanted, and two threads of their own carry it out.

*Driving.* The newest velocity wins. A stop is never dropped: it is sent before any later velocity, as StopMove, and
again and again until the robot confirms it. If nobody gives a velocity for a while, the robot is stopped; and if this
whole process dies or hangs, a second one stops it (:mod:`~spec_decode_ros.robots.go2_brake`).

*Asking.* Postures and switches take seconds and have a thread to themselves, so that no stop waits for them.

Once a stop is confirmed nothing more is sent, so that the remote control has its say. A robot that was lost on its way
gets a stop before anything else when it is heard again. No velocity is sent to a robot that is not heard, that
changes its posture, or whose obstacle avoidance was asked for and is not confirmed, nor where nobody holds the brake.
"""

from __future__ import annotations

import math
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from spec_decode_ros.robots.go2_brake import MOVES, STANDS, Brake
from spec_decode_ros.robots.go2_channel import (
    Go2Error,
    check_address,
    open_channel,
    require_sdk,
    robot_clients,
)
from spec_decode_ros.robots.go2_state import DOWN, Go2Listener, Go2State

STAND_UP, SIT_DOWN = "stand up", "sit down"
LOW_BATTERY = 15

_STOP_CALL_S = 0.2
_ASK_CALL_S = 3.0
_STATE_PERIOD_S = 0.05
_RETRY_S = 0.1
_RETRY_GONE_S = 1.0
_OPEN_RETRY_S = 2.0
_POSTURE_S = 4.0
_DAMP_S = 2.0

_THREAD_FAILED = -1
# Of the SDK's numbers, those whose cause an operator can remove.
_MEANINGS = {
    _THREAD_FAILED: "DDS or the SDK failed, see the log; it is tried again",
    3102: "it could not be sent, no such service was found",
    3104: "the robot did not answer in time",
    3203: "the robot does not know this call; its firmware may be too old",
    3204: "the robot refused the values",
    3205: "another program holds the robot (lease denied)",
    4201: "the robot's sport service was too slow",
    4202: "the robot's sport service is not initialised",
}


def meaning(code: int) -> str:
    """An error code of the SDK in words."""
    return f"{_MEANINGS.get(code, 'the robot refused it')} (code {code})"


@dataclass(frozen=True)
class Go2Options:
    """How the robot is reached and driven.

    Attributes:
        interface: network interface that it is plugged into, such as ``eth0``; empty: Cyclone DDS chooses.
        domain: of DDS; a Go2 uses 0.
        obstacle_avoidance: let the robot avoid obstacles by itself; velocities then go through that service.
        silence_s: seconds without a velocity after which a moving robot is stopped.
    """

    interface: str = ""
    domain: int = 0
    obstacle_avoidance: bool = False
    silence_s: float = 0.25

    def __post_init__(self) -> None:
        check_address(self.domain, self.interface)
        if not 0.05 <= self.silence_s <= 0.5:
            raise Go2Error(f"silence_s is {self.silence_s!r}, but must be from 0.05 to 0.5 s")


@dataclass(frozen=True)
class Go2Status:
    """How it stands with the robot. ``problem`` is a sentence, or empty."""

    connected: bool
    state: Go2State
    problem: str
    moving: bool
    stop_pending: bool
    obstacle_avoidance: bool
    brake: bool


class Go2:
    """One robot. Every method returns at once and may be called from any thread.

    Raises:
        Go2Error: the SDK is missing, or the options make no sense. That the robot is not there is no error: it is
            waited for, and :meth:`status` says so.
    """

    def __init__(self, options: Go2Options) -> None:
        require_sdk()
        self._options = options
        self._state = Go2State()
        self._opened = ""  # why the network cannot be used, while it cannot
        self._changed = threading.Condition()
        self._closing = False
        self._wanted: tuple[float, float] | None = None
        self._told = 0.0
        self._moving = False
        self._stop_unsent = False
        self._stop_unconfirmed = False
        self._stop_first = False  # after a loss: until the robot has confirmed a stop
        self._next_try = 0.0
        self._damp_until = 0.0
        self._orders = 0  # counts postures and damps, so that an older one gives way
        self._stops = 0  # counts stops, each of which calls off a posture that has not begun
        self._failures: dict[str, str] = {}
        self._posture: str | None = None
        self._posing = False
        self._avoid_wanted = options.obstacle_avoidance
        self._avoid_is: bool | None = None  # not known before the robot has said so
        self._brake = Brake(options.domain, options.interface)
        # One after the other: Cyclone DDS fails now and then where two threads make their topics at the same time.
        self._listens, self._drives = threading.Event(), threading.Event()
        self._threads = [
            threading.Thread(target=self._keep, args=(work, name), name=f"go2 {name}", daemon=True)
            for name, work in (("state", self._listen), ("driving", self._drive), ("asking", self._ask))
        ]
        for thread in self._threads:
            thread.start()

    # -- what is wanted -------------------------------------------------------------------------------------

    def move(self, vx: float, wz: float) -> None:
        """Go at these velocities, m/s and rad/s, until the next call; zero (or no number) stops the robot."""
        with self._changed:
            self._told = time.monotonic()
            if not (math.isfinite(vx) and math.isfinite(wz)) or (vx == 0.0 and wz == 0.0):
                # A stop under way is newer than all that was sent; beginning anew with every zero would never end
                # where a confirmation takes longer than it takes for the next zero to come.
                stopping = self._stop_unsent or self._stop_unconfirmed
                if self._wanted is not None or (self._moving and not stopping):
                    self._want_stop()
            else:
                self._wanted = (float(vx), float(wz))
                self._changed.notify_all()

    def stop(self) -> None:
        """Stop, say so to the robot even if it stands already, and call off a posture that has not begun."""
        with self._changed:
            self._posture = None
            self._stops += 1
            self._want_stop()

    def _want_stop(self) -> None:
        self._wanted = None
        self._stop_unsent = True
        self._next_try = 0.0
        self._changed.notify_all()

    def posture(self, name: str) -> None:
        """Take on a posture, ``stand up`` or ``sit down``; the newest wins.

        Raises:
            Go2Error: for any other name, and where the robot is not heard: it must not sit down minutes later.
        """
        if name not in (STAND_UP, SIT_DOWN):
            raise Go2Error(f"a Go2 has no posture {name[:40]!r}: use {STAND_UP!r} or {SIT_DOWN!r}")
        with self._changed:
            if not self._connected():
                raise Go2Error(f"the Go2 is not heard, so it cannot {name}; ask again when it is back")
            self._posture = name
            self._orders += 1
            self._want_stop()

    def damp(self) -> None:
        """Let go of all joints: a standing robot sinks to the ground, a walking one falls. Tried for two seconds."""
        with self._changed:
            self._damp_until = time.monotonic() + _DAMP_S
            self._posture = None
            self._orders += 1
            self._want_stop()

    def avoid_obstacles(self, on: bool) -> None:
        """Ask for obstacle avoidance, or for the end of it; the robot does not move before that is confirmed."""
        with self._changed:
            if on != self._avoid_wanted:
                self._avoid_wanted = on
                self._want_stop()

    @property
    def may_move(self) -> bool:
        """Whether a velocity would be sent to the robot now."""
        with self._changed:
            return self._may_move()

    def status(self) -> Go2Status:
        """How it stands with the robot now."""
        with self._changed:
            state = self._state
            connected = self._drives.is_set() and self._connected()
            return Go2Status(
                connected=connected,
                state=state,
                problem=self._problem(connected, state),
                moving=self._moving,
                stop_pending=self._stop_unsent or self._stop_unconfirmed,
                obstacle_avoidance=bool(self._avoid_is),
                brake=self._brake.holds,
            )

    def _problem(self, connected: bool, state: Go2State) -> str:
        where = self._options.interface or "any interface"
        if self._opened:
            return self._opened
        if not self._connected():
            said = "says nothing any more" if state.heard else "has not been heard yet"
            return (
                f"the Go2 {said} on {where}, DDS domain {self._options.domain}: is it switched on, is the cable in, "
                "is this machine in 192.168.123.0/24?"
            )
        if not connected:
            return "the Go2 is heard; its services are being looked up"
        if not self._brake.holds:
            return (
                "the process that stops the robot when this one dies is not ready yet; the robot waits for it"
            )
        if self._failures:
            return "; ".join(self._failures.values())
        if self._avoid_is != self._avoid_wanted and (self._avoid_wanted or self._avoid_is):
            return "obstacle avoidance is being switched; the robot waits for it"
        if state.mode in DOWN:
            return f"the robot is {state.mode_name}: tell it to stand up"
        if state.battery is not None and state.battery <= LOW_BATTERY:
            return f"the battery is at {state.battery} %: charge it"
        return ""

    def close(self, timeout_s: float = 1.0) -> None:
        """Stop the robot, wait a moment for its word, and let go of it."""
        with self._changed:
            if self._moving or self._wanted is not None:
                self._want_stop()
            self._changed.wait_for(
                lambda: not (self._stop_unsent or self._stop_unconfirmed),
                timeout_s if self._drives.is_set() else 0.0,
            )
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(_STOP_CALL_S * 2 + 0.2)
        self._brake.close()

    def _keep(self, work: Callable[[], None], name: str) -> None:
        """Run one thread's work, and again if it fails: without it nobody would hear, drive or ask."""
        while not self._closing:
            self._note(name, 0)
            try:
                work()
                return
            except Exception:
                traceback.print_exc()
                self._note(name, _THREAD_FAILED)
                self._posing = False
                self._wait(_RETRY_GONE_S)

    # -- listening ------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        while not self._closing:
            try:
                open_channel(self._options.domain, self._options.interface)
                break
            except Go2Error as error:
                self._opened = str(error)
                self._wait(_OPEN_RETRY_S)
        else:
            return
        self._opened = ""
        listener = Go2Listener(self._options.domain)
        self._listens.set()
        was_connected = False
        while not self._closing:
            self._brake.start()
            state = listener.update(self._state)
            connected = state.connected(time.monotonic())
            with self._changed:
                self._state = state
                if was_connected and not connected:
                    self._avoid_is = None
                    if self._moving or self._stop_unsent or self._stop_unconfirmed:
                        self._stop_first = True
                        self._want_stop()
                if connected and not was_connected:
                    self._failures.clear()
                    self._stop_unsent = self._stop_unsent or self._stop_first
                    self._next_try = 0.0
                    self._changed.notify_all()
            was_connected = connected
            self._wait(_STATE_PERIOD_S)

    def _wait(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._closing, seconds)

    def _connected(self) -> bool:
        return self._state.connected(time.monotonic())

    # -- driving --------------------------------------------------------------------------------------------

    def _drive(self) -> None:
        if not self._await(self._listens):
            return
        sport, avoid = robot_clients(_STOP_CALL_S)
        self._drives.set()
        while not self._closing:
            with self._changed:
                self._changed.wait_for(self._has_work, self._patience())
                stop, damp, velocity = self._next_work()
            if damp:
                self._send_damp(sport)
            if stop:
                self._send_stop(sport, avoid)
            if velocity is not None:
                via = avoid if self._avoid_is else sport
                code = via.Move(velocity[0], 0.0, velocity[1])
                self._brake.tell(MOVES)
                self._note("Move", code)
                if code == 0:
                    # Newer than a stop that failed, and so that one is no trouble any more.
                    self._note("StopMove", 0)

    def _await(self, event: threading.Event) -> bool:
        while not event.wait(0.1):
            if self._closing:
                return False
        return True

    def _has_work(self) -> bool:
        return self._closing or self._stop_is_due() or self._damp_is_due() or self._wanted is not None

    def _stop_is_due(self) -> bool:
        return (self._stop_unsent or self._stop_unconfirmed) and time.monotonic() >= self._next_try

    def _damp_is_due(self) -> bool:
        return time.monotonic() < self._damp_until

    def _patience(self) -> float:
        """Seconds until something has to be done without being told."""
        if self._stop_unsent or self._stop_unconfirmed:
            return max(0.001, self._next_try - time.monotonic())
        return self._options.silence_s / 4.0

    def _next_work(self) -> tuple[bool, bool, tuple[float, float] | None]:
        """Whether to stop, whether to damp, and a velocity to send now; all noted as under way."""
        if self._moving and time.monotonic() - self._told > self._options.silence_s:
            self._want_stop()
        damp = self._damp_is_due()
        if self._stop_is_due():
            self._stop_unsent, self._stop_unconfirmed = False, True
            return True, damp, None
        velocity, self._wanted = self._wanted, None
        stale = time.monotonic() - self._told > self._options.silence_s
        if velocity is None or stale:
            return False, damp, None
        if not self._may_move():
            if self._moving:
                self._want_stop()
            return False, damp, None
        # What the robot is told now is newer than a stop that was sent and has no answer yet.
        self._stop_unconfirmed = False
        self._moving = True
        return False, damp, velocity

    def _may_move(self) -> bool:
        switching = bool(self._avoid_is) != self._avoid_wanted
        posing = self._posing or self._posture is not None
        held = switching or posing or self._stop_first
        return self._connected() and self._brake.holds and not held

    def _send_stop(self, sport: Any, avoid: Any) -> None:
        if self._avoid_is:
            avoid.Move(0.0, 0.0, 0.0)
        code = sport.StopMove()
        if code != 0:
            # Without an answer to wait for, and so another way to the same end.
            sport.Move(0.0, 0.0, 0.0)
        self._note("StopMove", code)
        with self._changed:
            if self._stop_unsent:
                pass  # another one was asked for meanwhile, and goes out at once
            elif code == 0:
                self._stop_unconfirmed = self._stop_first = False
                self._moving = False
                self._brake.tell(STANDS)
            else:
                patient = not (self._moving or self._connected())
                self._next_try = time.monotonic() + (_RETRY_GONE_S if patient else _RETRY_S)
            self._changed.notify_all()

    def _send_damp(self, sport: Any) -> None:
        code = sport.Damp()
        self._note("Damp", code)
        if code == 0:
            self._damp_until = 0.0

    def _note(self, call: str, code: int) -> None:
        with self._changed:
            if code == 0:
                self._failures.pop(call, None)
            else:
                self._failures[call] = f"{call} failed: {meaning(code)}"

    # -- asking ---------------------------------------------------------------------------------------------

    def _ask(self) -> None:
        if not self._await(self._drives):
            return
        sport, avoid = robot_clients(_ASK_CALL_S)
        while not self._closing:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._posture is not None, 0.2)
                switch = self._connected() and self._avoid_is != self._avoid_wanted
                posture = self._posture if self._connected() else None
                if posture is not None:
                    self._posture, self._posing = None, True
                order, stops = self._orders, self._stops
            if switch and not self._closing:
                self._switch_avoidance(avoid)
            if posture is not None:
                self._take_posture(sport, posture, order, stops)
                self._posing = False
        if self._avoid_is:
            avoid.SetTimeout(_STOP_CALL_S)
            avoid.UseRemoteCommandFromApi(False)

    def _switch_avoidance(self, avoid: Any) -> None:
        wanted = self._avoid_wanted
        if not wanted and self._avoid_is is None:
            # It was never asked for: leave the robot as its owner has set it.
            self._avoid_is = False
            return
        code = avoid.SwitchSet(wanted)
        if code == 0:
            code = avoid.UseRemoteCommandFromApi(wanted)
        if code == 0:
            code, now = avoid.SwitchGet()
            if code == 0 and bool(now) == wanted:
                self._avoid_is = wanted
        self._note("obstacle avoidance", code)
        if code != 0:
            self._wait(_RETRY_GONE_S)

    def _take_posture(self, sport: Any, posture: str, order: int, stops: int) -> None:
        def overruled() -> bool:
            return self._closing or self._orders != order

        for call in ("StandUp", "BalanceStand", "StandDown"):
            self._note(call, 0)
        self._wait_until(lambda: overruled() or not (self._stop_unsent or self._stop_unconfirmed), 1.0)
        if overruled() or self._stops != stops:
            return
        if posture == SIT_DOWN:
            self._note("StandDown", sport.StandDown())
            return
        code = sport.StandUp()
        self._note("StandUp", code)
        if code == 0:
            self._wait_until(lambda: overruled() or self._state.stands, _POSTURE_S)
            # After standing up the joints are locked; balance stand lets the robot walk.
            if not overruled():
                self._note("BalanceStand", sport.BalanceStand())

    def _wait_until(self, true: Callable[[], bool], timeout_s: float) -> None:
        end = time.monotonic() + timeout_s
        while not true() and time.monotonic() < end:
            time.sleep(_STATE_PERIOD_S)
