"""The TCP connections behind a ROUTER, so that none of them holds more of the server than its share.

ZeroMQ bounds a frame and a queue of messages, but not a message: frames that never end are kept until they do. And it
keeps a connection over which nothing is ever said. So connections are watched from outside: ZeroMQ's monitor tells of
them, every message names the one that it came over, and the operating system knows how much has arrived.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import resource
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import zmq
from zmq.utils.monitor import recv_monitor_message

_FAILED = (
    zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)
_WATCHED = zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED | _FAILED
_EVENTS_AT_ONCE = 256
_OTHER_HANDLES = 256
"""What the process needs beside its connections, such as those of its threads, files and pipes."""

_BYTES_RECEIVED = 128  # where Linux has it in its tcp_info
_INFO_BYTES = 136
_TCP_INFO: int | None = getattr(socket, "TCP_INFO", None) if sys.platform == "linux" else None
_libc = ctypes.CDLL(None)
_info = ctypes.create_string_buffer(_INFO_BYTES)

_numbers = itertools.count()


def allow_many_connections() -> None:
    """Let this process open as many files, and so serve as many robots, as the system allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@dataclass(frozen=True)
class ConnectionLimits:
    """What one connection may do, and how many there are.

    Attributes:
        unread_bytes: so much may arrive without that a message is complete (Linux only).
        silence_s: so long nothing may be said; a client pings once a second.
        most: at once; then the oldest one that has never said anything gives way, or else the newest.
    """

    unread_bytes: int
    silence_s: float = 60.0
    most: int = 4096


@dataclass
class _Connection:
    peer: object
    began: float
    said: float | None = None
    speaks: bool = False
    unread_from: int = 0


class Connections:
    """The connections of one ROUTER; used by the thread that polls it.

    Attributes:
        socket: to be polled, and closed, by that thread.
        refused: connections that failed before a word was said: no key, a wrong key, another protocol.
        ended: connections that were ended because they went beyond the limits.
    """

    def __init__(self, watched: zmq.Socket, limits: ConnectionLimits) -> None:
        # ZeroMQ's own thread, which serves every socket of the context, waits while the queue of events is full: so
        # there must be no limit, and whoever closes `socket` must call `watched.disable_monitor()` before.
        address = f"inproc://connections-{next(_numbers)}"
        watched.monitor(address, _WATCHED)
        self.socket: zmq.Socket = watched.context.socket(zmq.PAIR)
        self.socket.setsockopt(zmq.RCVHWM, 0)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.connect(address)
        self.refused = 0
        self.ended = 0
        self._limits = limits
        handles, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most = max(1, min(limits.most, handles - _OTHER_HANDLES))
        self._connections: dict[int, _Connection] = {}

    def __len__(self) -> int:
        return len(self._connections)

    def read(self, now: float) -> None:
        """Take in what the monitor tells; to be called when `socket` can be read."""
        for _ in range(_EVENTS_AT_ONCE):
            try:
                event = recv_monitor_message(self.socket, zmq.DONTWAIT)
            except zmq.Again:
                return
            if event["event"] == zmq.EVENT_ACCEPTED:
                self._accepted(event["value"], now)
            elif event["event"] == zmq.EVENT_DISCONNECTED:
                self._connections.pop(event["value"], None)
            elif event["event"] & _FAILED:
                self.refused += 1

    def said(self, handle: int, now: float) -> None:
        """A whole message came over this connection."""
        if handle not in self._connections:
            self.read(now)  # its beginning has not been taken in yet
        connection = self._connections.get(handle)
        if connection is not None:
            connection.said, connection.speaks = now, True

    def end(self, handle: int) -> None:
        """End this connection; ZeroMQ notices by itself."""
        connection = self._connections.pop(handle, None)
        if connection is None:
            return
        with contextlib.suppress(OSError), _descriptor(handle) as sock:
            if sock.getpeername() == connection.peer:  # else the handle is another one's by now
                sock.shutdown(socket.SHUT_RDWR)

    def check(self, now: float) -> None:
        """End the connections that go beyond the limits; to be called several times a second."""
        for handle, connection in list(self._connections.items()):
            received = _bytes_received(handle)
            if connection.speaks:
                connection.speaks, connection.unread_from = False, received
            silent_since = connection.began if connection.said is None else connection.said
            unread = received - connection.unread_from
            if unread > self._limits.unread_bytes or now - silent_since > self._limits.silence_s:
                self.ended += 1
                self.end(handle)

    def _accepted(self, handle: int, now: float) -> None:
        try:
            with _descriptor(handle) as sock:
                peer = sock.getpeername()
        except OSError:  # it is gone already
            return
        self._connections[handle] = _Connection(peer, now)
        if len(self._connections) > self._most:
            # In the order in which they came.
            mute = (known for known, other in self._connections.items() if other.said is None)
            self.ended += 1
            self.end(next(mute, handle))


@contextlib.contextmanager
def _descriptor(handle: int) -> Iterator[socket.socket]:
    """A socket of our own for ZeroMQ's descriptor. Raises OSError if that is none."""
    own = os.dup(handle)
    try:
        sock = socket.socket(fileno=own)
    except OSError:
        os.close(own)
        raise
    with sock:
        yield sock


def _bytes_received(handle: int) -> int:
    """What has ever arrived over a connection; 0 where the operating system does not say."""
    if _TCP_INFO is None:
        return 0
    # Without a socket of our own, which would cost ten times as much for each of thousands of connections.
    size = ctypes.c_uint32(_INFO_BYTES)
    status = _libc.getsockopt(handle, socket.IPPROTO_TCP, _TCP_INFO, _info, ctypes.byref(size))
    if status != 0 or size.value < _INFO_BYTES:
        return 0
    return int(struct.unpack_from("Q", _info, _BYTES_RECEIVED)[0])
