"""Why a connection failed before a word was said, from ZeroMQ's own account of it.

A peer that is refused hears nothing by itself: it sees a connection that ends. With keys, ZeroMQ's monitor knows more.
"""

from __future__ import annotations

import enum

import zmq
from zmq.utils.monitor import recv_monitor_message

_FAILED = (
    zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)
_AT_ONCE = 64


class Failure(enum.Enum):
    """How a handshake failed."""

    KEY_REFUSED = "key_refused"
    """The server knows the key and does not let it in; ZeroMQ does not try again by itself."""
    NO_AGREEMENT = "no_agreement"
    """One side wants keys and the other has none or wrong ones, or the peer speaks another protocol."""


class HandshakeMonitor:
    """The failed handshakes of one socket.

    Attributes:
        socket: to be polled, and closed, by the thread that owns the watched socket.
    """

    def __init__(self, watched: zmq.Socket) -> None:
        self.socket: zmq.Socket = watched.get_monitor_socket(_FAILED)

    def read(self) -> list[Failure]:
        """The failures since the last call, at most 64."""
        failures: list[Failure] = []
        while len(failures) < _AT_ONCE:
            try:
                event = recv_monitor_message(self.socket, zmq.DONTWAIT)["event"]
            except zmq.Again:
                break
            if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                failures.append(Failure.KEY_REFUSED)
            elif event & _FAILED:
                failures.append(Failure.NO_AGREEMENT)
        return failures
