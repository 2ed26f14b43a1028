"""Measures what a network does to messages, without looking into it: does an emulated one do what it was told?"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import zmq

from spec_decode_ros.errors import SpecDecodeError

_SMALL = b"?" * 16
_LONGEST_S = 30.0
_STRAGGLERS_S = 1.0
_BULKS = 8
"""The quickest of so many large messages is the one that jitter has delayed least."""


@dataclass(frozen=True)
class Probe:
    """What came of a probe.

    Attributes:
        rtt_ms: the shortest round trip of a small message.
        jitter_ms: how much longer than that a median round trip took; uniform jitter on both ways shows as its bound.
        uplink_mbps: bandwidth to the far end.
        downlink_mbps: bandwidth from there.
        loss: share of round trips that never ended, as the loss of one way.
    """

    rtt_ms: float
    jitter_ms: float
    uplink_mbps: float
    downlink_mbps: float
    loss: float


@contextmanager
def far_end() -> Iterator[str]:
    """A thread that answers probes; yields its endpoint."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.setsockopt(zmq.LINGER, 0)
        router.bind("tcp://127.0.0.1:*")
        stop = threading.Event()
        thread = threading.Thread(target=_answer, args=(router, stop), name="far end", daemon=True)
        thread.start()
        try:
            yield router.getsockopt_string(zmq.LAST_ENDPOINT)
        finally:
            stop.set()
            thread.join(5.0)


def _answer(router: zmq.Socket, stop: threading.Event) -> None:
    while not stop.is_set():
        if router.poll(20):
            identity, number, wanted, _ = router.recv_multipart()
            router.send_multipart([identity, number, b"!" * int(wanted)])


def probe(endpoint: str, count: int = 200, bulk_bytes: int = 400_000) -> Probe:
    """Measure the way to a :func:`far_end` behind an emulated link.

    Args:
        endpoint: of the link.
        count: round trips of a small message.
        bulk_bytes: messages of that size tell the bandwidth.

    Raises:
        SpecDecodeError: if nothing comes back.
    """
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.connect(endpoint)
        for _ in range(3):  # connections are made with the first message
            _round_trips(dealer, 3, 0.02)
        times = _round_trips(dealer, count, 0.002)
        if not times:
            raise SpecDecodeError(f"nothing came back from {endpoint}; is the far end running?")
        rtt_s = min(times)
        up_s = min(_bulk(dealer, b"?" * bulk_bytes, len(_SMALL)) for _ in range(_BULKS)) - rtt_s
        down_s = min(_bulk(dealer, _SMALL, bulk_bytes) for _ in range(_BULKS)) - rtt_s
    megabits = bulk_bytes * 8e-6
    return Probe(
        rtt_ms=rtt_s * 1e3,
        jitter_ms=(statistics.median(times) - rtt_s) * 1e3,
        uplink_mbps=megabits / max(up_s, 1e-6),
        downlink_mbps=megabits / max(down_s, 1e-6),
        loss=1.0 - (len(times) / count) ** 0.5,
    )


def _round_trips(dealer: zmq.Socket, count: int, pause_s: float) -> list[float]:
    """Seconds of those round trips that ended; the next one does not wait for the last."""
    sent: list[float] = []
    times: list[float] = []
    last = time.perf_counter()
    while len(sent) < count or (len(times) < count and time.perf_counter() < last + _STRAGGLERS_S):
        if len(sent) < count and time.perf_counter() >= last + pause_s:
            last = time.perf_counter()
            sent.append(last)
            dealer.send_multipart([b"%d" % (len(sent) - 1), b"%d" % len(_SMALL), _SMALL])
        if dealer.poll(1):
            number, _ = dealer.recv_multipart()
            if int(number) < len(sent):
                times.append(time.perf_counter() - sent[int(number)])
    return times


def _bulk(dealer: zmq.Socket, message: bytes, wanted: int) -> float:
    """Seconds until a large message, or the answer to a small one, is through; repeated until one is not lost."""
    until = time.perf_counter() + _LONGEST_S
    for attempt in range(10_000, 11_000):
        start = time.perf_counter()
        dealer.send_multipart([b"%d" % attempt, b"%d" % wanted, message])
        while dealer.poll(2000):
            number, _ = dealer.recv_multipart()
            if int(number) == attempt:
                return time.perf_counter() - start
        if time.perf_counter() > until:
            break
    raise SpecDecodeError("no large message gets through this link")
