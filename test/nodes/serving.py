"""A verifier in the test's own process, which has torch loaded already."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def serving(pair: Path, bind: str = "tcp://127.0.0.1:*") -> Iterator[str]:
    """Serve a pair of random or scripted checkpoints; the endpoint."""
    from spec_decode_ros.models.pair import load_verifier
    from spec_decode_ros.server.config import ServiceConfig
    from spec_decode_ros.server.verifier_server import VerifierServer

    with VerifierServer(load_verifier(pair, threads=1), "random", ServiceConfig(bind=bind)) as server:
        yield server.endpoint
