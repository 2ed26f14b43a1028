"""Handshake: robot and server compare protocol version, model pair and vocabulary before anything else."""

from __future__ import annotations

from spec_decode_ros.decoding.messages import Hello, Welcome
from spec_decode_ros.errors import SpecDecodeError

HELLO_FIRST = "hello_first"
"""`Error.code` of a server that does not know the client, for example after a restart; the client greets again."""

_SHOWN = 64
"""Characters of a name that anybody may have sent; the whole sentence must fit into an `Error`."""


class HandshakeError(SpecDecodeError):
    """The other side does not fit, or there is none."""


def difference(hello: Hello, welcome: Welcome) -> str | None:
    """One sentence that says what differs between robot and cloud, or None if they fit."""
    if hello.protocol != welcome.protocol:
        return (
            f"the robot speaks protocol {hello.protocol} and the cloud protocol {welcome.protocol}; "
            "install the same version of spec_decode_ros on both"
        )
    if hello.pair != welcome.pair:
        return (
            f"the robot runs the model pair {hello.pair[:_SHOWN]!r} and the cloud {welcome.pair!r}; "
            "start both with the same --pair"
        )
    if hello.vocabulary != welcome.vocabulary:
        return (
            f"the vocabularies of the pair {hello.pair!r} differ (robot {hello.vocabulary[:16]}, cloud "
            f"{welcome.vocabulary[:16]}); install the same checkpoints on both"
        )
    return None
