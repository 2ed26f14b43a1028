"""Forwarder of the balancer: messages of a robot go to its replica, and back.

    robots ==> ROUTER | one DEALER per robot ==> its replica
                      | one DEALER per replica, for heartbeats

Messages are forwarded as the bytes that they are. What can't be sent is dropped: both ends repeat what matters.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import zmq

from spec_decode_ros.decoding.messages import Error, ErrorCode
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.server.fleet.backend_sockets import BackendSockets
from spec_decode_ros.server.fleet.heartbeat import SILENCE_S, Heartbeat
from spec_decode_ros.server.fleet.routing import Routing, RoutingPolicy
from spec_decode_ros.server.fleet.socket_poller import SocketPoller
from spec_decode_ros.transport.codec import encode
from spec_decode_ros.transport.forwarded_identity import identity_prefix, routing_id
from spec_decode_ros.transport.handshake import HELLO_FIRST, TargetPin
from spec_decode_ros.transport.keys import RobotKeys
from spec_decode_ros.transport.loop import Frame, receive_now, set_common_options
from spec_decode_ros.transport.peers import PeerLimits, Peers
from spec_decode_ros.transport.rate_limiter import RateLimiter
from spec_decode_ros.transport.router_process import RouterProcess
from spec_decode_ros.transport.secured_router import SecuredRouter
from spec_decode_ros.transport.server import FULL_RETRY_MS, REVOKED

_log = logging.getLogger(__name__)

_MAX_BATCH = 64
"""Messages that are read from one socket before the others have their turn."""
_BACKEND_QUEUE = 32
"""Messages per robot that wait for a replica; more would be much memory, since a frame may be among them."""

_MOVED = encode(Error(0, HELLO_FIRST, "This robot gets another verifier; say hello first."))
_NOBODY = encode(
    Error(0, ErrorCode.BUSY, "No verifier behind this balancer can be reached now; try again later.", 500.0)
)
_REVOKED = encode(Error(0, ErrorCode.MISMATCH, REVOKED))


class Forwarder:
    """Owns the sockets of a balancer; used by one thread.

    Args:
        router: the socket that robots connect to.
        send: sends frames to it.
        policy: when robots are moved.
        limits: how many robots are known, and for how long.
        replica_keys: shown to replicas that want keys.

    Attributes:
        poller: of the sockets to the replicas.
        forwarded: messages, both ways.
        moved: how often a robot has lost its replica.
        dropped: messages for which there was no receiver, or no room.
    """

    def __init__(
        self,
        router: SecuredRouter | RouterProcess,
        send: Callable[[Sequence[Frame]], None],
        policy: RoutingPolicy | None,
        limits: PeerLimits,
        replica_keys: RobotKeys | None,
    ) -> None:
        self._router = router
        self._send = send
        self.poller = SocketPoller()
        self.routing = Routing(policy)
        self._target_fingerprint = policy.target_fingerprint if policy else ""
        self.peers = Peers(limits)
        self._replica_keys = replica_keys
        self._identity_prefix = identity_prefix(router.endpoint, replica_keys.public if replica_keys else b"")
        self._backends = BackendSockets(self._prepare, router.sock.context)
        self._heartbeats: dict[str, Heartbeat] = {}
        self._log_limiter = RateLimiter()
        self._last_delivery = time.monotonic()  # to any replica
        self.forwarded = self.moved = self.dropped = 0
        sentence = f"The balancer serves {limits.most} robots already; try again later or go to another one."
        self._full = encode(Error(0, ErrorCode.BUSY, sentence, FULL_RETRY_MS))

    # ---- replicas ------------------------------------------------------------------------------------------

    def add(self, replica: str) -> None:
        """Add the replica at this endpoint. Raises SpecDecodeError if that is not an endpoint."""
        if replica not in self._heartbeats:
            try:
                heartbeat = Heartbeat(self._router.sock.context, replica, self._prepare)
            except zmq.ZMQError as error:
                raise SpecDecodeError(
                    f"Nothing can connect to {replica} ({error.strerror}); check the address of the verifier."
                ) from error
            self._heartbeats[replica] = heartbeat
            for sock in (heartbeat.sock, heartbeat.monitor):
                self.poller.add(sock, partial(self._read_heartbeat, replica))
        self.routing.add(replica)

    def leave(self, replica: str) -> None:
        """Give a replica no more robots, and move those that it has in time. An unknown one is no error."""
        if replica in self._heartbeats:
            self.routing.leave(replica, time.monotonic())

    def remove(self, replica: str) -> None:
        """Forget a replica, and move its robots now. An unknown one is no error."""
        heartbeat = self._heartbeats.pop(replica, None)
        if heartbeat:
            for sock in (heartbeat.sock, heartbeat.monitor):
                self.poller.remove(sock)
            heartbeat.close()
        self._move(self.routing.remove(replica))

    def close(self) -> None:
        """Close the sockets to the replicas."""
        for heartbeat in self._heartbeats.values():
            heartbeat.close()
        self._heartbeats.clear()
        self._backends.close()
        self.poller.close()

    # ---- events --------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Time has passed; call it several times a second."""
        for replica, heartbeat in self._heartbeats.items():
            heartbeat.tick(now)
            self.poller.recheck(heartbeat.sock)
            self._update(replica, heartbeat)
        for robot in self.peers.expired(now):
            self._forget(robot)
        self._move(self.routing.tick(now))
        revoked = self._router.tick()
        for robot in self.peers.with_keys(revoked):
            # The robots behind a balancer are not revoked: it notices by itself.
            if not revoked[self.peers.key(robot) or ""].balancer:
                self._send_to_robot(robot, _REVOKED)
            self._forget(robot)

    def on_frames(self, frames: list[zmq.Frame]) -> None:
        """A message has come from a robot."""
        received, now = self._router.receive(frames), time.monotonic()
        if received is None:
            return
        robot, key, body = received
        if key is None:  # it was revoked
            return
        known = robot in self.peers
        if not self.peers.on_message(robot, key, now) or not (known or self._admit(robot, key, now)):
            self.dropped += 1
            return
        replica = self.routing.route(robot, now)
        backend = None if replica is None else self._backends.get(robot) or self._connect(robot, replica)
        if backend is None:
            self.dropped += 1
            if now - self._last_delivery > SILENCE_S:
                self._send_to_robot(robot, _NOBODY)
            return
        self._last_delivery = now
        try:
            backend.send_multipart(body, zmq.DONTWAIT, copy=False)
            self.forwarded += 1
        except zmq.ZMQError:  # the replica reads too slowly, or is not there and may come back
            self.dropped += 1
        self.poller.recheck(backend)

    def on_unsent(self, frames: Sequence[Frame], error: zmq.ZMQError) -> None:
        """A message could not be sent to its robot, which reads too slowly or is gone."""
        self.forwarded -= 1
        self.dropped += 1

    def _read_heartbeat(self, replica: str) -> None:
        heartbeat = self._heartbeats.get(replica)
        if heartbeat:
            now = time.monotonic()
            heartbeat.read(now)
            heartbeat.tick(now)
            self._update(replica, heartbeat)

    def _read_backend(self, robot: bytes) -> None:
        backend = self._backends.get(robot)
        if backend is None:
            return
        now = time.monotonic()
        for _ in range(_MAX_BATCH):
            frames = receive_now(backend)
            if frames is None:
                return
            self.routing.on_answer(robot, now)
            self._send_to_robot(robot, frames)
        self.poller.recheck(backend)

    def _admit(self, robot: bytes, key: str, now: float) -> bool:
        name = self._router.robot(key, robot)
        if self.peers.full:
            evicted = self.peers.evictable(name, own=False)
            self._send_to_robot(evicted or robot, self._full)
            if evicted is None:
                return False
            self._forget(evicted)
        self.peers.add(robot, key, name, now)
        return True

    def _connect(self, robot: bytes, replica: str) -> zmq.Socket | None:
        # Without keys nobody would trust the name, and everybody could read it.
        name = self.peers.robot(robot) if self._replica_keys else ""
        try:
            identity = routing_id(name, robot, self._identity_prefix)
            backend = self._backends.connect(robot, replica, identity)
        except zmq.ZMQError as error:  # too many open files, for example
            if self._log_limiter.allow():
                _log.warning("a robot can't be connected to %s: %s", replica, error.strerror)
            return None
        self.poller.add(backend, partial(self._read_backend, robot))
        return backend

    def _send_to_robot(self, robot: bytes, frames: Sequence[Frame]) -> None:
        if self.peers.may_send(robot):
            self._send([robot, *frames])
            self.forwarded += 1
        else:
            self.dropped += 1

    def _update(self, replica: str, heartbeat: Heartbeat) -> None:
        objection = self._objection(replica, heartbeat) if heartbeat.alive else None
        if objection is not None:
            heartbeat.keep_apart(objection)
        if heartbeat.alive and objection is None:
            self.routing.mark_up(replica)
        else:
            self._move(self.routing.mark_down(replica))

    def _objection(self, replica: str, heartbeat: Heartbeat) -> str | None:
        """Why a replica that answers gets no robots: their answers must not depend on which replica they have."""
        pin = TargetPin(self._target_fingerprint)
        for name, state in self.routing.replicas.items():
            if state.up and name != replica:
                pin.settle(self._heartbeats[name].target_fingerprint)
        return pin.objection(heartbeat.target_fingerprint, replica)

    def _move(self, robots: Iterable[bytes]) -> None:
        for robot in robots:
            self._read_backend(robot)  # messages that its replica has sent until now count
            self._disconnect(robot)
            self.moved += 1
            self._send_to_robot(robot, _MOVED)

    def _forget(self, robot: bytes) -> None:
        self._disconnect(robot)
        self.routing.forget(robot)
        self.peers.forget(robot)

    def _disconnect(self, robot: bytes) -> None:
        backend = self._backends.get(robot)
        if backend is not None:
            self.poller.remove(backend)
            self._backends.drop(robot)

    def _prepare(self, sock: zmq.Socket) -> None:
        set_common_options(sock)
        sock.setsockopt(zmq.SNDHWM, _BACKEND_QUEUE)
        if self._replica_keys:
            self._replica_keys.apply(sock)
