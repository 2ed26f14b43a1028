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
from spec_decode_ros.transport.router_worker import DOWN_QUEUE, KEY_BYTES, UP_QUEUE, Kind
from spec_decode_ros.transport.secured_router import KEYS_CHECK_S, Received, robot_name

_log = logging.getLogger(__name__)

_START_S = 30.0
_CLOSE_S = 5.0
_HEALTHY_S = 30.0
_LONGEST_TICK_S = 0.5
SILENT_S = 15.0
"""A process that has said nothing for so long is ended, and started again."""


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
        silent_s: how long the process has said nothing, not counting while this process itself stood still.

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
        self.silent_s = 0.0
        self._on_unsent = on_unsent
        self._keyring = Keyring(keys.robots) if keys else None
        if self._keyring is not None:
            self._keyring.refresh()
        self._keys_limiter, self._new_keys_limiter = RateLimiter(KEYS_CHECK_S), RateLimiter(KEYS_CHECK_S / 10)
        self._revoked: dict[str, KnownRobot] = {}
        self._last_tick = time.monotonic()
        self._refused, self._refused_before = 0, 0
        self._failures, self._next_start = 0, 0.0
        self._folder = tempfile.TemporaryDirectory(prefix="spec_decode_ros-")  # nobody else may read it
        link = f"ipc://{self._folder.name}/link"
        self.sock: zmq.Socket = context.socket(zmq.DEALER)
        self.sock.setsockopt(zmq.SNDHWM, DOWN_QUEUE)
        self.sock.setsockopt(zmq.RCVHWM, UP_QUEUE)
        self.sock.setsockopt(zmq.LINGER, 0)
        self.sock.bind(link)
        secrets = (keys.public.decode(), keys.secret.decode(), str(keys.robots)) if keys else None
        self._settings = {"link": link, "bind": bind, "keys": secrets, "insecure": insecure}
        try:
            self._child = self._start_child()
        except OSError as error:
            self.sock.close(0)
            raise SpecDecodeError(
                f"The process for the socket at {bind} can't be started: {error.strerror}."
            ) from error
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
        if header[0] not in (Kind.FAILED, Kind.LOG):
            self.silent_s = 0.0
        kind, rest = header[0], header[1:]
        if kind == Kind.MESSAGE:
            return Received(rest, "", body)
        if kind == Kind.SIGNED:
            key, client = rest[:KEY_BYTES].decode("ascii"), rest[KEY_BYTES:]
            # Revoked keys may be known here first.
            return Received(client, key if self._is_known(key) else None, body)
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
        if self._keyring is None or not (self._revoked or self._keys_limiter.allow()):
            return {}
        revoked, self._revoked = {**self._revoked, **self._keyring.refresh()}, {}
        return revoked

    def close(self) -> None:
        """End the process, which sends what it was given; when nobody polls `sock` any more. Safe to call twice."""
        assert self._child.stdin is not None
        self._child.stdin.close()
        try:
            self._child.wait(_CLOSE_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait(_CLOSE_S)
        self.sock.close(0)
        self._folder.cleanup()

    def _is_known(self, key: str) -> bool:
        """Whether a key is let in; a new one may be known to the other process first."""
        if self._keyring is None:
            return False
        if self._keyring.robot(key) is None and self._new_keys_limiter.allow():
            self._revoked |= self._keyring.refresh()
        return self._keyring.robot(key) is not None

    def _start_child(self) -> subprocess.Popen[str]:
        self._started = time.monotonic()
        child = subprocess.Popen(
            [sys.executable, "-m", "spec_decode_ros.transport.router_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            # Nothing is imported from the working directory, and signals of the terminal do not arrive.
            env={**child_environment(), "PYTHONSAFEPATH": "1"},
            start_new_session=True,
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
        self.silent_s += min(now - self._last_tick, _LONGEST_TICK_S)
        self._last_tick = now
        if code is None and self.silent_s > SILENT_S and now - self._started > _START_S:
            self._child.kill()
        if code is None or now < self._next_start:
            return
        if now - self._started > _HEALTHY_S:
            self._failures = 0
        self._failures += 1
        self._next_start = now + (backoff_s(self._failures) if self._failures > 1 else 0.0)
        self._refused_before, self._refused = self.refused, 0
        _log.error("the process of the socket has ended (%s): starting it again; sessions go on", code)
        try:
            self._child = self._start_child()
        except OSError as error:
            _log.error("the process of the socket can't be started: %s", error.strerror)

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
            name, level, file, line, message, extra = json.loads(text)
            log = logging.getLogger(name)
            if log.isEnabledFor(level):
                log.handle(log.makeRecord(name, level, file, line, "%s", (message,), None, extra=extra))
