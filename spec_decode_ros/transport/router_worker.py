"""The process that has the socket for :class:`~spec_decode_ros.transport.router_process.RouterProcess`.

It forwards between the robots' ROUTER and its parent, whatever is said, and ends with its parent. Between the two a message
has a header in front, which is the routing id of a robot, towards the parent behind a :class:`Kind`.
"""

from __future__ import annotations

import collections
import enum
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import zmq

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.transport.connection_guard import allow_many_connections
from spec_decode_ros.transport.keys import ServerKeys
from spec_decode_ros.transport.loop import receive_now
from spec_decode_ros.transport.secured_router import SecuredRouter

KEY_BYTES = 40
QUEUE = 256
"""Messages that wait between the two processes before robots are no longer read."""
_TICK_MS = 100
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


def main() -> None:
    """Serve with the settings in the first line of standard input, until that closes."""
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # which a whole group may get; the parent says when it is over
        signal.signal(number, signal.SIG_IGN)
    settings = json.loads(sys.stdin.readline())
    allow_many_connections()
    link: zmq.Socket = zmq.Context().socket(zmq.DEALER)
    for option in (zmq.SNDHWM, zmq.RCVHWM):
        link.setsockopt(option, QUEUE)
    link.connect(settings["link"])
    worker = _Worker(link)
    logging.basicConfig(level=logging.DEBUG, handlers=[_ToParent(worker)])
    keys = None
    if settings["keys"]:
        public, secret, robots = settings["keys"]
        keys = ServerKeys(public.encode(), secret.encode(), Path(robots))
    try:
        router = SecuredRouter(zmq.Context(), settings["bind"], keys, settings["insecure"])
    except SpecDecodeError as error:
        worker.tell(Kind.FAILED, str(error).encode())
        link.close(1000)
        sys.exit(1)
    worker.tell(Kind.BOUND, router.endpoint.encode())
    worker.run(router)


class _Worker:
    def __init__(self, link: zmq.Socket) -> None:
        self._link = link
        self._waiting: collections.deque[list[bytes]] = collections.deque(maxlen=QUEUE)

    def tell(self, kind: Kind, *frames: bytes, robot: bytes = b"") -> None:
        """Tell the parent, as soon as there is room."""
        self._waiting.append([bytes([kind]) + robot, *frames])
        self._flush()

    def run(self, router: SecuredRouter) -> None:
        poller = zmq.Poller()
        for sock in (*router.extra_sockets, sys.stdin.fileno()):
            poller.register(sock, zmq.POLLIN)
        refused = 0
        while True:
            writable = self._flush()
            # A parent that is slow makes robots wait, each in its own queue, so that they go on taking turns.
            poller.register(router.sock, zmq.POLLIN if writable else 0)
            poller.register(self._link, zmq.POLLIN if writable else zmq.POLLIN | zmq.POLLOUT)
            ready = dict(poller.poll(_TICK_MS))
            if sys.stdin.fileno() in ready and not os.read(sys.stdin.fileno(), 4096):
                return
            for sock, on_readable in router.extra_sockets.items():
                if sock in ready:
                    on_readable()
            if ready.get(self._link, 0) & zmq.POLLIN:
                self._send(router)
            if router.sock in ready:
                self._receive(router)
            router.tick()  # what is revoked, the parent sees for itself
            if router.refused != refused:
                refused = router.refused
                self.tell(Kind.REFUSED, str(refused).encode())

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

    def _send(self, router: SecuredRouter) -> None:
        for _ in range(_MAX_BATCH):
            frames: Sequence[zmq.Frame] | None = receive_now(self._link)
            if frames is None:
                return
            try:
                router.sock.send_multipart(frames, zmq.DONTWAIT, copy=False)
            except zmq.ZMQError as error:
                self.tell(Kind.UNSENT, str(error.errno).encode(), robot=frames[0].bytes)


class _ToParent(logging.Handler):
    """Logs through the parent, so that there is one log in one format."""

    def __init__(self, worker: _Worker) -> None:
        super().__init__()
        self._worker = worker

    def emit(self, record: logging.LogRecord) -> None:
        extra = {name: value for name in ("robot", "address") if (value := getattr(record, name, None))}
        text = [record.levelno, record.getMessage(), extra]
        self._worker.tell(Kind.LOG, json.dumps(text).encode())


if __name__ == "__main__":
    main()
