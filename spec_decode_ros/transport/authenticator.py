"""ZAP handler (ZeroMQ RFC 27): decides for every new connection whether its key is let in.

ZeroMQ asks over an inproc socket. Our servers name a ZAP domain, so while nobody answers, no connection is accepted.
"""

from __future__ import annotations

import logging

import zmq
from zmq.utils import z85

from spec_decode_ros.transport.keyring import Keyring
from spec_decode_ros.transport.rate_limiter import RateLimiter

_log = logging.getLogger(__name__)

DOMAIN = b"robots"
_ENDPOINT = "inproc://zeromq.zap.01"
_VERSION = b"1.0"
_MAX_BATCH = 64


class Authenticator:
    """Lets in the keys of a keyring. A ZeroMQ context can have only one."""

    def __init__(self, context: zmq.Context, keyring: Keyring) -> None:
        self._keyring = keyring
        self._log_limiter = RateLimiter()
        self.socket: zmq.Socket = context.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind(_ENDPOINT)

    def answer(self) -> None:
        """Answer the waiting requests. Call it in the thread that owns `socket`, when that is readable."""
        for _ in range(_MAX_BATCH):
            try:
                frames = self.socket.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return
            sender, _, _, request_id = frames[:4]
            key = _key(frames[4:])
            accepted = bool(key) and self._keyring.holder(key) is not None
            if not accepted and self._log_limiter.allow():
                address = frames[5].decode("ascii", "replace") if len(frames) > 5 else ""
                _log.warning(
                    "refused a robot at %s: its key is not among the %d that are let in",
                    address,
                    len(self._keyring),
                    extra={"robot": key, "address": address},
                )
            # The key becomes the User-Id of every message of this connection.
            answer = [b"200", b"OK", key.encode()] if accepted else [b"400", b"unknown key", b""]
            self.socket.send_multipart([sender, b"", _VERSION, request_id, *answer, b""], zmq.DONTWAIT)


def _key(request: list[bytes]) -> str:
    """The public key in [domain, address, routing id, mechanism, credential]; empty for any other request."""
    if len(request) != 5:
        return ""
    domain, _, _, mechanism, credential = request
    if domain != DOMAIN or mechanism != b"CURVE" or len(credential) != 32:
        return ""
    return z85.encode(credential).decode("ascii")
