"""Waiting for many ZeroMQ sockets at once, at a cost that grows with those that have something to say."""

from __future__ import annotations

import selectors
import socket
from collections.abc import Hashable
from typing import Generic, TypeVar

import zmq

Key = TypeVar("Key", bound=Hashable)


class SocketPoller(Generic[Key]):
    """Says which sockets may have something to read.

    ZeroMQ's descriptors tell of a change once, and any use of a socket can swallow that: who has sent to a socket, or
    has not read it empty, says so with :meth:`used`, and it is named again before anything is waited for.
    """

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._handles: dict[Key, int] = {}
        self._used: set[Key] = set()

    def add(self, key: Key, sock: zmq.Socket | socket.socket) -> None:
        """Watch a socket from now on."""
        handle = int(sock.getsockopt(zmq.FD)) if isinstance(sock, zmq.Socket) else sock.fileno()
        self._selector.register(handle, selectors.EVENT_READ, key)
        self._handles[key] = handle
        self._used.add(key)

    def remove(self, key: Key) -> None:
        """Watch it no more; call this before it is closed. An unknown one is no error."""
        handle = self._handles.pop(key, None)
        self._used.discard(key)
        if handle is not None:
            self._selector.unregister(handle)

    def used(self, key: Key) -> None:
        """Name this one again."""
        if key in self._handles:
            self._used.add(key)

    def wait(self, timeout_s: float) -> set[Key]:
        """The sockets to read from, until none is left; empty after `timeout_s` without any."""
        ready = {entry.data for entry, _ in self._selector.select(0.0 if self._used else timeout_s)}
        ready |= self._used
        self._used = set()
        return ready

    def close(self) -> None:
        self._selector.close()
