"""The cloud's end of the wire: one ROUTER socket, any number of robots."""

from __future__ import annotations

import collections
import ipaddress
import logging
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import zmq
from zmq.auth.thread import ThreadAuthenticator

from spec_decode_ros.decoding.messages import Error, ErrorCode, Hello, Message, Ping, Pong, Welcome
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.transport.codec import DEFAULT_LIMITS, UP, Limits, WireError, decode, encode
from spec_decode_ros.transport.handshake import HELLO_FIRST, difference
from spec_decode_ros.transport.keys import ServerKeys
from spec_decode_ros.transport.loop import SocketLoop, common_options

_log = logging.getLogger(__name__)

LOOPBACK = "tcp://127.0.0.1:*"
_MAX_PEERS = 1024
_REBIND_S = 1.5


def is_loopback(endpoint: str) -> bool:
    """Whether only processes of this machine can reach `endpoint`."""
    parts = urlsplit(endpoint)
    if parts.scheme != "tcp":
        return parts.scheme in ("ipc", "inproc")
    host = endpoint[len("tcp://") :].rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in ("localhost", "lo")


class Server:
    """Greets clients, answers pings, refuses what is malformed, and hands everything else on.

    Args:
        welcome: what this side is; a `Hello` that does not fit is refused.
        on_message: called in the socket's thread with (client, message, images) for every `Open`, `Draft` and
            `Close` of a client that was welcomed; must return quickly.
        on_gone: called in the socket's thread with a client that was found to be gone.
        bind: endpoint; by default a free port that only this machine can reach.
        keys: with them only robots that have keys are let in, and everything is encrypted.
    """

    def __init__(
        self,
        welcome: Welcome,
        on_message: Callable[[bytes, Message, tuple[bytes, ...]], None],
        on_gone: Callable[[bytes], None] = lambda client: None,
        bind: str = LOOPBACK,
        limits: Limits = DEFAULT_LIMITS,
        keys: ServerKeys | None = None,
    ) -> None:
        self._welcome = welcome
        self._on_message = on_message
        self._on_gone = on_gone
        self._bind = bind
        self._limits = limits
        self._keys = keys
        # Authentication is a matter of a whole context, so it gets one of its own.
        self._context = zmq.Context() if keys else zmq.Context.instance()
        self._authenticator: ThreadAuthenticator | None = None
        self._peers: collections.OrderedDict[bytes, float] = collections.OrderedDict()
        self._loop: SocketLoop | None = None
        self.endpoint = ""

    def start(self) -> str:
        """Bind and serve; returns the bound endpoint.

        Raises:
            SpecDecodeError: if the endpoint can't be bound.
        """
        sock: zmq.Socket = self._context.socket(zmq.ROUTER)
        common_options(sock, self._limits)
        sock.setsockopt(zmq.ROUTER_MANDATORY, 1)  # a send to a client that is gone fails instead of vanishing
        if self._keys:
            self._authenticator = _authenticator(self._context, self._keys)
            sock.curve_publickey, sock.curve_secretkey = self._keys.public, self._keys.secret
            sock.curve_server = True
        try:
            _bind(sock, self._bind)
        except zmq.ZMQError as error:
            sock.close(0)
            self._end_context()
            raise SpecDecodeError(
                f"The server can't listen on {self._bind} ({error.strerror}); choose a free address with --bind."
            ) from error
        self.endpoint = sock.getsockopt_string(zmq.LAST_ENDPOINT)
        if not self._keys and not is_loopback(self.endpoint):
            _log.warning(
                "%s can be reached from other machines and whoever reaches it may use it, unencrypted: "
                "use --keys, or keep it inside a private network",
                self.endpoint,
            )
        self._loop = SocketLoop(
            sock, "server socket", self._limits, self._on_frames, lambda: None, self._on_unsent
        )
        self._loop.start()
        return self.endpoint

    def stop(self) -> None:
        if self._loop:
            self._loop.stop()
        self._end_context()

    def _end_context(self) -> None:
        if self._authenticator:
            self._authenticator.stop()
            self._authenticator = None
            self._context.destroy(linger=0)

    def send(self, client: bytes, message: Message) -> None:
        """Send to one client, from any thread. What a vanished or overfull client misses is dropped."""
        assert self._loop is not None, "start the server first"
        self._loop.send([client, *encode(message)])

    def _on_frames(self, frames: list[bytes]) -> None:
        client, rest = frames[0], frames[1:]
        try:
            message, images = decode(rest, UP, self._limits)
        except WireError as error:
            self.send(client, Error(0, ErrorCode.BAD_MESSAGE, str(error)))
            return
        if isinstance(message, Hello):
            self._greet(client, message)
        elif isinstance(message, Ping):
            self.send(client, Pong(message.stamp))
        elif client in self._peers:
            self._seen(client)
            self._on_message(client, message, images)
        else:
            self.send(
                client,
                Error(0, HELLO_FIRST, "This server was restarted or does not know you; say hello first."),
            )

    def _greet(self, client: bytes, hello: Hello) -> None:
        differs = difference(hello, self._welcome)
        if differs:
            self._peers.pop(client, None)
            self.send(client, Error(0, ErrorCode.MISMATCH, f"Refused: {differs}."))
            return
        self._seen(client)
        self.send(client, self._welcome)

    def _seen(self, client: bytes) -> None:
        self._peers[client] = time.monotonic()
        self._peers.move_to_end(client)
        while len(self._peers) > _MAX_PEERS:
            oldest, _ = self._peers.popitem(last=False)
            self._on_gone(oldest)

    def _on_unsent(self, frames: list[bytes], error: zmq.ZMQError) -> None:
        if error.errno == zmq.EHOSTUNREACH and self._peers.pop(frames[0], None) is not None:
            self._on_gone(frames[0])


def _bind(sock: zmq.Socket, endpoint: str) -> None:
    """Bind, with patience for an address that a server which has just been stopped is about to leave."""
    until = time.monotonic() + _REBIND_S
    while True:
        try:
            sock.bind(endpoint)
            return
        except zmq.ZMQError as error:
            if error.errno != zmq.EADDRINUSE or time.monotonic() > until:
                raise
        time.sleep(0.05)


def _authenticator(context: zmq.Context, keys: ServerKeys) -> ThreadAuthenticator:
    authenticator = ThreadAuthenticator(context)
    authenticator.start()
    authenticator.configure_curve(domain="*", location=str(keys.robots))
    return authenticator
