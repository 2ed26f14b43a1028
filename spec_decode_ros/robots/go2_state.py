"""A Go2's state, as it publishes it, in plain numbers and words."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from spec_decode_ros.robots.go2_channel import LOW_TOPIC, MODE_TOPIC, Newest

HEARD_S = 1.0
"""Seconds without a message after which the robot counts as gone; it sends 500 a second."""

STANDS_M = 0.25
"""Metres of body height from which on a Go2 stands."""

MODES = {
    0: "idle",
    1: "balance stand",
    2: "pose",
    3: "walking",
    5: "lying",
    6: "joints locked",
    7: "damped",
    8: "recovery stand",
    10: "sitting",
    11: "front flip",
    12: "front jump",
    13: "front pounce",
}
"""The numbers of SportModeState.mode."""

DOWN = frozenset({5, 7, 10})
"""Modes from which a robot has to be told to stand up before it walks."""


@dataclass(frozen=True)
class Go2State:
    """The robot's newest state.

    Attributes:
        heard: when the last message came, time.monotonic(); None: never.
        mode: number of the sport mode, see :data:`MODES`.
        error_code: as the robot sends it; recent firmware puts the number of its inner state there, so that a healthy
            one says 1001 before it has stood up and 1002 afterwards.
        x, y, roll, pitch, yaw, height: metres and radians, by the robot's own odometry, which drifts.
        vx, vy, wz: m/s forward and leftward, rad/s.
        battery: per cent; None: not told yet. volts: of the battery.
    """

    heard: float | None = None
    mode: int = 0
    error_code: int = 0
    x: float = 0.0
    y: float = 0.0
    roll: float = 0.0
    pitch: float = 0.0
    yaw: float = 0.0
    height: float = 0.0
    vx: float = 0.0
    vy: float = 0.0
    wz: float = 0.0
    battery: int | None = None
    volts: float = 0.0

    @property
    def mode_name(self) -> str:
        return MODES.get(self.mode, f"mode {self.mode}")

    @property
    def stands(self) -> bool:
        return self.mode not in DOWN and self.height >= STANDS_M

    def connected(self, now: float) -> bool:
        """Whether a message came within the last second."""
        return self.heard is not None and now - self.heard < HEARD_S


class Go2Listener:
    """Reads the robot's state topics; :meth:`update` costs little and may be called at any rate."""

    def __init__(self, domain: int) -> None:
        from unitree_sdk2py.idl.unitree_go.msg.dds_ import LowState_, SportModeState_

        self._mode = Newest(domain, MODE_TOPIC, SportModeState_)
        self._low = Newest(domain, LOW_TOPIC, LowState_)

    def update(self, state: Go2State) -> Go2State:
        """The state with what has come since; the same object where nothing has."""
        mode, low = self._mode.take(), self._low.take()
        if mode is not None:
            state = replace(
                state,
                heard=time.monotonic(),
                mode=int(mode.mode),
                error_code=int(mode.error_code),
                x=float(mode.position[0]),
                y=float(mode.position[1]),
                roll=float(mode.imu_state.rpy[0]),
                pitch=float(mode.imu_state.rpy[1]),
                yaw=float(mode.imu_state.rpy[2]),
                height=float(mode.body_height),
                vx=float(mode.velocity[0]),
                vy=float(mode.velocity[1]),
                wz=float(mode.yaw_speed),
            )
        if low is not None:
            state = replace(state, battery=int(low.bms_state.soc), volts=float(low.power_v))
        return state
