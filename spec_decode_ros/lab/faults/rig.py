"""The rig for faults of one robot: a simulated Go2, its nodes, an emulated link, and the verifier behind it.

The robot is ``spec-decode go2-sim``, which answers Unitree's services over DDS. Everything else is as on the real robot.
Each part is a process of its own.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.demo.go2 import Go2Stack, free_dds_domain, go2_arguments, start_robot_nodes
from spec_decode_ros.lab.demo.robot_log import RobotLogReader
from spec_decode_ros.lab.demo.stack import (
    LoggedProcess,
    Stack,
    free_domain,
    running_stack,
    stay_on_this_machine,
)
from spec_decode_ros.lab.faults.operator import FaultOperator
from spec_decode_ros.lab.network.link import EmulatedLink, LinkProfile
from spec_decode_ros.sim.task import make_task

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


@dataclass
class Rig:
    """The running stack; use :func:`running_rig`."""

    operator: FaultOperator
    stack: Stack
    link: EmulatedLink
    endpoint: str
    account: RobotLogReader
    start: tuple[float, float, float]
    _words: Iterator[str] = field(default_factory=lambda: itertools.cycle(["walk", "move"]))

    def __getitem__(self, name: str) -> LoggedProcess:
        """A process: go2-sim, verifier, or the name of a node."""
        return self.stack.processes[name]

    def restart_verifier(self) -> None:
        """Start the verifier again, at the endpoint that it had."""
        self["verifier"].start(f"--bind={self.endpoint}")

    def wait(self, true: Callable[[], object], what: str, timeout_s: float) -> None:
        """Wait until something is true, and read the robot's log meanwhile. Raises SpecDecodeError after the time-out."""
        end = time.monotonic() + timeout_s
        while True:
            self.account.read()
            if true():
                return
            if time.monotonic() > end:
                raise SpecDecodeError(
                    f"waited {timeout_s:g} s without success for {what}; see {self.stack.logs}"
                )
            time.sleep(_LOOK_S)

    def _command(self) -> str:
        """There and back again, so that no wall is in the way however many faults there are."""
        x, y, yaw = self.start
        here = self.account.motions[-1]
        ahead = (here.x - x) * math.cos(yaw) + (here.y - y) * math.sin(yaw)
        # Each time in other words: a command that is done already would not start the robot again.
        return f"{next(self._words)} {'back' if ahead > _AHEAD_M else 'forward'} 4 meters"

    def wait_walking(self, command: bool = True) -> bool:
        """Wait until the robot walks, and return whether it was given a command.

        With ``command`` it is given one, and again if it does not walk; else only if it has stood for so long that its
        last command is over, as a fault on a busy machine may outlast it.
        """
        commanded: float | None = None
        command_at = time.monotonic() + (0.0 if command else _OVER_S)

        def walks() -> bool:
            nonlocal commanded, command_at
            now = time.monotonic()
            if now >= command_at:
                commanded, command_at = now, now + _AGAIN_S
                self.operator.say(self._command())
            return self.account.walks(now, _WALKING_S) and (
                commanded is None or now - commanded > _TURN_ROUND_S
            )

        self.wait(walks, "the robot to walk", _WALKS_S)
        return commanded is not None

    def watch(self, seconds: float) -> None:
        """Let time pass."""
        end = time.monotonic() + seconds
        self.wait(lambda: time.monotonic() >= end, "time", seconds + 5.0)


@contextmanager
def running_rig(options: Go2Stack) -> Iterator[Rig]:
    """Start every part, wait until the robot can be given a command, and end all with the context."""
    stay_on_this_machine()
    domain, dds_domain = free_domain(), free_dds_domain()
    log = options.out / "robot.jsonl"
    log.unlink(missing_ok=True)
    with ExitStack() as exits:
        operator = exits.enter_context(FaultOperator(domain))
        environment = {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        stack = exits.enter_context(running_stack(options.out / "logs", domain, **environment))
        robot = stack.add("go2-sim", "spec_decode_ros", *go2_arguments(OPEN_ROOM, dds_domain, log))
        robot.start()
        verifier = stack.add("verifier", "spec_decode_ros", "serve", f"--pair={options.pair}", "--threads=1")
        verifier.start("--bind=tcp://127.0.0.1:*")
        endpoint = verifier.wait_for_line("ready ", _STARTS_S)
        link = exits.enter_context(EmulatedLink(endpoint, LinkProfile(rtt_ms=options.rtt_ms)))
        start_robot_nodes(stack, options, link.endpoint, dds_domain)
        rig = Rig(operator, stack, link, endpoint, RobotLogReader(log), make_task(OPEN_ROOM).scene.start)
        robot.wait_for_line("ready", _STARTS_S)
        rig["drafter_node"].wait_for_line("ready: ", _STARTS_S)
        rig.wait(lambda: not operator.missing(), "the nodes to find each other", _STARTS_S)
        yield rig
