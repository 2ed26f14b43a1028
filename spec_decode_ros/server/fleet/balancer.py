"""The balancer: one address for robots in front of several verifiers (replicas).

It does not read what robots and verifiers send to each other, so it works with any version of either. Its one message of
its own tells a robot that has lost its replica to greet again. The next replica welcomes it, and the robot opens its
action there with the tokens that it has.
"""

from __future__ import annotations

import collections
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as CallTimeout
from dataclasses import dataclass, field, replace
from typing import TypeVar

import zmq

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.server.fleet.forwarding import Forwarder
from spec_decode_ros.server.fleet.routing import ReplicaState, RoutingPolicy
from spec_decode_ros.transport.connection_guard import max_connections
from spec_decode_ros.transport.keys import RobotKeys, ServerKeys
from spec_decode_ros.transport.loop import Frame, SocketLoop
from spec_decode_ros.transport.peers import PeerLimits
from spec_decode_ros.transport.rate_limiter import RateLimiter
from spec_decode_ros.transport.router_process import SILENT_S, RouterProcess
from spec_decode_ros.transport.secured_router import SecuredRouter
from spec_decode_ros.transport.server import LOOPBACK

_TICK_S = 0.25
_CALL_S = 30.0
_MAX_PASSES = 4
"""Over the readable sockets to the replicas, before robots have their turn."""
_FILES_PER_ROBOT = 3
_OTHER_SOCKETS = 256
_FORGET_S = 10.0
_T = TypeVar("_T")


@dataclass(frozen=True)
class BalancerStatus:
    """What a balancer has done since its start.

    Attributes:
        replicas: by endpoint.
        robots: how many are known.
        forwarded: messages, both ways.
        moved: how often a robot has lost its replica.
        dropped: messages for which there was no receiver, or no room.
        refused: connections whose handshake failed (no key, a wrong key, another protocol).
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
        keys: with them only robots that have keys are let in, and the robots' side is encrypted.
        insecure: listen beyond this machine although there are no keys.
        replica_keys: shown to replicas that want keys, as a robot does.
        policy: when robots are moved.
        peers: how many robots are known, but no more than the process may have files open for, and for how long.
        own_process: whether the robots' socket is in a process of its own, see :class:`RouterProcess`.
    """

    def __init__(
        self,
        bind: str = LOOPBACK,
        replicas: Iterable[str] = (),
        *,
        keys: ServerKeys | None = None,
        insecure: bool = False,
        replica_keys: RobotKeys | None = None,
        policy: RoutingPolicy | None = None,
        peers: PeerLimits | None = None,
        own_process: bool = False,
    ) -> None:
        self._bind = bind
        self._first_replicas = tuple(replicas)
        self._keys = keys
        self._insecure = insecure
        self._own_process = own_process
        self._replica_keys = replica_keys
        self._policy = policy
        peers = peers or PeerLimits(silence_s=_FORGET_S)
        self._limits = replace(peers, most=min(peers.most, max_connections(_FILES_PER_ROBOT)))
        self._context = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, self._limits.most + _OTHER_SOCKETS)
        self._calls: collections.deque[Callable[[], None]] = collections.deque()
        self._tick_limiter = RateLimiter(_TICK_S)
        self._last_status = BalancerStatus()
        self._loop: SocketLoop | None = None
        self._router: SecuredRouter | RouterProcess | None = None
        self.endpoint = ""

    def start(self) -> str:
        """Bind, begin to forward, and return the bound endpoint.

        Raises SpecDecodeError if it can't be bound, or a replica's endpoint is not valid.
        """
        try:
            self._router = router = self._open()
            self._forwarder = forwarder = Forwarder(
                router,
                lambda frames: loop.send(frames),
                self._policy,
                self._limits,
                self._replica_keys,
            )
            self._loop = loop = SocketLoop(
                router.sock,
                "balancer",
                forwarder.on_frames,
                self._on_tick,
                forwarder.on_unsent,
                router.extra_sockets,
                forwarder.poller.handle,
                envelope=1,
            )
            for replica in self._first_replicas:
                forwarder.add(replica)
        except SpecDecodeError:
            self.stop()
            raise
        self.endpoint = router.endpoint
        self._last_status = self._read_status()
        loop.start()
        return self.endpoint

    def stop(self) -> None:
        """End the thread and close every connection. Safe to call twice."""
        if self._loop:
            self._loop.stop()
            if self._loop.alive:
                return  # it hangs, and still uses the sockets
            self._forwarder.close()
        if isinstance(self._router, RouterProcess):
            self._router.close()
        self._context.destroy(linger=0)

    def __enter__(self) -> Balancer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def add(self, replica: str) -> None:
        """Give robots to the verifier at this endpoint too, as soon as it answers; one that was leaving stays.

        Raises SpecDecodeError if that is not an endpoint.
        """
        self._call(lambda: self._forwarder.add(replica))

    def leave(self, replica: str) -> None:
        """Give this replica no more robots; those that it has are moved at a pause, or after the policy's patience.

        Once `status` says that it has none, `remove` it. An unknown one is no error.
        """
        self._call(lambda: self._forwarder.leave(replica))

    def remove(self, replica: str) -> None:
        """Forget this replica, and move its robots now. An unknown one is no error."""
        self._call(lambda: self._forwarder.remove(replica))

    @property
    def status(self) -> BalancerStatus:
        """The present status; waits for the thread. Raises SpecDecodeError if it does not answer."""
        return self._call(self._read_status)

    @property
    def last_status(self) -> BalancerStatus:
        """The status of the last tick, some tenths of a second old; never waits."""
        return self._last_status

    @property
    def stalled_s(self) -> float | None:
        """See :meth:`Watchdog.stalled_s`."""
        if isinstance(self._router, RouterProcess) and self._router.silent_s > SILENT_S:
            return self._router.silent_s
        return self._loop.stalled_s if self._loop else None

    def _call(self, function: Callable[[], _T]) -> _T:
        """Call `function` in the thread, which alone uses the routing table and the sockets."""
        if self._loop is None or not self._loop.alive:
            raise SpecDecodeError("The balancer does not run: start it.")
        result: Future[_T] = Future()

        def call() -> None:
            try:
                result.set_result(function())
            except Exception as error:
                result.set_exception(error)

        self._calls.append(call)
        self._loop.wake()
        try:
            return result.result(_CALL_S)
        except CallTimeout:
            raise SpecDecodeError(
                f"The balancer has not answered for {_CALL_S:g} s: give its machine less to do, or start it anew."
            ) from None

    def _open(self) -> SecuredRouter | RouterProcess:
        if not self._own_process:
            return SecuredRouter(self._context, self._bind, self._keys, self._insecure)

        def on_unsent(frames: Sequence[Frame], error: zmq.ZMQError) -> None:
            self._forwarder.on_unsent(frames, error)

        return RouterProcess(self._context, self._bind, self._keys, self._insecure, on_unsent)

    # ---- in the thread -------------------------------------------------------------------------------------

    def _on_tick(self) -> None:
        assert self._loop is not None
        while self._calls:
            self._calls.popleft()()
        for _ in range(_MAX_PASSES):
            if not (callbacks := self._forwarder.poller.due()):
                break
            for callback in callbacks:
                self._loop.call(callback)
        else:
            self._loop.wake()  # there may be more
        if self._tick_limiter.allow():
            self._forwarder.tick(time.monotonic())
            self._last_status = self._read_status()

    def _read_status(self) -> BalancerStatus:
        forwarder = self._forwarder
        assert self._router is not None
        return BalancerStatus(
            forwarder.routing.replicas,
            len(forwarder.peers),
            forwarder.forwarded,
            forwarder.moved,
            forwarder.dropped,
            self._router.refused,
        )
