"""For which robot a balancer speaks: the routing id of each connection that it opens says so.

    16 bytes that tell the connection from every other | the robot's name, empty where the balancer knows none

A server believes that of connections whose key is marked as a balancer's, and of no others. To the server the robot
is ``BALANCER/ROBOT``, so that balancers whose robots have the same names do not meddle with each other's. Behind
several balancers it is a path of such names.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import uuid

from spec_decode_ros.transport.keys import NAME

_MARK_BYTES = 16
_NAME_BYTES = 255 - _MARK_BYTES
"""A routing id has at most 255 bytes."""
_PATH = re.compile(f"{NAME}(/{NAME})*")


def identity_prefix(endpoint: str, key: bytes = b"") -> bytes:
    """What tells the balancer that is bound to `endpoint` from all others, and is the same after it was restarted.

    Not its `key` alone: two balancers may share one, and a robot that knows both speaks through both at once.
    """
    return b"\0".join([endpoint.encode(), socket.gethostname().encode(), b"%x" % uuid.getnode(), key])


def routing_id(name: str, robot: bytes, balancer: bytes) -> bytes:
    """The routing id of a balancer's connection for a robot, 17 to 255 bytes with a name and 16 without.

    The same robot has the same one again, so that a server knows it again when the balancer was restarted.

    Args:
        name: of the robot, empty where it is not known.
        robot: the routing id that the balancer knows it by.
        balancer: its `identity_prefix`.
    """
    mark = bytearray(
        # What ZeroMQ has made up begins with a zero and is told from others by nobody but this balancer, in this run.
        os.urandom(_MARK_BYTES) if robot.startswith(b"\0") else _digest(balancer + b"\0" + robot)
    )
    mark[0] |= 1  # a zero at the beginning is ZeroMQ's own
    return bytes(mark) + _tellable(name).encode("ascii")


def robot_of(balancer: str, client: bytes) -> str:
    """The name of the robot for which a balancer of this name speaks, in a connection with the routing id `client`.

    A robot without a name is named after its connection. What no balancer says counts as said by the balancer itself.
    """
    mark, told = client[:_MARK_BYTES], client[_MARK_BYTES:]
    if len(mark) < _MARK_BYTES:
        return balancer
    name = told.decode("ascii", "replace") or mark.hex()
    return f"{balancer}/{name}" if _PATH.fullmatch(name) else balancer


def _tellable(name: str) -> str:
    """The name, or in place of one that is too long or has other characters one that is its alone."""
    if not name or (len(name) <= _NAME_BYTES and _PATH.fullmatch(name)):
        return name
    return _digest(name.encode("utf-8", "surrogateescape")).hex()


def _digest(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=_MARK_BYTES).digest()
