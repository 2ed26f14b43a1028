"""One server and the way to it: greets it, pings it, and comes back to it after every loss, ever more rarely.

Everything here happens in the thread of the socket, except for what is said to be for all threads.
"""

from __future__ import annotations

import collections
import contextlib
import enum
import logging
import random
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import zmq

from spec_decode_ros.decoding.messages import Error, ErrorCode, Hello, Message, Ping, Pong, Welcome
from spec_decode_ros.transport.backoff import backoff_s
from spec_decode_ros.transport.codec import DOWN, Limits, WireError, decode, encode
from spec_decode_ros.transport.connection_monitor import ConnectionMonitor, Sign
from spec_decode_ros.transport.failover import Standing
from spec_decode_ros.transport.handshake import HELLO_FIRST, HandshakeError, difference
from spec_decode_ros.transport.keys import RobotKeys
from spec_decode_ros.transport.loop import SocketLoop, common_options

_log = logging.getLogger(__name__)

_TICK_S = 0.1
_HELLO_EVERY_S = 0.5
_HELLO_AFTER_REFUSAL_S = 5.0
_ANSWER_S = 3.0
"""A greeting that has no answer for so long is tried over a new connection; twice as long each time."""
_LONGEST_ANSWER_S = 30.0
_SILENT_S = 10.0
"""A connection that stands and is silent for so long is made anew; the server's machine may have another address now."""
_CONNECT_MS = 3_000
_NEVER_MS = 24 * 3_600_000
_PING_EVERY_S = 1.0
_PINGS_KEPT = 5
_FIRST_PINGS = 3


class ConnectionPhase(enum.Enum):
    GREETING = "connected or about to be; hello is said until it is answered"
    READY = "welcomed"
    RESTING = "lost; connects again when it is time for that"


class Owner(Protocol):
    """Who is told, in the thread of the socket, about one of the connections."""

    def on_welcome(self, connection: Connection, known: bool) -> None:
        """The server has greeted; `known`: it did so before, and was not heard to have forgotten it."""

    def on_change(self, connection: Connection) -> None:
        """The connection was lost, or the server refuses the robot."""

    def on_message(self, connection: Connection, message: Message, size: int) -> None:
        """Anything else has come, of so many bytes."""

    def on_tick(self) -> None:
        """Some tenths of a second have passed at most."""


class Connection:
    """The connection to one endpoint.

    Args:
        hello: what this robot is; a server that does not fit is refused.
        identity: by which the server knows this robot, over all connections.
        keys: for a server that wants them.

    Raises:
        HandshakeError: if `endpoint` is none.
    """

    def __init__(
        self,
        endpoint: str,
        hello: Hello,
        identity: bytes,
        limits: Limits,
        keys: RobotKeys | None,
        owner: Owner,
        *,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.endpoint = endpoint
        self.welcome: Welcome | None = None
        """What the server said of itself the last time."""
        self.refusal = ""
        """Why the server does not take this robot."""
        self.refused_for_good = False
        """Whether waiting will not help."""
        self._hello = hello
        self._limits = limits
        self._owner = owner
        self._chance = chance
        self._phase = ConnectionPhase.GREETING
        self._knows_us = False
        self._greets_again = False
        self._failures = 0
        self._due = 0.0  # the next hello, ping or attempt
        self._began = time.perf_counter()
        self._pings = 0
        self._round_trips_s: collections.deque[float] = collections.deque(maxlen=_PINGS_KEPT)
        self._last_arrival = 0.0
        self._started = False
        self._sock = sock = _socket(limits, identity, keys)
        self._monitor = ConnectionMonitor(sock)
        try:
            sock.connect(endpoint)
        except zmq.ZMQError as error:
            self._close_sockets()
            raise HandshakeError(
                f"{endpoint!r} is not an endpoint to connect to ({error.strerror}); write it as tcp://HOST:PORT."
            ) from error
        self._loop = SocketLoop(
            sock,
            "client socket",
            limits,
            self._on_frames,
            self._on_tick,
            lambda frames, error: None,
            _TICK_S,
            beside={self._monitor.socket: self._on_signs},
        )

    # ---- for all threads -----------------------------------------------------------------------------------

    def start(self) -> None:
        self._started = True
        self._loop.start()

    def close(self) -> None:
        self._loop.stop()
        if not self._started:
            self._close_sockets()

    def _close_sockets(self) -> None:
        self._sock.disable_monitor()
        self._sock.close(0)
        self._monitor.socket.close(0)

    def send(self, frames: list[bytes], patience_s: float = 0.0) -> None:
        """Send to a server that has welcomed this robot, else drop; see :meth:`SocketLoop.send`."""
        if self.ready:
            self._loop.send(frames, patience_s)

    @property
    def ready(self) -> bool:
        """Whether the server has welcomed this robot over the connection that stands."""
        return self._phase is ConnectionPhase.READY

    @property
    def rtt_ms(self) -> float | None:
        """The shortest of the last round trips; the others stood behind a frame."""
        trips = list(self._round_trips_s)
        return min(trips) * 1000.0 if trips else None

    @property
    def silence_s(self) -> float:
        return time.perf_counter() - self._last_arrival if self._last_arrival else float("inf")

    @property
    def standing(self) -> Standing:
        """A server that has only to be greeted again still counts as welcoming."""
        welcomed = self.ready or self._greets_again
        return Standing(welcomed, self.silence_s, not welcomed and bool(self._failures or self.refusal))

    # ---- in the thread of the socket -----------------------------------------------------------------------

    def _on_tick(self) -> None:
        now = time.perf_counter()
        if self._is_dead(now):
            self._lose(now)
        if now >= self._due:
            self._act(now)
        self._owner.on_tick()

    def _act(self, now: float) -> None:
        if self._phase is ConnectionPhase.RESTING:
            self._connect(now)
        elif self._phase is ConnectionPhase.GREETING:
            self._due = now + (_HELLO_AFTER_REFUSAL_S if self.refusal else _HELLO_EVERY_S)
            self._loop.send(encode(self._hello))
        else:
            self._pings += 1
            self._due = now + (_PING_EVERY_S if self._pings >= _FIRST_PINGS else 0.0)
            self._loop.send(encode(Ping(time.perf_counter_ns())))

    def _is_dead(self, now: float) -> bool:
        """Whether a connection that seems to stand has been silent for too long."""
        if self._phase is ConnectionPhase.READY:
            return self.silence_s > _SILENT_S
        patience_s = min(_LONGEST_ANSWER_S, _ANSWER_S * 2.0 ** min(self._failures, 8))
        return self._phase is ConnectionPhase.GREETING and not self.refusal and now - self._began > patience_s

    def _connect(self, now: float) -> None:
        self._phase, self._began, self._due = ConnectionPhase.GREETING, now, now
        try:
            self._sock.connect(self.endpoint)
        except zmq.ZMQError as error:
            _log.warning("connecting to %s failed: %s", self.endpoint, error)
            self._lose(now)

    def _lose(self, now: float, pause_s: float = 0.0) -> None:
        if self._phase is ConnectionPhase.RESTING:
            return
        self._loop.take_in()  # what came before the end counts
        self._phase, self._greets_again = ConnectionPhase.RESTING, False
        self._failures += 1
        self._due = now + max(pause_s, backoff_s(self._failures, self._chance()))
        with contextlib.suppress(zmq.ZMQError):  # ZeroMQ has dropped it already
            self._sock.disconnect(self.endpoint)
        self._owner.on_change(self)

    def _on_signs(self) -> None:
        now = time.perf_counter()
        for sign in self._monitor.read():
            if self._phase is ConnectionPhase.RESTING:
                continue  # about the connection that was given up
            if sign is Sign.UP:
                self._due = now  # what was said before that is lost
            elif sign is Sign.LOST:
                self._lose(now)
            else:
                self._refuse(_KEYS[sign].format(self.endpoint), sign is Sign.KEY_REFUSED)
                self._lose(now, _HELLO_AFTER_REFUSAL_S if self.refused_for_good else 0.0)

    def _on_frames(self, frames: list[bytes]) -> None:
        now = time.perf_counter()
        try:
            message, _ = decode(frames, DOWN, self._limits)
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
        elif isinstance(message, Error) and not self._is_of_an_action(message):
            self._on_error(message, now)
        else:
            self._owner.on_message(self, message, len(frames[0]))

    def _is_of_an_action(self, error: Error) -> bool:
        if error.code in (HELLO_FIRST, ErrorCode.MISMATCH):
            return False
        return bool(error.action_id) or self._phase is ConnectionPhase.READY

    def _on_welcome(self, welcome: Welcome, now: float) -> None:
        differs = difference(self._hello, welcome)
        if differs:
            self._refuse(f"Refused: {differs}.")
            return
        if self._phase is ConnectionPhase.READY:
            return  # the answer to a second hello
        known, self._knows_us, self._greets_again = self._knows_us, True, False
        self.welcome, self.refusal, self.refused_for_good = welcome, "", False
        self._phase, self._failures, self._pings, self._due = ConnectionPhase.READY, 0, 0, now
        self._owner.on_welcome(self, known)

    def _on_error(self, error: Error, now: float) -> None:
        """An error that is about the connection."""
        if error.code == HELLO_FIRST:
            if self._phase is ConnectionPhase.READY:
                self._phase, self._began, self._due = ConnectionPhase.GREETING, now, now
                self._knows_us, self._greets_again = False, True
        elif error.code in (ErrorCode.BUSY, ErrorCode.DRAINING):
            self._refuse(error.sentence, for_good=False)
            self._due = now + max(_HELLO_EVERY_S, error.retry_ms / 1000.0) * (1.0 + 0.5 * self._chance())
        else:
            self._refuse(error.sentence)

    def _refuse(self, sentence: str, for_good: bool = True) -> None:
        if self._phase is ConnectionPhase.READY:
            self._phase, self._due = ConnectionPhase.GREETING, time.perf_counter() + _HELLO_AFTER_REFUSAL_S
        self._greets_again = False
        self.refusal, self.refused_for_good = sentence, for_good
        self._owner.on_change(self)


_KEYS = {
    Sign.KEY_REFUSED: "The verifier at {} does not let this robot's key in; add it to the server's keys.",
    Sign.NO_AGREEMENT: (
        "The verifier at {} and this robot do not agree on encryption; give the robot the keys that were made for it "
        "at that server, or none if the server has none."
    ),
}


def _socket(limits: Limits, identity: bytes, keys: RobotKeys | None) -> zmq.Socket:
    sock: zmq.Socket = zmq.Context.instance().socket(zmq.DEALER)
    common_options(sock, limits)
    sock.setsockopt(zmq.ROUTING_ID, identity)
    # When to connect again is decided here. ZeroMQ's own ways to say so (RECONNECT_IVL of -1, IMMEDIATE) would throw
    # away what has arrived and was not read when a connection ends: the last words of a server.
    sock.setsockopt(zmq.RECONNECT_IVL, _NEVER_MS)
    sock.setsockopt(zmq.CONNECT_TIMEOUT, _CONNECT_MS)
    sock.setsockopt(zmq.HANDSHAKE_IVL, _CONNECT_MS)
    if keys:
        sock.curve_publickey, sock.curve_secretkey = keys.public, keys.secret
        sock.curve_serverkey = keys.server
    return sock


def standings(connections: Sequence[Connection]) -> list[Standing]:
    """How all of them stand."""
    return [connection.standing for connection in connections]
