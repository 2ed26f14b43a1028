"""A :class:`SecuredRouter` in a process of its own, which is started again whenever it ends.

libzmq 4.3.5 ends its process by an assertion when a peer takes a routing id for itself that the ROUTER is about to draw. So
the socket that robots reach is not in the process that has the models: these, the sessions and what is known of robots live
on, and the robots, which connect again with the routing ids that they had, go on where they were.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence

import zmq

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.transport.backoff import backoff_s
from spec_decode_ros.transport.keyring import Keyring
from spec_decode_ros.transport.keys import KnownRobot, ServerKeys
from spec_decode_ros.transport.loop import Frame
from spec_decode_ros.transport.process import child_environment
from spec_decode_ros.transport.rate_limiter import RateLimiter
from spec_decode_ros.transport.router_worker import KEY_BYTES, QUEUE, Kind
from spec_decode_ros.transport.secured_router import KEYS_CHECK_S, Received, robot_name

_log = logging.getLogger(__name__)

_START_S = 30.0
_CLOSE_S = 5.0
_HEALTHY_S = 30.0


class RouterProcess:
    """Stands in for the `SecuredRouter` that is in the other process; used by the one thread that polls `sock`.

    Args:
        context: for the socket to the other process.
        bind: endpoint to listen on.
        keys: as for the `SecuredRouter`.
        insecure: likewise.
        on_unsent: called with frames of which only the routing id is there, and why they could not be sent.

    Attributes:
        sock: to the other process; what arrives is for `receive`.
        extra_sockets: none.
        endpoint: the bound endpoint, which stays the same.
        refused: connections whose handshake failed.

    Raises:
        SpecDecodeError: the endpoint can't be bound, or others could reach it and there are no keys.
    """

    def __init__(
        self,
        context: zmq.Context,
        bind: str,
        keys: ServerKeys | None,
        insecure: bool = False,
        on_unsent: Callable[[Sequence[Frame], zmq.ZMQError], None] = lambda frames, error: None,
    ) -> None:
        self.extra_sockets: dict[zmq.Socket, Callable[[], None]] = {}
        self.endpoint = ""
        self._on_unsent = on_unsent
        self._keyring = Keyring(keys.robots) if keys else None
        if self._keyring is not None:
            self._keyring.refresh()
        self._keys_limiter = RateLimiter(KEYS_CHECK_S)
        self._refused, self._refused_before = 0, 0
        self._failures, self._next_start = 0, 0.0
        self._folder = tempfile.TemporaryDirectory(prefix="spec_decode_ros-")  # nobody else may read it
        link = f"ipc://{self._folder.name}/link"
        self.sock: zmq.Socket = context.socket(zmq.DEALER)
        for option in (zmq.SNDHWM, zmq.RCVHWM):
            self.sock.setsockopt(option, QUEUE)
        self.sock.setsockopt(zmq.LINGER, 0)
        self.sock.bind(link)
        secrets = (keys.public.decode(), keys.secret.decode(), str(keys.robots)) if keys else None
        self._settings = {"link": link, "bind": bind, "keys": secrets, "insecure": insecure}
        self._child = self._start_child()
        try:
            self._wait_bound()
        except BaseException:
            self.close()
            raise

    @property
    def refused(self) -> int:
        """Connections whose handshake failed, in all processes so far."""
        return self._refused_before + self._refused

    @property
    def pid(self) -> int:
        """Of the present process."""
        return self._child.pid

    def receive(self, frames: list[zmq.Frame]) -> Received | None:
        """Take in what has arrived; None if it was no robot's message."""
        header, body = frames[0].bytes, frames[1:]
        kind, rest = header[0], header[1:]
        if kind == Kind.MESSAGE:
            return Received(rest, "", body)
        if kind == Kind.SIGNED:
            key, client = rest[:KEY_BYTES].decode("ascii"), rest[KEY_BYTES:]
            # Revoked keys may be known here first.
            known = self._keyring is not None and self._keyring.robot(key) is not None
            return Received(client, key if known else None, body)
        if kind == Kind.REVOKED:
            return Received(rest, None, body)
        if kind == Kind.UNSENT:
            self._on_unsent([rest], zmq.ZMQError(int(body[0].bytes)))
        else:
            self._on_news(Kind(kind), body[0].bytes.decode("utf-8"))
        return None

    def robot(self, key: str, client: bytes) -> str:
        """See :meth:`SecuredRouter.robot`."""
        return robot_name(self._keyring, key, client)

    def tick(self) -> Mapping[str, KnownRobot]:
        """Start the process again if it has ended, and read the keys again; returns the keys that were revoked."""
        self._restart()
        if self._keyring is None or not self._keys_limiter.allow():
            return {}
        return self._keyring.refresh()

    def close(self) -> None:
        """End the process."""
        assert self._child.stdin is not None
        self._child.stdin.close()
        try:
            self._child.wait(_CLOSE_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait(_CLOSE_S)
        self.sock.close(0)
        self._folder.cleanup()

    def _start_child(self) -> subprocess.Popen[str]:
        self._started = time.monotonic()
        child = subprocess.Popen(
            [sys.executable, "-m", "spec_decode_ros.transport.router_worker"],
            stdin=subprocess.PIPE,
            text=True,
            env=child_environment(),
        )
        assert child.stdin is not None
        child.stdin.write(json.dumps(self._settings) + "\n")
        child.stdin.flush()
        return child

    def _wait_bound(self) -> None:
        end = time.monotonic() + _START_S
        while not self.endpoint:
            if self.sock.poll(100):
                self.receive(self.sock.recv_multipart(copy=False))
            elif self._child.poll() is not None or time.monotonic() > end:
                raise SpecDecodeError(
                    f"The process for the socket at {self._settings['bind']} did not start; see what it wrote above."
                )

    def _restart(self) -> None:
        code, now = self._child.poll(), time.monotonic()
        if code is None or now < self._next_start:
            return
        if now - self._started > _HEALTHY_S:
            self._failures = 0
        self._failures += 1
        self._next_start = now + (backoff_s(self._failures) if self._failures > 1 else 0.0)
        self._refused_before, self._refused = self.refused, 0
        _log.error("the process of the socket has ended (%s): starting it again; sessions go on", code)
        self._child = self._start_child()

    def _on_news(self, kind: Kind, text: str) -> None:
        if kind == Kind.BOUND:
            self.endpoint = self._settings["bind"] = text
        elif kind == Kind.FAILED:
            if not self.endpoint:
                raise SpecDecodeError(text)
            _log.error("%s", text)
        elif kind == Kind.REFUSED:
            self._refused = int(text)
        elif kind == Kind.LOG:
            level, message, extra = json.loads(text)
            _log.log(level, "%s", message, extra=extra)
