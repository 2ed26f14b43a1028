"""A Unitree Go2, driven through its own sport service.

The SDK's calls wait for the robot, and where it is gone they wait in vain. So nothing here calls it in the caller's
thread: :meth:`Go2.move` and the others only say what is wanted, and threads of their own carry it out: one drives
(:mod:`~spec_decode_ros.robots.go2_driving`), and one makes requests that take seconds
(:mod:`~spec_decode_ros.robots.go2_requests`), so that no stop waits for them.

If nobody gives a velocity for a while, the robot is stopped; and if this whole process dies or hangs, a second one
stops it (:mod:`~spec_decode_ros.robots.go2_brake`). No velocity is sent to a robot that is not heard, that changes its
posture, or whose obstacle avoidance was asked for and is not confirmed, nor where nobody holds the brake.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from spec_decode_ros.robots.go2_brake import MOVES, STANDS, Brake
from spec_decode_ros.robots.go2_channel import (
    THREAD_FAILED,
    Go2Error,
    check_address,
    open_channel,
    require_sdk,
    robot_clients,
)
from spec_decode_ros.robots.go2_driving import Go2Driving
from spec_decode_ros.robots.go2_requests import Go2Requests
from spec_decode_ros.robots.go2_shared import Go2Shared
from spec_decode_ros.robots.go2_state import DOWN, Go2Listener, Go2State

LOW_BATTERY = 15

_CALL_S = 0.2
_STATE_PERIOD_S = 0.05
_RESTART_S = 1.0
_OPEN_RETRY_S = 2.0


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
        self._no_network = ""  # why the network cannot be used, while it cannot
        self._shared = shared = Go2Shared()
        self._changed = shared.changed
        self._driving = Go2Driving(options.silence_s)
        self._requests = Go2Requests(shared, self._driving, options.obstacle_avoidance)
        self._brake = Brake(options.domain, options.interface)
        # One after the other: Cyclone DDS fails now and then where two threads make their topics at the same time.
        self._listens, self._drives = threading.Event(), threading.Event()
        self._threads = [
            threading.Thread(target=self._keep, args=(work, name, after), name=f"go2 {name}", daemon=True)
            for name, work, after in (
                ("state", self._listen, None),
                ("driving", self._drive, self._listens),
                ("asking", self._requests.run, self._drives),
            )
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
            self._requests.stop()
            self._stop()

    def _stop(self) -> None:
        self._driving.stop()
        self._changed.notify_all()

    def posture(self, name: str) -> None:
        """Take on a posture, ``stand up`` or ``sit down``; the newest wins.

        Raises:
            Go2Error: for any other name, and where the robot is not heard: it must not sit down minutes later.
        """
        with self._changed:
            self._requests.posture(name)
            self._stop()

    def damp(self) -> None:
        """Let go of all joints: a standing robot sinks to the ground, a walking one falls. Tried for two seconds."""
        with self._changed:
            self._requests.damp()
            self._driving.damp(time.monotonic())
            self._changed.notify_all()

    def avoid_obstacles(self, on: bool) -> None:
        """Ask for obstacle avoidance, or for the end of it; the robot does not move before that is confirmed."""
        with self._changed:
            if self._requests.avoid_obstacles(on):
                self._stop()

    @property
    def may_move(self) -> bool:
        """Whether a velocity would be sent to the robot now."""
        with self._changed:
            held = self._requests.holding or self._driving.stop_first
            return self._shared.connected and self._brake.holds and not held

    def status(self) -> Go2Status:
        """The robot's state now, and what is known of the way to it."""
        with self._changed:
            state = self._shared.state
            connected = self._drives.is_set() and self._shared.connected
            return Go2Status(
                connected=connected,
                state=state,
                problem=self._problem(connected, state),
                moving=self._driving.moving,
                stop_pending=self._driving.stop_pending,
                obstacle_avoidance=bool(self._requests.avoids),
                brake=self._brake.holds,
            )

    def _problem(self, connected: bool, state: Go2State) -> str:
        where = self._options.interface or "any interface"
        if self._no_network:
            return self._no_network
        if not self._shared.connected:
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
        if self._shared.failures:
            return "; ".join(self._shared.failures.values())
        if self._requests.switching:
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
                self._stop()
            self._changed.wait_for(
                lambda: not self._driving.stop_pending, timeout_s if self._drives.is_set() else 0.0
            )
            self._shared.closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(_CALL_S * 2 + 0.2)
        self._brake.close()

    # -- threads --------------------------------------------------------------------------------------------

    def _keep(self, work: Callable[[], None], name: str, after: threading.Event | None) -> None:
        """Run one thread's work, and again if it fails: without it nobody would hear, drive or ask."""
        while not self._shared.closing:
            self._shared.note(name, 0)
            try:
                if after is None or self._shared.wait_for(after):
                    work()
                return
            except Exception:
                traceback.print_exc()
                self._shared.note(name, THREAD_FAILED)
                self._shared.wait(_RESTART_S)

    def _listen(self) -> None:
        shared = self._shared
        while not shared.closing:
            try:
                open_channel(self._options.domain, self._options.interface)
                break
            except Go2Error as error:
                self._no_network = str(error)
                shared.wait(_OPEN_RETRY_S)
        else:
            return
        self._no_network = ""
        listener = Go2Listener(self._options.domain)
        self._listens.set()
        was_connected = False
        while not shared.closing:
            self._brake.start()
            state = listener.update(shared.state)
            connected = state.connected(time.monotonic())
            with self._changed:
                shared.state = state
                if connected and not was_connected:
                    shared.failures.clear()
                    self._driving.found()
                elif was_connected and not connected:
                    self._requests.avoids = None
                    self._driving.lost()
                if connected != was_connected:
                    self._changed.notify_all()
            was_connected = connected
            shared.wait(_STATE_PERIOD_S)

    def _drive(self) -> None:
        shared, driving = self._shared, self._driving
        sport, avoid = robot_clients(_CALL_S)
        self._drives.set()
        while not shared.closing:
            with self._changed:
                self._changed.wait_for(
                    lambda: shared.closing or driving.has_calls(time.monotonic()),
                    driving.wait_s(time.monotonic()),
                )
                calls = driving.next_calls(time.monotonic(), self.may_move)
            if calls.damp:
                self._send_damp(sport)
            if calls.stop:
                self._send_stop(sport, avoid)
            if calls.velocity is not None:
                vx, wz = calls.velocity
                code = (avoid if self._requests.avoids else sport).Move(vx, 0.0, wz)
                self._brake.tell(MOVES)
                shared.note("Move", code)
                if code == 0:
                    # Newer than a stop that failed, and so that one is no trouble any more.
                    shared.note("StopMove", 0)

    def _send_stop(self, sport: Any, avoid: Any) -> None:
        if self._requests.avoids:
            avoid.Move(0.0, 0.0, 0.0)
        code = sport.StopMove()
        if code != 0:
            # Without an answer to wait for, and so another way to the same end.
            sport.Move(0.0, 0.0, 0.0)
        self._shared.note("StopMove", code)
        with self._changed:
            if self._driving.stop_answered(code == 0, self._shared.connected, time.monotonic()):
                self._brake.tell(STANDS)
            self._changed.notify_all()

    def _send_damp(self, sport: Any) -> None:
        code = sport.Damp()
        self._shared.note("Damp", code)
        if code == 0:
            self._driving.damped()
