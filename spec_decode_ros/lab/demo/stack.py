"""The processes of a running stack: ROS 2 nodes and others, each with a log file, which can be frozen and killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from spec_decode_ros.errors import SpecDecodeError

_STOP_S = 5.0

Value = bool | int | float | str

COMMANDS, STEPS = "command/received", "step"
"""Topics that a drafter can hear: what the operator says, or the steps that a planner makes of it."""


class LoggedProcess:
    """One process, which can be started again; its first start overwrites the log file, later ones continue it."""

    def __init__(self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        self.name, self._command, self._log = name, list(command), log
        self._environment = {**os.environ, **environment}
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0

    def start(self, *arguments: str) -> None:
        """Start it, with further arguments; it must not be running."""
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("wb" if self._process is None else "ab") as log:
            self._started_at = log.tell()
            self._process = subprocess.Popen(
                [*self._command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                # A Ctrl-C at the terminal goes to this process, which then stops its children in order.
                start_new_session=True,
            )

    @property
    def returncode(self) -> int | None:
        """None while it is running."""
        return None if self._process is None else self._process.poll()

    def wait_for_line(self, words: str, timeout_s: float) -> str:
        """Wait for a line with these words since the last start, and return what follows them. Raises SpecDecodeError."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            for line in self._output().splitlines(keepends=True):
                if words in line and line.endswith("\n"):
                    return line.partition(words)[2].strip()
            self.check()
            time.sleep(0.05)
        raise SpecDecodeError(f"{self.name} did not come up in {timeout_s:g} s; see {self._log}")

    def _output(self) -> str:
        with self._log.open("rb") as log:
            log.seek(self._started_at)
            return log.read().decode("utf-8", "replace")

    def check(self) -> None:
        """Raise SpecDecodeError, with the last line of its log, if it has ended."""
        if self.returncode is not None:
            lines = self._output().strip().splitlines()
            last = lines[-1].strip() if lines else "it wrote nothing"
            raise SpecDecodeError(f"{self.name} ended with code {self.returncode}: {last}")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(_STOP_S)

    def interrupt(self) -> None:
        """Ask it to end, also if it is frozen."""
        if self._process is not None and self.returncode is None:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGINT)

    def finish(self) -> None:
        """Wait for the end, and kill it if it does not end."""
        if self._process is not None:
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self.kill()


class Stack:
    """Processes by name, in the order in which they were added."""

    def __init__(self, logs: Path, environment: Mapping[str, str]) -> None:
        self.logs, self._environment = logs, environment
        self.processes: dict[str, LoggedProcess] = {}

    def add(self, name: str, module: str, *arguments: str) -> LoggedProcess:
        """A Python module as a process, not started yet; its output goes to `<logs>/<name>.log`."""
        command = [sys.executable, "-m", module, *arguments]
        process = LoggedProcess(name, command, self.logs / f"{name}.log", self._environment)
        self.processes[name] = process
        return process

    def start(
        self, node: str, parameters: Mapping[str, Value], topics: Mapping[str, str] = MappingProxyType({})
    ) -> LoggedProcess:
        """Start `spec_decode_ros.nodes.<node>`; `topics` gives some of its topics other names."""
        arguments = ros_arguments(parameters, topics)
        process = self.add(node, f"spec_decode_ros.nodes.{node}", *arguments)
        process.start()
        return process

    def check(self) -> None:
        """Raise SpecDecodeError if a process has ended by itself."""
        for process in self.processes.values():
            process.check()

    def stop(self) -> None:
        """End every process, the last added first."""
        for process in reversed(self.processes.values()):
            process.interrupt()
        for process in reversed(self.processes.values()):
            process.finish()


def start_drafter(nodes: Stack, pair: str, method: str, endpoint: str, hears: str = COMMANDS) -> None:
    """Start drafter_node; `hears` is the topic of what it is told."""
    parameters: dict[str, Value] = {"pair": pair, "method": method, "endpoint": endpoint, "threads": 1}
    nodes.start("drafter_node", parameters, {} if hears == COMMANDS else {COMMANDS: hears})


def start_planner(nodes: Stack, pair: str, acting_pair: str, method: str, endpoint: str) -> None:
    """Start planner_node, which makes steps for a drafter of `acting_pair`."""
    parameters: dict[str, Value] = {"pair": pair, "acting_pair": acting_pair, "method": method}
    nodes.start("planner_node", {**parameters, "endpoint": endpoint, "threads": 1})


def ros_arguments(
    parameters: Mapping[str, Value], topics: Mapping[str, str] = MappingProxyType({})
) -> Sequence[str]:
    """Parameters, and other names for topics, as arguments of a ROS 2 command line."""
    arguments = ["--ros-args"]
    for name, other in topics.items():
        arguments += ["-r", f"{name}:={other}"]
    for name, value in parameters.items():
        arguments += ["-p", f"{name}:={_yaml(value)}"]
    return arguments if parameters or topics else []


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
    """Keep the ROS 2 traffic of this process and its children on the loopback interface."""
    if os.environ.get("ROS_DISTRO") == "humble":
        os.environ["ROS_LOCALHOST_ONLY"] = "1"
    else:
        os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"


@contextmanager
def running_stack(logs: Path, domain: int, **environment: str) -> Iterator[Stack]:
    """An empty stack on a ROS domain, which ends with the context."""
    stack = Stack(logs, {"ROS_DOMAIN_ID": str(domain), **environment})
    try:
        yield stack
    finally:
        stack.stop()
