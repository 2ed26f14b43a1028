"""Whether a replica lives: pings over one connection, and what ZeroMQ says of that connection."""

from __future__ import annotations

import contextlib
import enum
import time
from collections.abc import Callable

import zmq
from zmq.utils.monitor import recv_monitor_message

from spec_decode_ros.decoding.messages import Ping
from spec_decode_ros.transport.backs import receive_now
from spec_decode_ros.transport.codec import encode

BEAT_S = 1.0
SILENCE_S = 3.5
"""A replica that has not answered for so long is dead, although its connection stands: it hangs, or its host is gone."""


class Pulse(enum.Enum):
    """What was found out."""

    ALIVE = enum.auto()
    DEAD = enum.auto()


class Heartbeat:
    """Watches one replica. `sock` and `monitor` are to be read with `read` whenever they have something.

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
        self.sock: zmq.Socket = context.socket(zmq.DEALER)
        prepare(self.sock)
        self.sock.setsockopt(zmq.IMMEDIATE, 1)  # pings do not queue for a replica that is not there
        self.sock.setsockopt(zmq.RECONNECT_IVL, 100)
        self.sock.setsockopt(zmq.RECONNECT_IVL_MAX, 1_000)
        self.monitor: zmq.Socket = self.sock.get_monitor_socket(
            zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED
        )
        self._silence_s = silence_s
        self._next_beat = 0.0
        self._heard: float | None = None
        try:
            self.sock.connect(endpoint)
        except zmq.ZMQError:
            self.close()
            raise

    def read(self, now: float) -> Pulse | None:
        """Take in what has come; None if that is nothing new."""
        pulse: Pulse | None = None
        while receive_now(self.sock) is not None:
            self._heard, pulse = now, Pulse.ALIVE
        while (event := self._monitored()) is not None:
            if event == zmq.EVENT_DISCONNECTED:
                self._heard, pulse = None, Pulse.DEAD
            else:
                self._next_beat = 0.0
        return pulse

    def beat(self, now: float) -> Pulse | None:
        """Ping if it is time for that; DEAD once after the last answer is too long ago."""
        if now >= self._next_beat:
            self._next_beat = now + BEAT_S
            with contextlib.suppress(zmq.Again):  # not connected
                self.sock.send_multipart(encode(Ping(time.perf_counter_ns())), zmq.DONTWAIT)
        if self._heard is not None and now - self._heard > self._silence_s:
            self._heard = None
            return Pulse.DEAD
        return None

    def close(self) -> None:
        self.sock.disable_monitor()
        self.monitor.close(0)
        self.sock.close(0)

    def _monitored(self) -> int | None:
        try:
            return int(recv_monitor_message(self.monitor, zmq.DONTWAIT)["event"])
        except zmq.Again:
            return None
