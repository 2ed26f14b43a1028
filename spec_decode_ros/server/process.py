"""The verifier in a process of its own: `spec-decode serve` as a child."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from spec_decode_ros.transport.process import ReadyChild
from spec_decode_ros.transport.server import LOOPBACK

START_TIMEOUT_S = 300.0
"""Loading a large checkpoint from a slow disk takes minutes."""


def server_child(
    pair: str,
    *,
    bind: str = LOOPBACK,
    threads: int | None = None,
    device: str | None = None,
    dtype: str | None = None,
    more: Sequence[str] = (),
    timeout_s: float = START_TIMEOUT_S,
) -> ReadyChild:
    """A verifier of `pair` (a name or a pair file) that is still to be started; `more` are further arguments of `serve`."""
    command = [sys.executable, "-m", "spec_decode_ros.cli", "serve", "--pair", str(pair), "--bind", bind]
    for name, value in (("--threads", threads), ("--device", device), ("--dtype", dtype)):
        if value is not None:
            command += [name, str(value)]
    return ReadyChild([*command, *more, "--with-parent"], "the verifier", timeout_s)


@contextmanager
def spawn_server(pair: str, **options: Any) -> Iterator[str]:
    """Start the `server_child` of `pair` with these options and yield its endpoint; it ends with the context.

    Raises:
        ChildError: if it fails or is not ready in time; the message holds what it wrote to standard error.
    """
    child = server_child(pair, **options)
    try:
        yield child.start()
    finally:
        child.stop()
