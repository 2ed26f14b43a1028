"""Whether a replica lives: pings over one connection, and what ZeroMQ says of that connection."""

from __future__ import annotations

import contextlib
import enum
import logging
import time
from collections.abc import Callable

import zmq

from spec_decode_ros.decoding.messages import Ping
from spec_decode_ros.server.fleet.backend_sockets import receive_now
from spec_decode_ros.transport.codec import encode
from spec_decode_ros.transport.connection_monitor import ConnectionMonitor, Sign

_log = logging.getLogger(__name__)

BEAT_S = 1.0
SILENCE_S = 3.5
"""A replica that has not answered for so long is dead, although its connection stands: it hangs, or its host is gone."""
_RENEW_S = 5.0
"""A connection over which nobody has answered for so long is made anew."""
_REFUSED_S = 2.0
"""So long after a refusal it is tried again; by itself ZeroMQ would do so at once or never, depending on the reason."""


class Pulse(enum.Enum):
    """What was found out."""

    ALIVE = enum.auto()
    DEAD = enum.auto()


class Heartbeat:
    """Watches one replica, and logs what becomes of it.

    `sock` and `monitor` are to be read with `read` whenever they have something.

    Args:
        prepare: sets the options of the socket, before it connects.

    Raises zmq.ZMQError for an endpoint that is none.
    """

    def __init__(
        self,
        context: zmq.Context,
        endpoint: str,
        prepare: Callable[[zmq.Socket], None],
        silence_s: float = SILENCE_S,
    ) -> None:
        self._endpoint = endpoint
        self.sock: zmq.Socket = context.socket(zmq.DEALER)
        prepare(self.sock)
        self.sock.setsockopt(zmq.IMMEDIATE, 1)  # pings do not queue for a replica that is not there
        self.sock.setsockopt(zmq.RECONNECT_IVL, 100)
        self.sock.setsockopt(zmq.RECONNECT_IVL_MAX, 1_000)
        self._monitor = ConnectionMonitor(self.sock)
        self.monitor = self._monitor.socket
        self._silence_s = silence_s
        self._next_beat = 0.0
        self._renew_at = time.monotonic() + _RENEW_S
        self._heard: float | None = None
        self._told = ""
        try:
            self.sock.connect(endpoint)
        except zmq.ZMQError:
            self.close()
            raise

    def read(self, now: float) -> Pulse | None:
        """Take in what has come; None if that is nothing new."""
        pulse: Pulse | None = None
        while receive_now(self.sock) is not None:
            if self._heard is None:
                self._tell(logging.INFO, f"the verifier at {self._endpoint} answers")
            self._heard, pulse = now, Pulse.ALIVE
        for sign in self._monitor.read():
            if sign is Sign.UP:
                self._next_beat = 0.0
            elif sign is not Sign.LOST:
                self._tell(logging.WARNING, _REFUSED.format(self._endpoint))
                self._disconnect()
                self._heard, self._renew_at, pulse = None, now + _REFUSED_S, Pulse.DEAD
            elif self._heard is not None:
                pulse = self._die(now)
        return pulse

    def beat(self, now: float) -> Pulse | None:
        """Ping if it is time for that; DEAD once after the last answer is too long ago."""
        if now >= self._next_beat:
            self._next_beat = now + BEAT_S
            with contextlib.suppress(zmq.Again):  # not connected
                self.sock.send_multipart(encode(Ping(time.perf_counter_ns())), zmq.DONTWAIT)
        if self._heard is not None:
            return self._die(now) if now - self._heard > self._silence_s else None
        if now >= self._renew_at:
            if not self._told:
                self._tell(logging.WARNING, _NOBODY.format(self._endpoint))
            self._disconnect()
            self._renew_at = now + _RENEW_S
            self.sock.connect(self._endpoint)
        return None

    def close(self) -> None:
        self.sock.disable_monitor()
        self.monitor.close(0)
        self.sock.close(0)

    def _die(self, now: float) -> Pulse:
        self._heard, self._renew_at = None, now + _RENEW_S
        self._tell(logging.WARNING, f"the verifier at {self._endpoint} does not answer any more")
        return Pulse.DEAD

    def _disconnect(self) -> None:
        with contextlib.suppress(zmq.ZMQError):  # ZeroMQ has dropped it already
            self.sock.disconnect(self._endpoint)

    def _tell(self, level: int, sentence: str) -> None:
        if sentence != self._told:
            _log.log(level, "%s", sentence)
        self._told = sentence


_REFUSED = (
    "the verifier at {} does not let the balancer in: if it wants keys, give --verifier-keys a folder that was made there "
    "with `spec-decode keygen KEYS --balancer NAME`, and none if it does not"
)
_NOBODY = "nobody answers at {}: start a verifier there, or check the address; it is tried again"
