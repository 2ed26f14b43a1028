"""An emulated link in user space: a relay between a client and a server that delays, limits and loses messages.

It forwards every ZeroMQ message after half the round-trip time, plus the time that its bytes take at the bandwidth. No
kernel support and no privileges are needed. Delays are exact to about 0.1 ms.

Run it in its own process (:func:`link_process`) when anything is measured: a relay thread would share the interpreter
lock with the models.
"""

from __future__ import annotations

import heapq
import itertools
import json
import random
import select
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict

import zmq

from spec_decode_ros.lab.network.link_profile import LinkProfile, load_trace
from spec_decode_ros.lab.network.message_faults import MessageFaults
from spec_decode_ros.server.fleet.backend_sockets import BackendSockets
from spec_decode_ros.transport.endpoint import parse_endpoints
from spec_decode_ros.transport.process import ReadyChild

_IDLE_S = 60.0
_MAX_SLEEP_S = 0.5
_COARSE_S = 0.002
_FINE_S = 0.0002
_MANY = 8
_RELAY_S = 0.00012
"""Time that the relay itself takes per message; it is part of the delay that is asked for."""


class LinkDirection:
    """One direction of a link: loss, queueing at the bandwidth, delay and jitter of each message."""

    def __init__(self, up: bool, seed: int) -> None:
        self._up = up
        self._free_at = 0.0
        self._rng = random.Random(seed)

    def arrival(self, now: float, size: int, profile: LinkProfile) -> float | None:
        """When a message of `size` bytes sent now arrives; None if it is lost."""
        if profile.loss and self._rng.random() < profile.loss:
            return None
        at = now
        mbps = profile.uplink_mbps if self._up else profile.downlink_mbps
        if mbps:
            at = self._free_at = max(now, self._free_at) + size * 8e-6 / mbps
        jitter_s = self._rng.random() * profile.jitter_ms / 1000.0 if profile.jitter_ms else 0.0
        return at + max(0.0, profile.rtt_ms / 2000.0 - _RELAY_S) + jitter_s


class Relay:
    """Forwards between `front`, a ROUTER for all robots, and one socket to the server for each of them.

    `is_cut` is asked for every message; where it returns true the message is lost.
    """

    def __init__(
        self,
        front: zmq.Socket,
        target: str,
        profile: LinkProfile,
        is_cut: Callable[[], bool],
        faults: MessageFaults | None = None,
    ) -> None:
        self._front = front
        self._target = target
        self._is_cut = is_cut
        self._profile = profile
        self._faults = faults
        self._trace = load_trace(profile.trace, profile) if profile.trace else None
        self._start = time.perf_counter()
        self._up = LinkDirection(True, profile.seed)
        self._down = LinkDirection(False, profile.seed + 1)
        self._backs = BackendSockets(configure)
        self._robots: dict[zmq.Socket, bytes] = {}
        self._used: dict[bytes, float] = {}
        self._heap: list[tuple[float, int, bool, bytes, list[bytes]]] = []
        self._count = itertools.count()
        self._poller = zmq.Poller()
        self._poller.register(front, zmq.POLLIN)
        # `select` cannot wait for descriptors above 1023, but it can for one that stands for all of them.
        self._any = selectors.DefaultSelector()
        self._any.register(_descriptor(front), selectors.EVENT_READ)

    def step(self, wake: socket.socket) -> None:
        """Forward all that is due, and sleep until more is, or until `wake` can be read."""
        # ZeroMQ's descriptors are edge-triggered: it is safe to sleep only after every socket has been read, and
        # sending can swallow an edge, so read once more after each send.
        while self._receive() or self._deliver():
            pass
        due = self._heap[0][0] if self._heap else float("inf")
        left = due - time.perf_counter()
        # Long sleeps overshoot by as much as a millisecond, short ones by a tenth; the rest is busy waiting. With many
        # messages under way that would be all the time, so then it sleeps to the end.
        awake = _COARSE_S if left > 2 * _COARSE_S else _FINE_S
        sleep = min(left - (awake if len(self._heap) < _MANY else 0.0), _MAX_SLEEP_S)
        if sleep > 0:
            select.select([self._any.fileno(), wake.fileno()], [], [], sleep)
        before = time.perf_counter() - _IDLE_S
        for identity in [key for key, at in self._used.items() if at < before]:
            self._forget(identity)

    def close(self) -> None:
        """Close every socket."""
        self._any.close()
        self._backs.close()
        self._front.close(0)

    def _receive(self) -> bool:
        ready = self._poller.poll(0)
        for sock, _ in ready:
            while (parts := _receive_now(sock)) is not None:
                if sock is self._front:
                    self._used[parts[0]] = time.perf_counter()
                    self._enqueue(True, parts[0], parts[1:])
                else:
                    self._enqueue(False, self._robots[sock], parts)
        return bool(ready)

    def _enqueue(self, up: bool, identity: bytes, frames: list[bytes]) -> None:
        now = time.perf_counter()
        profile = self._trace.at(now - self._start) if self._trace else self._profile
        at = (self._up if up else self._down).arrival(now, sum(map(len, frames)), profile)
        if at is None or self._is_cut() or profile.is_out(now - self._start):
            return
        forwarded = self._faults.apply(up, identity, frames) if self._faults else [(0.0, frames)]
        for later_s, parts in forwarded:
            heapq.heappush(self._heap, (at + later_s, next(self._count), up, identity, parts))

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
            back = self._backs.connect(identity, self._target)
            self._robots[back] = identity
            self._poller.register(back, zmq.POLLIN)
            self._any.register(_descriptor(back), selectors.EVENT_READ)
        return back

    def _forget(self, identity: bytes) -> None:
        self._used.pop(identity, None)
        back = self._backs.get(identity)
        if back is not None:
            self._poller.unregister(back)
            self._any.unregister(_descriptor(back))
            del self._robots[back]
            self._backs.drop(identity)


def configure(sock: zmq.Socket) -> None:
    """Large enough queues for delayed messages, and no lingering."""
    sock.setsockopt(zmq.LINGER, 0)
    sock.setsockopt(zmq.SNDHWM, 1000)
    sock.setsockopt(zmq.RCVHWM, 1000)


def _descriptor(sock: zmq.Socket) -> int:
    return int(sock.getsockopt(zmq.FD))


def _receive_now(sock: zmq.Socket) -> list[bytes] | None:
    try:
        return sock.recv_multipart(zmq.DONTWAIT)
    except zmq.Again:
        return None


class EmulatedLink:
    """The relay as a thread of this process; use it as a context, or `start` and `stop` it."""

    def __init__(
        self,
        target: str,
        profile: LinkProfile,
        bind: str = "tcp://127.0.0.1:*",
        faults: MessageFaults | None = None,
    ) -> None:
        self._target = target
        self._profile = profile
        self._faults = faults
        self._bind = bind
        self._cut = threading.Event()
        self._stop = threading.Event()
        self._wake_in, self._wake_out = socket.socketpair()
        self._thread: threading.Thread | None = None
        self.endpoint = ""

    def start(self) -> str:
        """Bind and begin to relay; returns the endpoint that the client connects to."""
        front: zmq.Socket = zmq.Context.instance().socket(zmq.ROUTER)
        configure(front)
        front.setsockopt(zmq.ROUTER_MANDATORY, 1)
        front.setsockopt(zmq.ROUTER_HANDOVER, 1)  # a robot that reconnects is the same robot
        front.bind(self._bind)
        self.endpoint = front.getsockopt_string(zmq.LAST_ENDPOINT)
        self._thread = threading.Thread(target=self._run, args=(front,), name="link", daemon=True)
        self._thread.start()
        return self.endpoint

    def stop(self) -> None:
        """End the relay; messages under way are lost."""
        self._stop.set()
        with suppress(OSError):  # the thread has ended already
            self._wake_in.send(b"x")
        if self._thread:
            self._thread.join(timeout=5.0)
            self._thread = None
        self._wake_in.close()

    def cut(self) -> None:
        """Lose every message from now on."""
        self._cut.set()

    def mend(self) -> None:
        """End what :meth:`cut` began."""
        self._cut.clear()

    def __enter__(self) -> EmulatedLink:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self, front: zmq.Socket) -> None:
        relay = Relay(front, self._target, self._profile, self._cut.is_set, self._faults)
        try:
            while not self._stop.is_set():
                relay.step(self._wake_out)
        finally:
            relay.close()
            self._wake_out.close()


def link_child(target: str, profile: LinkProfile, timeout_s: float = 20.0) -> ReadyChild:
    """The relay as a process of its own, not started yet."""
    command = [sys.executable, "-m", __name__, target, json.dumps(asdict(profile))]
    return ReadyChild(command, "the link emulation", timeout_s)


@contextmanager
def link_process(target: str, profile: LinkProfile, timeout_s: float = 20.0) -> Iterator[str]:
    """Run the relay in a process of its own and yield the endpoint that the client connects to.

    Several targets separated by commas get a relay each.
    """
    with ExitStack() as stack:
        endpoints: list[str] = []
        for each in parse_endpoints(target):
            child = link_child(str(each), profile, timeout_s)
            stack.callback(child.stop)
            endpoints.append(child.start())
        yield ",".join(endpoints)


def main() -> int:
    """Relay until standard input ends; prints one line with the endpoint when ready."""
    target, profile = sys.argv[1:]
    with EmulatedLink(target, LinkProfile(**json.loads(profile))) as link:
        print(f"ready {link.endpoint}", flush=True)
        sys.stdin.read()
    return 0


if __name__ == "__main__":
    sys.exit(main())
