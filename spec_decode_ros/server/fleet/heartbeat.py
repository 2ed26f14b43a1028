"""Heartbeat of one replica: whether it answers pings over a connection of its own."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable

import zmq

from spec_decode_ros.decoding.messages import Ping, Pong
from spec_decode_ros.transport.codec import WireError, decode, encode
from spec_decode_ros.transport.connection_monitor import ConnectionEvent, open_monitor, read_connection_events
from spec_decode_ros.transport.endpoint import parse_endpoint
from spec_decode_ros.transport.loop import receive_now

_log = logging.getLogger(__name__)

_PING_EVERY_S = 1.0
SILENCE_S = 3.5
"""Silence after which a replica is dead although its connection stands: it hangs, or its host is gone."""
_RECONNECT_S = 5.0
"""Time without any answer until a new connection is made."""
_RECONNECT_REFUSED_S = 2.0
"""Pause after a refusal; by itself ZeroMQ would try again at once or never, depending on the reason."""


class Heartbeat:
    """Watches one replica, and logs when it comes and goes.

    Args:
        prepare: sets the options of the socket, before it connects.

    Attributes:
        sock: to be polled; `read` reads it.
        target_fingerprint: of the replica's target weights, as it said last; empty where it says none.
        monitor: likewise.

    Raises:
        EndpointError: `endpoint` is not an endpoint.
        zmq.ZMQError: ZeroMQ cannot connect to it.
    """

    def __init__(
        self,
        context: zmq.Context,
        endpoint: str,
        prepare: Callable[[zmq.Socket], None],
    ) -> None:
        self._endpoint = endpoint
        ipv6 = parse_endpoint(endpoint).ipv6
        self.sock: zmq.Socket = context.socket(zmq.DEALER)
        prepare(self.sock)
        self.sock.setsockopt(zmq.IPV6, ipv6)
        self.sock.setsockopt(zmq.IMMEDIATE, 1)  # pings do not queue for a replica that is not there
        self.sock.setsockopt(zmq.RECONNECT_IVL, 100)
        self.sock.setsockopt(zmq.RECONNECT_IVL_MAX, 1_000)
        self.monitor = open_monitor(self.sock)
        self._next_ping = 0.0
        self._reconnect_at = time.monotonic() + _RECONNECT_S
        self._last_answer: float | None = None
        self._last_log = ""
        self.target_fingerprint = ""
        try:
            self.sock.connect(endpoint)
        except zmq.ZMQError:
            self.close()
            raise

    @property
    def alive(self) -> bool:
        """Whether the replica answers."""
        return self._last_answer is not None

    def read(self, now: float) -> None:
        """Take in answers and events of the connection."""
        while (frames := receive_now(self.sock)) is not None:
            with contextlib.suppress(WireError):  # of another version
                answer, _ = decode([frame.bytes for frame in frames], (Pong,))
                assert isinstance(answer, Pong)
                self.target_fingerprint = answer.target_fingerprint
            if not self.alive:
                self._log_once(logging.INFO, f"the verifier at {self._endpoint} answers")
            self._last_answer = now
        for event in read_connection_events(self.monitor):
            if event is ConnectionEvent.UP:
                self._next_ping = 0.0
            elif event is not ConnectionEvent.LOST:
                self._log_once(logging.WARNING, _REFUSED.format(self._endpoint))
                self._disconnect()
                self._last_answer, self._reconnect_at = None, now + _RECONNECT_REFUSED_S
            elif self.alive:
                self._die(now)

    def tick(self, now: float) -> None:
        """Ping and reconnect if it is time; a replica that has not answered for too long is no longer alive."""
        if now >= self._next_ping:
            self._next_ping = now + _PING_EVERY_S
            with contextlib.suppress(zmq.Again):  # not connected
                self.sock.send_multipart(encode(Ping(time.perf_counter_ns())), zmq.DONTWAIT)
        if self._last_answer is not None:
            if now - self._last_answer > SILENCE_S:
                self._die(now)
        elif now >= self._reconnect_at:
            if not self._last_log:
                self._log_once(logging.WARNING, _NOBODY.format(self._endpoint))
            self._disconnect()
            self._reconnect_at = now + _RECONNECT_S
            self.sock.connect(self._endpoint)

    def keep_apart(self, reason: str) -> None:
        """Log, once, why the replica gets no robots although it answers."""
        self._log_once(logging.WARNING, f"no robots are sent to a verifier: {reason}")

    def close(self) -> None:
        self.sock.disable_monitor()
        self.monitor.close(0)
        self.sock.close(0)

    def _die(self, now: float) -> None:
        self._last_answer, self._reconnect_at = None, now + _RECONNECT_S
        self._log_once(logging.WARNING, f"the verifier at {self._endpoint} does not answer any more")

    def _disconnect(self) -> None:
        with contextlib.suppress(zmq.ZMQError):  # ZeroMQ has dropped it already
            self.sock.disconnect(self._endpoint)

    def _log_once(self, level: int, sentence: str) -> None:
        if sentence != self._last_log:
            _log.log(level, "%s", sentence)
        self._last_log = sentence


_REFUSED = (
    "the verifier at {} does not let the balancer in: if it wants keys, give --verifier-keys a folder that was made there "
    "with `spec-decode keygen KEYS --balancer NAME`, and none if it does not"
)
_NOBODY = "nobody answers at {}: start a verifier there, or check the address; it is tried again"
