"""Verifiers, each a process behind an emulated link, that are loaded side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

from spec_decode_ros.lab.network.link import LinkProfile, link_process
from spec_decode_ros.server.process import server_child


@contextmanager
def linked_verifiers(pairs: Sequence[str], rtt_ms: float) -> Iterator[tuple[str, ...]]:
    """Start a verifier for each pair, and yield the endpoints of the links to them; all end with the context.

    Raises:
        SpecDecodeError: one of them does not start.
    """
    children = [server_child(pair, threads=1) for pair in pairs]
    profile = LinkProfile(rtt_ms=rtt_ms)
    with ExitStack() as exits:
        for child in children:
            exits.callback(child.stop)
        with ThreadPoolExecutor(len(children)) as pool:
            endpoints = list(pool.map(lambda child: child.start(), children))
        if rtt_ms:
            endpoints = [exits.enter_context(link_process(endpoint, profile)) for endpoint in endpoints]
        yield tuple(endpoints)
