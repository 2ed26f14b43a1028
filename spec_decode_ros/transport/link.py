"""A network in user space: delays what a client and a server say to each other.

The relay sits between a :class:`~spec_decode_ros.transport.client.Client` and a server and forwards every ZeroMQ
message after half the round-trip time, plus the time its bytes take on a line of the given bandwidth. No kernel
support and no privileges are needed. Timing is kept by ``select`` with microseconds, which the operating system
honours to about 0.1 ms; ZeroMQ's own poller counts in whole milliseconds.

Run it in its own process (:func:`link_process`) when anything is measured: a relay thread would share the
interpreter lock with the models.
"""

from __future__ import annotations

import argparse
import bisect
import csv
import heapq
import itertools
import math
import random
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import zmq

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.transport.process import ReadyChild

_IDLE_S = 60.0
_MAX_SLEEP_S = 0.5
_COARSE_S = 0.002
_FINE_S = 0.0002
_HOP_S = 0.00012
"""What passing through the relay costs by itself, each way; it counts as part of the delay that is asked for."""


@dataclass(frozen=True)
class LinkProfile:
    """What the network between robot and cloud does.

    ``rtt_ms`` is split evenly over both ways; a bandwidth of 0 is unlimited; jitter is uniform, added to each
    message on its own, so that messages may overtake each other; ``loss`` is the probability that a message
    vanishes. In every ``outage_every_s`` seconds the last ``outage_s`` lose everything. A ``trace`` is the path of a
    recorded one (see :class:`LinkTrace`), whose rows stand for round-trip time, bandwidths and loss as time goes on.
    """

    rtt_ms: float = 0.0
    uplink_mbps: float = 0.0
    downlink_mbps: float = 0.0
    jitter_ms: float = 0.0
    loss: float = 0.0
    outage_every_s: float = 0.0
    outage_s: float = 0.0
    trace: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("rtt_ms", "uplink_mbps", "downlink_mbps", "jitter_ms", "outage_every_s", "outage_s"):
            if not 0.0 <= getattr(self, name) < 1e5:
                raise SpecDecodeError(
                    f"{name} of a link is {getattr(self, name)}, but must lie within 0 and 100000"
                )
        if not 0.0 <= self.loss < 1.0:
            raise SpecDecodeError(f"the loss of a link is {self.loss}, but must be a probability below 1")
        if self.outage_s and self.outage_s >= self.outage_every_s:
            raise SpecDecodeError(
                f"an outage of {self.outage_s:g} s needs an outage_every_s above that, not {self.outage_every_s:g}"
            )

    def is_out(self, elapsed_s: float) -> bool:
        """Whether an outage loses what is sent so long after the start."""
        return self.outage_s > 0 and elapsed_s % self.outage_every_s >= self.outage_every_s - self.outage_s


@dataclass(frozen=True)
class LinkTrace:
    """A recorded link: `profiles[i]` holds from `starts_s[i]` (from 0, rising) on, and it all repeats after `length_s`.

    The last row lasts as long as the one before it.
    """

    starts_s: tuple[float, ...]
    profiles: tuple[LinkProfile, ...]
    length_s: float

    def at(self, elapsed_s: float) -> LinkProfile:
        """What holds so long after the start."""
        return self.profiles[bisect.bisect_right(self.starts_s, elapsed_s % self.length_s) - 1]


_TRACED = ("rtt_ms", "uplink_mbps", "downlink_mbps", "loss")


def load_trace(path: str, profile: LinkProfile) -> LinkTrace:
    """Read a CSV file: a head line with ``t_s`` and any of rtt_ms, uplink_mbps, downlink_mbps, loss; then a row a change.

    What the file has no column for is taken from `profile`. Raises SpecDecodeError.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        starts = tuple(float(row["t_s"]) for row in rows)
        if not all(map(math.isfinite, starts)):
            raise ValueError("a time is not finite")
        kept: list[dict[str, Any]] = [
            {name: float(row[name]) for name in _TRACED if name in row} for row in rows
        ]
    except OSError as error:
        raise SpecDecodeError(f"cannot read the trace {path}: {error.strerror or error}") from error
    except (KeyError, TypeError, ValueError, UnicodeDecodeError, csv.Error) as error:
        raise SpecDecodeError(
            f"{path} is no trace of a link ({error}): it needs a column t_s and numbers in {', '.join(_TRACED)}"
        ) from error
    if len(rows) < 2 or starts[0] != 0.0 or any(b <= a for a, b in itertools.pairwise(starts)):
        raise SpecDecodeError(f"the trace {path} needs at least two rows, with t_s rising from 0")
    profiles = tuple(replace(profile, trace="", **row) for row in kept)
    return LinkTrace(starts, profiles, 2 * starts[-1] - starts[-2])


class _Line:
    """One direction: when does a message arrive that is handed over now?"""

    def __init__(self, up: bool, seed: int) -> None:
        self._up = up
        self._free_at = 0.0
        self._random = random.Random(seed)

    def arrival(self, now: float, size: int, profile: LinkProfile) -> float | None:
        if profile.loss and self._random.random() < profile.loss:
            return None
        at = now
        mbps = profile.uplink_mbps if self._up else profile.downlink_mbps
        if mbps:
            at = self._free_at = max(now, self._free_at) + size * 8e-6 / mbps
        jitter_s = self._random.random() * profile.jitter_ms / 1000.0 if profile.jitter_ms else 0.0
        return at + max(0.0, profile.rtt_ms / 2000.0 - _HOP_S) + jitter_s


class Link:
    """The relay as a thread of this process; see the module's text for when to prefer :func:`link_process`."""

    def __init__(self, target: str, profile: LinkProfile, bind: str = "tcp://127.0.0.1:*") -> None:
        self._target = target
        self._profile = profile
        self._bind = bind
        self._cut = threading.Event()
        self._stop = threading.Event()
        self._wake_in, self._wake_out = socket.socketpair()
        self._thread: threading.Thread | None = None
        self.endpoint = ""

    def start(self) -> str:
        """Bind and begin to relay; returns the endpoint that the client connects to."""
        front: zmq.Socket = zmq.Context.instance().socket(zmq.ROUTER)
        _prepare(front)
        front.setsockopt(zmq.ROUTER_MANDATORY, 1)
        front.bind(self._bind)
        self.endpoint = front.getsockopt_string(zmq.LAST_ENDPOINT)
        self._thread = threading.Thread(target=self._run, args=(front,), name="link", daemon=True)
        self._thread.start()
        return self.endpoint

    def stop(self) -> None:
        """End the relay; what is under way is lost."""
        self._stop.set()
        with suppress(OSError):  # the thread has ended already
            self._wake_in.send(b"x")
        if self._thread:
            self._thread.join(timeout=5.0)
            self._thread = None
        self._wake_in.close()

    def cut(self) -> None:
        """Lose every message from now on, as when the radio link is gone."""
        self._cut.set()

    def mend(self) -> None:
        """End what :meth:`cut` began."""
        self._cut.clear()

    def __enter__(self) -> Link:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self, front: zmq.Socket) -> None:
        relay = _Relay(front, self._target, self._profile, self._cut.is_set)
        try:
            while not self._stop.is_set():
                relay.step(self._wake_out)
        finally:
            relay.close()
            self._wake_out.close()


class _Relay:
    def __init__(
        self, front: zmq.Socket, target: str, profile: LinkProfile, is_cut: Callable[[], bool]
    ) -> None:
        self._front = front
        self._target = target
        self._is_cut = is_cut
        self._profile = profile
        self._trace = load_trace(profile.trace, profile) if profile.trace else None
        self._start = time.perf_counter()
        self._up = _Line(True, profile.seed)
        self._down = _Line(False, profile.seed + 1)
        self._backs: dict[bytes, zmq.Socket] = {}
        self._used: dict[bytes, float] = {}
        self._heap: list[tuple[float, int, bool, bytes, list[bytes]]] = []
        self._count = itertools.count()

    def step(self, wake: socket.socket) -> None:
        # ZeroMQ's descriptors are edge-triggered: only after every socket has been read empty is it safe to sleep,
        # and sending can swallow an edge, so read once more after each send.
        while self._receive() or self._deliver():
            pass
        due = self._heap[0][0] if self._heap else float("inf")
        left = due - time.perf_counter()
        # Long sleeps overshoot by as much as a millisecond, short ones by a tenth; the last bit is spent awake.
        sleep = min(left - (_COARSE_S if left > 2 * _COARSE_S else _FINE_S), _MAX_SLEEP_S)
        if sleep > 0:
            sockets = [self._front, *self._backs.values()]
            handles = [int(sock.getsockopt(zmq.FD)) for sock in sockets] + [wake.fileno()]
            select.select(handles, [], [], sleep)
        self._forget_idle()

    def close(self) -> None:
        for back in self._backs.values():
            back.close(0)
        self._front.close(0)

    def _receive(self) -> bool:
        received = False
        while (parts := _receive_now(self._front)) is not None:
            received = True
            identity, frames = parts[0], parts[1:]
            self._used[identity] = time.perf_counter()
            self._enqueue(self._up, True, identity, frames)
        for identity, back in self._backs.items():
            while (parts := _receive_now(back)) is not None:
                received = True
                self._enqueue(self._down, False, identity, parts)
        return received

    def _enqueue(self, line: _Line, up: bool, identity: bytes, frames: list[bytes]) -> None:
        now = time.perf_counter()
        profile = self._trace.at(now - self._start) if self._trace else self._profile
        at = line.arrival(now, sum(map(len, frames)), profile)
        if at is not None and not (self._is_cut() or profile.is_out(now - self._start)):
            heapq.heappush(self._heap, (at, next(self._count), up, identity, frames))

    def _deliver(self) -> bool:
        sent = False
        while self._heap and self._heap[0][0] <= time.perf_counter():
            _, _, up, identity, frames = heapq.heappop(self._heap)
            if self._is_cut():
                continue
            sent = True
            try:
                if up:
                    self._back(identity).send_multipart(frames, zmq.DONTWAIT)
                else:
                    self._front.send_multipart([identity, *frames], zmq.DONTWAIT)
            except zmq.ZMQError as error:
                if error.errno == zmq.EHOSTUNREACH:
                    self._forget(identity)
        return sent

    def _back(self, identity: bytes) -> zmq.Socket:
        back = self._backs.get(identity)
        if back is None:
            back = zmq.Context.instance().socket(zmq.DEALER)
            _prepare(back)
            back.connect(self._target)
            self._backs[identity] = back
        return back

    def _forget(self, identity: bytes) -> None:
        self._used.pop(identity, None)
        back = self._backs.pop(identity, None)
        if back is not None:
            back.close(0)

    def _forget_idle(self) -> None:
        before = time.perf_counter() - _IDLE_S
        for identity in [key for key, at in self._used.items() if at < before]:
            self._forget(identity)


def _prepare(sock: zmq.Socket) -> None:
    sock.setsockopt(zmq.LINGER, 0)
    sock.setsockopt(zmq.SNDHWM, 1000)
    sock.setsockopt(zmq.RCVHWM, 1000)


def _receive_now(sock: zmq.Socket) -> list[bytes] | None:
    try:
        return sock.recv_multipart(zmq.DONTWAIT)
    except zmq.Again:
        return None


def link_child(target: str, profile: LinkProfile, timeout_s: float = 20.0) -> ReadyChild:
    """The relay as a process of its own that is still to be started."""
    command = [sys.executable, "-m", __name__, target]
    for name, value in asdict(profile).items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    return ReadyChild(command, "the link emulation", timeout_s)


@contextmanager
def link_process(target: str, profile: LinkProfile, timeout_s: float = 20.0) -> Iterator[str]:
    """Run the relay in a process of its own and yield the endpoint that the client connects to."""
    child = link_child(target, profile, timeout_s)
    try:
        yield child.start()
    finally:
        child.stop()


def main(arguments: list[str] | None = None) -> int:
    """Relay until standard input ends; prints one line with the endpoint when ready."""
    parser = argparse.ArgumentParser(description="Relay between a robot and its verifier with delay.")
    parser.add_argument("target", help="endpoint of the verifier")
    for field in fields(LinkProfile):
        kind = type(field.default)
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=field.default)
    options = vars(parser.parse_args(arguments))
    target = options.pop("target")
    with Link(target, LinkProfile(**options)) as link:
        print(f"ready {link.endpoint}", flush=True)
        sys.stdin.read()
    return 0


if __name__ == "__main__":
    sys.exit(main())
