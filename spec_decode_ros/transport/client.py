"""The robot's end of the wire: one DEALER socket to one verifier.

The client says hello until it is welcomed, also after the server was restarted, measures the round-trip time
with pings, and hands on what arrives with the time of its arrival. ZeroMQ reconnects by itself. What can't be
sent is dropped: the methods send again what matters, and nothing stale queues up while the link is down.
"""

from __future__ import annotations

import collections
import itertools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import zmq

from spec_decode_ros.decoding.messages import (
    PROTOCOL,
    Branches,
    Close,
    Draft,
    Error,
    ErrorCode,
    Hello,
    Message,
    Open,
    Ping,
    Pong,
    Welcome,
)
from spec_decode_ros.transport.codec import DEFAULT_LIMITS, DOWN, Limits, WireError, decode, encode
from spec_decode_ros.transport.handshake import HELLO_FIRST, HandshakeError, difference
from spec_decode_ros.transport.keys import RobotKeys
from spec_decode_ros.transport.loop import SocketLoop, common_options

_log = logging.getLogger(__name__)

_HELLO_EVERY_S = 0.5
_HELLO_AFTER_REFUSAL_S = 5.0
_PING_EVERY_S = 1.0
_FRAME_LEAVES_S = 0.005
_PINGS_KEPT = 5
_FIRST_PINGS = 3


@dataclass(frozen=True)
class Arrival:
    """A message from the cloud; `at` is the time of `time.perf_counter`, `size` its bytes on the wire."""

    message: Message
    at: float
    size: int


class Client:
    """Connection of one robot.

    Args:
        endpoint: where the verifier listens, such as ``tcp://10.0.0.5:5555``.
        pair: name of the model pair, compared with the server's.
        vocabulary: fingerprint of its vocabulary, compared with the server's.
        keys: the robot's keys, for a server that wants them.
    """

    def __init__(
        self,
        endpoint: str,
        pair: str,
        vocabulary: str,
        limits: Limits = DEFAULT_LIMITS,
        keys: RobotKeys | None = None,
    ) -> None:
        self.endpoint = endpoint
        self._hello = Hello(PROTOCOL, pair, vocabulary)
        self._limits = limits
        self._listener: Callable[[Arrival], None] | None = None
        self._welcome: Welcome | None = None
        self._refusal = ""
        self._decided = threading.Event()
        self._last_hello = 0.0
        self._last_ping = 0.0
        self._pings = 0
        self._round_trips_s: collections.deque[float] = collections.deque(maxlen=_PINGS_KEPT)
        self._last_arrival = 0.0
        self._action_id = 0
        self._lost_action = 0
        self._ids = itertools.count(1)
        sock: zmq.Socket = zmq.Context.instance().socket(zmq.DEALER)
        common_options(sock, limits)
        sock.setsockopt(zmq.IMMEDIATE, 1)  # nothing queues for a server that is not there
        sock.setsockopt(zmq.RECONNECT_IVL, 100)
        sock.setsockopt(zmq.RECONNECT_IVL_MAX, 1_000)
        if keys:
            sock.curve_publickey, sock.curve_secretkey = keys.public, keys.secret
            sock.curve_serverkey = keys.server
        try:
            sock.connect(endpoint)
        except zmq.ZMQError as error:
            sock.close(0)
            raise HandshakeError(
                f"{endpoint!r} is not an endpoint to connect to ({error.strerror}); write it as tcp://HOST:PORT."
            ) from error
        self._loop = SocketLoop(
            sock, "client socket", limits, self._on_frames, self._on_tick, lambda frames, error: None, 0.1
        )
        self._loop.start()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._loop.stop()

    def wait_ready(self, timeout_s: float = 10.0) -> Welcome:
        """Wait until the server has welcomed this client.

        Raises:
            HandshakeError: if it refuses, or does not answer within `timeout_s`.
        """
        if not self._decided.wait(timeout_s):
            raise HandshakeError(
                f"No verifier answered at {self.endpoint} within {timeout_s:g} s; start one there with "
                "'spec-decode serve', or check the address, the network and, if it wants keys, the keys."
            )
        if self._welcome is None:
            raise HandshakeError(self._refusal)
        return self._welcome

    @property
    def ready(self) -> bool:
        """Whether the server has welcomed this client (it may have gone silent since)."""
        return self._welcome is not None

    @property
    def welcome(self) -> Welcome | None:
        """What the server said of itself, or None before it has."""
        return self._welcome

    @property
    def refusal(self) -> str:
        """Why the server refused this client, or an empty text."""
        return self._refusal

    @property
    def rtt_ms(self) -> float | None:
        """Smoothed round-trip time of the pings, or None before the first answer."""
        trips = list(self._round_trips_s)
        return min(trips) * 1000.0 if trips else None

    @property
    def silence_s(self) -> float:
        """Seconds since anything arrived; pings go out once a second."""
        return time.perf_counter() - self._last_arrival if self._last_arrival else float("inf")

    def next_action_id(self) -> int:
        """A number for a new action: they count up over all that use this connection."""
        return next(self._ids)

    def listen(self, listener: Callable[[Arrival], None] | None) -> None:
        """Hand `Opened`, `Early`, `Committed` and `Error` to `listener`, in the socket's thread; it must return quickly."""
        self._listener = listener

    def send(self, message: Message, images: Sequence[bytes] = ()) -> int:
        """Send from any thread; returns the bytes on the wire, images apart.

        Raises:
            WireError: if the message or an image is larger than the limits allow.
        """
        frames = encode(message, images)
        decode(frames, limits=self._limits)
        if isinstance(message, Open | Draft | Branches | Close):
            self._action_id = message.action_id
        # The draft model starts right after the frame; it must not keep the frame from leaving.
        self._loop.send(frames, _FRAME_LEAVES_S if images else 0.0)
        return len(frames[0])

    def _on_tick(self) -> None:
        now = time.perf_counter()
        hello_every = _HELLO_AFTER_REFUSAL_S if self._refusal else _HELLO_EVERY_S
        if self._welcome is None and now - self._last_hello >= hello_every:
            self._last_hello = now
            self._loop.send(encode(self._hello))
        elif self._welcome is not None and (
            self._pings < _FIRST_PINGS or now - self._last_ping >= _PING_EVERY_S
        ):
            self._last_ping = now
            self._pings += 1
            self._loop.send(encode(Ping(time.perf_counter_ns())))

    def _on_frames(self, frames: list[bytes]) -> None:
        now = time.perf_counter()
        try:
            message, _ = decode(frames, DOWN, self._limits)
        except WireError as error:
            _log.warning("dropped a message from %s: %s", self.endpoint, error)
            if self._welcome is None:
                self._refuse(f"The verifier at {self.endpoint} does not fit: {error}")
            return
        self._last_arrival = now
        if isinstance(message, Pong):
            # The shortest of the last ones: the others stood behind a frame.
            self._round_trips_s.append(max(0.0, (time.perf_counter_ns() - message.stamp) / 1e9))
        elif isinstance(message, Welcome):
            self._on_welcome(message, now)
        elif isinstance(message, Error) and message.code == HELLO_FIRST:
            self._lost_action = self._action_id
            self._welcome = None
            self._last_hello = 0.0
            self._on_tick()
        elif isinstance(message, Error) and (message.code == ErrorCode.MISMATCH or self._welcome is None):
            self._refuse(message.sentence)
        elif self._listener:
            self._listener(Arrival(message, now, len(frames[0])))

    def _on_welcome(self, welcome: Welcome, now: float) -> None:
        differs = difference(self._hello, welcome)
        if differs:
            self._refuse(f"Refused: {differs}.")
            return
        self._welcome = welcome
        self._refusal = ""
        self._decided.set()
        if self._lost_action and self._listener:
            # The server that knew this action is gone: the method opens it again at once.
            error = Error(
                self._lost_action, ErrorCode.UNKNOWN_ACTION, "The server was restarted in mid-action."
            )
            self._listener(Arrival(error, now, 0))
        self._lost_action = 0

    def _refuse(self, sentence: str) -> None:
        self._welcome = None
        self._refusal = sentence
        self._decided.set()
        if self._listener:
            self._listener(Arrival(Error(0, ErrorCode.MISMATCH, sentence), time.perf_counter(), 0))
