"""Poller for many ZeroMQ sockets, whose cost grows with the readable ones only."""

from __future__ import annotations

import selectors
import socket
from collections.abc import Callable

import zmq

PollableSocket = zmq.Socket | socket.socket


class SocketPoller:
    """Calls back for sockets that may be readable.

    ZeroMQ's descriptors are edge-triggered, and any use of a socket can swallow an edge: whoever has sent to a socket, or
    has not read it empty, calls :meth:`recheck`, and its callback is due again before anything is waited for.
    """

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._entries: dict[PollableSocket, tuple[int, Callable[[], None]]] = {}
        self._rechecks: set[PollableSocket] = set()

    def add(self, sock: PollableSocket, on_readable: Callable[[], None]) -> None:
        handle = int(sock.getsockopt(zmq.FD)) if isinstance(sock, zmq.Socket) else sock.fileno()
        self._selector.register(handle, selectors.EVENT_READ, sock)
        self._entries[sock] = (handle, on_readable)
        self._rechecks.add(sock)

    def remove(self, sock: PollableSocket) -> None:
        """Forget a socket, which must still be open."""
        handle, _ = self._entries.pop(sock)
        self._rechecks.discard(sock)
        self._selector.unregister(handle)

    def recheck(self, sock: PollableSocket) -> None:
        """Treat this socket as possibly readable."""
        if sock in self._entries:
            self._rechecks.add(sock)

    def wait(self, timeout_s: float) -> list[Callable[[], None]]:
        """The callbacks of the sockets that may be readable; empty after `timeout_s` without any."""
        events = self._selector.select(0.0 if self._rechecks else timeout_s)
        ready = {entry.data for entry, _ in events} | self._rechecks
        self._rechecks = set()
        return [self._entries[sock][1] for sock in ready]

    def close(self) -> None:
        self._selector.close()
