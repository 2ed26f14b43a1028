"""The work of an emulated link: messages of ZeroMQ taken in on one side, and handed on at the other when it is time."""

from __future__ import annotations

import heapq
import itertools
import random
import select
import selectors
import socket
import time
from collections.abc import Callable

import zmq

from spec_decode_ros.lab.network.link_profile import LinkProfile, load_trace
from spec_decode_ros.lab.network.message_faults import MessageFaults
from spec_decode_ros.server.fleet.backend_sockets import BackendSockets

_IDLE_S = 60.0
_MAX_SLEEP_S = 0.5
_COARSE_S = 0.002
_FINE_S = 0.0002
_MANY = 8
_HOP_S = 0.00012
"""What passing through the relay costs by itself, each way; it counts as part of the delay that is asked for."""


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


class Relay:
    """Between one socket for all robots and, for each of them, one to the server.

    Args:
        front: a ROUTER that robots connect to; `close` closes it.
        target: endpoint of the server.
        profile: what the network does.
        is_cut: asked about every message; where it says so the message is lost.
        mischief: what else is done to messages.
    """

    def __init__(
        self,
        front: zmq.Socket,
        target: str,
        profile: LinkProfile,
        is_cut: Callable[[], bool],
        mischief: MessageFaults | None = None,
    ) -> None:
        self._front = front
        self._target = target
        self._is_cut = is_cut
        self._profile = profile
        self._mischief = mischief
        self._trace = load_trace(profile.trace, profile) if profile.trace else None
        self._start = time.perf_counter()
        self._up = _Line(True, profile.seed)
        self._down = _Line(False, profile.seed + 1)
        self._backs = BackendSockets(unhurried)
        self._robots: dict[zmq.Socket, bytes] = {}
        self._used: dict[bytes, float] = {}
        self._heap: list[tuple[float, int, bool, bytes, list[bytes]]] = []
        self._count = itertools.count()
        self._poller = zmq.Poller()
        self._poller.register(front, zmq.POLLIN)
        # `select` can't wait for descriptors above 1023, but for one that stands for any of them.
        self._any = selectors.DefaultSelector()
        self._any.register(_handle(front), selectors.EVENT_READ)

    def step(self, wake: socket.socket) -> None:
        """Hand on all that is due, and sleep until more is, or until `wake` can be read."""
        # ZeroMQ's descriptors are edge-triggered: only after every socket has been looked at is it safe to sleep, and
        # sending can swallow an edge, so look once more after each send.
        while self._receive() or self._deliver():
            pass
        due = self._heap[0][0] if self._heap else float("inf")
        left = due - time.perf_counter()
        # Long sleeps overshoot by as much as a millisecond, short ones by a tenth; the last bit is spent awake. With
        # messages of many robots under way that would be all the time, and no longer worth a core.
        awake = _COARSE_S if left > 2 * _COARSE_S else _FINE_S
        sleep = min(left - (awake if len(self._heap) < _MANY else 0.0), _MAX_SLEEP_S)
        if sleep > 0:
            select.select([self._any.fileno(), wake.fileno()], [], [], sleep)
        self._forget_idle()

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
        made = self._mischief.done_to(up, identity, frames) if self._mischief else [(0.0, frames)]
        for later_s, parts in made:
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
            self._any.register(_handle(back), selectors.EVENT_READ)
        return back

    def _forget(self, identity: bytes) -> None:
        self._used.pop(identity, None)
        back = self._backs.get(identity)
        if back is not None:
            self._poller.unregister(back)
            self._any.unregister(_handle(back))
            del self._robots[back]
            self._backs.drop(identity)

    def _forget_idle(self) -> None:
        before = time.perf_counter() - _IDLE_S
        for identity in [key for key, at in self._used.items() if at < before]:
            self._forget(identity)


def unhurried(sock: zmq.Socket) -> None:
    """Room for what waits, and nothing that lingers."""
    sock.setsockopt(zmq.LINGER, 0)
    sock.setsockopt(zmq.SNDHWM, 1000)
    sock.setsockopt(zmq.RCVHWM, 1000)


def _handle(sock: zmq.Socket) -> int:
    return int(sock.getsockopt(zmq.FD))


def _receive_now(sock: zmq.Socket) -> list[bytes] | None:
    try:
        return sock.recv_multipart(zmq.DONTWAIT)
    except zmq.Again:
        return None
