"""How to reach a Go2: Unitree's SDK over Cyclone DDS, on one network interface, and its error codes in words."""

from __future__ import annotations

import importlib
import os
import re
import threading
from collections.abc import Mapping
from typing import Any

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.extras import MODULES

MODE_TOPIC = "rt/sportmodestate"
LOW_TOPIC = "rt/lowstate"

# The SDK's own configuration traces into one file of /tmp, which fails as soon as a second user runs it.
_CONFIG = """<?xml version="1.0" encoding="UTF-8" ?>
    <CycloneDDS>
        <Domain Id="any">
            <General>
                <Interfaces>
                    <NetworkInterface name="$__IF_NAME__$" priority="default" multicast="default"/>
                </Interfaces>
            </General>
        </Domain>
    </CycloneDDS>"""
UNSET = "unset RMW_IMPLEMENTATION CYCLONEDDS_URI"
"""Shells that were set up for Unitree's own ROS packages export both."""

_INTERFACE = re.compile(r"[A-Za-z0-9_.:@-]{1,15}")
MAX_DOMAIN = 232

THREAD_FAILED = -1
# Of the SDK's numbers, those whose cause an operator can remove.
_MEANINGS = {
    THREAD_FAILED: "DDS or the SDK failed, see the log; it is tried again",
    3102: "it could not be sent, no such service was found",
    3104: "the robot did not answer in time",
    3203: "the robot does not know this call; its firmware may be too old",
    3204: "the robot refused the values",
    3205: "another program holds the robot (lease denied)",
    4201: "the robot's sport service was too slow",
    4202: "the robot's sport service is not initialised",
}


class Go2Error(SpecDecodeError):
    """The Go2 cannot be reached or does not do what it was asked to."""


def meaning(code: int) -> str:
    """An error code of the SDK in words."""
    return f"{_MEANINGS.get(code, 'the robot refused it')} (code {code})"


def require_sdk() -> None:
    """Raise Go2Error with the remedy where Unitree's SDK is missing or not whole."""
    try:
        importlib.import_module("unitree_sdk2py.core.channel")
    except ImportError as error:
        packages = f"{MODULES['unitree_sdk2py'].packages} {MODULES['cyclonedds'].packages}"
        raise Go2Error(
            f"the Go2 needs Unitree's SDK, which is missing or not whole ({error}): run: pip install {packages}"
        ) from error


def middleware_problem(environment: Mapping[str, str] = os.environ) -> str:
    """Why ROS and the SDK cannot be in one process; empty if they can."""
    if environment.get("RMW_IMPLEMENTATION") != "rmw_cyclonedds_cpp":
        return ""
    return (
        "RMW_IMPLEMENTATION is rmw_cyclonedds_cpp, and with Unitree's SDK that is two Cyclone DDS in one process: run "
        f"`{UNSET}` in this shell and keep ROS on its default middleware"
    )


def check_middleware() -> None:
    """Raise Go2Error where ROS and the SDK cannot be in this process; for nodes."""
    if problem := middleware_problem():
        raise Go2Error(problem)


def check_address(domain: int, interface: str) -> None:
    """Raise Go2Error for a DDS domain or a network interface that cannot be one."""
    if isinstance(domain, bool) or not 0 <= domain <= MAX_DOMAIN:
        raise Go2Error(f"the DDS domain is {domain!r}, but must be from 0 to {MAX_DOMAIN}; a Go2 uses 0")
    if interface and not _INTERFACE.fullmatch(interface):
        raise Go2Error(
            f"{interface[:40]!r} is no network interface: name the one that the robot is plugged into, such as "
            "eth0 (`ip link` lists them)"
        )


def open_channel(domain: int, interface: str) -> None:
    """Join a DDS domain; the first call of a process decides, later ones change nothing.

    Args:
        domain: of DDS; a Go2 uses 0.
        interface: network interface such as ``eth0``; empty leaves the choice to Cyclone DDS.

    Raises:
        Go2Error: the SDK is missing, or the interface is not there (yet): worth trying again later.
    """
    require_sdk()
    check_address(domain, interface)
    from unitree_sdk2py.core import channel

    channel.ChannelConfigHasInterface = _CONFIG
    try:
        channel.ChannelFactoryInitialize(domain, interface or None)
    except Exception as error:  # the SDK raises nothing more exact
        where = f"the network interface {interface}" if interface else "any network interface"
        raise Go2Error(
            f"cannot use {where} for DDS: is it there and up? `ip link` lists the interfaces"
        ) from error


_making = threading.Lock()


def robot_clients(timeout_s: float) -> tuple[Any, Any]:
    """The SDK's clients of the sport service and of obstacle avoidance; a call waits so many seconds at most.

    One thread of a process at a time makes them: Cyclone DDS fails where two make the same topic at once.
    """
    from unitree_sdk2py.go2.obstacles_avoid.obstacles_avoid_client import ObstaclesAvoidClient
    from unitree_sdk2py.go2.sport.sport_client import SportClient

    with _making:
        clients = SportClient(), ObstaclesAvoidClient()
        for client in clients:
            client.SetTimeout(timeout_s)
            client.Init()
    return clients


class Newest:
    """The newest sample of a topic, looked at when there is time for it.

    A Go2 sends its state 500 times a second. The SDK's subscriber wakes Python for each of them; this one
    leaves them where they are and takes the last.
    """

    def __init__(self, domain: int, topic: str, kind: type) -> None:
        from cyclonedds.domain import DomainParticipant
        from cyclonedds.sub import DataReader
        from cyclonedds.topic import Topic

        with _making:
            participant = DomainParticipant(domain)
            # The default keeps one sample, the last.
            self._reader: Any = DataReader(participant, Topic(participant, topic, kind))

    def take(self) -> Any:
        """The newest sample since the last call; None if there is none."""
        from cyclonedds.core import DDSException
        from cyclonedds.internal import InvalidSample

        try:
            samples = self._reader.take(N=1)
        except DDSException:
            return None
        return samples[0] if samples and not isinstance(samples[0], InvalidSample) else None
