"""One address for robots in front of several replicas of a verifier.

The balancer does not read what robot and cloud say to each other, so it is the same whatever that is. It says one
thing of its own: a robot that has lost its replica is told to greet again. Its next replica welcomes it, and the
robot opens its action there with the tokens that it has.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as CallTimeout
from dataclasses import dataclass, field, replace
from typing import TypeVar

import zmq

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.server.fleet.forwarding import Forwarder, Key
from spec_decode_ros.server.fleet.heartbeat import SILENCE_S
from spec_decode_ros.server.fleet.routing import ReplicaState, Routing, RoutingPolicy
from spec_decode_ros.server.fleet.socket_poller import SocketPoller
from spec_decode_ros.transport.codec import DEFAULT_LIMITS, Limits
from spec_decode_ros.transport.keys import RobotKeys, ServerKeys
from spec_decode_ros.transport.secured_router import SecuredRouter
from spec_decode_ros.transport.server import LOOPBACK
from spec_decode_ros.transport.watchdog import Watchdog

_log = logging.getLogger(__name__)

_TICK_S = 0.25
_CALL_S = 30.0
_JOIN_S = 5.0
_HANDLES_PER_ROBOT = 3
_OTHER_HANDLES = 256
_WAKE = ("wake", b"")
_T = TypeVar("_T")


@dataclass(frozen=True)
class BalancerStatus:
    """What a balancer has done since its start.

    Attributes:
        replicas: by endpoint.
        robots: how many are known.
        forwarded: messages, both ways.
        moved: how often a robot has lost its replica.
        dropped: messages for which there was nobody, or no room.
        refused: connections that failed before a word was said (no key, a wrong key, another protocol).
    """

    replicas: dict[str, ReplicaState] = field(default_factory=dict)
    robots: int = 0
    forwarded: int = 0
    moved: int = 0
    dropped: int = 0
    refused: int = 0


class Balancer:
    """Forwards between robots and replicas in a thread of its own.

    Args:
        bind: where robots connect; by default a free port of this machine only.
        replicas: endpoints of verifiers; more can be added later.
        limits: how large messages may be.
        keys: with them only robots that have keys are let in, and everything on the robots' side is encrypted.
        insecure: listen beyond this machine although there are no keys.
        replica_keys: what the balancer shows to replicas that want keys, as a robot does.
        policy: when robots move. No more robots are served than the process may have files open for.
        silence_s: a replica that has not answered a ping for so long is dead.
    """

    def __init__(
        self,
        bind: str = LOOPBACK,
        replicas: Iterable[str] = (),
        *,
        limits: Limits = DEFAULT_LIMITS,
        keys: ServerKeys | None = None,
        insecure: bool = False,
        replica_keys: RobotKeys | None = None,
        policy: RoutingPolicy | None = None,
        silence_s: float = SILENCE_S,
    ) -> None:
        self._bind = bind
        self._first = tuple(replicas)
        self._limits = limits
        self._keys = keys
        self._insecure = insecure
        self._replica_keys = replica_keys
        self._silence_s = silence_s
        self._policy = _within_open_files(policy or RoutingPolicy())
        self._context = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, self._policy.max_robots + _OTHER_HANDLES)
        self._watch: SocketPoller[Key] = SocketPoller()
        self._calls: collections.deque[Callable[[], None]] = collections.deque()
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._stopping = threading.Event()
        self._glance = BalancerStatus()
        self._rounds = Watchdog()
        self._thread = threading.Thread(target=self._run, name="balancer", daemon=True)
        self.endpoint = ""

    def start(self) -> str:
        """Bind, begin to forward, and return the bound endpoint.

        Raises:
            SpecDecodeError: if the endpoint can't be bound, or a replica's endpoint is none.
        """
        try:
            self._gate = SecuredRouter(self._context, self._bind, self._limits, self._keys, self._insecure)
        except SpecDecodeError:
            self._end()
            raise
        self.endpoint = self._gate.endpoint
        self._watch.add(_WAKE, self._wake_out)
        self._forwarder = Forwarder(
            self._context,
            self._gate,
            self._watch,
            Routing(self._policy),
            self._limits,
            self._replica_keys,
            self._silence_s,
        )
        try:
            for replica in self._first:
                self._forwarder.add(replica)
        except SpecDecodeError:
            self._forwarder.close()
            self._end()
            raise
        self._glance = self._read_status()
        self._rounds.comes_round()
        self._thread.start()
        return self.endpoint

    def stop(self) -> None:
        """End the thread and close every connection. Safe to call twice."""
        self._stopping.set()
        self._wake()
        if self._thread.is_alive():
            self._thread.join(_JOIN_S)

    def __enter__(self) -> Balancer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def add(self, replica: str) -> None:
        """Give robots to the verifier at this endpoint too, as soon as it answers; one that was to leave stays.

        Raises SpecDecodeError if that is no endpoint.
        """
        self._call(lambda: self._forwarder.add(replica))

    def leave(self, replica: str) -> None:
        """Give this replica no more robots; those that it has move to others at a pause, or when patience ends.

        When it has none left (`status`), `remove` it. An unknown one is no error.
        """
        self._call(lambda: self._forwarder.leave(replica))

    def remove(self, replica: str) -> None:
        """Forget this replica; robots that it still has move now. An unknown one is no error."""
        self._call(lambda: self._forwarder.remove(replica))

    @property
    def status(self) -> BalancerStatus:
        """How things stand; waits for the thread. Raises SpecDecodeError if it does not answer."""
        return self._call(self._read_status)

    @property
    def glance(self) -> BalancerStatus:
        """How things stood when the thread last came round, several times a second; never waits."""
        return self._glance

    @property
    def round_s(self) -> float | None:
        """For how many seconds the thread has not come round; see :meth:`Watchdog.missed_s`."""
        return self._rounds.missed_s(self._thread, self._stopping.is_set())

    def _call(self, work: Callable[[], _T]) -> _T:
        """Do `work` in the thread, which alone touches the table and the sockets."""
        if not self._thread.is_alive():
            raise SpecDecodeError("The balancer does not run: start it.")
        result: Future[_T] = Future()

        def call() -> None:
            try:
                result.set_result(work())
            except Exception as error:
                result.set_exception(error)

        self._calls.append(call)
        self._wake()
        try:
            return result.result(_CALL_S)
        except CallTimeout:
            raise SpecDecodeError(
                f"The balancer has not answered for {_CALL_S:g} s: give its machine less to do, or start it anew."
            ) from None

    def _wake(self) -> None:
        # A full pipe means that the thread has been woken already; a closed one that it has ended.
        with contextlib.suppress(BlockingIOError, OSError):
            self._wake_in.send(b"x")

    # ---- in the thread -------------------------------------------------------------------------------------

    def _run(self) -> None:
        next_tick = 0.0
        try:
            while not self._stopping.is_set():
                for key in self._watch.wait(max(0.0, next_tick - time.monotonic())):
                    self._guarded(self._read, key)
                now = self._rounds.comes_round()
                if now >= next_tick:
                    next_tick = now + _TICK_S
                    self._guarded(self._tick, now)
        finally:
            self._forwarder.close()
            self._end()

    def _tick(self, now: float) -> None:
        self._forwarder.tick(now)
        self._glance = self._read_status()

    def _read_status(self) -> BalancerStatus:
        work, table = self._forwarder, self._forwarder.routing
        return BalancerStatus(
            table.replicas, table.robots, work.forwarded, work.moved, work.dropped, self._gate.refused
        )

    def _read(self, key: Key) -> None:
        if key != _WAKE:
            self._forwarder.read(key)
            return
        with contextlib.suppress(BlockingIOError):
            self._wake_out.recv(4096)
        while self._calls:
            self._calls.popleft()()

    def _guarded(self, call: Callable[[_T], None], argument: _T) -> None:
        try:
            call(argument)
        except Exception:
            _log.exception("the balancer goes on after a failure")

    def _end(self) -> None:
        self._watch.close()
        self._wake_in.close()
        self._wake_out.close()
        self._context.destroy(linger=0)


def _within_open_files(policy: RoutingPolicy) -> RoutingPolicy:
    handles, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    room = max(1, (handles - _OTHER_HANDLES) // _HANDLES_PER_ROBOT)
    return replace(policy, max_robots=min(policy.max_robots, room))
