"""The demo's processes: ROS 2 nodes started as a user would start them, with a log file each."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from spec_decode_ros.errors import SpecDecodeError

_STOP_S = 5.0

Value = bool | int | float | str


@dataclass
class Stack:
    """Nodes that run, by name."""

    logs: Path
    domain: int
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _files: list[IO[bytes]] = field(default_factory=list)

    def start(self, node: str, parameters: Mapping[str, Value]) -> None:
        """Start `spec_decode_ros.nodes.<node>`; its output goes to `<logs>/<node>.log`."""
        self.logs.mkdir(parents=True, exist_ok=True)
        log = (self.logs / f"{node}.log").open("wb")
        self._files.append(log)
        self.processes[node] = subprocess.Popen(
            [sys.executable, "-m", f"spec_decode_ros.nodes.{node}", *ros_arguments(parameters)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "ROS_DOMAIN_ID": str(self.domain)},
            # A Ctrl-C at the terminal is ours; the nodes are then stopped in order.
            start_new_session=True,
        )

    def check(self) -> None:
        """Raise SpecDecodeError if a node has ended by itself."""
        for name, process in self.processes.items():
            if process.poll() is not None:
                raise SpecDecodeError(f"{name} ended with code {process.returncode}: {self.last_words(name)}")

    def last_words(self, name: str) -> str:
        """The last line of a node's log."""
        lines = (self.logs / f"{name}.log").read_text("utf-8", "replace").strip().splitlines()
        return lines[-1].strip() if lines else "it wrote nothing"

    def stop(self) -> None:
        """Ask every node to end, the last started first, and end those that don't."""
        running = [process for process in reversed(self.processes.values()) if process.poll() is None]
        for process in running:
            process.send_signal(signal.SIGINT)
        end = time.monotonic() + _STOP_S
        for process in running:
            try:
                process.wait(timeout=max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(timeout=_STOP_S)
        for log in self._files:
            log.close()


def ros_arguments(parameters: Mapping[str, Value]) -> Sequence[str]:
    """Parameters as a ROS 2 command line has them."""
    arguments = ["--ros-args"]
    for name, value in parameters.items():
        arguments += ["-p", f"{name}:={_yaml(value)}"]
    return arguments if parameters else []


def _yaml(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # Quoted, so that a number-like or empty text stays a text.
        return "'" + value.replace("'", "''") + "'"
    return repr(value)


def free_domain() -> int:
    """A ROS domain of one's own: two demos on one machine must not hear each other."""
    return 1 + os.getpid() % 100


def stay_on_this_machine() -> None:
    """Keep ROS 2 traffic of this process and its children on the loopback interface."""
    if os.environ.get("ROS_DISTRO") == "humble":
        os.environ["ROS_LOCALHOST_ONLY"] = "1"
    else:
        os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"


@contextmanager
def running_stack(logs: Path, domain: int) -> Iterator[Stack]:
    """A stack that stops with the context."""
    stack = Stack(logs, domain)
    try:
        yield stack
    finally:
        stack.stop()
