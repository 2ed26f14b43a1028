"""The cloud's end of the wire: one ROUTER socket, any number of robots."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import zmq

from spec_decode_ros.decoding.messages import Error, ErrorCode, Hello, Message, Ping, Pong, Welcome
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.transport.codec import DEFAULT_LIMITS, UP, Limits, WireError, decode, encode
from spec_decode_ros.transport.handshake import HELLO_FIRST, difference
from spec_decode_ros.transport.keys import ServerKeys
from spec_decode_ros.transport.loop import SocketLoop
from spec_decode_ros.transport.peers import PeerLimits, Peers
from spec_decode_ros.transport.rate_limiter import RateLimiter
from spec_decode_ros.transport.secured_router import SecuredRouter

_log = logging.getLogger(__name__)

LOOPBACK = "tcp://127.0.0.1:*"
DEFAULT_PEER_LIMITS = PeerLimits()
_SWEEP_S = 1.0
_FULL = "The verifier knows as many robots as it may; try again, or start another one."
_FULL_RETRY_MS = 5_000.0
REVOKED = "Refused: the keys of this robot were revoked; ask who runs the verifier for new ones."


@dataclass(frozen=True)
class Traffic:
    """What went over a server's socket so far.

    Attributes:
        received_bytes: of whole messages, without ZeroMQ's own framing.
        sent_bytes: likewise.
        bad_messages: what was no message, came from a key that was revoked, or spoke under another's identity.
        refused_peers: connections that failed before a word was said (no key, a wrong key, another protocol), and
            hellos that were refused.
    """

    received_bytes: int = 0
    sent_bytes: int = 0
    bad_messages: int = 0
    refused_peers: int = 0


class Server:
    """Greets clients, answers pings, refuses what is malformed, and hands everything else on.

    Args:
        welcome: what this side is; a `Hello` that does not fit is refused.
        on_message: called in the socket's thread with (client, message, images) for every `Open`, `Draft`, `Branches`
            and `Close` of a client that was welcomed; must return quickly.
        on_gone: called in the socket's thread with a client that was found to be gone, or whose key was revoked.
        bind: endpoint; by default a free port that only this machine can reach.
        keys: with them only robots that have keys are let in, and everything is encrypted. The folder of the robots'
            keys is followed: who is added is let in within a second, who is deleted is shut out.
        insecure: listen beyond this machine although there are no keys.
        peers: how many clients are remembered, and for how long.
    """

    def __init__(
        self,
        welcome: Welcome,
        on_message: Callable[[bytes, Message, tuple[bytes, ...]], None],
        on_gone: Callable[[bytes], None] = lambda client: None,
        bind: str = LOOPBACK,
        limits: Limits = DEFAULT_LIMITS,
        keys: ServerKeys | None = None,
        *,
        insecure: bool = False,
        peers: PeerLimits = DEFAULT_PEER_LIMITS,
    ) -> None:
        self._welcome = welcome
        self._on_message = on_message
        self._on_gone = on_gone
        self._bind = bind
        self._limits = limits
        self._keys = keys
        self._insecure = insecure
        self._peers = Peers(peers)
        self._speaks, self._sweeps = RateLimiter(), RateLimiter(_SWEEP_S)
        self._bad_messages = 0
        self._refused_peers = 0
        self._context: zmq.Context | None = None
        self._gate: SecuredRouter | None = None
        self._loop: SocketLoop | None = None
        self.endpoint = ""

    def start(self) -> str:
        """Bind and serve; returns the bound endpoint.

        Raises:
            SpecDecodeError: if the endpoint can't be bound, or others could reach it and there are no keys.
        """
        # Authentication is a matter of a whole context, so it gets one of its own.
        self._context = zmq.Context() if self._keys else zmq.Context.instance()
        try:
            self._gate = gate = SecuredRouter(
                self._context, self._bind, self._limits, self._keys, self._insecure
            )
        except SpecDecodeError:
            self._end_context()
            raise
        self.endpoint = gate.endpoint
        self._loop = SocketLoop(
            gate.sock,
            "server socket",
            self._limits,
            self._on_frames,
            self._on_tick,
            self._on_unsent,
            beside=gate.beside,
            copy=False,
        )
        self._loop.start()
        return self.endpoint

    def stop(self) -> None:
        if self._loop:
            self._loop.stop()
        self._end_context()

    def send(self, client: bytes, message: Message) -> None:
        """Send to one client, from any thread. What a vanished or overfull client misses is dropped."""
        assert self._loop is not None, "start the server first"
        if self._peers.may_send(client):
            self._loop.send([client, *encode(message)])

    def tell_all(self, message: Message) -> None:
        """Send to every client that was welcomed, from any thread."""
        for client in self._peers.all:
            self.send(client, message)

    @property
    def alive(self) -> bool:
        """Whether the thread of the socket runs."""
        return self._loop is not None and self._loop.alive

    @property
    def traffic(self) -> Traffic:
        """What went over the socket so far; from any thread."""
        if self._loop is None or self._gate is None:
            return Traffic()
        refused = self._refused_peers + self._gate.refused
        return Traffic(self._loop.received_bytes, self._loop.sent_bytes, self._bad_messages, refused)

    def robot(self, client: bytes) -> str:
        """The name of the robot that a client is, empty without keys; from any thread."""
        return self._gate.robot(self._peers.key(client), client) if self._gate else ""

    def _end_context(self) -> None:
        if self._keys and self._context:
            self._context.destroy(linger=0)

    # ---- in the socket's thread ----------------------------------------------------------------------------

    def _on_frames(self, frames: list[zmq.Frame]) -> None:
        assert self._gate is not None
        client, body, now = frames[0].bytes, frames[1:], time.monotonic()
        key = self._gate.sender(frames)
        if key is None:  # it was revoked, and that was said to it once
            self._bad_messages += 1
        elif not self._peers.hears(client, key, now):
            self._bad_messages += 1
            self._warn("a client spoke under the routing identity of another one", client, key)
        else:
            self._on_message_frames(client, key, body, now)

    def _on_message_frames(self, client: bytes, key: str, body: list[zmq.Frame], now: float) -> None:
        try:
            # Images are looked at by their length; only those of a peer are copied.
            frames = cast("list[bytes]", [frame.bytes for frame in body[:1]] + body[1:])
            message, images = decode(frames, UP, self._limits)
        except WireError as error:
            self._bad_messages += 1
            self.send(client, Error(0, ErrorCode.BAD_MESSAGE, str(error)))
            return
        if isinstance(message, Hello):
            self._greet(client, key, message, now)
        elif isinstance(message, Ping):
            self.send(client, Pong(message.stamp))
        elif client in self._peers:
            self._on_message(client, message, tuple(bytes(image) for image in images))
        else:
            self.send(
                client,
                Error(0, HELLO_FIRST, "This server was restarted or does not know you; say hello first."),
            )

    def _greet(self, client: bytes, key: str, hello: Hello, now: float) -> None:
        differs = difference(hello, self._welcome)
        if differs:
            self._forget(client)
            self._refused_peers += 1
            self._warn(f"refused a robot: {differs}", client, key)
            self.send(client, Error(0, ErrorCode.MISMATCH, f"Refused: {differs}."))
            return
        assert self._gate is not None
        give_way = self._peers.welcome(client, key, self._gate.robot(key, client), now)
        if give_way is None:
            self._refused_peers += 1
            self.send(client, Error(0, ErrorCode.BUSY, _FULL, _FULL_RETRY_MS))
            return
        for older in give_way:
            self._on_gone(older)
        self.send(client, self._welcome)

    def _on_tick(self) -> None:
        assert self._gate is not None
        revoked = self._gate.tick()
        for client in self._peers.with_keys(revoked):
            # A balancer's robots are as good as ever: it finds out by itself, and gives them to another server.
            if not revoked[self._peers.key(client) or ""].balancer:
                self.send(client, Error(0, ErrorCode.MISMATCH, REVOKED))
            self._forget(client)
        if self._sweeps():
            for client in self._peers.gone(time.monotonic()):
                self._on_gone(client)

    def _forget(self, client: bytes) -> None:
        if client in self._peers:
            self._peers.forget(client)
            self._on_gone(client)

    def _on_unsent(self, frames: list[bytes], error: zmq.ZMQError) -> None:
        if error.errno == zmq.EHOSTUNREACH:
            self._peers.unreachable(frames[0], time.monotonic())

    def _warn(self, what: str, client: bytes, key: str) -> None:
        if self._gate and self._speaks():
            _log.warning("%s", what, extra={"robot": self._gate.robot(key, client) or client[:4].hex()})
