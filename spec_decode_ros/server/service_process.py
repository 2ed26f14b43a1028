"""The verifier service as a process: it announces its endpoint, serves until it is told to end, and drains."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.server import logs, notify
from spec_decode_ros.server.config import ServiceConfig
from spec_decode_ros.server.service import VerifierService
from spec_decode_ros.transport.connection_guard import allow_many_connections
from spec_decode_ros.transport.process import READY

_SIGNALLED = 128
"""What a shell adds to the number of the signal that has ended a process."""


def prepare(config: ServiceConfig) -> None:
    """What every process that serves robots begins with: its log, and sockets for many robots."""
    logs.set_up(config.log_format, config.log_level)
    allow_many_connections()


def announce(endpoint: str) -> None:
    """Tell the parent process and systemd that robots can connect."""
    print(f"{READY}{endpoint}", flush=True)
    notify.send(notify.READY)


def serve(config: ServiceConfig, new_robot: str | None = None, with_parent: bool = False) -> None:
    """Serve until SIGINT or SIGTERM, and then let running actions end.

    Args:
        config: of the service.
        new_robot: with keys: make some for one more robot.
        with_parent: end also when standard input closes.

    Raises:
        SpecDecodeError: the options do not go together, or something can't be loaded or bound.
    """
    if new_robot and not config.keys:
        raise SpecDecodeError("--new-robot makes keys; name their folder with --keys DIR.")
    prepare(config)
    end = _EndRequest()
    if with_parent:
        threading.Thread(target=end.with_parent, daemon=True).start()
    with end:
        service = VerifierService(config, new_robot)
        endpoint = service.start()
        end.loaded = True
        announce(endpoint)
        watchdog = notify.SystemdWatchdog(service.alive)
        while not end.asked_within(1.0):
            watchdog.look()
        notify.send(notify.STOPPING)
        service.drain(0.0 if end.orphaned else None)
        service.stop()


class _EndRequest:
    """Waits for SIGINT or SIGTERM. A second signal ends the process at once, and so does one while it loads.

    The handler only writes to a pipe: it may come while this thread holds any lock, that of a log or an event included.
    """

    def __init__(self) -> None:
        self.loaded = False
        self.orphaned = False
        self._asked = False
        self._word, self._say = os.pipe()
        self._before: dict[int, object] = {}

    def __enter__(self) -> _EndRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def asked_within(self, timeout_s: float) -> bool:
        """Whether the process is to end; waits for at most `timeout_s` seconds."""
        return bool(select.select([self._word], [], [], timeout_s)[0])

    def with_parent(self) -> None:
        """End when standard input closes: then nobody is left to serve."""
        while os.read(sys.stdin.fileno(), 4096):
            pass
        self.orphaned = True
        self._ask(0)

    def _on_signal(self, number: int, frame: object) -> None:
        if not self.orphaned:  # else it is ending already
            self._ask(_SIGNALLED + number)

    def _ask(self, code: int) -> None:
        if not self.loaded:
            os._exit(0)  # nothing has begun
        if self._asked:
            os._exit(code)
        self._asked = True
        os.write(self._say, b"x")
