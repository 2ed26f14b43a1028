"""Measures round-trip time, jitter, bandwidth and loss of a link from outside, to check an emulated one."""

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

BURST = 32
"""Messages of a burst, sent one right after the other."""

_SMALL = 16
_LONGEST_S = 30.0
_STRAGGLERS_S = 1.0
_SILENCE_S = 0.5
"""After this silence, and two round trips, the rest of a burst counts as lost."""

_FIRST_SIZE, _LARGEST_SIZE = 1_000, 400_000
"""Bytes of the messages of a burst."""

_GROWTH = 16.0


@dataclass(frozen=True)
class Probe:
    """What a probe measured: shortest round trip, bandwidth of both ways, and share of messages lost on one way.

    `jitter_ms` is the median round trip less the shortest; for uniform jitter on both ways this is its bound.
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
    """Answer each message with the count of its burst so far, and with as many bytes as it asks for."""
    received: Counter[tuple[bytes, bytes]] = Counter()
    while not stop.is_set():
        if router.poll(20):
            identity, burst, number, wanted, _ = router.recv_multipart()
            received[identity, burst] += 1
            count = b"%d" % received[identity, burst]
            router.send_multipart([identity, burst, number, count, b"!" * int(wanted)])


def probe(endpoint: str, count: int = 1000, burst_s: float = 1.0) -> Probe:
    """Measure the way to a :func:`far_end` behind an emulated link, with `count` round trips of a small message.

    The bandwidth is measured by bursts of large messages, which take up to `burst_s`; jitter has to be much shorter.
    Raises SpecDecodeError if nothing comes back.
    """
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.connect(endpoint)
        bursts = (b"%d" % number for number in itertools.count())
        small = (_SMALL, _SMALL)
        for _ in range(3):  # connections are made with the first message
            _exchange(dealer, next(bursts), 3, small, 0.02, _STRAGGLERS_S)
        answers = _exchange(dealer, next(bursts), count, small, 0.002, _STRAGGLERS_S)
        times = [answer.at_s - answer.sent_s for answer in answers]
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


def seconds_per_message(positions: Sequence[int], arrivals_s: Sequence[float]) -> float:
    """Transmission time of one message of a burst, from arrival times by position in the link's queue.

    The median of the slopes between all pairs (Theil-Sen), which is robust against jitter and pauses of the machine.
    Raises SpecDecodeError with fewer than two messages.
    """
    points = sorted(zip(positions, arrivals_s, strict=True))
    slopes = [(late - early) / (b - a) for (a, early), (b, late) in itertools.combinations(points, 2)]
    if not slopes:
        raise SpecDecodeError("a bandwidth needs two messages or more")
    return max(statistics.median(slopes), 1e-9)


def queue_positions(numbers: Sequence[int], passed: int, sent: int = BURST) -> list[int] | None:
    """Positions of messages in a queue that `passed` of the `sent` ones went through; lost ones took no place.

    None if they cannot be told, since some messages were lost before the queue and some behind it.
    """
    if passed == len(numbers):
        ranks = {number: rank for rank, number in enumerate(sorted(numbers))}
        return [ranks[number] for number in numbers]
    return list(numbers) if passed == sent else None


def _bandwidth(
    dealer: zmq.Socket, bursts: Iterator[bytes], burst_s: float, silence_s: float, up: bool
) -> float:
    """Mbit/s of one way, by bursts of growing messages until a burst takes `burst_s`."""
    size = _FIRST_SIZE
    until = time.perf_counter() + _LONGEST_S
    mbps = 0.0
    while time.perf_counter() < until:
        sizes = (size, _SMALL) if up else (_SMALL, size)
        answers = _exchange(dealer, next(bursts), BURST, sizes, 0.0, silence_s)
        if len(answers) <= BURST // 2:
            continue
        if up:
            positions = queue_positions([a.number for a in answers], max(a.nth for a in answers))
        else:  # the far end answers in the order of the requests; a lost answer takes no place
            positions = queue_positions([a.nth for a in answers], len(answers))
        if positions is None:
            continue
        arrivals_s = [answer.at_s for answer in answers]
        mbps = size * 8e-6 / seconds_per_message(positions, arrivals_s)
        growth = min(_GROWTH, burst_s / (max(arrivals_s) - min(arrivals_s) + 1e-9))
        if size == _LARGEST_SIZE or growth < 2.0:
            return mbps
        size = min(round(size * growth), _LARGEST_SIZE)
    if not mbps:
        raise SpecDecodeError("no large message gets through this link")
    return mbps


class _Answer(NamedTuple):
    """To message `number` of a burst, the `nth` to reach the far end."""

    number: int
    nth: int
    sent_s: float
    at_s: float


def _exchange(
    dealer: zmq.Socket, burst: bytes, count: int, sizes: tuple[int, int], pause_s: float, silence_s: float
) -> list[_Answer]:
    """Send messages, one every `pause_s`, and collect their answers until nothing happens for `silence_s`.

    `sizes` are bytes of a message and of its answer. A message does not wait for the answer to the one before.
    """
    start = last = time.perf_counter()
    sent: list[float] = []
    answers: list[_Answer] = []
    longest_s = count * pause_s + _LONGEST_S
    while len(answers) < count and time.perf_counter() < min(last + silence_s, start + longest_s):
        while len(sent) < count and (not sent or time.perf_counter() >= last + pause_s):
            last = time.perf_counter()
            dealer.send_multipart([burst, b"%d" % len(sent), b"%d" % sizes[1], b"?" * sizes[0]])
            sent.append(last)
        if dealer.poll(1):
            came, number, nth, _ = dealer.recv_multipart()
            if came == burst:
                at = time.perf_counter()
                last = at if len(sent) == count else last
                answers.append(_Answer(int(number), int(nth), sent[int(number)], at))
    return answers
