"""The ROUTER socket that robots connect to, with keys and connection limits. Verifier and balancer both open one."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

import zmq

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.transport.codec import MAX_IMAGE_BYTES, MAX_MESSAGE_BYTES
from spec_decode_ros.transport.connection_guard import ConnectionGuard, ConnectionLimits
from spec_decode_ros.transport.endpoint import Endpoint, parse_endpoint
from spec_decode_ros.transport.forwarded_identity import robot_of
from spec_decode_ros.transport.keyring import ZAP_DOMAIN, Authenticator, Keyring
from spec_decode_ros.transport.keys import KnownRobot, ServerKeys
from spec_decode_ros.transport.loop import set_common_options
from spec_decode_ros.transport.rate_limiter import RateLimiter

_log = logging.getLogger(__name__)

_REBIND_S = 1.5
_REFRESH_S = 1.0
_CHECK_S = 0.25
_BACKLOG = 1024
_HANDSHAKE_MS = 10_000
"""A connection without a handshake is ended after this time."""
UNREAD_BYTES = MAX_MESSAGE_BYTES + MAX_IMAGE_BYTES + 16 * 1024 * 1024
"""What may arrive over a connection before a message is complete: the largest message, and what the operating system may
hold of a connection, roughly (its default is 6 MB)."""


class SecuredRouter:
    """A bound ROUTER socket that only known robots reach; used by the one thread that polls it.

    Args:
        context: with keys one of its own, since authentication belongs to a whole context.
        bind: endpoint to listen on.
        keys: with them only robots that have keys are let in, and everything is encrypted. The folder of the robots'
            keys is followed: added robots are let in within a second, deleted ones are shut out.
        insecure: listen beyond this machine although there are no keys.
        limits: per connection.

    Attributes:
        sock: the ROUTER; receive with ``copy=False``, so that `sender` can tell whom a message is from.
        extra_sockets: further sockets to poll and to close, and what to call when one of them is readable.
        guard: watches the connections, and counts those that were refused or ended.
        endpoint: the bound endpoint.

    Raises:
        SpecDecodeError: `bind` is not an endpoint, it can't be bound, or others could reach it and there are no keys.
    """

    def __init__(
        self,
        context: zmq.Context,
        bind: str,
        keys: ServerKeys | None,
        insecure: bool = False,
        limits: ConnectionLimits | None = None,
    ) -> None:
        self.extra_sockets: dict[zmq.Socket, Callable[[], None]] = {}
        self._keyring = Keyring(keys.robots) if keys else None
        self._insecure = insecure
        self._refresh_limiter, self._check_limiter = RateLimiter(_REFRESH_S), RateLimiter(_CHECK_S)
        wanted = parse_endpoint(bind, listening=True)
        self._check_reach(wanted)
        self.sock: zmq.Socket = context.socket(zmq.ROUTER)
        set_common_options(self.sock)
        # A message to a client that is gone fails instead of vanishing.
        self.sock.setsockopt(zmq.ROUTER_MANDATORY, 1)
        # A client that reconnects need not wait for the end of its old connection.
        self.sock.setsockopt(zmq.ROUTER_HANDOVER, 1)
        self.sock.setsockopt(zmq.HANDSHAKE_IVL, _HANDSHAKE_MS)
        self.sock.setsockopt(zmq.BACKLOG, _BACKLOG)
        self.guard = ConnectionGuard(self.sock, limits or ConnectionLimits(UNREAD_BYTES))
        self.extra_sockets[self.guard.socket] = lambda: self.guard.read(time.monotonic())
        try:
            if keys and self._keyring is not None:
                self._keyring.refresh()
                authenticator = Authenticator(context, self._keyring)
                self.extra_sockets[authenticator.socket] = authenticator.answer
                self.sock.curve_publickey, self.sock.curve_secretkey = keys.public, keys.secret
                self.sock.curve_server = True
                self.sock.zap_domain = ZAP_DOMAIN  # without it, keys would be let in unasked
            self.sock.setsockopt(zmq.IPV6, wanted.ipv6)
            _bind(self.sock, str(wanted))
            self.endpoint = self.sock.getsockopt_string(zmq.LAST_ENDPOINT)
            bound = parse_endpoint(self.endpoint, listening=True)
            self._check_reach(bound)
        except zmq.ZMQError as error:
            self.close()
            raise SpecDecodeError(
                f"The server can't listen on {wanted} ({error.strerror}); choose a free address with --bind."
            ) from error
        except SpecDecodeError:
            self.close()
            raise
        if keys is None and not bound.loopback:
            _log.warning("%s serves whoever reaches it, unencrypted, as --insecure says", self.endpoint)

    def sender(self, frames: list[zmq.Frame]) -> str | None:
        """The public key that a message came with, empty without keys.

        None if that key was revoked: then the message must be ignored, and its connection is ended.
        """
        handle = frames[-1].get(zmq.SRCFD)
        self.guard.on_message(handle, time.monotonic())
        if self._keyring is None:
            return ""
        try:
            key = str(frames[-1].get("User-Id"))
        except zmq.ZMQError:
            return None
        if self._keyring.robot(key) is None:
            self.guard.end(handle)
            return None
        return key

    def robot(self, key: str, client: bytes) -> str:
        """The name of the robot behind the connection `client`, empty without keys.

        That is the name of its key, or for the key of a balancer the forwarded name.
        """
        owner = self._keyring.robot(key) if self._keyring is not None else None
        if owner is None:
            return ""
        return robot_of(owner.name, client) if owner.balancer else owner.name

    def tick(self) -> Mapping[str, KnownRobot]:
        """Check the connections, and read the keys again; returns the keys that were revoked.

        Call it several times a second; more often costs nothing.
        """
        if self._check_limiter.allow():
            self.guard.check(time.monotonic())
        if self._keyring is None or not self._refresh_limiter.allow():
            return {}
        return self._keyring.refresh()

    def close(self) -> None:
        self.sock.disable_monitor()
        for sock in (self.sock, *self.extra_sockets):
            sock.close(0)

    def _check_reach(self, endpoint: Endpoint) -> None:
        if self._keyring is None and not self._insecure and not endpoint.loopback:
            raise SpecDecodeError(
                f"{endpoint} can be reached from other machines, and without keys whoever reaches it could use the "
                "verifier and read along: make keys with `spec-decode keygen keys` and pass --keys keys, or say "
                "--insecure to serve everybody, unencrypted."
            )


def _bind(sock: zmq.Socket, endpoint: str) -> None:
    """Bind; retries for a moment while a server that was just stopped still holds the address."""
    until = time.monotonic() + _REBIND_S
    while True:
        try:
            sock.bind(endpoint)
            return
        except zmq.ZMQError as error:
            if error.errno != zmq.EADDRINUSE or time.monotonic() > until:
                raise
        time.sleep(0.05)
