"""Handshake: robot and server compare protocol version, model pair, vocabulary and grammar before anything else."""

from __future__ import annotations

import re

from spec_decode_ros.decoding.messages import Hello, Welcome
from spec_decode_ros.errors import SpecDecodeError

HELLO_FIRST = "hello_first"
"""`Error.code` of a server that does not know the client, for example after a restart; the client greets again."""

ANY_TARGET = "any"
"""Instead of a fingerprint: whatever weights a server has."""

_FINGERPRINT = re.compile(r"[0-9a-f]{16}(-[a-z0-9-]+)?")

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
    if hello.grammar != welcome.grammar:
        return (
            f"the grammars of the pair {hello.pair!r} differ (robot {hello.grammar[:16] or 'none'}, cloud "
            f"{welcome.grammar[:16] or 'none'}); set the same grammar on both"
        )
    return None


class TargetPin:
    """Which target weights a robot accepts: those that it was told, or else those that it has used first.

    Args:
        wanted: a fingerprint, with or without its precision; empty for the first weights that are used, or `ANY_TARGET`.

    Raises:
        HandshakeError: it is none of these.
    """

    def __init__(self, wanted: str = "") -> None:
        if wanted not in ("", ANY_TARGET) and not _FINGERPRINT.fullmatch(wanted):
            raise HandshakeError(
                f"target_fingerprint is {wanted[:_SHOWN]!r}: give what `spec-decode serve` or `spec-decode doctor` prints, "
                f"such as 3f0c9a1be2d47705-float32, or {ANY_TARGET}."
            )
        self._accepted = wanted
        self._told = bool(wanted)

    def settle(self, fingerprint: str) -> None:
        """A server with these weights is used from now on."""
        self._accepted = self._accepted or fingerprint

    def objection(self, fingerprint: str, endpoint: str) -> str | None:
        """One sentence that says why a server with these weights must not be used, or None if it may."""
        accepted = (fingerprint, fingerprint.partition("-")[0], ANY_TARGET)
        if not self._accepted or self._accepted in accepted:
            return None
        ours = f"{self._accepted}, which {'was asked for' if self._told else 'is in use here'}"
        return (
            f"the verifier at {endpoint} has the target weights {fingerprint[:_SHOWN] or '(unknown)'}, not {ours}; serve "
            "the same checkpoint in the same precision there, or set target_fingerprint to the weights that shall be "
            f"used, or to {ANY_TARGET}"
        )
