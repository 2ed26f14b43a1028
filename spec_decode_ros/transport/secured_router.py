"""The socket that robots connect to: who is let in, and whom a message is from.

Every server that listens for robots opens one, so that all of them are guarded alike.
"""

from __future__ import annotations

import ipaddress
import logging
import time
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

import zmq

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.transport.authority import DOMAIN, Authority
from spec_decode_ros.transport.codec import Limits
from spec_decode_ros.transport.connections import ConnectionLimits, Connections
from spec_decode_ros.transport.forwarded_identity import robot_of
from spec_decode_ros.transport.keyring import Holder, Keyring
from spec_decode_ros.transport.keys import ServerKeys
from spec_decode_ros.transport.loop import common_options
from spec_decode_ros.transport.rate_limiter import RateLimiter

_log = logging.getLogger(__name__)

_REBIND_S = 1.5
_LOOK_S = 1.0
_CHECK_S = 0.25
_SOCKET_BUFFERS = 16 * 1024 * 1024
"""What the operating system may hold of a connection, roughly: more than its default of 6 MB."""
_BACKLOG = 1024
_HANDSHAKE_MS = 10_000
"""A connection that says nothing sensible for so long is ended."""


class SecuredRouter:
    """A bound ROUTER socket and all that guards it; one thread, the one that polls, uses it.

    Args:
        context: with keys the gate needs one that no other gate uses.
        bind: endpoint to listen on.
        limits: how large frames may be.
        keys: with them only robots that have keys are let in, and everything is encrypted. The folder of the robots'
            keys is followed: who is added is let in within a second, who is deleted is no longer known.
        insecure: listen beyond this machine although there are no keys.
        connections: what one connection may do; by default a message may come late, and not be endless.

    Attributes:
        sock: the ROUTER; receive with ``copy=False``, so that `sender` can tell whom a message is from.
        beside: further sockets to poll and to close, and what to call when one of them can be read.
        endpoint: the bound endpoint.

    Raises:
        SpecDecodeError: if the endpoint can't be bound, or others could reach it and there are no keys.
    """

    def __init__(
        self,
        context: zmq.Context,
        bind: str,
        limits: Limits,
        keys: ServerKeys | None,
        insecure: bool = False,
        connections: ConnectionLimits | None = None,
    ) -> None:
        self.beside: dict[zmq.Socket, Callable[[], None]] = {}
        self._keyring = Keyring(keys.robots) if keys else None
        self._insecure = insecure
        self._looks, self._checks = RateLimiter(_LOOK_S), RateLimiter(_CHECK_S)
        self._refuse_strangers(bind)
        self.sock: zmq.Socket = context.socket(zmq.ROUTER)
        common_options(self.sock, limits)
        self.sock.setsockopt(
            zmq.ROUTER_MANDATORY, 1
        )  # a send to a client that is gone fails instead of vanishing
        self.sock.setsockopt(
            zmq.ROUTER_HANDOVER, 1
        )  # who comes back need not wait for his old connection to end
        self.sock.setsockopt(zmq.HANDSHAKE_IVL, _HANDSHAKE_MS)
        self.sock.setsockopt(zmq.BACKLOG, _BACKLOG)
        self._connections = Connections(self.sock, connections or ConnectionLimits(unread_bytes(limits)))
        self.beside[self._connections.socket] = lambda: self._connections.read(time.monotonic())
        try:
            if keys and self._keyring is not None:
                self._keyring.refresh()
                authority = Authority(context, self._keyring)
                self.beside[authority.socket] = authority.answer
                self.sock.curve_publickey, self.sock.curve_secretkey = keys.public, keys.secret
                self.sock.curve_server = True
                self.sock.zap_domain = DOMAIN  # so that nobody is let in without the authority's word
            _bind(self.sock, bind)
            self.endpoint = self.sock.getsockopt_string(zmq.LAST_ENDPOINT)
            self._refuse_strangers(self.endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise SpecDecodeError(
                f"The server can't listen on {bind} ({error.strerror}); choose a free address with --bind."
            ) from error
        except SpecDecodeError:
            self.close()
            raise
        if keys is None and not is_loopback(self.endpoint):
            _log.warning("%s serves whoever reaches it, unencrypted, as --insecure says", self.endpoint)

    @property
    def refused(self) -> int:
        """Connections that failed before a word was said (no key, a wrong key, another protocol); from any thread."""
        return self._connections.refused

    @property
    def ended(self) -> int:
        """Connections that were ended because they held too much, or said nothing; from any thread."""
        return self._connections.ended

    def sender(self, frames: list[zmq.Frame]) -> str | None:
        """The public key that a message came with, empty without keys.

        None if that key was revoked: then the message is not to be heeded, and its connection is ended.
        """
        handle = frames[-1].get(zmq.SRCFD)
        self._connections.said(handle, time.monotonic())
        if self._keyring is None:
            return ""
        try:
            key = str(frames[-1].get("User-Id"))
        except zmq.ZMQError:
            return None
        if self._keyring.holder(key) is None:
            self._connections.end(handle)
            return None
        return key

    def robot(self, key: str | None, client: bytes) -> str:
        """The name of the robot that `client` is, empty without keys; from any thread.

        That is the name of its key, unless that is a balancer's, which is believed for whom it speaks.
        """
        holder = self._keyring.holder(key) if self._keyring is not None and key else None
        if holder is None:
            return ""
        return robot_of(holder.name, client) if holder.balancer else holder.name

    def tick(self) -> Mapping[str, Holder]:
        """Look after the connections and at the keys; returns keys that were let in and no longer are.

        To be called several times a second; more often costs nothing.
        """
        if self._checks():
            self._connections.check(time.monotonic())
        return self._keyring.refresh() if self._keyring is not None and self._looks() else {}

    def close(self) -> None:
        self.sock.disable_monitor()
        for sock in (self.sock, *self.beside):
            sock.close(0)

    def _refuse_strangers(self, endpoint: str) -> None:
        if self._keyring is None and not self._insecure and not is_loopback(endpoint):
            raise SpecDecodeError(
                f"{endpoint} can be reached from other machines, and without keys whoever reaches it could use the "
                "verifier and read along: make keys with `spec-decode keygen keys` and pass --keys keys, or say "
                "--insecure to serve everybody, unencrypted."
            )


def unread_bytes(limits: Limits) -> int:
    """What may arrive over a connection before a message is complete: the largest one, and what is under way."""
    return limits.message_bytes + limits.image_bytes + _SOCKET_BUFFERS


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
