"""Measures what a network does to messages, without looking into it: does an emulated one do what it was told?"""

from __future__ import annotations

import itertools
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import zmq

from spec_decode_ros.errors import SpecDecodeError

_SMALL = b"?" * 16
_LONGEST_S = 30.0
_STRAGGLERS_S = 1.0
_SILENCE_S = 0.5
"""What is left of a burst after so long a silence, and two round trips, is lost."""

BURST = 32
"""Messages that are sent one right after the other."""

_SIZES = (1_000, 400_000)
"""Bytes of these messages, at first and at most."""

_GROWTH = 16.0


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
    """Say to each message how many of its burst have come by now, and as many bytes as it wants."""
    heard: Counter[tuple[bytes, bytes]] = Counter()
    while not stop.is_set():
        if router.poll(20):
            identity, burst, number, wanted, _ = router.recv_multipart()
            heard[identity, burst] += 1
            count = b"%d" % heard[identity, burst]
            router.send_multipart([identity, burst, number, count, b"!" * int(wanted)])


def probe(endpoint: str, count: int = 1000, burst_s: float = 1.0) -> Probe:
    """Measure the way to a :func:`far_end` behind an emulated link.

    Args:
        endpoint: of the link.
        count: round trips of a small message.
        burst_s: how long a burst of large messages may be on its way, which tells the bandwidth: jitter that is small
            beside it does no harm.

    Raises:
        SpecDecodeError: if nothing comes back.
    """
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.connect(endpoint)
        bursts = (b"%d" % number for number in itertools.count())
        for _ in range(3):  # connections are made with the first message
            _round_trips(dealer, next(bursts), 3, 0.02)
        times = _round_trips(dealer, next(bursts), count, 0.002)
        if not times:
            raise SpecDecodeError(f"nothing came back from {endpoint}; is the far end running?")
        silence_s = _SILENCE_S + 2 * max(times)
        uplink_mbps = _bandwidth(dealer, bursts, burst_s, silence_s, up=True)
        downlink_mbps = _bandwidth(dealer, bursts, burst_s, silence_s, up=False)
    rtt_s = min(times)
    return Probe(
        rtt_ms=rtt_s * 1e3,
        jitter_ms=(statistics.median(times) - rtt_s) * 1e3,
        uplink_mbps=uplink_mbps,
        downlink_mbps=downlink_mbps,
        loss=1.0 - (len(times) / count) ** 0.5,
    )


def seconds_a_message(places: Sequence[int], arrivals_s: Sequence[float]) -> float:
    """How long a line is taken by each of the messages that were sent at once, from when they arrived.

    The median of the slopes between all pairs (Theil and Sen), so that neither jitter nor a pause of the machine counts
    for much. `places` are those in the line: what was lost before it took the line has none.

    Raises:
        SpecDecodeError: with fewer than two messages.
    """
    points = sorted(zip(places, arrivals_s, strict=True))
    slopes = [
        (later - sooner) / (behind - before)
        for (before, sooner), (behind, later) in itertools.combinations(points, 2)
    ]
    if not slopes:
        raise SpecDecodeError("a bandwidth is told by two messages or more")
    return max(statistics.median(slopes), 1e-9)


def places_in_line(numbers: Sequence[int], passed: int, sent: int = BURST) -> list[int] | None:
    """Where the messages of these numbers stood in a line that `passed` of the `sent` ones went through.

    None if it cannot be told: some of the others were lost before the line, and some behind it.
    """
    if passed == len(numbers):
        ranks = {number: rank for rank, number in enumerate(sorted(numbers))}
        return [ranks[number] for number in numbers]
    return list(numbers) if passed == sent else None


def _bandwidth(
    dealer: zmq.Socket, bursts: Iterator[bytes], burst_s: float, silence_s: float, up: bool
) -> float:
    """Mbit/s of one way: bursts of larger and larger messages, until one takes as long as it may."""
    size, most = _SIZES
    until = time.perf_counter() + _LONGEST_S
    mbps = 0.0
    while time.perf_counter() < until:
        answers = _burst(dealer, next(bursts), size, silence_s, up)
        if len(answers) <= BURST // 2:
            continue
        if up:
            places = places_in_line([a.number for a in answers], max(a.nth for a in answers))
        else:  # the far end answers as the requests come; a lost answer takes none of the line
            places = places_in_line([a.nth for a in answers], len(answers))
        if places is None:
            continue
        arrivals_s = [answer.at_s for answer in answers]
        mbps = size * 8e-6 / seconds_a_message(places, arrivals_s)
        growth = min(_GROWTH, burst_s / (max(arrivals_s) - min(arrivals_s) + 1e-9))
        if size == most or growth < 2.0:
            return mbps
        size = min(round(size * growth), most)
    if not mbps:
        raise SpecDecodeError("no large message gets through this link")
    return mbps


class _Answer(NamedTuple):
    """To message `number` of a burst, as the `nth` that reached the far end; `at_s` is since the burst began."""

    number: int
    nth: int
    at_s: float


def _burst(dealer: zmq.Socket, burst: bytes, size: int, silence_s: float, up: bool) -> list[_Answer]:
    """Send large messages, or ask for them, all at once; after so long a silence nothing more is waited for."""
    wanted, message = (len(_SMALL), b"?" * size) if up else (size, _SMALL)
    start = time.perf_counter()
    for number in range(BURST):
        dealer.send_multipart([burst, b"%d" % number, b"%d" % wanted, message])
    answers: list[_Answer] = []
    last = start
    while len(answers) < BURST and time.perf_counter() < min(last + silence_s, start + _LONGEST_S):
        if dealer.poll(20):
            came, said, count, _ = dealer.recv_multipart()
            if came == burst:
                last = time.perf_counter()
                answers.append(_Answer(int(said), int(count), last - start))
    return answers


def _round_trips(dealer: zmq.Socket, burst: bytes, count: int, pause_s: float) -> list[float]:
    """Seconds of those round trips that ended; the next one does not wait for the last."""
    sent: list[float] = []
    times: list[float] = []
    last = time.perf_counter()
    while len(sent) < count or (len(times) < count and time.perf_counter() < last + _STRAGGLERS_S):
        if len(sent) < count and time.perf_counter() >= last + pause_s:
            last = time.perf_counter()
            sent.append(last)
            dealer.send_multipart([burst, b"%d" % (len(sent) - 1), b"%d" % len(_SMALL), _SMALL])
        if dealer.poll(1):
            came, number, _, _ = dealer.recv_multipart()
            if came == burst:
                times.append(time.perf_counter() - sent[int(number)])
    return times
