"""Notifications to systemd about a service that it has started (``Type=notify``); elsewhere nothing happens.

The protocol is one datagram per state to the socket in ``NOTIFY_SOCKET``, see sd_notify(3).
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Callable, Mapping

from spec_decode_ros.server.health import HealthReport

_log = logging.getLogger(__name__)

READY = "READY=1"
STOPPING = "STOPPING=1"
ALIVE = "WATCHDOG=1"


def send(state: str, environment: Mapping[str, str] = os.environ) -> None:
    """Send one state; a supervisor that has gone is no reason to fail."""
    address = environment.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):  # a name in Linux's abstract namespace
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.sendto(state.encode(), address)


class SystemdWatchdog:
    """Sends systemd's keep-alive while a service is alive; when it no longer is, logs that once.

    Args:
        alive: whether it is.
    """

    def __init__(self, alive: Callable[[], HealthReport]) -> None:
        self._alive = alive
        self._well = True

    def look(self) -> None:
        """To be called about once a second."""
        report = self._alive()
        if report.ok:
            send(ALIVE)
        elif self._well:
            _log.error("%s", report.sentence, extra={"status": report.status})
        self._well = report.ok
