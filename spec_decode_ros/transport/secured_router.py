"""The ROUTER socket that robots connect to, with keys and connection limits. Verifier and balancer both open one."""

from __future__ import annotations

import ctypes
import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

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
_libc = ctypes.CDLL(None)

_REBIND_S = 1.5
KEYS_CHECK_S = 1.0
"""How often the folder of keys is looked at."""
_CHECK_S = 0.25
_BACKLOG = 1024
_HANDSHAKE_MS = 10_000
"""A connection without a handshake is ended after this time."""
UNREAD_BYTES = MAX_MESSAGE_BYTES + MAX_IMAGE_BYTES + 16 * 1024 * 1024
"""What may arrive over a connection before it is read: the largest message, and what the operating system may hold of a
connection, roughly (its default is 6 MB)."""


class Received(NamedTuple):
    """A message of a robot.

    Attributes:
        client: the routing id of its connection.
        key: the public key that it came with, empty without keys; None if that was revoked: then it must be ignored.
        body: its frames.
    """

    client: bytes
    key: str | None
    body: list[zmq.Frame]


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
        sock: the ROUTER; what arrives, with ``copy=False``, is for `receive`.
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
        self._refresh_limiter, self._check_limiter = RateLimiter(KEYS_CHECK_S), RateLimiter(_CHECK_S)
        wanted = parse_endpoint(bind, listening=True)
        self._check_reach(wanted)
        _draw_first_routing_id()
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

    @property
    def refused(self) -> int:
        """Connections whose handshake failed: no key, a wrong key, another protocol."""
        return self.guard.refused

    def receive(self, frames: list[zmq.Frame]) -> Received:
        """Take in a message. If its key was revoked, its connection is ended."""
        return Received(frames[0].bytes, self._sender(frames), frames[1:])

    def _sender(self, frames: list[zmq.Frame]) -> str | None:
        handle = frames[-1].get(zmq.SRCFD)
        self.guard.on_message(handle, sum(map(len, frames[1:])), time.monotonic())
        if self._keyring is None:
            return ""
        try:
            key = str(frames[-1].get("User-Id"))
        except zmq.ZMQError:
            return None
        owner = self._keyring.robot(key)
        if owner is None:
            self.guard.end(handle)
            return None
        if not owner.balancer:
            self.guard.set_key(handle, key)
        return key

    def robot(self, key: str, client: bytes) -> str:
        """The name of the robot behind the connection `client`, empty without keys."""
        return robot_name(self._keyring, key, client)

    def tick(self) -> Mapping[str, KnownRobot]:
        """Check the connections, and read the keys again; returns the keys that were revoked.

        Call it several times a second; more often costs nothing.
        """
        if self._check_limiter.allow():
            drained = not int(self.sock.getsockopt(zmq.EVENTS)) & zmq.POLLIN
            self.guard.check(time.monotonic(), drained)
        if self._keyring is None or not self._refresh_limiter.allow():
            return {}
        return self._keyring.refresh()

    def close(self, linger_ms: int = 0) -> None:
        """Close all sockets; what was handed over before has so much time to leave."""
        self.sock.disable_monitor()
        self.sock.close(linger_ms)
        for sock in self.extra_sockets:
            sock.close(0)

    def _check_reach(self, endpoint: Endpoint) -> None:
        if self._keyring is None and not self._insecure and not endpoint.loopback:
            raise SpecDecodeError(
                f"{endpoint} can be reached from other machines, and without keys whoever reaches it could use the "
                "verifier and read along: make keys with `spec-decode keygen keys` and pass --keys keys, or say "
                "--insecure to serve everybody, unencrypted."
            )


def robot_name(keyring: Keyring | None, key: str, client: bytes) -> str:
    """The name of the key, or for the key of a balancer the forwarded name; empty without keys."""
    owner = keyring.robot(key) if keyring is not None else None
    if owner is None:
        return ""
    return robot_of(owner.name, client) if owner.balancer else owner.name


def _draw_first_routing_id() -> None:
    """Seed the generator from which libzmq 4.3.5 takes the first routing id of peers that have none.

    Unseeded, it is the same in every process, and a peer that takes the next id for itself ends the process by an assertion.
    """
    _libc.srand(int.from_bytes(os.urandom(4), "little"))


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
