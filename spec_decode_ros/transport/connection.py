"""The robot's connection to one server: greeting, pings, and reconnection with backoff.

Everything runs in the thread of the socket, except for what is marked as safe in all threads.
"""

from __future__ import annotations

import collections
import contextlib
import enum
import logging
import random
import time
from typing import Protocol

import zmq

from spec_decode_ros.decoding.messages import Error, ErrorCode, Hello, Message, Ping, Pong, Welcome
from spec_decode_ros.transport.backoff import backoff_s
from spec_decode_ros.transport.codec import DOWN, WireError, decode, encode
from spec_decode_ros.transport.connection_monitor import ConnectionEvent, open_monitor, read_connection_events
from spec_decode_ros.transport.endpoint import Endpoint
from spec_decode_ros.transport.failover import ConnectionStatus
from spec_decode_ros.transport.handshake import HELLO_FIRST, HandshakeError, difference
from spec_decode_ros.transport.keys import RobotKeys
from spec_decode_ros.transport.loop import SocketLoop, set_common_options

_log = logging.getLogger(__name__)

_HELLO_EVERY_S = 0.5
_HELLO_AFTER_REFUSAL_S = 5.0
_WELCOME_S = 3.0
"""Time until a greeting without an answer is repeated over a new connection; doubled each time."""
_LONGEST_WELCOME_S = 30.0
_SILENT_S = 10.0
"""Silence after which a new connection is made: the server's machine may have another address by now."""
_CONNECT_MS = 3_000
_NEVER_MS = 24 * 3_600_000
_PING_EVERY_S = 1.0
_PINGS_KEPT = 5
_FIRST_PINGS = 3


class ConnectionPhase(enum.Enum):
    GREETING = "connected or connecting; hello is repeated until it is answered"
    READY = "welcomed"
    WAITING = "lost; connects again when the backoff is over"


class ConnectionListener(Protocol):
    """Receives the events of connections, in the threads of their sockets."""

    def objection(self, connection: Connection, welcome: Welcome) -> str | None:
        """Why a server that fits must not be used all the same; None if it may be."""

    def on_welcome(self, connection: Connection, known: bool) -> None:
        """The server has greeted. `known`: it did so before, and has not forgotten this robot as far as is known."""

    def on_change(self, connection: Connection) -> None:
        """The connection was lost, or the server refuses the robot."""

    def on_message(self, connection: Connection, message: Message, size: int) -> None:
        """Any other message has come; `size` is its bytes on the wire."""

    def on_tick(self) -> None:
        """Called several times a second."""


class Connection:
    """The connection to one endpoint.

    Args:
        hello: what this robot is; a server that does not fit is refused.
        identity: the routing id by which the server knows this robot, over all connections.
        keys: for a server that wants them.

    Attributes:
        welcome: the server's last welcome.
        refusal: why the server refuses this robot; empty if it does not.
        refused_for_good: whether waiting will not help.

    Raises:
        HandshakeError: ZeroMQ cannot connect to `endpoint`.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        hello: Hello,
        identity: bytes,
        keys: RobotKeys | None,
        listener: ConnectionListener,
    ) -> None:
        self.endpoint = str(endpoint)
        self.welcome: Welcome | None = None
        self.refusal = ""
        self.refused_for_good = False
        self._hello = hello
        self._listener = listener
        self._phase = ConnectionPhase.GREETING
        self._was_welcomed = False
        self._must_greet_again = False
        self._failures = 0
        self._next_action = 0.0  # time of the next hello, ping or attempt
        self._greeting_since = time.perf_counter()
        self._pings = 0
        self._round_trips_s: collections.deque[float] = collections.deque(maxlen=_PINGS_KEPT)
        self._last_arrival = 0.0
        self._sock = sock = _socket(identity, keys, endpoint.ipv6)
        self._monitor = open_monitor(sock)
        monitors = {self._monitor: self._on_connection_events}
        self._loop = SocketLoop(sock, "client socket", self._on_frames, self._on_tick, extra_sockets=monitors)
        try:
            sock.connect(self.endpoint)
        except zmq.ZMQError as error:
            self._loop.stop()
            raise HandshakeError(
                f"Nothing can connect to {endpoint} ({error.strerror}); check the address of the verifier."
            ) from error

    # ---- safe in all threads -------------------------------------------------------------------------------

    def start(self) -> None:
        self._loop.start()

    def close(self) -> None:
        self._loop.stop()

    def send(self, frames: list[bytes], patience_s: float = 0.0) -> None:
        """Send to a server that has welcomed this robot, else drop; see :meth:`SocketLoop.send`."""
        if self.ready:
            self._loop.send(frames, patience_s)

    @property
    def ready(self) -> bool:
        """Whether the server has welcomed this robot over the present connection."""
        return self._phase is ConnectionPhase.READY

    @property
    def rtt_ms(self) -> float | None:
        """The shortest of the last round trips; the others may have waited behind a frame."""
        trips = list(self._round_trips_s)
        return min(trips) * 1000.0 if trips else None

    @property
    def silence_s(self) -> float:
        return time.perf_counter() - self._last_arrival if self._last_arrival else float("inf")

    @property
    def status(self) -> ConnectionStatus:
        """The status for failover; a server that only has to be greeted again still counts as welcoming."""
        welcomed = self.ready or self._must_greet_again
        failed = not welcomed and bool(self._failures or self.refusal)
        return ConnectionStatus(welcomed, self.silence_s, failed)

    # ---- in the thread of the socket -----------------------------------------------------------------------

    def _on_tick(self) -> None:
        now = time.perf_counter()
        if self._is_dead(now):
            self._lose(now)
        if now >= self._next_action:
            self._act(now)
        self._listener.on_tick()

    def _act(self, now: float) -> None:
        if self._phase is ConnectionPhase.WAITING:
            self._connect(now)
        elif self._phase is ConnectionPhase.GREETING:
            self._next_action = now + (_HELLO_AFTER_REFUSAL_S if self.refusal else _HELLO_EVERY_S)
            self._loop.send(encode(self._hello))
        else:
            self._pings += 1
            self._next_action = now + (_PING_EVERY_S if self._pings >= _FIRST_PINGS else 0.0)
            self._loop.send(encode(Ping(time.perf_counter_ns())))

    def _is_dead(self, now: float) -> bool:
        """Whether the present connection has been silent for too long."""
        if self._phase is ConnectionPhase.READY:
            return self.silence_s > _SILENT_S
        if self._phase is not ConnectionPhase.GREETING or self.refusal:
            return False
        patience_s = backoff_s(self._failures + 1, first_s=_WELCOME_S, longest_s=_LONGEST_WELCOME_S)
        return now - self._greeting_since > patience_s

    def _greet(self, now: float) -> None:
        self._phase, self._greeting_since, self._next_action = ConnectionPhase.GREETING, now, now

    def _connect(self, now: float) -> None:
        self._greet(now)
        try:
            self._sock.connect(self.endpoint)
        except zmq.ZMQError as error:
            _log.warning("connecting to %s failed: %s", self.endpoint, error)
            self._lose(now)

    def _lose(self, now: float, pause_s: float = 0.0) -> None:
        if self._phase is ConnectionPhase.WAITING:
            return
        self._loop.receive_all()  # messages that came before the end count
        self._phase, self._must_greet_again = ConnectionPhase.WAITING, False
        self._failures += 1
        self._next_action = now + max(pause_s, backoff_s(self._failures, random.random()))
        with contextlib.suppress(zmq.ZMQError):  # ZeroMQ has dropped it already
            self._sock.disconnect(self.endpoint)
        self._listener.on_change(self)

    def _on_connection_events(self) -> None:
        now = time.perf_counter()
        for event in read_connection_events(self._monitor):
            if self._phase is ConnectionPhase.WAITING:
                continue  # about the connection that was given up
            if event is ConnectionEvent.UP:
                self._next_action = now  # earlier hellos are lost
            elif event is ConnectionEvent.LOST:
                self._lose(now)
            else:
                key_refused = event is ConnectionEvent.KEY_REFUSED
                self._refuse(
                    (_KEY_REFUSED if key_refused else _ENCRYPTION).format(self.endpoint), key_refused
                )
                self._lose(now, _HELLO_AFTER_REFUSAL_S if self.refused_for_good else 0.0)

    def _on_frames(self, frames: list[zmq.Frame]) -> None:
        now = time.perf_counter()
        try:
            message, _ = decode([frame.bytes for frame in frames], DOWN)
        except WireError as error:
            _log.warning("dropped a message from %s: %s", self.endpoint, error)
            if self._phase is ConnectionPhase.GREETING:
                self._refuse(f"The verifier at {self.endpoint} does not fit: {error}")
            return
        self._last_arrival = now
        if isinstance(message, Pong):
            self._round_trips_s.append(max(0.0, (time.perf_counter_ns() - message.stamp) / 1e9))
        elif isinstance(message, Welcome):
            self._on_welcome(message, now)
        elif isinstance(message, Error) and not self._is_about_action(message):
            self._on_connection_error(message, now)
        else:
            self._listener.on_message(self, message, len(frames[0]))

    def _is_about_action(self, error: Error) -> bool:
        if error.code in (HELLO_FIRST, ErrorCode.MISMATCH):
            return False
        return bool(error.action_id) or self._phase is ConnectionPhase.READY

    def _on_welcome(self, welcome: Welcome, now: float) -> None:
        differs = difference(self._hello, welcome) or self._listener.objection(self, welcome)
        if differs:
            self._refuse(f"Refused: {differs}.")
            return
        if self._phase is ConnectionPhase.READY:
            return  # the answer to a second hello
        known, self._was_welcomed, self._must_greet_again = self._was_welcomed, True, False
        self.welcome, self.refusal, self.refused_for_good = welcome, "", False
        self._phase, self._failures, self._pings, self._next_action = ConnectionPhase.READY, 0, 0, now
        self._listener.on_welcome(self, known)

    def _on_connection_error(self, error: Error, now: float) -> None:
        if error.code == HELLO_FIRST:
            if self._phase is ConnectionPhase.READY:
                self._greet(now)
                self._was_welcomed, self._must_greet_again = False, True
        elif error.code in (ErrorCode.BUSY, ErrorCode.DRAINING):
            self._refuse(error.sentence, for_good=False)
            pause_s = max(_HELLO_EVERY_S, error.retry_ms / 1000.0)
            self._next_action = now + pause_s * (1.0 + 0.5 * random.random())
        else:
            self._refuse(error.sentence)

    def _refuse(self, sentence: str, for_good: bool = True) -> None:
        if self._phase is ConnectionPhase.READY:
            self._phase = ConnectionPhase.GREETING
            self._next_action = time.perf_counter() + _HELLO_AFTER_REFUSAL_S
        self._must_greet_again = False
        self.refusal, self.refused_for_good = sentence, for_good
        self._listener.on_change(self)


_KEY_REFUSED = "The verifier at {} does not let this robot's key in; add it to the server's keys."
_ENCRYPTION = (
    "The verifier at {} and this robot do not agree on encryption; give the robot the keys that were made for it "
    "at that server, or none if the server has none."
)


def _socket(identity: bytes, keys: RobotKeys | None, ipv6: bool) -> zmq.Socket:
    sock: zmq.Socket = zmq.Context.instance().socket(zmq.DEALER)
    set_common_options(sock)
    sock.setsockopt(zmq.ROUTING_ID, identity)
    sock.setsockopt(zmq.IPV6, ipv6)
    # This class decides when to connect again. ZeroMQ's own ways to prevent it (RECONNECT_IVL of -1, IMMEDIATE) would
    # throw away what has arrived and was not yet read when a connection ends.
    sock.setsockopt(zmq.RECONNECT_IVL, _NEVER_MS)
    sock.setsockopt(zmq.CONNECT_TIMEOUT, _CONNECT_MS)
    sock.setsockopt(zmq.HANDSHAKE_IVL, _CONNECT_MS)
    if keys:
        keys.apply(sock)
    return sock
