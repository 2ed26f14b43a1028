"""A process of the stack that can be frozen, killed and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from spec_decode_ros.errors import SpecDecodeError

_STOP_S = 5.0


class Child:
    """One process; its output is appended to a log file.

    Args:
        name: for messages. command: to run. log: where its output goes. environment: added to this process's.
    """

    def __init__(self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        self.name, self._command, self._log = name, list(command), log
        self._environment = {**os.environ, **environment}
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0

    def start(self, *arguments: str) -> None:
        """Start it, with further arguments perhaps; it must not be running."""
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            self._started_at = log.tell()
            self._process = subprocess.Popen(
                [*self._command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                # A Ctrl-C at the terminal is the harness's; the children are then ended in order.
                start_new_session=True,
            )

    def wait_for_line(self, words: str, timeout_s: float) -> str:
        """What follows ``words`` in the line that has them, since the last start.

        Raises:
            SpecDecodeError: the process ends, or the time does.
        """
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            for line in self._said().splitlines(keepends=True):
                if words in line and line.endswith("\n"):
                    return line.partition(words)[2].strip()
            self.check()
            time.sleep(0.05)
        raise SpecDecodeError(f"{self.name} did not come up in {timeout_s:g} s; see {self._log}")

    def _said(self) -> str:
        with self._log.open("rb") as log:
            log.seek(self._started_at)
            return log.read().decode("utf-8", "replace")

    def check(self) -> None:
        """Raise SpecDecodeError if it has ended."""
        if self._process is not None and self._process.poll() is not None:
            last = self._said().strip().splitlines()
            raise SpecDecodeError(
                f"{self.name} ended with code {self._process.returncode}: {last[-1] if last else 'it said nothing'}"
            )

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(_STOP_S)

    def stop(self) -> None:
        """Ask it to end, also if it is frozen, and end it if it does not."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGCONT)
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
