"""A simulated Go2 in a process of its own, with its own account of what it was told."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
WAIT_S = 60.0
"""Seconds that a test waits for what normally takes one or two; a busy machine is no failure."""


def wait_for(condition: Callable[[], Any], what: str, timeout_s: float = WAIT_S) -> Any:
    """The first true value; fails the test with ``what`` if there is none in time."""
    end = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() > end:
            pytest.fail(f"waited {timeout_s:g} s in vain for {what}")
        time.sleep(0.01)
    return value


def free_dds_domain() -> int:
    return random.SystemRandom().randint(120, 230)


def environment() -> dict[str, str]:
    path = os.pathsep.join(part for part in (str(REPOSITORY), os.environ.get("PYTHONPATH", "")) if part)
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


class Robot:
    """The process, which can be killed, frozen and started again on the same domain."""

    def __init__(self, domain: int, folder: Path, *options: str) -> None:
        self.domain, self._folder, self._options = domain, folder, options
        self._count = 0
        self.start()

    def start(self) -> None:
        self._count += 1
        self.log = self._folder / f"robot_{self._count}.jsonl"
        self._output = self._folder / f"robot_{self._count}.txt"
        command = [
            "go2-sim",
            f"--domain={self.domain}",
            "--interface=lo",
            f"--log={self.log}",
            "--with-parent",
        ]
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "spec_decode_ros", *command, *self._options],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment(),
            )
        wait_for(self._is_ready, "the simulated Go2")

    def _is_ready(self) -> bool:
        said = self._output.read_text()
        if self.process.poll() is not None:
            pytest.fail(f"go2-sim ended with {self.process.returncode}: {said}")
        return "ready on" in said

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(WAIT_S)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(WAIT_S)
        assert self.process.stdin is not None
        self.process.stdin.close()

    @property
    def entries(self) -> list[dict[str, Any]]:
        """Every whole line of the account."""
        whole = self.log.read_text().rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines()]

    def orders(self, since: float = 0.0) -> list[str]:
        """What came after a moment of time.monotonic(), by name; the state is left out."""
        return [entry["event"] for entry in self.entries if entry["t"] > since and entry["event"] != "state"]

    def when(self, event: str, since: float) -> float | None:
        """When something first came after a moment."""
        return next((e["t"] for e in self.entries if e["event"] == event and e["t"] > since), None)

    @property
    def speed(self) -> float:
        """How fast it goes now, m/s."""
        return abs(next(entry["vx"] for entry in reversed(self.entries) if entry["event"] == "state"))
