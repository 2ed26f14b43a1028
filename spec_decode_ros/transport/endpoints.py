"""Parser of verifier endpoints: one, or several separated by commas, in order of preference."""

from __future__ import annotations

from spec_decode_ros.transport.handshake import HandshakeError

MAX_ENDPOINTS = 8


def parse_endpoints(text: str) -> tuple[str, ...]:
    """``tcp://a:5555,tcp://b:5555`` as a tuple.

    Raises HandshakeError if one is empty or named twice, or there are more than eight.
    """
    endpoints = tuple(part.strip() for part in text.split(","))
    if not all(endpoints):
        raise HandshakeError(
            f"{text!r} names no endpoint, or an empty one; write one or more as tcp://HOST:PORT, with commas between."
        )
    twice = next((each for each in endpoints if endpoints.count(each) > 1), None)
    if twice:
        raise HandshakeError(f"The endpoint {twice!r} is named twice; name every server once.")
    if len(endpoints) > MAX_ENDPOINTS:
        raise HandshakeError(
            f"{len(endpoints)} endpoints are named and at most {MAX_ENDPOINTS} can be; a robot pings all of them."
        )
    return endpoints
