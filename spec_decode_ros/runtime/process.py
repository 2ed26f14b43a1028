"""A verifier of one's own: `spec-decode serve` as a child process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from spec_decode_ros.transport.process import ready_child
from spec_decode_ros.transport.server import LOOPBACK

START_TIMEOUT_S = 300.0
"""Loading a large checkpoint from a slow disk takes minutes."""


@contextmanager
def spawn_server(
    pair: str,
    *,
    bind: str = LOOPBACK,
    threads: int | None = None,
    device: str | None = None,
    dtype: str | None = None,
    timeout_s: float = START_TIMEOUT_S,
) -> Iterator[str]:
    """Start a verifier of `pair` (a name or a pair file) and yield its endpoint; it ends with the context.

    Raises:
        ChildError: if it fails or is not ready in time; the message holds what it wrote to standard error.
    """
    command = [sys.executable, "-m", "spec_decode_ros.cli", "serve", "--pair", str(pair), "--bind", bind]
    for name, value in (("--threads", threads), ("--device", device), ("--dtype", dtype)):
        if value is not None:
            command += [name, str(value)]
    with ready_child([*command, "--with-parent"], "the verifier", timeout_s) as endpoint:
        yield endpoint
