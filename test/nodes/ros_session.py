"""Real nodes in real processes, watched over ROS from the test's own process."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

rclpy = pytest.importorskip("rclpy", reason="rclpy is not installed: the nodes need ROS 2")

REPOSITORY = Path(__file__).resolve().parents[2]

WAIT_S = 90.0
"""Seconds that a test waits for something that normally takes one or two; a busy machine is no failure."""

STARTS_S = 300.0
"""Seconds for a process that imports torch and loads a model, which takes three where nothing else runs."""

LEAVES_S = 3.0
"""Seconds that a node gets to leave by itself."""


def wait_for(condition: Callable[[], object], what: str, timeout_s: float = WAIT_S) -> object:
    """The first true value of ``condition``; fails the test with ``what`` if there is none in time."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"waited {timeout_s:g} s in vain for {what}")
        time.sleep(0.01)


def environment() -> dict[str, str]:
    """For child processes: this package first, whether it is installed or not, and one thread for each model."""
    path = os.pathsep.join(part for part in (str(REPOSITORY), os.environ.get("PYTHONPATH", "")) if part)
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}


class Process:
    """One node in a process of its own; its output is kept for when a test fails."""

    def __init__(
        self, module: str, arguments: list[str], output: Path, stdin: int = subprocess.DEVNULL
    ) -> None:
        self.module, self._path = module, output
        self._file = output.open("wb")
        self.popen = subprocess.Popen(
            [sys.executable, "-m", f"spec_decode_ros.nodes.{module}", "--ros-args", *arguments],
            stdin=stdin,
            stdout=self._file,
            stderr=subprocess.STDOUT,
            env=environment(),
        )

    @property
    def output(self) -> str:
        return self._path.read_text(errors="replace")

    def wait_until_it_says(self, words: str, timeout_s: float = WAIT_S) -> None:
        def said() -> bool:
            if words in self.output:
                return True
            if self.popen.poll() is not None:
                pytest.fail(
                    f"{self.module} ended with {self.popen.returncode} before it said {words!r}:\n{self.output}"
                )
            return False

        wait_for(said, f"{self.module} to say {words!r}; it said:\n{self.output}", timeout_s)

    def interrupt(self) -> int:
        """SIGINT; the exit code."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGINT)
        return self.wait()

    def wait(self, timeout_s: float = WAIT_S) -> int:
        try:
            return self.popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            pytest.fail(f"{self.module} did not end in {timeout_s:g} s; it said:\n{self.output}")

    def end(self) -> None:
        """SIGKILL where the SIGINT that it got before has not ended it; its output stays."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(LEAVES_S)
        self.kill()

    def kill(self) -> None:
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait(WAIT_S)
        self._file.close()


class Ros:
    """The test's own node: publishes, records every message with its time of arrival, calls services."""

    def __init__(self, folder: Path) -> None:
        from rclpy.context import Context
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.node import Node
        from rclpy.parameter import Parameter

        self._folder = folder
        self._context = Context()
        rclpy.init(context=self._context)
        # No more entities than needed: destroying services of a node has crashed in the middleware now and then.
        self.node = Node(
            "probe",
            context=self._context,
            enable_rosout=False,
            start_parameter_services=False,
            parameter_overrides=[Parameter("start_type_description_service", value=False)],
        )
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._running = True
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()
        self._processes: list[Process] = []
        self._publishers: dict = {}
        self.received: dict[str, list[tuple[float, object]]] = defaultdict(list)

    def _spin(self) -> None:
        while self._running:
            self._executor.spin_once(timeout_sec=0.05)

    def start(
        self,
        module: str,
        *,
        ready: str | None = "ready",
        stdin: int = subprocess.DEVNULL,
        topics: Mapping[str, str] = MappingProxyType({}),
        **parameters,
    ) -> Process:
        """Start a node with parameters, and other names for topics, and wait until it says that it is ready."""
        arguments = [part for name, value in parameters.items() for part in ("-p", f"{name}:={_yaml(value)}")]
        arguments += [part for name, other in topics.items() for part in ("-r", f"{name}:={other}")]
        output = self._folder / f"{len(self._processes)}_{module}.log"
        process = Process(module, arguments, output, stdin)
        self._processes.append(process)
        if ready:
            process.wait_until_it_says(ready, STARTS_S)
        return process

    def listen(self, kind: type, topic: str, qos=1) -> list[tuple[float, object]]:
        """Record a topic; the list of (time.monotonic(), message) grows as they come."""
        log = self.listen_for_publisher_later(kind, topic, qos)
        wait_for(lambda: self.node.count_publishers(topic), f"a publisher of {topic}")
        return log

    def listen_for_publisher_later(self, kind: type, topic: str, qos=1) -> list[tuple[float, object]]:
        """Record a topic that nobody publishes yet."""
        log = self.received[topic]
        self.node.create_subscription(kind, topic, lambda m: log.append((time.monotonic(), m)), qos)
        return log

    def publisher(self, kind: type, topic: str, qos=1):
        """A publisher that somebody listens to."""
        if topic not in self._publishers:
            self._publishers[topic] = self.node.create_publisher(kind, topic, qos)
        publisher = self._publishers[topic]
        wait_for(publisher.get_subscription_count, f"a subscriber of {topic}")
        return publisher

    def call(self, name: str):
        """Call a std_srvs/Trigger service; its response."""
        from std_srvs.srv import Trigger

        client = self.node.create_client(Trigger, name)
        wait_for(client.service_is_ready, f"the service {name}")
        future = client.call_async(Trigger.Request())
        wait_for(future.done, f"the answer of {name}")
        return future.result()

    def close(self) -> None:
        for process in self._processes:
            if process.popen.poll() is None:
                process.popen.send_signal(signal.SIGINT)
        for process in self._processes:
            process.end()
        # A peer that leaves while the middleware takes this node down has crashed it now and then. Those that were killed
        # do not take their leave, so this is not waited for long.
        end = time.monotonic() + LEAVES_S
        while self.node.get_node_names() != [self.node.get_name()] and time.monotonic() < end:
            time.sleep(0.05)
        self._running = False
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive(), "the probe's callbacks hang"
        # In this order: what an executor still holds must not be destroyed under it.
        self._executor.remove_node(self.node)
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self._context)


def _yaml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
