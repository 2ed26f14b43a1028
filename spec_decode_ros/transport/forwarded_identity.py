"""Forwarded identity: the routing id of a balancer's connection names the robot that it forwards for.

    16 bytes that tell the connection from every other | the robot's name, empty if the balancer does not know it

A server trusts that name on connections whose key is marked as a balancer's, and on no others. To the server the robot
is ``BALANCER/ROBOT``, so that balancers whose robots have the same names do not interfere. Behind several balancers the
name is a path.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import uuid

from spec_decode_ros.transport.keys import NAME

_TAG_BYTES = 16
_NAME_BYTES = 255 - _TAG_BYTES
"""A routing id has at most 255 bytes."""
_PATH = re.compile(f"{NAME}(/{NAME})*")


def identity_prefix(endpoint: str, key: bytes = b"") -> bytes:
    """Tells the balancer at `endpoint` from all others; the same after a restart.

    The key alone would not do: two balancers may share one, and a robot may connect through both at once.
    """
    return b"\0".join([endpoint.encode(), socket.gethostname().encode(), b"%x" % uuid.getnode(), key])


def routing_id(name: str, robot: bytes, balancer: bytes) -> bytes:
    """The routing id of a balancer's connection for a robot: 17 to 255 bytes with a name, 16 without.

    It is the same again for the same robot, so that a server recognizes it after a restart of the balancer.

    Args:
        name: of the robot, empty if it is not known.
        robot: the routing id of the robot's connection to the balancer.
        balancer: its `identity_prefix`.
    """
    # An id that ZeroMQ made up begins with a zero and is unique only within this run of the balancer.
    made_up = robot.startswith(b"\0")
    tag = bytearray(os.urandom(_TAG_BYTES) if made_up else _digest(balancer + b"\0" + robot))
    tag[0] |= 1  # a leading zero is reserved for ZeroMQ
    return bytes(tag) + _encodable(name).encode("ascii")


def robot_of(balancer: str, client: bytes) -> str:
    """The name of the robot that the balancer of this name forwards for over the connection `client` (a routing id).

    A robot without a name is named after its connection. An id that no balancer makes counts as the balancer itself.
    """
    tag, text = client[:_TAG_BYTES], client[_TAG_BYTES:]
    if len(tag) < _TAG_BYTES:
        return balancer
    name = text.decode("ascii", "replace") or tag.hex()
    return f"{balancer}/{name}" if _PATH.fullmatch(name) else balancer


def _encodable(name: str) -> str:
    """The name, or a hash of one that is too long or has other characters."""
    if not name or (len(name) <= _NAME_BYTES and _PATH.fullmatch(name)):
        return name
    return _digest(name.encode("utf-8", "surrogateescape")).hex()


def _digest(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=_TAG_BYTES).digest()
