"""The Ray actor of a replica: one verifier service in a process of its own."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import NamedTuple

from spec_decode_ros.server.service import VerifierService


class ReplicaAddress(NamedTuple):
    """Where a started replica is: endpoint, process, and where its metrics are (empty: nowhere)."""

    endpoint: str
    pid: int
    status_url: str


class Replica:
    """One service; several calls may run at once.

    Args:
        serve: makes the service.
    """

    def __init__(self, serve: Callable[[], VerifierService]) -> None:
        self._serve = serve
        self._service: VerifierService | None = None
        self._stopped = threading.Event()

    def start(self) -> ReplicaAddress:
        """Load the model and serve. Raises SpecDecodeError."""
        self._service = self._serve()
        return ReplicaAddress(self._service.start(), os.getpid(), self._service.status_url)

    def wait_stopped(self) -> None:
        """Returns after `stop`. If the process dies instead, the call fails, and so the caller notices."""
        self._stopped.wait()

    def problem(self) -> str:
        """Empty if the service works, else a sentence that says what is wrong."""
        report = self._service.alive() if self._service is not None else None
        return "" if report is None or report.ok else report.sentence

    def stop(self, drain_s: float) -> None:
        """End the service when its running actions are over, or after `drain_s`."""
        if self._service is not None:
            self._service.drain(drain_s)
            self._service.stop()
        self._stopped.set()
