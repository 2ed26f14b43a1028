"""The simulated Go2's DDS interface: Unitree's RPC services and state topics over Cyclone DDS.

Requests travel through the SDK's own server transport, so every client of the SDK works unchanged.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from unitree_sdk2py.core.channel import ChannelPublisher
from unitree_sdk2py.idl.default import (
    unitree_go_msg_dds__LowState_,
    unitree_go_msg_dds__SportModeState_,
)
from unitree_sdk2py.idl.unitree_api.msg.dds_ import Request_, Response_, ResponseHeader_, ResponseStatus_
from unitree_sdk2py.idl.unitree_go.msg.dds_ import LowState_, SportModeState_
from unitree_sdk2py.rpc import internal
from unitree_sdk2py.rpc.server_base import ServerBase

from spec_decode_ros.robots.go2_channel import LOW_TOPIC, MODE_TOPIC
from spec_decode_ros.sim.simulation import Simulation

API_VERSION = "1.0.0.1"
_FULL_V, _EMPTY_V = 33.6, 24.0

RpcReply = tuple[int, str, bytes]
"""Error code, JSON data, binary data."""


class RpcService(ServerBase):
    """One RPC service of the robot. The SDK's ``Server`` cannot reply with binary data.

    Args:
        name: such as ``sport``.
        handle: called with API number and parameter, in the service's thread.
    """

    def __init__(self, name: str, handle: Callable[[int, str], RpcReply]) -> None:
        super().__init__(name)
        self._handle = handle
        self._SetServerRequestHandler(self._on_request)
        self._Start(False)

    def _on_request(self, request: Request_) -> None:
        identity = request.header.identity
        if identity.api_id == internal.RPC_API_ID_INTERNAL_API_VERSION:
            code, data, binary = internal.RPC_OK, API_VERSION, b""
        else:
            try:
                code, data, binary = self._handle(identity.api_id, request.parameter)
            except Exception as error:
                # A bad request must not end the service.
                print(f"{self.GetName()} {identity.api_id}: {error!r}", flush=True)
                code, data, binary = internal.RPC_ERR_SERVER_INTERNAL, "", b""
        if not request.header.policy.noreply:
            header = ResponseHeader_(identity, ResponseStatus_(code))
            self._SendResponse(Response_(header, data, list(binary)))


class StateTopics:
    """Publishes the topics ``rt/sportmodestate`` and ``rt/lowstate``.

    Args:
        battery: initial charge, per cent.
    """

    DRAIN = 1.0 / 72.0
    """Per cent of charge per second: a full battery lasts two hours."""

    def __init__(self, battery: float) -> None:
        self._battery = battery
        self._began = time.monotonic()
        self._mode: SportModeState_ = unitree_go_msg_dds__SportModeState_()
        self._low: LowState_ = unitree_go_msg_dds__LowState_()
        self._mode_topic = ChannelPublisher(MODE_TOPIC, SportModeState_)
        self._mode_topic.Init()
        self._low_topic = ChannelPublisher(LOW_TOPIC, LowState_)
        self._low_topic.Init()

    def publish_mode(self, sim: Simulation, mode: int) -> None:
        """Publish mode, pose and velocity. The position is exact; a real robot's drifts."""
        message, robot, odometry = self._mode, sim.robot, sim.odometry
        stamp = time.time_ns()
        message.stamp.sec, message.stamp.nanosec = stamp // 10**9, stamp % 10**9
        message.mode = mode
        message.error_code = 1001 if robot.sitting else 1002  # as a healthy robot's firmware has it
        message.gait_type = int(robot.walking)
        message.position = [odometry.pose.x, odometry.pose.y, robot.height]
        message.body_height = robot.height
        message.velocity = [odometry.vx, odometry.vy, 0.0]
        message.yaw_speed = odometry.wz
        message.imu_state.rpy = [*robot.tilt, odometry.pose.yaw]
        self._mode_topic.Write(message)

    def publish_low(self, sim: Simulation) -> None:
        """Publish the battery and a counter of milliseconds."""
        message = self._low
        left = max(0.0, self._battery - self.DRAIN * (time.monotonic() - self._began))
        message.bms_state.soc = round(left)
        message.bms_state.current = -2500
        message.power_v = _EMPTY_V + (_FULL_V - _EMPTY_V) * left / 100.0
        message.power_a = 2.5
        message.tick = round(sim.time * 1000)
        self._low_topic.Write(message)


def with_comment(jpeg: bytes, comment: bytes) -> bytes:
    """The same JPEG picture with a comment in it.

    Two captures of a simulated robot that stands still are equal. camera_node takes equal pictures for a camera that
    hangs, because a real camera's always differ. So each capture gets a comment of its own.
    """
    return jpeg[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + jpeg[2:]
