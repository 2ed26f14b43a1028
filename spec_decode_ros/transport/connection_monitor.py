"""What becomes of a connection, from ZeroMQ's own account of it.

A peer that is refused hears nothing by itself: it sees a connection that ends. With keys, ZeroMQ's monitor knows more.
And the end of a process that was killed is known as soon as the operating system says so, long before a ping is missed.
"""

from __future__ import annotations

import enum
import itertools

import zmq
from zmq.utils.monitor import recv_monitor_message


class Sign(enum.Enum):
    """One event."""

    UP = "a connection stands, and both ends have agreed on how it is encrypted"
    LOST = "a connection has ended, or there was nobody to connect to"
    KEY_REFUSED = "the server knows the key and does not let it in"
    NO_AGREEMENT = "one side wants keys and the other has none or wrong ones, or it speaks another protocol"


_SIGNS: dict[int, Sign] = {
    zmq.EVENT_HANDSHAKE_SUCCEEDED: Sign.UP,
    zmq.EVENT_DISCONNECTED: Sign.LOST,
    zmq.EVENT_CLOSED: Sign.LOST,
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: Sign.KEY_REFUSED,
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: Sign.NO_AGREEMENT,
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: Sign.NO_AGREEMENT,
}
_AT_ONCE = 64
_numbers = itertools.count()


class ConnectionMonitor:
    """The signs of one socket that connects.

    Attributes:
        socket: to be polled, and closed, by the thread that owns the watched socket.
    """

    def __init__(self, watched: zmq.Socket) -> None:
        # An address of its own: by default it is made of a descriptor, which a new socket may have again too soon.
        self.socket: zmq.Socket = watched.get_monitor_socket(
            sum(_SIGNS), f"inproc://connection-monitor-{next(_numbers)}"
        )

    def read(self) -> list[Sign]:
        """The signs since the last call, at most 64."""
        signs: list[Sign] = []
        while len(signs) < _AT_ONCE:
            try:
                event = recv_monitor_message(self.socket, zmq.DONTWAIT)["event"]
            except zmq.Again:
                break
            if (sign := _SIGNS.get(event)) is not None:
                signs.append(sign)
        return signs
