"""Events of ZeroMQ's socket monitor: what happens to the TCP connections of a socket.

A peer that is refused receives nothing; its connection just ends. With keys, only the monitor knows why. It also reports
the end of a killed process as soon as the operating system does, long before a ping is missed.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Iterator

import zmq
from zmq.utils.monitor import recv_monitor_message

_numbers = itertools.count()


class ConnectionEvent(enum.Enum):
    """What has happened to the connection of a client."""

    UP = "connected, and both ends agree on the encryption"
    LOST = "the connection has ended, or nobody was there to connect to"
    KEY_REFUSED = "the server does not let this key in"
    ENCRYPTION_MISMATCH = (
        "one side wants keys and the other has none or wrong ones, or speaks another protocol"
    )


_EVENTS: dict[int, ConnectionEvent] = {
    zmq.EVENT_HANDSHAKE_SUCCEEDED: ConnectionEvent.UP,
    zmq.EVENT_DISCONNECTED: ConnectionEvent.LOST,
    zmq.EVENT_CLOSED: ConnectionEvent.LOST,
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: ConnectionEvent.KEY_REFUSED,
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: ConnectionEvent.ENCRYPTION_MISMATCH,
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: ConnectionEvent.ENCRYPTION_MISMATCH,
}
CLIENT_EVENTS = sum(_EVENTS)


def read_connection_events(monitor: zmq.Socket) -> list[ConnectionEvent]:
    """The events of a client socket since the last call, at most 64."""
    return [_EVENTS[number] for number, _ in read_monitor(monitor, 64) if number in _EVENTS]


def open_monitor(watched: zmq.Socket, events: int = CLIENT_EVENTS) -> zmq.Socket:
    """A socket that receives these events of `watched`, in whose thread it must be used.

    ZeroMQ's own thread, which serves every socket of the context, waits while the queue of events is full. So the queue
    has no limit, and `watched.disable_monitor()` must be called before this socket is closed.
    """
    # Not pyzmq's default address: it is made of a descriptor, which a new socket may have again too soon.
    address = f"inproc://monitor-{next(_numbers)}"
    watched.monitor(address, events)
    sock: zmq.Socket = watched.context.socket(zmq.PAIR)
    sock.setsockopt(zmq.RCVHWM, 0)
    sock.setsockopt(zmq.LINGER, 0)
    sock.connect(address)
    return sock


def read_monitor(sock: zmq.Socket, most: int) -> Iterator[tuple[int, int]]:
    """The next events of a monitor: their numbers and values."""
    for _ in range(most):
        try:
            event = recv_monitor_message(sock, zmq.DONTWAIT)
        except zmq.Again:
            return
        yield event["event"], event["value"]
