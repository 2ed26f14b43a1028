"""Answers ZeroMQ's question for every new connection: may this key come in? (ZeroMQ's RFC 27, ZAP.)

ZeroMQ asks over a socket inside the process. A server that names a ZAP domain, as ours does, lets nobody in while
nobody answers.
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
_AT_ONCE = 64


class Authority:
    """Lets in the keys of a keyring.

    Args:
        context: the context of the guarded socket; it may have only one authority.
        keyring: whom to let in.
    """

    def __init__(self, context: zmq.Context, keyring: Keyring) -> None:
        self._keyring = keyring
        self._speaks = RateLimiter()
        self.socket: zmq.Socket = context.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind(_ENDPOINT)

    def answer(self) -> None:
        """Answer the questions that wait; to be called in the thread that owns `socket`, when it has something to read."""
        for _ in range(_AT_ONCE):
            try:
                frames = self.socket.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return
            asker, _, _, request = frames[:4]
            key = _key(frames[4:])
            holder = self._keyring.holder(key) if key else None
            if holder is None and self._speaks():
                address = frames[5].decode("ascii", "replace") if len(frames) > 5 else ""
                _log.warning(
                    "refused a robot at %s: its key is not among the %d that are let in",
                    address,
                    len(self._keyring),
                    extra={"robot": key or "", "address": address},
                )
            # The key becomes the User-Id of every message that comes over this connection.
            verdict = [b"200", b"OK", key.encode()] if holder is not None else [b"400", b"unknown key", b""]
            self.socket.send_multipart([asker, b"", _VERSION, request, *verdict, b""], zmq.DONTWAIT)


def _key(question: list[bytes]) -> str:
    """The public key in [domain, address, routing id, mechanism, credential], or an empty text for anything else."""
    if len(question) != 5:
        return ""
    domain, _, _, mechanism, credential = question
    if domain != DOMAIN or mechanism != b"CURVE" or len(credential) != 32:
        return ""
    return z85.encode(credential).decode("ascii")
