"""Child processes that print one line ``ready <endpoint>`` when they serve, and end with their parent."""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import spec_decode_ros
from spec_decode_ros.errors import SpecDecodeError

READY = "ready "
_GRACE_S = 5.0
_TAIL = 4000


class ChildError(SpecDecodeError):
    """A child process did not start, or failed; the message holds the last lines of its standard error."""


class ReadyChild:
    """A child process that can be killed and started again.

    Its standard input is a pipe that closes when this process dies, however it dies; children end when it closes.

    Args:
        command: to run.
        name: for messages.
        timeout_s: how long it may take to be ready.
    """

    def __init__(self, command: Sequence[str], name: str, timeout_s: float) -> None:
        self.command = tuple(command)
        self._name = name
        self._timeout_s = timeout_s
        self._child: subprocess.Popen[str] | None = None
        self._stderr: IO[bytes] | None = None

    def start(self) -> str:
        """Start it, wait for its ready line and return what follows the word ``ready``; it must not be running.

        Raises ChildError if the child ends or is not ready in time.
        """
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed in stop
        self._child = subprocess.Popen(
            list(self.command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
            env=child_environment(),
        )
        try:
            return self._wait_ready()
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> str:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Process id of the last start."""
        assert self._child is not None, "start it first"
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def write_line(self, line: str) -> None:
        """Write a line to its standard input; does nothing if it has ended."""
        assert self._child is not None and self._child.stdin is not None
        with contextlib.suppress(OSError):
            self._child.stdin.write(f"{line}\n")
            self._child.stdin.flush()

    def stderr_text(self) -> str:
        """Its standard error since the start; empty after `stop`."""
        if self._stderr is None:
            return ""
        # The child writes through the same file position, so read without moving it.
        size = os.fstat(self._stderr.fileno()).st_size
        return os.pread(self._stderr.fileno(), size, 0).decode("utf-8", "replace")

    def wait(self, timeout_s: float) -> None:
        """Wait until it has ended by itself. Raises ChildError if it takes longer, or ends with a code other than 0."""
        assert self._child is not None
        try:
            code = self._child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise ChildError(f"{self._name} did not end within {timeout_s:g} s{self._tail()}") from None
        if code:
            raise ChildError(f"{self._name} ended with code {code}{self._tail()}")

    def kill(self) -> None:
        """SIGKILL it, and wait until it has ended."""
        if self._child is not None:
            self._child.kill()
        self.stop()

    def stop(self) -> None:
        """Ask it to end, and kill it after five seconds. Stopping twice does nothing."""
        if self._child is not None:
            assert self._child.stdin is not None
            with contextlib.suppress(OSError):
                self._child.stdin.close()
            self._child.terminate()
            try:
                self._child.wait(timeout=_GRACE_S)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait(timeout=_GRACE_S)
            if self._child.stdout is not None:
                self._child.stdout.close()
        if self._stderr is not None:
            self._stderr.close()
        self._child = self._stderr = None

    def _wait_ready(self) -> str:
        lines: queue.Queue[str] = queue.Queue()
        assert self._child is not None and self._child.stdout is not None
        threading.Thread(
            target=_drain, args=(self._child.stdout, lines), name=f"{self._name} output", daemon=True
        ).start()
        try:
            line = lines.get(timeout=self._timeout_s)
            while line and not line.startswith(READY):
                line = lines.get(timeout=self._timeout_s)
        except queue.Empty:
            raise ChildError(
                f"{self._name} was not ready within {self._timeout_s:g} s{self._tail()}"
            ) from None
        if not line:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(timeout=_GRACE_S)
            raise ChildError(
                f"{self._name} ended with code {self._child.poll()} before it was ready{self._tail()}"
            )
        return line[len(READY) :].strip()

    def _tail(self) -> str:
        lines = [line.strip() for line in self.stderr_text()[-_TAIL:].splitlines() if line.strip()]
        return ": " + " / ".join(lines[-3:]) if lines else "; it wrote nothing to standard error"


def child_environment() -> dict[str, str]:
    """Lets the child import this package from where this process did, installed or not."""
    here = str(Path(spec_decode_ros.__file__).resolve().parent.parent)
    paths = [here, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}


def _drain(stdout: IO[str], lines: queue.Queue[str]) -> None:
    # Read to the end, so that a child that goes on printing never blocks on a full pipe.
    with contextlib.suppress(ValueError, OSError):
        ready = False
        for line in stdout:
            if not ready:
                lines.put(line)
                ready = line.startswith(READY)
    lines.put("")
