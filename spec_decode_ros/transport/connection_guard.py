"""Limits on the TCP connections of a ROUTER, so that none of them takes more of the server than its share.

ZeroMQ bounds a frame, but neither a message, whose frames need never end, nor here the queue of messages (see
:func:`~spec_decode_ros.transport.loop.set_common_options`). It also keeps connections over which nothing ever arrives. So
connections are watched from outside: ZeroMQ's monitor reports them, every message names its connection, and the operating
system knows how much has arrived.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import zmq

from spec_decode_ros.transport.connection_monitor import open_monitor, read_monitor

_HANDSHAKE_FAILED = (
    zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)
_MAX_EVENTS = 256
_OTHER_FILES = 256
"""Open files that the process needs for itself: threads, files and pipes."""

_BYTES_RECEIVED = 128  # offset in Linux's tcp_info
_INFO_BYTES = 136
_TCP_INFO: int | None = getattr(socket, "TCP_INFO", None) if sys.platform == "linux" else None
_libc = ctypes.CDLL(None)
_info = ctypes.create_string_buffer(_INFO_BYTES)


def allow_many_connections() -> None:
    """Let this process open as many files, and so serve as many robots, as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def max_connections(files_each: int = 1) -> int:
    """How many connections this process may have, if each needs `files_each` open files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, (soft - _OTHER_FILES) // files_each)


@dataclass(frozen=True)
class ConnectionLimits:
    """Limits per connection and on their number.

    Attributes:
        unread_bytes: may wait to be read, as messages or as the beginning of one (checked on Linux only).
        silence_s: without a message; a client pings once a second.
        most: connections at once. For a further one the oldest that never sent a message is ended, or else the new one.
        most_each: connections of one robot's key. For a further one the longest silent of them is ended.
        all_unread_bytes: may wait to be read over all connections; those with the most are ended first.
    """

    unread_bytes: int
    silence_s: float = 60.0
    most: int = 4096
    most_each: int = 8
    all_unread_bytes: int = 512 * 1024 * 1024


@dataclass
class _TcpConnection:
    peer: object
    accepted: float
    last_message: float | None = None
    had_message: bool = False
    """Since the last check."""
    read_bytes: int = 0
    """Received in messages that were read."""
    key: str = ""


class ConnectionGuard:
    """Ends connections of one ROUTER that exceed the limits; used by the thread that polls it.

    Attributes:
        socket: to be polled, and closed, by that thread.
        refused: connections whose handshake failed: no key, a wrong key, another protocol.
        ended: connections that were ended because they exceeded the limits.
    """

    def __init__(self, watched: zmq.Socket, limits: ConnectionLimits) -> None:
        events = zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED | _HANDSHAKE_FAILED
        self.socket = open_monitor(watched, events)
        self.refused = 0
        self.ended = 0
        self._limits = limits
        self._most = min(limits.most, max_connections())
        self._connections: dict[int, _TcpConnection] = {}

    def read(self, now: float) -> None:
        """Take in the monitor's events; call it when `socket` is readable."""
        for event, handle in read_monitor(self.socket, _MAX_EVENTS):
            if event == zmq.EVENT_ACCEPTED:
                self._on_accepted(handle, now)
            elif event == zmq.EVENT_DISCONNECTED:
                self._connections.pop(handle, None)
            elif event & _HANDSHAKE_FAILED:
                self.refused += 1

    def on_message(self, handle: int, size: int, now: float) -> None:
        """A message of so many bytes came over this connection and was read."""
        if handle not in self._connections:
            self.read(now)  # its beginning has not been taken in yet
        connection = self._connections.get(handle)
        if connection is not None:
            connection.last_message, connection.had_message = now, True
            connection.read_bytes += size

    def set_key(self, handle: int, key: str) -> None:
        """The connection, which has had a message, belongs to a robot with this key."""
        connection = self._connections.get(handle)
        if connection is None or connection.key == key:
            return
        connection.key = key
        others = {
            other: known.last_message or 0.0
            for other, known in self._connections.items()
            if known.key == key and other != handle
        }
        if len(others) >= self._limits.most_each:
            self.ended += 1
            self.end(min(others, key=others.__getitem__))

    def end(self, handle: int) -> None:
        """End this connection; ZeroMQ notices by itself."""
        connection = self._connections.pop(handle, None)
        if connection is None:
            return
        with contextlib.suppress(OSError), _socket_of(handle) as sock:
            if sock.getpeername() == connection.peer:  # else the handle belongs to another connection by now
                sock.shutdown(socket.SHUT_RDWR)

    def check(self, now: float, drained: bool) -> None:
        """End the connections that exceed the limits; call it several times a second.

        Args:
            now: seconds.
            drained: whether every whole message that has arrived was read.
        """
        unread = {}
        for handle, connection in self._connections.items():
            received = _bytes_received(handle)
            if drained and connection.had_message:
                connection.read_bytes = received  # what encryption and framing add, too
            connection.had_message = False
            unread[handle] = received - connection.read_bytes
        total = sum(unread.values())
        for handle in sorted(unread, key=unread.__getitem__, reverse=True):
            connection = self._connections[handle]
            silent_since = connection.accepted if connection.last_message is None else connection.last_message
            silent = now - silent_since > self._limits.silence_s
            if silent or unread[handle] > self._limits.unread_bytes or total > self._limits.all_unread_bytes:
                total -= unread[handle]
                self.ended += 1
                self.end(handle)

    def _on_accepted(self, handle: int, now: float) -> None:
        try:
            with _socket_of(handle) as sock:
                peer = sock.getpeername()
        except OSError:  # it has ended already
            return
        self._connections[handle] = _TcpConnection(peer, now)
        if len(self._connections) > self._most:
            silent = (other for other, known in self._connections.items() if known.last_message is None)
            self.ended += 1
            self.end(next(silent, handle))  # the oldest: in the order of arrival


@contextlib.contextmanager
def _socket_of(handle: int) -> Iterator[socket.socket]:
    """A Python socket on a duplicate of ZeroMQ's descriptor. Raises OSError if that is not a socket."""
    duplicate = os.dup(handle)
    try:
        sock = socket.socket(fileno=duplicate)
    except OSError:
        os.close(duplicate)
        raise
    with sock:
        yield sock


def _bytes_received(handle: int) -> int:
    """What has ever arrived over a connection; 0 where the operating system does not say."""
    if _TCP_INFO is None:
        return 0
    # Without a Python socket, which would cost ten times as much for each of thousands of connections.
    size = ctypes.c_uint32(_INFO_BYTES)
    status = _libc.getsockopt(handle, socket.IPPROTO_TCP, _TCP_INFO, _info, ctypes.byref(size))
    if status != 0 or size.value < _INFO_BYTES:
        return 0
    return int(struct.unpack_from("Q", _info, _BYTES_RECEIVED)[0])
