"""A Go2's postures and its obstacle avoidance: requests that take seconds, made from a thread of their own."""

from __future__ import annotations

from typing import Any

from spec_decode_ros.robots.go2_channel import Go2Error, robot_clients
from spec_decode_ros.robots.go2_driving import Go2Driving
from spec_decode_ros.robots.go2_shared import Go2Shared

STAND_UP, SIT_DOWN = "stand up", "sit down"

_CALL_S = 3.0
_LAST_CALL_S = 0.2
_RETRY_S = 1.0
_POSTURE_S = 4.0


class Go2Requests:
    """Postures and switches that are wanted, and the thread's work, :meth:`run`, that makes them."""

    def __init__(self, shared: Go2Shared, driving: Go2Driving, avoid: bool) -> None:
        self._shared, self._driving = shared, driving
        self._posture: str | None = None
        self._posing = False
        self._orders = 0  # counts postures and damps, so that an older one gives way
        self._stops = 0  # counts stops, each of which calls off a posture that has not begun
        self._avoid_wanted = avoid
        self.avoids: bool | None = None
        """Whether the robot avoids obstacles; None: not known before the robot has said so."""

    # -- what is wanted; the caller holds the lock ------------------------------------------------------------

    def posture(self, name: str) -> None:
        """Take on a posture; the newest wins. Raises Go2Error, see :meth:`~spec_decode_ros.robots.go2.Go2.posture`."""
        if name not in (STAND_UP, SIT_DOWN):
            raise Go2Error(f"a Go2 has no posture {name[:40]!r}: use {STAND_UP!r} or {SIT_DOWN!r}")
        if not self._shared.connected:
            raise Go2Error(f"the Go2 is not heard, so it cannot {name}; ask again when it is back")
        self._posture = name
        self._orders += 1

    def stop(self) -> None:
        """Call off a posture that has not begun."""
        self._posture = None
        self._stops += 1

    def damp(self) -> None:
        """Call off a posture, even one that has begun."""
        self._posture = None
        self._orders += 1

    def avoid_obstacles(self, on: bool) -> bool:
        """Switch obstacle avoidance; whether that is news."""
        news = on != self._avoid_wanted
        self._avoid_wanted = on
        return news

    @property
    def switching(self) -> bool:
        """Whether obstacle avoidance is not yet as it is wanted."""
        return bool(self.avoids) != self._avoid_wanted

    @property
    def holding(self) -> bool:
        """Whether the robot must not walk, because it changes its posture or a switch is not confirmed."""
        return self.switching or self._posing or self._posture is not None

    # -- the thread -----------------------------------------------------------------------------------------

    def run(self) -> None:
        """Make the requests until the end; then give the sticks of the remote control back."""
        shared = self._shared
        sport, avoid = robot_clients(_CALL_S)
        while not shared.closing:
            with shared.changed:
                shared.changed.wait_for(lambda: shared.closing or self._posture is not None, 0.2)
                connected = shared.connected
                switch = connected and self.avoids != self._avoid_wanted
                posture = self._posture if connected else None
                if posture is not None:
                    self._posture, self._posing = None, True
                order, stops = self._orders, self._stops
            try:
                if switch and not shared.closing:
                    self._switch_avoidance(avoid)
                if posture is not None:
                    self._take_posture(sport, posture, order, stops)
            finally:
                self._posing = False
        if self.avoids:
            avoid.SetTimeout(_LAST_CALL_S)
            avoid.UseRemoteCommandFromApi(False)

    def _switch_avoidance(self, avoid: Any) -> None:
        wanted = self._avoid_wanted
        if not wanted and self.avoids is None:
            # It was never asked for: leave the robot as its owner has set it.
            self.avoids = False
            return
        code = avoid.SwitchSet(wanted)
        if code == 0:
            code = avoid.UseRemoteCommandFromApi(wanted)
        if code == 0:
            code, now = avoid.SwitchGet()
            if code == 0 and bool(now) == wanted:
                self.avoids = wanted
        self._shared.note("obstacle avoidance", code)
        if code != 0:
            self._shared.wait(_RETRY_S)

    def _take_posture(self, sport: Any, posture: str, order: int, stops: int) -> None:
        shared = self._shared

        def overruled() -> bool:
            return shared.closing or self._orders != order

        for call in ("StandUp", "BalanceStand", "StandDown"):
            shared.note(call, 0)
        shared.poll(lambda: overruled() or not self._driving.stop_pending, 1.0)
        if overruled() or self._stops != stops:
            return
        if posture == SIT_DOWN:
            shared.note("StandDown", sport.StandDown())
            return
        code = sport.StandUp()
        shared.note("StandUp", code)
        if code == 0:
            shared.poll(lambda: overruled() or shared.state.stands, _POSTURE_S)
            # After standing up the joints are locked; balance stand lets the robot walk.
            if not overruled():
                shared.note("BalanceStand", sport.BalanceStand())
