"""The simulated Go2's sport service: the state machine behind Unitree's ``sport`` and ``obstacles_avoid`` calls.

Without DDS: a call is an API number and a JSON parameter, as inside the SDK's requests, and returns an error code and
data. The simulation asks for the resulting orders in every period.

*A Move expires.* On the real robot one Move lasts "for just a second or two" (users' reports:
github.com/legion1581/unitree_webrtc_connect, issue 30; abizovnuralem/go2_ros2_sdk, issue 55), so a client has to repeat
it. Here it lasts :data:`MOVE_LASTS_S`.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from unitree_sdk2py.go2.obstacles_avoid import obstacles_avoid_api as avoid_api
from unitree_sdk2py.go2.sport import sport_api as api
from unitree_sdk2py.rpc import internal

MOVE_LASTS_S = 1.0
OK: Final = (internal.RPC_OK, "")
_BAD_PARAMETER: Final = (internal.RPC_ERR_SERVER_API_PARAMETER, "")
_UNKNOWN: Final = (internal.RPC_ERR_SERVER_API_NOT_IMPL, "")

# Switches of the robot, by the names of their events.
AVOID, REMOTE, AUTO_RECOVERY = "obstacle avoidance", "moves from the api", "auto recovery"

# The numbers of SportModeState.mode.
IDLE, BALANCE_STAND, LOCOMOTION, LIE_DOWN, JOINT_LOCK, DAMPING, RECOVERY_STAND, SIT = 0, 1, 3, 5, 6, 7, 8, 10
_WALKS_FROM = frozenset({IDLE, BALANCE_STAND, LOCOMOTION, RECOVERY_STAND})

SportReply = tuple[int, str]
"""Error code and JSON data."""

Report = Callable[..., None]
"""Called as report(event, **values) for every call."""


@dataclass(frozen=True)
class LegOrders:
    """What the legs have to do now. ``posture`` is a new one to take on, reported once."""

    vx: float
    wz: float
    posture: str | None


class SportService:
    """The state machine behind the services ``sport`` and ``obstacles_avoid``. Thread-safe.

    Args:
        report: called for every order.
        clock: seconds, monotonic.
    """

    def __init__(self, report: Report, clock: Callable[[], float] = time.monotonic) -> None:
        self._report, self._clock = report, clock
        self._lock = threading.Lock()
        self._velocity = (0.0, 0.0)
        self._until = -math.inf
        self._posture: str | None = None
        self._mode = BALANCE_STAND
        self._switches = {AVOID: False, REMOTE: False, AUTO_RECOVERY: True}
        self._calls: dict[int, Callable[[Any], SportReply]] = {
            api.SPORT_API_ID_DAMP: lambda _: self._take("damp", "damp", DAMPING),
            api.SPORT_API_ID_BALANCESTAND: lambda _: self._balance_stand(),
            api.SPORT_API_ID_STOPMOVE: lambda _: self._stop(),
            api.SPORT_API_ID_STANDUP: lambda _: self._take("stand up", "stand up", JOINT_LOCK),
            api.SPORT_API_ID_STANDDOWN: lambda _: self._take("stand down", "sit down", LIE_DOWN),
            api.SPORT_API_ID_RECOVERYSTAND: lambda _: self._take(
                "recovery stand", "stand up", RECOVERY_STAND
            ),
            api.SPORT_API_ID_MOVE: lambda p: self._move(p["x"], p["y"], p["z"]),
            api.SPORT_API_ID_SIT: lambda _: self._take("sit", "sit down", SIT),
            api.SPORT_API_ID_RISESIT: lambda _: self._take("rise sit", "stand up", BALANCE_STAND),
            api.SPORT_API_ID_SPEEDLEVEL: lambda p: self._set_speed_level(p["data"]),
            api.SPORT_API_ID_SWITCHJOYSTICK: lambda p: self._note("switch joystick", on=bool(p["data"])),
            api.SPORT_API_ID_AUTORECOVERY_SET: lambda p: self._switch(AUTO_RECOVERY, p["data"]),
            api.SPORT_API_ID_AUTORECOVERY_GET: lambda _: _data(data=self._switches[AUTO_RECOVERY]),
        }
        self._avoid_calls: dict[int, Callable[[Any], SportReply]] = {
            avoid_api.OBSTACLES_AVOID_API_ID_SWITCH_SET: lambda p: self._switch(AVOID, p["enable"]),
            avoid_api.OBSTACLES_AVOID_API_ID_SWITCH_GET: lambda _: _data(enable=self._switches[AVOID]),
            avoid_api.OBSTACLES_AVOID_API_ID_MOVE: self._avoid_move,
            avoid_api.OBSTACLES_AVOID_API_ID_USE_REMOTE_COMMAND_FROM_API: lambda p: self._switch(
                REMOTE, p["is_remote_commands_from_api"]
            ),
        }

    # -- calls ----------------------------------------------------------------------------------------------

    def call(self, api_id: int, parameter: str) -> SportReply:
        """Handle a request to ``sport``; returns the SDK's error code, 0 for success, and JSON data."""
        return self._dispatch(self._calls, api_id, parameter)

    def call_avoid(self, api_id: int, parameter: str) -> SportReply:
        """Handle a request to ``obstacles_avoid``."""
        return self._dispatch(self._avoid_calls, api_id, parameter)

    def _dispatch(
        self, calls: dict[int, Callable[[Any], SportReply]], api_id: int, parameter: str
    ) -> SportReply:
        call = calls.get(api_id)
        if call is None:
            self._report("unknown", api_id=api_id)
            return _UNKNOWN
        with self._lock:
            try:
                return call(json.loads(parameter or "{}"))
            except (ValueError, TypeError, KeyError):
                self._report("bad parameter", api_id=api_id)
                return _BAD_PARAMETER

    def _move(self, vx: float, vy: float, wz: float) -> SportReply:
        vx, vy, wz = float(vx), float(vy), float(wz)
        self._report("move", vx=vx, vy=vy, wz=wz)
        if not all(map(math.isfinite, (vx, vy, wz))):
            return _BAD_PARAMETER
        if self._mode in _WALKS_FROM:
            self._velocity, self._until = (vx, wz), self._clock() + MOVE_LASTS_S
        return OK

    def _avoid_move(self, parameter: Any) -> SportReply:
        # Without this switch the service obeys the remote control and not the API.
        if not self._switches[REMOTE]:
            return self._note("move ignored")
        return self._move(parameter["x"], parameter["y"], parameter["yaw"])

    def _stop(self) -> SportReply:
        self._halt()
        return self._note("stop")

    def _take(self, event: str, posture: str, mode: int) -> SportReply:
        self._halt()
        self._posture, self._mode = posture, mode
        return self._note(event)

    def _balance_stand(self) -> SportReply:
        if self._mode not in (LIE_DOWN, DAMPING, SIT):
            self._mode = BALANCE_STAND
        return self._note("balance stand")

    def _note(self, event: str, **values: object) -> SportReply:
        self._report(event, **values)
        return OK

    def _set_speed_level(self, level: Any) -> SportReply:
        if level not in (-1, 0, 1):
            return _BAD_PARAMETER
        return self._note("speed level", level=int(level))

    def _switch(self, name: str, on: Any) -> SportReply:
        self._switches[name] = bool(on)
        return self._note(name, on=bool(on))

    def _halt(self) -> None:
        self._velocity, self._until = (0.0, 0.0), -math.inf

    # -- results --------------------------------------------------------------------------------------------

    def orders(self) -> LegOrders:
        """The orders that are in force now."""
        with self._lock:
            if self._until != -math.inf and self._clock() >= self._until:
                self._report("expired")
                self._halt()
            posture, self._posture = self._posture, None
            return LegOrders(*self._velocity, posture)

    @property
    def avoids_obstacles(self) -> bool:
        """Whether obstacle avoidance is switched on."""
        return self._switches[AVOID]

    def mode(self, moves: bool, fallen: bool) -> int:
        """The value of SportModeState.mode, given whether the robot moves or has fallen."""
        if fallen:
            return DAMPING
        return LOCOMOTION if moves and self._mode in _WALKS_FROM else self._mode


def _data(**values: bool) -> SportReply:
    return internal.RPC_OK, json.dumps(values)
