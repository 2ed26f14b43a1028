"""A Unitree Go2, driven through its own sport service.

The SDK's calls wait for the robot, and where it is gone they wait in vain. So nothing here calls it in the caller's
thread: :meth:`Go2.move` and the others only say what is wanted, and threads of their own carry it out. One drives, as
:mod:`~spec_decode_ros.robots.go2_driving` decides; one makes the requests that take seconds (postures and switches), so
that no stop waits for them.

If nobody gives a velocity for a while, the robot is stopped; and if this whole process dies or hangs, a second one
stops it (:mod:`~spec_decode_ros.robots.go2_brake`). No velocity is sent to a robot that is not heard, that changes its
posture, or whose obstacle avoidance was asked for and is not confirmed, nor where nobody holds the brake.
"""

from __future__ import annotations

import math
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from spec_decode_ros.robots.go2_brake import API, MOVES, REMOTE, STANDS, Brake
from spec_decode_ros.robots.go2_channel import (
    THREAD_FAILED,
    Go2Error,
    check_address,
    meaning,
    open_channel,
    require_sdk,
    robot_clients,
)
from spec_decode_ros.robots.go2_driving import Go2Driving
from spec_decode_ros.robots.go2_state import DOWN, Go2Listener, Go2State

STAND_UP, SIT_DOWN = "stand up", "sit down"
LOW_BATTERY = 15

_STOP_CALL_S = 0.2
_ASK_CALL_S = 3.0
_STATE_PERIOD_S = 0.05
_RETRY_S = 1.0
_OPEN_RETRY_S = 2.0
_POSTURE_S = 4.0


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
    """The robot's state, and what is known of the way to it. ``problem`` is a sentence, or empty."""

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
        self._no_network = ""  # why the network cannot be used, while it cannot
        self._changed = threading.Condition()
        self._closing = False
        self._driving = Go2Driving(options.silence_s)
        self._orders = 0  # counts postures and damps, so that an older one gives way
        self._stops = 0  # counts stops, each of which calls off a posture that has not begun
        self._failures: dict[str, str] = {}  # a sentence for each call that failed when it was last made
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
            self._driving.move(vx, wz, time.monotonic())
            self._changed.notify_all()

    def stop(self) -> None:
        """Stop, say so to the robot even if it stands already, and call off a posture that has not begun."""
        with self._changed:
            self._posture = None
            self._stops += 1
            self._want_stop()

    def _want_stop(self) -> None:
        self._driving.stop()
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
            self._driving.damp(time.monotonic())
            self._posture = None
            self._orders += 1
            self._changed.notify_all()

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
            posing = self._posing or self._posture is not None
            held = self._switching() or posing or self._driving.stop_first
            return self._connected() and self._brake.holds and not held

    def _switching(self) -> bool:
        return bool(self._avoid_is) != self._avoid_wanted

    def _connected(self) -> bool:
        return self._state.connected(time.monotonic())

    def status(self) -> Go2Status:
        """The robot's state now, and what is known of the way to it."""
        with self._changed:
            state = self._state
            connected = self._drives.is_set() and self._connected()
            return Go2Status(
                connected=connected,
                state=state,
                problem=self._problem(connected, state),
                moving=self._driving.moving,
                stop_pending=self._driving.stop_pending,
                obstacle_avoidance=bool(self._avoid_is),
                brake=self._brake.holds,
            )

    def _problem(self, connected: bool, state: Go2State) -> str:
        where = self._options.interface or "any interface"
        if self._no_network:
            return self._no_network
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
        if self._switching():
            return "obstacle avoidance is being switched; the robot waits for it"
        if state.mode in DOWN:
            return f"the robot is {state.mode_name}: tell it to stand up"
        if state.battery is not None and state.battery <= LOW_BATTERY:
            return f"the battery is at {state.battery} %: charge it"
        return ""

    def close(self, timeout_s: float = 1.0) -> None:
        """Stop the robot, wait a moment for its confirmation, and let go of it."""
        with self._changed:
            if self._driving.underway:
                self._want_stop()
            self._changed.wait_for(
                lambda: not self._driving.stop_pending, timeout_s if self._drives.is_set() else 0.0
            )
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(_STOP_CALL_S * 2 + 0.2)
        self._brake.close()

    # -- threads --------------------------------------------------------------------------------------------

    def _keep(self, work: Callable[[], None], name: str) -> None:
        """Run one thread's work, and again if it fails: without it nobody would hear, drive or ask."""
        while not self._closing:
            self._note(name, 0)
            try:
                work()
                return
            except Exception:
                traceback.print_exc()
                self._note(name, THREAD_FAILED)
                self._posing = False
                self._wait(_RETRY_S)

    def _note(self, call: str, code: int) -> None:
        """Remember whether a call has failed; 0 is success."""
        with self._changed:
            if code == 0:
                self._failures.pop(call, None)
            else:
                self._failures[call] = f"{call} failed: {meaning(code)}"

    def _wait(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._closing, seconds)

    def _wait_until(self, true: Callable[[], bool], timeout_s: float = math.inf) -> bool:
        """Whether it becomes true before the time is over or the end comes."""
        end = time.monotonic() + timeout_s
        while not true():
            if self._closing or time.monotonic() >= end:
                return False
            time.sleep(_STATE_PERIOD_S)
        return True

    def _listen(self) -> None:
        while not self._closing:
            try:
                open_channel(self._options.domain, self._options.interface)
                break
            except Go2Error as error:
                self._no_network = str(error)
                self._wait(_OPEN_RETRY_S)
        else:
            return
        self._no_network = ""
        listener = Go2Listener(self._options.domain)
        self._listens.set()
        was_connected = False
        while not self._closing:
            self._brake.start()
            state = listener.update(self._state)
            connected = state.connected(time.monotonic())
            with self._changed:
                self._state = state
                if connected and not was_connected:
                    self._failures.clear()
                    self._driving.found()
                elif was_connected and not connected:
                    self._avoid_is = None
                    self._driving.lost()
                if connected != was_connected:
                    self._changed.notify_all()
            was_connected = connected
            self._wait(_STATE_PERIOD_S)

    def _drive(self) -> None:
        if not self._wait_until(self._listens.is_set):
            return
        driving = self._driving
        sport, avoid = robot_clients(_STOP_CALL_S)
        self._drives.set()
        while not self._closing:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._closing or driving.has_calls(time.monotonic()),
                    driving.wait_s(time.monotonic()),
                )
                calls = driving.next_calls(time.monotonic(), self.may_move)
            if calls.damp:
                code = sport.Damp()
                self._note("Damp", code)
                if code == 0:
                    driving.damped()
            if calls.stop:
                self._send_stop(sport, avoid)
            if calls.velocity is not None:
                vx, wz = calls.velocity
                code = (avoid if self._avoid_is else sport).Move(vx, 0.0, wz)
                self._brake.tell(MOVES)
                self._note("Move", code)
                if code == 0:
                    # Newer than a stop that failed, and so that one is no trouble any more.
                    self._note("StopMove", 0)

    def _send_stop(self, sport: Any, avoid: Any) -> None:
        if self._avoid_is:
            avoid.Move(0.0, 0.0, 0.0)
        code = sport.StopMove()
        if code != 0:
            # Without an answer to wait for, and so another way to the same end.
            sport.Move(0.0, 0.0, 0.0)
        self._note("StopMove", code)
        with self._changed:
            if self._driving.stop_answered(code == 0, self._connected(), time.monotonic()):
                self._brake.tell(STANDS)
            self._changed.notify_all()

    def _ask(self) -> None:
        if not self._wait_until(self._drives.is_set):
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

    def _switch_avoidance(self, avoid: Any) -> None:
        wanted = self._avoid_wanted
        if not wanted and self._avoid_is is None:
            # It was never asked for: leave the robot as its owner has set it.
            self._avoid_is = False
            return
        code = avoid.SwitchSet(wanted)
        if code == 0:
            self._brake.tell(API)  # before: the driver may die in between
            code = avoid.UseRemoteCommandFromApi(wanted)
        if code == 0:
            self._brake.tell(API if wanted else REMOTE)
            code, now = avoid.SwitchGet()
            if code == 0 and bool(now) == wanted:
                self._avoid_is = wanted
        self._note("obstacle avoidance", code)
        if code != 0:
            self._wait(_RETRY_S)

    def _take_posture(self, sport: Any, posture: str, order: int, stops: int) -> None:
        def overruled() -> bool:
            return self._closing or self._orders != order

        for call in ("StandUp", "BalanceStand", "StandDown"):
            self._note(call, 0)
        self._wait_until(lambda: overruled() or not self._driving.stop_pending, timeout_s=1.0)
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
