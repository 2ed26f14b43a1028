"""The process that has the socket for :class:`~spec_decode_ros.transport.router_process.RouterProcess`.

It forwards between the robots' ROUTER and its parent, whatever is said, and ends with its parent. Between the two a message
has a header in front, which is the routing id of a robot, towards the parent behind a :class:`Kind`.
"""

from __future__ import annotations

import collections
import contextlib
import enum
import json
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import zmq

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.transport.connection_guard import allow_many_connections
from spec_decode_ros.transport.keyring import Keyring
from spec_decode_ros.transport.keys import ServerKeys
from spec_decode_ros.transport.loop import receive_now
from spec_decode_ros.transport.rate_limiter import RateLimiter
from spec_decode_ros.transport.secured_router import SecuredRouter

_log = logging.getLogger(__name__)

KEY_BYTES = 40
UP_QUEUE = 8
"""Messages that wait on the way to the parent before robots are no longer read: each waits where it counts as its own."""
DOWN_QUEUE = 16_384
"""Messages to robots that wait on the way from the parent; they are small, and behind it each robot has its own bound."""
BEAT_S = 1.0
_TICK_MS = 100
_MOST_WAITING = 1_000
_LINGER_MS = 100
_LAST_MS = 20
_MAX_BATCH = 32
"""Messages in one direction before the other one has its turn."""


class Kind(enum.IntEnum):
    """What the first byte of a header says."""

    MESSAGE = 1  # then the robot's routing id
    SIGNED = 2  # then its key, then its routing id
    REVOKED = 3  # a message with a revoked key; then the routing id
    UNSENT = 4  # this robot could not be sent to; the frame is the error number
    BOUND = 5  # the frame is the endpoint
    FAILED = 6  # the frame is why it can't be bound
    REFUSED = 7  # the frame is how many connections were refused so far
    LOG = 8  # the frame is a log record as JSON
    BEAT = 9  # the worker is bound and well


def main() -> None:
    """Serve with the settings in the first line of standard input, until that closes."""
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # which a whole group may get; the parent says when it is over
        signal.signal(number, signal.SIG_IGN)
    settings = json.loads(sys.stdin.readline())
    allow_many_connections()
    context, router_context = zmq.Context(), zmq.Context()
    link: zmq.Socket = context.socket(zmq.DEALER)
    link.setsockopt(zmq.SNDHWM, UP_QUEUE)
    link.setsockopt(zmq.RCVHWM, DOWN_QUEUE)
    link.setsockopt(zmq.LINGER, _LINGER_MS)
    link.connect(settings["link"])
    worker = _Worker(link)
    logging.basicConfig(level=logging.INFO, handlers=[_ToParent(worker)])
    keys = None
    if settings["keys"]:
        public, secret, robots = settings["keys"]
        keys = ServerKeys(public.encode(), secret.encode(), Path(robots))
    try:
        router = SecuredRouter(router_context, settings["bind"], keys, settings["insecure"])
    except SpecDecodeError as error:
        worker.tell(Kind.FAILED, str(error).encode())
        link.close(1000)
        context.term()
        sys.exit(1)
    worker.tell(Kind.BOUND, router.endpoint.encode())
    worker.run(router)
    router.close(_LINGER_MS)
    link.close()
    router_context.term()
    context.term()
    _remove(Path(settings["link"].removeprefix("ipc://")))


def _remove(link: Path) -> None:
    """Remove the socket's file and its folder, which a parent that was killed leaves."""
    with contextlib.suppress(OSError):
        link.unlink(missing_ok=True)
        link.parent.rmdir()


class _Worker:
    def __init__(self, link: zmq.Socket) -> None:
        self._link = link
        self._waiting: collections.deque[list[bytes]] = collections.deque()

    def tell(self, kind: Kind, *frames: bytes, robot: bytes = b"") -> None:
        """Tell the parent, as soon as there is room. While it does not listen, not everything is kept."""
        if len(self._waiting) > _MOST_WAITING and kind in (Kind.LOG, Kind.UNSENT, Kind.BEAT):
            return
        self._waiting.append([bytes([kind]) + robot, *frames])
        self._flush()

    def run(self, router: SecuredRouter) -> None:
        poller = zmq.Poller()
        for sock in (*router.extra_sockets, sys.stdin.fileno()):
            poller.register(sock, zmq.POLLIN)
        refused = 0
        beat = RateLimiter(BEAT_S)
        while True:
            writable = self._flush()
            # A parent that is slow makes robots wait, each in its own queue, so that they go on taking turns.
            poller.register(router.sock, zmq.POLLIN if writable else 0)
            poller.register(self._link, zmq.POLLIN if writable else zmq.POLLIN | zmq.POLLOUT)
            ready = dict(poller.poll(_TICK_MS))
            if sys.stdin.fileno() in ready and not os.read(sys.stdin.fileno(), 4096):
                while self._send(router) or self._link.poll(_LAST_MS):  # the last answers
                    pass
                return
            for sock, on_readable in router.extra_sockets.items():
                if sock in ready:
                    _call(on_readable)
            if ready.get(self._link, 0) & zmq.POLLIN:
                _call(self._send, router)
            if router.sock in ready:
                _call(self._receive, router)
            _call(router.tick)  # what is revoked, the parent sees for itself
            if router.refused != refused:
                refused = router.refused
                self.tell(Kind.REFUSED, str(refused).encode())
            if beat.allow():
                self.tell(Kind.BEAT, b"")

    def _flush(self) -> bool:
        """Send what waits; whether all of it is gone."""
        while self._waiting:
            try:
                self._link.send_multipart(self._waiting[0], zmq.DONTWAIT)
            except zmq.Again:
                return False
            self._waiting.popleft()
        return True

    def _receive(self, router: SecuredRouter) -> None:
        for _ in range(_MAX_BATCH):
            frames = receive_now(router.sock)
            if frames is None:
                return
            received = router.receive(frames)
            header = bytes([Kind.MESSAGE])
            if received.key is None:
                header = bytes([Kind.REVOKED])
            elif received.key:
                header = bytes([Kind.SIGNED]) + received.key.encode()
            message: list[bytes | zmq.Frame] = [header + received.client, *received.body]
            try:
                self._link.send_multipart(message, zmq.DONTWAIT, copy=False)
            except zmq.Again:
                self._waiting.append([header + received.client, *(frame.bytes for frame in received.body)])
                return

    def _send(self, router: SecuredRouter) -> bool:
        """Send to robots; whether there may be more."""
        for _ in range(_MAX_BATCH):
            frames: Sequence[zmq.Frame] | None = receive_now(self._link)
            if frames is None:
                return False
            try:
                router.sock.send_multipart(frames, zmq.DONTWAIT, copy=False)
            except zmq.ZMQError as error:
                self.tell(Kind.UNSENT, str(error.errno).encode(), robot=frames[0].bytes)
        return True


def _call(function: Callable[..., object], *arguments: object) -> None:
    """Call; a failure is logged, and the worker goes on."""
    try:
        function(*arguments)
    except Exception:
        _log.exception("the process of the socket: a handler failed; going on")


class _ToParent(logging.Handler):
    """Logs through the parent, so that there is one log in one format."""

    def __init__(self, worker: _Worker) -> None:
        super().__init__()
        self._worker = worker

    def emit(self, record: logging.LogRecord) -> None:
        extra = {name: value for name in ("robot", "address") if (value := getattr(record, name, None))}
        if record.name == Keyring.__module__ and not extra:
            return  # the parent reads the same keys, and says the same of them
        text = record.getMessage() + (f"\n{traceback.format_exc()}" if record.exc_info else "")
        self._worker.tell(
            Kind.LOG,
            json.dumps([record.name, record.levelno, record.pathname, record.lineno, text, extra]).encode(),
        )


if __name__ == "__main__":
    main()
