"""The robot's end of the wire: connections to one or several verifiers, of which one is used at a time.

The client greets every server until it is welcomed, also after an outage or a restart, measures the round-trip time
with pings, and hands on messages with the time of their arrival. All servers stay connected, so that another one can
take over at once; see :mod:`~spec_decode_ros.transport.failover` for when. Messages that can't be sent are dropped: the
methods repeat what matters, and nothing stale queues up while the link is down.
"""

from __future__ import annotations

import itertools
import logging
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

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
    Opened,
    Welcome,
)
from spec_decode_ros.transport.codec import decode, encode
from spec_decode_ros.transport.connection import Connection
from spec_decode_ros.transport.endpoint import parse_endpoints
from spec_decode_ros.transport.failover import ConnectionStatus, Failover, FailoverPolicy
from spec_decode_ros.transport.handshake import HandshakeError, TargetPin
from spec_decode_ros.transport.keys import RobotKeys

_log = logging.getLogger(__name__)

_SEND_IMAGE_S = 0.005
_SEND_CLOSE_S = 0.02


@dataclass(frozen=True)
class Reconnected:
    """A server has welcomed the robot during an action; `known`: it may still have what was opened there before."""

    known: bool


@dataclass(frozen=True)
class Arrival:
    """A message or event from the cloud; `at` is in `time.perf_counter`, `size` its bytes on the wire."""

    message: Message | Reconnected
    at: float
    size: int


class Client:
    """All connections of one robot.

    Args:
        endpoint: of the verifier, such as ``tcp://10.0.0.5:5555``; several by commas, the preferred one first.
        pair: name of the model pair, compared with the servers'.
        vocabulary: fingerprint of its vocabulary, compared with the servers'.
        keys: the robot's keys, for servers that want them.
        policy: when another server is used.
        target_fingerprint: of the target weights that a server must have, see :class:`TargetPin`; by default those of
            the first server that is used.
        grammar: fingerprint of what the pair's answers are constrained to, compared with the servers'; empty for free
            answers.

    Raises:
        EndpointError: an endpoint is not valid.
        HandshakeError: the fingerprint is not valid.
    """

    def __init__(
        self,
        endpoint: str,
        pair: str,
        vocabulary: str,
        keys: RobotKeys | None = None,
        *,
        policy: FailoverPolicy | None = None,
        target_fingerprint: str = "",
        grammar: str = "",
    ) -> None:
        endpoints = parse_endpoints(endpoint)
        self.endpoints = tuple(map(str, endpoints))
        self._target = TargetPin(target_fingerprint)
        self._listener: Callable[[Arrival], None] | None = None
        self._action_id = 0  # of the present action, 0 between actions
        self._ids = itertools.count(1)
        self._changed = threading.Condition(threading.RLock())
        self._failover = Failover(len(self.endpoints), time.perf_counter(), policy)
        self._connections: list[Connection] = []
        self._unfit: set[str] = set()  # endpoints whose other weights were logged
        hello = Hello(PROTOCOL, pair, vocabulary, grammar)
        identity = b"r" + secrets.token_bytes(16)
        try:
            for each in endpoints:
                self._connections.append(Connection(each, hello, identity, keys, self))
        except HandshakeError:
            self.close()
            raise
        for connection in self._connections:
            connection.start()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the present action and end all connections."""
        if self._action_id and self.ready:
            self.send(Close(self._action_id))
            time.sleep(_SEND_CLOSE_S)
        for connection in self._connections:
            connection.close()

    def wait_ready(self, timeout_s: float = 10.0) -> Welcome:
        """Wait until a server has welcomed this client.

        Raises:
            HandshakeError: all refuse, or none answers within `timeout_s`.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self.ready or all(each.refused_for_good for each in self._connections), timeout_s
            )
            if self.ready and self._current.welcome:
                return self._current.welcome
            refusals = [each.refusal for each in self._connections if each.refusal]
        if refusals:
            raise HandshakeError(" ".join(refusals))
        raise HandshakeError(
            f"No verifier answered at {' or '.join(self.endpoints)} within {timeout_s:g} s; start one there with "
            "'spec-decode serve', or check the address, the network and, if it wants keys, the keys."
        )

    @property
    def _current(self) -> Connection:
        return self._connections[self._failover.current]

    @property
    def endpoint(self) -> str:
        """The endpoint in use."""
        return self._current.endpoint

    @property
    def failovers(self) -> int:
        """How often the server was changed."""
        return self._failover.changes

    @property
    def ready(self) -> bool:
        """Whether the server has welcomed this client (it may have gone silent since)."""
        return self._current.ready

    @property
    def welcome(self) -> Welcome | None:
        """The server's last welcome, or None before the first."""
        return self._current.welcome

    @property
    def refusal(self) -> str:
        """Why the server refuses this client; empty if it does not."""
        return self._current.refusal

    @property
    def rtt_ms(self) -> float | None:
        """Round-trip time of the pings, or None before the first answer."""
        return self._current.rtt_ms

    @property
    def silence_s(self) -> float:
        """Seconds since anything arrived; pings go out once a second."""
        return self._current.silence_s

    def next_action_id(self) -> int:
        """A number for a new action, counting up over all users of this client."""
        return next(self._ids)

    def listen(self, listener: Callable[[Arrival], None] | None) -> None:
        """Hand `Opened`, `Early`, `Committed`, `Error` and `Reconnected` to `listener`, in a socket's thread.

        It must return quickly.
        """
        self._listener = listener

    def send(self, message: Message, images: Sequence[bytes] = ()) -> int:
        """Send from any thread; returns the bytes on the wire, images apart.

        Raises WireError if the message or an image is larger than the limits allow.
        """
        frames = encode(message, images)
        decode(frames)
        with self._changed:
            if isinstance(message, Open) and not self._action_id:
                self._review()  # the only moment between two actions of a robot that acts without a pause
            if isinstance(message, Open | Draft | Branches):
                self._action_id = message.action_id
            elif isinstance(message, Close):
                self._action_id = 0
            connection = self._current
        # The draft model starts right after the frame and would delay it by keeping the interpreter busy.
        connection.send(frames, _SEND_IMAGE_S if images else 0.0)
        return len(frames[0])

    # ---- in the threads of the sockets ---------------------------------------------------------------------

    def objection(self, connection: Connection, welcome: Welcome) -> str | None:
        with self._changed:
            return self._target.objection(welcome.target_fingerprint, connection.endpoint)

    def on_welcome(self, connection: Connection, known: bool) -> None:
        with self._changed:
            self._failover.on_welcome(self._connections.index(connection))
            changed = self._review()
            self._settle_target()
            if not changed and connection is self._current and self._action_id:
                self._notify(Reconnected(known))
            self._changed.notify_all()

    def on_change(self, connection: Connection) -> None:
        with self._changed:
            changed = self._review()
            if not changed and connection is self._current and connection.refused_for_good:
                self._notify(Error(0, ErrorCode.MISMATCH, connection.refusal))
            self._changed.notify_all()

    def on_message(self, connection: Connection, message: Message, size: int) -> None:
        with self._changed:
            server, now = self._connections.index(connection), time.perf_counter()
            if isinstance(message, Opened):
                self._failover.on_opened(server)
            if isinstance(message, Error) and message.code == ErrorCode.BUSY:
                self._failover.on_busy(server, now, message.retry_ms / 1000.0)
            if isinstance(message, Error) and message.code == ErrorCode.DRAINING:
                self._failover.on_draining(server, now, refused=bool(message.action_id))
                if not message.action_id:
                    return
            # Messages of a server about an action that another one has taken over are dropped.
            if connection is self._current and not self._review():
                self._notify(message, size)

    def on_tick(self) -> None:
        if len(self._connections) > 1:
            with self._changed:
                self._review()

    def _review(self) -> bool:
        """Change the server if that is due, and return whether; the listener opens the present action there again."""
        before = self._current
        statuses = [self._status_of(connection) for connection in self._connections]
        if not self._failover.review(statuses, time.perf_counter(), bool(self._action_id)):
            return False
        _log.warning("changing from the verifier at %s to %s", before.endpoint, self.endpoint)
        self._settle_target()
        if self._action_id:
            before.send(encode(Close(self._action_id)))
            self._notify(Reconnected(known=False))
        self._changed.notify_all()
        return True

    def _status_of(self, connection: Connection) -> ConnectionStatus:
        """Its status; a server that was welcome before the robot settled on other weights has failed."""
        status = connection.status
        if connection.welcome and self.objection(connection, connection.welcome):
            return replace(status, welcomed=False, failed=True)
        return status

    def _settle_target(self) -> None:
        """From the first server that is used on, its weights are the robot's."""
        if not (self.ready and self._current.welcome):
            return
        self._target.settle(self._current.welcome.target_fingerprint)
        for connection in self._connections:
            if not (connection.ready and connection.welcome) or connection.endpoint in self._unfit:
                continue
            if sentence := self.objection(connection, connection.welcome):
                self._unfit.add(connection.endpoint)
                _log.warning("%s", sentence)

    def _notify(self, message: Message | Reconnected, size: int = 0) -> None:
        if self._listener:
            self._listener(Arrival(message, time.perf_counter(), size))
