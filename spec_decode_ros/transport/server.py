"""The cloud's end of the wire: one ROUTER socket for any number of robots."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import zmq

from spec_decode_ros.decoding.messages import Error, ErrorCode, Hello, Message, Ping, Pong, Welcome
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.transport.codec import UP, WireError, decode, encode
from spec_decode_ros.transport.handshake import HELLO_FIRST, difference
from spec_decode_ros.transport.keys import ServerKeys
from spec_decode_ros.transport.loop import Frame, SocketLoop
from spec_decode_ros.transport.peers import PeerLimits, Peers
from spec_decode_ros.transport.rate_limiter import RateLimiter
from spec_decode_ros.transport.router_process import SILENT_S, RouterProcess
from spec_decode_ros.transport.secured_router import SecuredRouter

_log = logging.getLogger(__name__)

LOOPBACK = "tcp://127.0.0.1:*"
_EXPIRY_CHECK_S = 1.0
_FULL = "The verifier knows as many robots as it may; try again, or start another one."
FULL_RETRY_MS = 5_000.0
REVOKED = "Refused: the keys of this robot were revoked; ask who runs the verifier for new ones."


@dataclass(frozen=True)
class Traffic:
    """Counts of a server's socket since its start.

    Attributes:
        received_bytes: of whole messages, without ZeroMQ's own framing.
        sent_bytes: likewise.
        bad_messages: malformed, or with a revoked key, or under another client's routing id.
        refused_peers: connections whose handshake failed (no key, a wrong key, another protocol), and refused hellos.
    """

    received_bytes: int = 0
    sent_bytes: int = 0
    bad_messages: int = 0
    refused_peers: int = 0


class Server:
    """Greets clients, answers pings, refuses malformed messages, and hands everything else on.

    Args:
        welcome: what this server is; a `Hello` that does not fit is refused.
        on_message: called in the socket's thread with (client, message, images) for every `Open`, `Draft`, `Branches`
            and `Close` of a client that was welcomed; must return quickly.
        on_gone: called in the socket's thread with a client that is gone, was evicted, or whose key was revoked.
        bind: endpoint; by default a free port that only this machine can reach.
        keys: with them only robots that have keys are let in; see :class:`SecuredRouter`.
        insecure: listen beyond this machine although there are no keys.
        peers: how many clients are remembered, and for how long.
    """

    def __init__(
        self,
        welcome: Welcome,
        on_message: Callable[[bytes, Message, tuple[bytes, ...]], None],
        on_gone: Callable[[bytes], None] = lambda client: None,
        bind: str = LOOPBACK,
        keys: ServerKeys | None = None,
        *,
        insecure: bool = False,
        peers: PeerLimits | None = None,
    ) -> None:
        self._welcome = welcome
        self._on_message = on_message
        self._on_gone = on_gone
        self._bind = bind
        self._keys = keys
        self._insecure = insecure
        self._peers = Peers(peers or PeerLimits())
        self._log_limiter, self._expiry_limiter = RateLimiter(), RateLimiter(_EXPIRY_CHECK_S)
        self._bad_messages = 0
        self._refused_hellos = 0
        self._context: zmq.Context | None = None
        self._router: SecuredRouter | RouterProcess | None = None
        self._loop: SocketLoop | None = None
        self.endpoint = ""

    def start(self, own_process: bool = False) -> str:
        """Bind and serve; returns the bound endpoint.

        Args:
            own_process: whether the socket is in a process of its own, see :class:`RouterProcess`.

        Raises SpecDecodeError if it can't be bound, or others could reach it and there are no keys.
        """
        self._context = zmq.Context() if self._keys else zmq.Context.instance()
        try:
            self._router = router = self._open(self._context, own_process)
        except SpecDecodeError:
            self._end_context()
            raise
        self.endpoint = router.endpoint
        self._loop = SocketLoop(
            router.sock,
            "server socket",
            self._on_frames,
            self._on_tick,
            self._on_unsent,
            router.extra_sockets,
            envelope=1,
        )
        self._loop.start()
        return self.endpoint

    def stop(self) -> None:
        if self._loop:
            self._loop.stop()
        if isinstance(self._router, RouterProcess):
            self._router.close()
        self._end_context()

    def send(self, client: bytes, message: Message) -> None:
        """Send to one client, from any thread. Messages to a client that is gone or reads too slowly are dropped."""
        assert self._loop is not None, "start the server first"
        if self._peers.may_send(client):
            self._loop.send([client, *encode(message)])

    def broadcast(self, message: Message) -> None:
        """Send to every client that was welcomed, from any thread."""
        for client in self._peers.all:
            self.send(client, message)

    @property
    def alive(self) -> bool:
        """Whether the thread of the socket runs, and its process if it has one."""
        silent = isinstance(self._router, RouterProcess) and self._router.silent_s > 2.0 * SILENT_S
        return self._loop is not None and self._loop.alive and not silent

    @property
    def traffic(self) -> Traffic:
        """The counts so far; from any thread."""
        if self._loop is None or self._router is None:
            return Traffic()
        refused = self._refused_hellos + self._router.refused
        return Traffic(self._loop.received_bytes, self._loop.sent_bytes, self._bad_messages, refused)

    def robot(self, client: bytes) -> str:
        """The name of a client's robot, empty without keys; from any thread."""
        return self._peers.robot(client)

    @property
    def robots(self) -> int:
        """How many robots with names are known; from any thread."""
        return self._peers.robots

    def _open(self, context: zmq.Context, own_process: bool) -> SecuredRouter | RouterProcess:
        if own_process:
            return RouterProcess(context, self._bind, self._keys, self._insecure, self._on_unsent)
        return SecuredRouter(context, self._bind, self._keys, self._insecure)

    def _end_context(self) -> None:
        if self._keys and self._context:
            self._context.destroy(linger=0)

    # ---- in the socket's thread ----------------------------------------------------------------------------

    def _on_frames(self, frames: list[zmq.Frame]) -> None:
        assert self._router is not None
        received, now = self._router.receive(frames), time.monotonic()
        if received is None:
            return
        client, key, body = received
        if key is None:  # it was revoked, and the robot was told so once
            self._bad_messages += 1
        elif not self._peers.on_message(client, key, now):
            self._bad_messages += 1
            self._warn("a client used the routing identity of another one", client, key)
        else:
            self._on_body(client, key, body, now)

    def _on_body(self, client: bytes, key: str, body: list[zmq.Frame], now: float) -> None:
        try:
            # Images are checked by their length; only those of a known client are copied.
            frames = cast("list[bytes]", [frame.bytes for frame in body[:1]] + body[1:])
            message, images = decode(frames, UP)
        except WireError as error:
            self._bad_messages += 1
            self.send(client, Error(0, ErrorCode.BAD_MESSAGE, str(error)))
            return
        if isinstance(message, Hello):
            self._on_hello(client, key, message, now)
        elif isinstance(message, Ping):
            self.send(client, Pong(message.stamp, self._welcome.target_fingerprint))
        elif client in self._peers:
            self._on_message(client, message, tuple(bytes(image) for image in images))
        else:
            sentence = "This server was restarted or does not know you; say hello first."
            self.send(client, Error(0, HELLO_FIRST, sentence))

    def _on_hello(self, client: bytes, key: str, hello: Hello, now: float) -> None:
        differs = difference(hello, self._welcome)
        if differs:
            self._forget(client)
            self._refused_hellos += 1
            self._warn(f"refused a robot: {differs}", client, key)
            self.send(client, Error(0, ErrorCode.MISMATCH, f"Refused: {differs}."))
            return
        if client not in self._peers:
            robot = self._robot(key, client)
            if self._peers.full:
                evicted = self._peers.evictable(robot)
                if evicted is None:
                    self._refused_hellos += 1
                    self.send(client, Error(0, ErrorCode.BUSY, _FULL, FULL_RETRY_MS))
                    return
                self._forget(evicted)
            self._peers.add(client, key, robot, now)
        self.send(client, self._welcome)

    def _on_tick(self) -> None:
        assert self._router is not None
        revoked = self._router.tick()
        for client in self._peers.with_keys(revoked):
            # The robots behind a balancer are not revoked: it notices by itself and gives them to another server.
            if not revoked[self._peers.key(client) or ""].balancer:
                self.send(client, Error(0, ErrorCode.MISMATCH, REVOKED))
            self._forget(client)
        if self._expiry_limiter.allow():
            for client in self._peers.expired(time.monotonic()):
                self._forget(client)

    def _forget(self, client: bytes) -> None:
        if client in self._peers:
            self._peers.forget(client)
            self._on_gone(client)

    def _on_unsent(self, frames: Sequence[Frame], error: zmq.ZMQError) -> None:
        if error.errno == zmq.EHOSTUNREACH:
            client = cast(bytes, frames[0])
            self._peers.on_unreachable(client, time.monotonic())

    def _robot(self, key: str, client: bytes) -> str:
        return self._router.robot(key, client) if self._router else ""

    def _warn(self, sentence: str, client: bytes, key: str) -> None:
        if self._log_limiter.allow():
            _log.warning("%s", sentence, extra={"robot": self._robot(key, client) or client[:4].hex()})
