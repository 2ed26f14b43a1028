"""Poller for many ZeroMQ sockets, whose cost grows with the readable ones only."""

from __future__ import annotations

import selectors
from collections.abc import Callable

import zmq


class SocketPoller:
    """Tells which sockets may be readable, by callbacks.

    ZeroMQ's descriptors are edge-triggered, and any use of a socket can swallow an edge: after sending to a socket, or
    reading it only in part, call :meth:`recheck`, and its callback is due again.
    """

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._entries: dict[zmq.Socket, tuple[int, Callable[[], None]]] = {}
        self._rechecks: set[zmq.Socket] = set()

    def add(self, sock: zmq.Socket, on_readable: Callable[[], None]) -> None:
        handle = int(sock.getsockopt(zmq.FD))
        self._selector.register(handle, selectors.EVENT_READ, sock)
        self._entries[sock] = (handle, on_readable)
        self._rechecks.add(sock)

    def remove(self, sock: zmq.Socket) -> None:
        """Forget a socket, which must still be open."""
        handle, _ = self._entries.pop(sock)
        self._rechecks.discard(sock)
        self._selector.unregister(handle)

    def recheck(self, sock: zmq.Socket) -> None:
        """Treat this socket as possibly readable."""
        if sock in self._entries:
            self._rechecks.add(sock)

    @property
    def handle(self) -> int:
        """A descriptor that is readable when one of the sockets is; rechecks apart."""
        return self._selector.fileno()  # type: ignore[attr-defined, no-any-return]

    def due(self) -> list[Callable[[], None]]:
        """The callbacks of the sockets that may be readable now."""
        ready = {entry.data for entry, _ in self._selector.select(0.0)} | self._rechecks
        self._rechecks = set()
        return [self._entries[sock][1] for sock in ready]

    def close(self) -> None:
        self._selector.close()
