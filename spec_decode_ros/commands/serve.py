"""Serve the target model of a pair to robots, without ROS."""

from __future__ import annotations

import argparse
import os
import select
import signal
import sys
import threading

from spec_decode_ros.commands._settings import add_settings, resolved_settings
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.server import logs, notify
from spec_decode_ros.server.service import VerifierService
from spec_decode_ros.transport.connection_guard import allow_many_connections
from spec_decode_ros.transport.process import READY

_SIGNALLED = 128
"""What a shell adds to the number of the signal that has ended a process."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Each setting can also stand in the file (bind: tcp://0.0.0.0:5555) or in the environment "
        "(SPEC_DECODE_BIND=tcp://0.0.0.0:5555); the command line wins over the environment, that over the file."
    )
    parser.add_argument(
        "--print-config",
        action="store_true",
        help="print the settings in force and where each is from, and end",
    )
    add_settings(parser)
    parser.add_argument("--new-robot", metavar="NAME", help="with --keys: make keys for one more robot")
    parser.add_argument(
        "--with-parent",
        action="store_true",
        help="end when standard input closes, as a child process should, and take nothing from the environment",
    )


def run(args: argparse.Namespace) -> int:
    resolved = resolved_settings(args)
    if args.print_config:
        sys.stdout.write(resolved.as_yaml())
        return 0
    config = resolved.config
    if args.new_robot and not config.keys:
        raise SpecDecodeError("--new-robot makes keys; name their folder with --keys DIR.")
    logs.set_up(config.log_format, config.log_level)
    allow_many_connections()
    end = _End()
    if args.with_parent:
        threading.Thread(target=end.with_parent, daemon=True).start()
    with end:
        service = VerifierService(config, args.new_robot)
        endpoint = service.start()
        end.loaded = True
        print(f"{READY}{endpoint}", flush=True)
        notify.tell(notify.READY)
        watchdog = notify.SystemdWatchdog(service.alive)
        while not end.asked_within(1.0):
            watchdog.look()
        notify.tell(notify.STOPPING)
        service.drain(0.0 if end.orphaned else None)
        service.stop()
    return 0


class _End:
    """Waits for SIGINT or SIGTERM. A second signal ends the process at once, and so does one while it loads.

    The handler only writes to a pipe: it may come while this thread holds any lock, that of a log or an event included.
    """

    def __init__(self) -> None:
        self.loaded = False
        self.orphaned = False
        self._asked = False
        self._word, self._say = os.pipe()
        self._before: dict[int, object] = {}

    def __enter__(self) -> _End:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def asked_within(self, timeout_s: float) -> bool:
        """Whether the process is to end; waits for the word for so long."""
        return bool(select.select([self._word], [], [], timeout_s)[0])

    def with_parent(self) -> None:
        """End when standard input closes: then nobody is left to serve."""
        while os.read(sys.stdin.fileno(), 4096):
            pass
        self.orphaned = True
        self._ask(0)

    def _on_signal(self, number: int, frame: object) -> None:
        if not self.orphaned:  # else it is on its way
            self._ask(_SIGNALLED + number)

    def _ask(self, code: int) -> None:
        if not self.loaded:
            os._exit(0)  # nothing has begun
        if self._asked:
            os._exit(code)
        self._asked = True
        os.write(self._say, b"x")
