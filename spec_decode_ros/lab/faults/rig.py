"""Everything that runs while faults are injected: the robot, its nodes, a link, and the verifier behind it.

The robot is ``spec-decode go2-sim``: it answers Unitree's services over DDS and writes down what it is told. All the
rest is as on the real robot, each part a process of its own.
"""

from __future__ import annotations

import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.demo.go2 import free_dds_domain
from spec_decode_ros.lab.demo.stack import Value, free_domain, ros_arguments, stay_on_this_machine
from spec_decode_ros.lab.faults.child import Child
from spec_decode_ros.lab.faults.motion_account import MotionAccount
from spec_decode_ros.lab.faults.operator import FaultOperator
from spec_decode_ros.lab.network.link import EmulatedLink, LinkProfile
from spec_decode_ros.sim.task import make_task

INTERFACE = "lo"
OPEN_ROOM = 14
"""Seed of a room with nothing in front of the robot and behind it for some metres."""

_STARTS_S = 120.0
_WALKS_S = 45.0
_WALKING_S = 0.6
_LOOK_S = 0.05
_AGAIN_S = 5.0
_OVER_S = 15.0
_TURN_ROUND_S = 1.0
_AHEAD_M = 0.5


@dataclass(frozen=True)
class RigOptions:
    """What runs.

    Attributes:
        out: folder for the processes' logs and the robot's account.
        seed: of the room. pair, method: as for the drafter node. rtt_ms: of the link.
        on_link_loss: as for the drafter node.
    """

    out: Path
    seed: int = OPEN_ROOM
    pair: str = "tiny"
    method: str = "auto"
    rtt_ms: float = 60.0
    on_link_loss: str = "hold"


class Rig:
    """The running stack; use :func:`running_rig`."""

    def __init__(self, options: RigOptions, domain: int, operator: FaultOperator) -> None:
        self.operator = operator
        dds_domain = free_dds_domain()
        there: dict[str, Value] = {"network_interface": INTERFACE, "dds_domain": dds_domain}
        self._out = options.out
        self._environment = {"ROS_DOMAIN_ID": str(domain), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        account = options.out / "robot.jsonl"
        account.unlink(missing_ok=True)
        self.account = MotionAccount(account)
        self._start = make_task(options.seed).scene.start
        self._words = itertools.cycle(["walk", "move"])
        command = [f"--seed={options.seed}", f"--domain={dds_domain}", f"--interface={INTERFACE}"]
        self.robot = self._child("go2-sim", "spec_decode_ros", "go2-sim", *command, f"--log={account}")
        self.cloud = self._child(
            "verifier", "spec_decode_ros", "serve", f"--pair={options.pair}", "--threads=1"
        )
        self.motion = self._node("motion_node", {"robot": "go2", **there})
        self.camera = self._node("camera_node", {"source": "go2", **there})
        self._options = options
        self._endpoint = ""
        self._link: EmulatedLink | None = None
        self._drafter: Child | None = None

    def _child(self, name: str, module: str, *arguments: str) -> Child:
        command = [sys.executable, "-m", module, *arguments]
        return Child(name, command, self._out / "logs" / f"{name}.log", self._environment)

    def _node(self, name: str, parameters: dict[str, Value]) -> Child:
        return self._child(name, f"spec_decode_ros.nodes.{name}", *ros_arguments(parameters))

    def start(self) -> None:
        """Start every part, and wait until a command makes sense."""
        options = self._options
        self.cloud.start("--bind=tcp://127.0.0.1:*")
        for child in (self.robot, self.motion, self.camera):
            child.start()
        self._endpoint = self.cloud.wait_for_line("ready ", _STARTS_S)
        self._link = EmulatedLink(self._endpoint, LinkProfile(rtt_ms=options.rtt_ms))
        self._drafter = self._node(
            "drafter_node",
            {
                "pair": options.pair,
                "method": options.method,
                "endpoint": self._link.start(),
                "threads": 1,
                "on_link_loss": options.on_link_loss,
            },
        )
        self._drafter.start()
        self.robot.wait_for_line("ready", _STARTS_S)
        self._drafter.wait_for_line("ready: ", _STARTS_S)
        self.wait(lambda: not self.operator.missing(), "the nodes to find each other", _STARTS_S)

    @property
    def link(self) -> EmulatedLink:
        assert self._link is not None, "start() first"
        return self._link

    @property
    def drafter(self) -> Child:
        assert self._drafter is not None, "start() first"
        return self._drafter

    def restart_cloud(self) -> None:
        """Start the verifier where it was."""
        self.cloud.start(f"--bind={self._endpoint}")

    def wait(self, true: Callable[[], object], what: str, timeout_s: float) -> None:
        """Wait, with an eye on the robot.

        Raises:
            SpecDecodeError: it does not become true in time.
        """
        end = time.monotonic() + timeout_s
        while True:
            self.account.read()
            if true():
                return
            if time.monotonic() > end:
                raise SpecDecodeError(f"waited {timeout_s:g} s in vain for {what}; see {self._out / 'logs'}")
            time.sleep(_LOOK_S)

    def walks(self) -> bool:
        """Whether the robot has been on its way for a moment."""
        return self.account.walks(time.monotonic(), _WALKING_S)

    def _command(self) -> str:
        """There and back again, so that no wall is in the way however many faults there are."""
        x, y, yaw = self._start
        here = self.account.motions[-1]
        ahead = (here.x - x) * math.cos(yaw) + (here.y - y) * math.sin(yaw)
        # In other words each time: to a command that is done already, the same once more is nothing new.
        return f"{next(self._words)} {'back' if ahead > _AHEAD_M else 'forward'} 4 meters"

    def wait_walking(self, command: bool = True) -> bool:
        """Wait until it walks, and return whether it was told to.

        With ``command`` it is, and again if it does not; else only if it has stood for so long that the command that it
        had is over, as a fault on a busy machine may outlast it.
        """
        told: float | None = None
        tell = time.monotonic() + (0.0 if command else _OVER_S)

        def walks() -> bool:
            nonlocal told, tell
            now = time.monotonic()
            if now >= tell:
                told, tell = now, now + _AGAIN_S
                self.operator.say(self._command())
            return self.walks() and (told is None or now - told > _TURN_ROUND_S)

        self.wait(walks, "the robot to walk", _WALKS_S)
        return told is not None

    def watch(self, seconds: float) -> None:
        """Let time pass and the robot write."""
        end = time.monotonic() + seconds
        self.wait(lambda: time.monotonic() >= end, "time", seconds + 5.0)

    def close(self) -> None:
        """End everything."""
        for child in (self._drafter, self.camera, self.motion, self.cloud, self.robot):
            if child is not None:
                child.stop()
        if self._link is not None:
            self._link.stop()


@contextmanager
def running_rig(options: RigOptions) -> Iterator[Rig]:
    """A rig that is ready, and ends with the context."""
    stay_on_this_machine()
    domain = free_domain()
    with FaultOperator(domain) as operator:
        rig = Rig(options, domain, operator)
        try:
            rig.start()
            yield rig
        finally:
            rig.close()
