"""What runs in each process of Ray's: one verifier service."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import NamedTuple, Protocol

from spec_decode_ros.server.health import HealthReport


class StartableService(Protocol):
    """A verifier that can be started and ended, such as :class:`spec_decode_ros.server.service.VerifierService`."""

    def start(self) -> str:
        """Load and serve; the endpoint. Raises SpecDecodeError."""
        ...

    @property
    def status_url(self) -> str:
        """Where metrics and health are; empty where there are none."""
        ...

    def drain(self, timeout_s: float | None = None) -> bool:
        """Take no new actions and let the running ones end; whether they did."""
        ...

    def alive(self) -> HealthReport:
        """Whether it works, or only a new start helps."""
        ...

    def stop(self) -> None:
        """End it."""
        ...


class Started(NamedTuple):
    """A replica that serves: its endpoint, its process, and where its metrics are (empty: nowhere)."""

    endpoint: str = ""
    pid: int = 0
    status_url: str = ""


class Replica:
    """One service in a process of its own; several calls may run at once.

    Args:
        serve: makes the service.
    """

    def __init__(self, serve: Callable[[], StartableService]) -> None:
        self._serve = serve
        self._service: StartableService | None = None
        self._ended = threading.Event()

    def start(self) -> Started:
        """Load and serve. Raises SpecDecodeError."""
        self._service = self._serve()
        endpoint = self._service.start()
        return Started(endpoint, os.getpid(), self._service.status_url)

    def last(self) -> None:
        """Returns when the service was stopped; if the process dies instead, whoever waits for this learns of it."""
        self._ended.wait()

    def alive(self) -> str:
        """Empty where the service works, else a sentence that says what is wrong."""
        report = self._service.alive() if self._service is not None else None
        return "" if report is None or report.ok else report.sentence

    def stop(self, drain_s: float) -> None:
        """End the service, after its running actions or after `drain_s`."""
        if self._service is not None:
            self._service.drain(drain_s)
            self._service.stop()
        self._ended.set()
