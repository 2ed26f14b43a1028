"""A thread that owns one ZeroMQ socket: other threads hand it frames to send, it hands on what arrives.

ZeroMQ sockets must not be shared between threads. Senders therefore put frames into an outbox and wake the thread
through a socket pair, which costs some 50 microseconds.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Mapping, Sequence

import zmq

from spec_decode_ros.transport.codec import MAX_FRAME_BYTES, MAX_FRAMES
from spec_decode_ros.transport.watchdog import Watchdog

_log = logging.getLogger(__name__)

_HEARTBEAT_MS = 1_000
_HEARTBEAT_TIMEOUT_MS = 3_000
_SEND_QUEUE = 512
_TICK_MS = 100
_JOIN_S = 5.0
_LINGER_MS = 100
"""How long a closed socket still sends what was handed over."""
_MAX_BATCH = 8
"""Messages that are read before answers are sent and the other peers have their turn."""


Frame = bytes | zmq.Frame


class SocketLoop:
    """Sends, receives and ticks in a thread of its own until stopped.

    All callbacks run in the thread and must return quickly.

    Args:
        sock: the socket; it belongs to the loop, which closes it.
        on_frames: called with the frames of every message, which know their sender and are copied only when asked to.
        on_tick: called in every iteration, several times a second at least.
        on_unsent: called with frames that ZeroMQ refused, and the reason.
        extra_sockets: further sockets that the loop polls and closes, and what it calls when one is readable.
        handle: a descriptor that starts an iteration when it is readable.
        envelope: how many frames in front of a message are not part of it, which are not counted.

    Attributes:
        received_bytes: size of all whole messages, without their envelopes and ZeroMQ's own framing.
        sent_bytes: size of what was handed to ZeroMQ, likewise.
    """

    def __init__(
        self,
        sock: zmq.Socket,
        name: str,
        on_frames: Callable[[list[zmq.Frame]], None],
        on_tick: Callable[[], None],
        on_unsent: Callable[[Sequence[Frame], zmq.ZMQError], None] = lambda frames, error: None,
        extra_sockets: Mapping[zmq.Socket, Callable[[], None]] | None = None,
        handle: int | None = None,
        envelope: int = 0,
    ) -> None:
        self._sock = sock
        self._on_frames = on_frames
        self._on_tick = on_tick
        self._on_unsent = on_unsent
        self._extra_sockets = dict(extra_sockets or {})
        self._envelope = envelope
        self.received_bytes = 0
        self.sent_bytes = 0
        self._handle = handle
        self._outbox: collections.deque[Sequence[Frame]] = collections.deque()
        self._outbox_empty = threading.Event()
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._watchdog = Watchdog()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    @property
    def stalled_s(self) -> float | None:
        """See :meth:`Watchdog.stalled_s`."""
        return self._watchdog.stalled_s(self._thread, self._stopping.is_set())

    def start(self) -> None:
        self._watchdog.feed()
        self._thread.start()

    def stop(self) -> None:
        """End the thread and close the sockets; what was handed over before has a moment to leave. Safe to call twice."""
        self._stopping.set()
        self.wake()
        if self._thread.ident is None:
            self._close()
        elif self._thread is not threading.current_thread():
            self._thread.join(_JOIN_S)

    def wake(self) -> None:
        """Start an iteration now, from any thread."""
        # A full pipe means that the thread has been woken already; a closed one that it has ended.
        with contextlib.suppress(BlockingIOError, OSError):
            self._wake_in.send(b"x")

    def send(self, frames: Sequence[Frame], patience_s: float = 0.0) -> None:
        """Hand over frames from any thread; they are sent in this order.

        Waits up to `patience_s` until they are with ZeroMQ, for a caller that will then keep the interpreter busy.
        """
        self._outbox_empty.clear()
        self._outbox.append(frames)
        if threading.current_thread() is not self._thread:
            self.wake()
            if patience_s:
                self._outbox_empty.wait(patience_s)

    def receive_all(self) -> None:
        """Hand on all that has arrived, before something is done that would lose it. Only in the thread."""
        while int(self._sock.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            self._receive_batch()

    def _run(self) -> None:
        poller = zmq.Poller()
        for sock in (self._sock, self._wake_out, *self._extra_sockets):
            poller.register(sock, zmq.POLLIN)
        if self._handle is not None:
            poller.register(self._handle, zmq.POLLIN)
        try:
            while not self._stopping.is_set():
                ready = dict(poller.poll(_TICK_MS))
                self._watchdog.feed()
                if self._wake_out.fileno() in ready:
                    with contextlib.suppress(BlockingIOError):
                        self._wake_out.recv(4096)
                for sock, on_readable in self._extra_sockets.items():
                    if sock in ready:
                        self.call(on_readable)
                self._flush()
                if self._sock in ready:
                    self._receive_batch()
                self.call(self._on_tick)
                self._flush()
        finally:
            self._flush()
            self._close()

    def _close(self) -> None:
        if not self._sock.closed:
            # A monitor's sender waits for its reader, in the thread of all of ZeroMQ's connections: end it first.
            self._sock.disable_monitor()
            self._sock.close(_LINGER_MS)
        for sock in self._extra_sockets:
            sock.close(0)
        self._wake_in.close()
        self._wake_out.close()

    def _flush(self) -> None:
        while self._outbox:
            frames = self._outbox.popleft()
            try:
                self._sock.send_multipart(frames, zmq.DONTWAIT, copy=False)
            except zmq.ZMQError as error:
                self.call(self._on_unsent, frames, error)
            else:
                self.sent_bytes += sum(map(len, frames[self._envelope :]))
        self._outbox_empty.set()

    def _receive_batch(self) -> None:
        for _ in range(_MAX_BATCH):
            frames = receive_now(self._sock)
            if frames is None:
                return
            self.received_bytes += sum(map(len, frames[self._envelope :]))
            self.call(self._on_frames, frames)

    def call(self, callback: Callable[..., None], *arguments: object) -> None:
        """Call back; a failure is logged, and the loop goes on."""
        try:
            callback(*arguments)
        except Exception:
            _log.exception("%s: a handler failed; going on", self._thread.name)


def receive_now(sock: zmq.Socket) -> list[zmq.Frame] | None:
    """The frames of the next message, or None when none waits. Of excess frames one is kept, to show the excess."""
    try:
        frames = [sock.recv(zmq.DONTWAIT, copy=False)]
    except zmq.Again:
        return None
    while sock.getsockopt(zmq.RCVMORE):
        part = sock.recv(copy=False)
        if len(frames) < MAX_FRAMES + 2:  # a ROUTER's identity, and one too many
            frames.append(part)
    return frames


def set_common_options(sock: zmq.Socket) -> None:
    """Never linger, notice a dead peer, refuse oversized frames, and queue what is sent only up to a bound.

    What is received is queued without one: libzmq 4.3.5 ends the process by an assertion (``!_io_error``) if a connection
    whose queue is full is reset and a heartbeat follows, which a pause of some seconds is enough for. A ROUTER that
    strangers reach has a :class:`~spec_decode_ros.transport.connection_guard.ConnectionGuard` instead.
    """
    sock.setsockopt(zmq.LINGER, 0)
    sock.setsockopt(zmq.SNDHWM, _SEND_QUEUE)
    sock.setsockopt(zmq.RCVHWM, 0)
    sock.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
    sock.setsockopt(zmq.HEARTBEAT_IVL, _HEARTBEAT_MS)
    sock.setsockopt(zmq.HEARTBEAT_TIMEOUT, _HEARTBEAT_TIMEOUT_MS)
    sock.setsockopt(zmq.HEARTBEAT_TTL, _HEARTBEAT_TIMEOUT_MS)
