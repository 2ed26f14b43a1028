"""A thread that owns one ZeroMQ socket: others hand it frames to send, it hands on what arrives.

ZeroMQ sockets must not be shared between threads. Senders therefore put frames into an outbox and wake the
thread through a socket pair, which costs some 50 microseconds.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import zmq

from spec_decode_ros.transport.codec import Limits

_log = logging.getLogger(__name__)

HEARTBEAT_MS = 1_000
HEARTBEAT_TIMEOUT_MS = 3_000
_JOIN_S = 5.0
_LEAVES_MS = 100
"""So long a socket that is closed still sends what was handed over."""
_SEND_QUEUE = 512
_AT_ONCE = 8
"""Messages that are read before answers are sent and ZeroMQ looks who else has something to say; then peers take turns."""
_RECEIVE_QUEUE = 16
"""Messages that wait per peer before TCP holds it back: what a flood can make this side store."""


class SocketLoop:
    """Sends, receives and ticks in a thread of its own until stopped.

    Args:
        sock: the socket; from `start` on it belongs to the thread, which closes it.
        limits: how many frames of a message are kept; the rest of a longer one is read and dropped.
        on_frames: called in the thread with the frames of every message; must return quickly.
        on_tick: called in the thread at least every `tick_s` seconds.
        on_unsent: called in the thread with frames that ZeroMQ refused, and the reason.
        beside: further sockets that the thread polls, owns and closes, and what it calls when one of them has
            something to read.
        copy: hand on bytes; else `zmq.Frame` objects, which know their sender and are copied only when asked to.

    Attributes:
        received_bytes: what arrived in whole messages, without a ROUTER's identities and ZeroMQ's own framing.
        sent_bytes: what was handed to ZeroMQ, likewise.
    """

    def __init__(
        self,
        sock: zmq.Socket,
        name: str,
        limits: Limits,
        on_frames: Callable[[list[Any]], None],
        on_tick: Callable[[], None],
        on_unsent: Callable[[list[bytes], zmq.ZMQError], None],
        tick_s: float = 0.25,
        beside: Mapping[zmq.Socket, Callable[[], None]] | None = None,
        copy: bool = True,
    ) -> None:
        self._sock = sock
        self._beside = dict(beside or {})
        self._copy = copy
        self._envelope = 1 if sock.getsockopt(zmq.TYPE) == zmq.ROUTER else 0
        self._frames = limits.frames + self._envelope
        self.received_bytes = 0
        self.sent_bytes = 0
        self._on_frames = on_frames
        self._on_tick = on_tick
        self._on_unsent = on_unsent
        self._tick_ms = int(tick_s * 1000)
        self._outbox: collections.deque[list[bytes]] = collections.deque()
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._stopping = threading.Event()
        self._idle = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread and close the socket; what was handed over before has a moment to leave. Safe to call twice."""
        self._stopping.set()
        self._wake()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(_JOIN_S)

    def send(self, frames: list[bytes], patience_s: float = 0.0) -> None:
        """Hand over frames from any thread; they are sent in this order.

        Waits up to `patience_s` until they are with ZeroMQ, for a caller that will then keep the interpreter busy.
        """
        self._idle.clear()
        self._outbox.append(frames)
        if threading.current_thread() is not self._thread:
            self._wake()
            if patience_s:
                self._idle.wait(patience_s)

    def _wake(self) -> None:
        # A full pipe means that the thread has been woken already; a closed one that it has ended.
        with contextlib.suppress(BlockingIOError, OSError):
            self._wake_in.send(b"x")

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._sock, zmq.POLLIN)
        poller.register(self._wake_out, zmq.POLLIN)
        for other in self._beside:
            poller.register(other, zmq.POLLIN)
        try:
            while not self._stopping.is_set():
                ready = dict(poller.poll(self._tick_ms))
                if self._wake_out.fileno() in ready:
                    with contextlib.suppress(BlockingIOError):
                        self._wake_out.recv(4096)
                for other, call in self._beside.items():
                    if other in ready:
                        self._guarded(call)
                self._flush()
                if self._sock in ready:
                    self._receive_some()
                self._guarded(self._on_tick)
                self._flush()
        finally:
            self._flush()
            # A monitor's sender waits for its reader, in the thread of all of ZeroMQ's connections: end it first.
            self._sock.disable_monitor()
            self._sock.close(_LEAVES_MS)
            for other in self._beside:
                other.close(0)
            self._wake_in.close()
            self._wake_out.close()

    def _flush(self) -> None:
        while self._outbox:
            frames = self._outbox.popleft()
            try:
                self._sock.send_multipart(frames, zmq.DONTWAIT)
            except zmq.ZMQError as error:
                self._guarded(self._on_unsent, frames, error)
            else:
                self.sent_bytes += _size(frames[self._envelope :])
        self._idle.set()

    def take_in(self) -> None:
        """Hand on all that has arrived, before something is done that would lose it; only in the thread."""
        while int(self._sock.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            self._receive_some()

    def _receive_some(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                frames = [self._sock.recv(zmq.DONTWAIT, copy=self._copy)]
            except zmq.Again:
                return
            while self._sock.getsockopt(zmq.RCVMORE):
                part = self._sock.recv(copy=self._copy)
                if len(frames) <= self._frames:
                    frames.append(part)
            self.received_bytes += _size(frames[self._envelope :])
            self._guarded(self._on_frames, frames)

    def _guarded(self, call: Callable[..., None], *arguments: object) -> None:
        try:
            call(*arguments)
        except Exception:
            _log.exception("%s: a handler failed; going on", self._thread.name)


def _size(frames: Sequence[Any]) -> int:
    return sum(map(len, frames))


def common_options(sock: zmq.Socket, limits: Limits) -> None:
    """Never linger, never queue without bound, notice a dead peer, and refuse oversized frames."""
    sock.setsockopt(zmq.LINGER, 0)
    sock.setsockopt(zmq.SNDHWM, _SEND_QUEUE)
    sock.setsockopt(zmq.RCVHWM, _RECEIVE_QUEUE)
    sock.setsockopt(zmq.MAXMSGSIZE, limits.frame_bytes)
    sock.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
    sock.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
    sock.setsockopt(zmq.HEARTBEAT_TTL, HEARTBEAT_TIMEOUT_MS)
