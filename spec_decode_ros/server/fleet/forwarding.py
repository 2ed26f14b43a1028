"""The balancer's sockets: what comes from a robot goes to its replica, and back.

    robots ==> ROUTER | one DEALER per robot ==> its replica
                      | one DEALER per replica, for pings

Messages pass through as the bytes that they are. What can't be sent is dropped: both ends repeat what matters.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import zmq

from spec_decode_ros.decoding.messages import Error, ErrorCode
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.server.fleet.backend_sockets import BackendSockets, receive_now
from spec_decode_ros.server.fleet.heartbeat import SILENCE_S, Heartbeat, Pulse
from spec_decode_ros.server.fleet.routing import Routing
from spec_decode_ros.server.fleet.socket_poller import SocketPoller
from spec_decode_ros.transport.codec import Limits, encode
from spec_decode_ros.transport.connection_counts import ConnectionCounts
from spec_decode_ros.transport.forwarded_identity import identity_prefix, routing_id
from spec_decode_ros.transport.handshake import HELLO_FIRST
from spec_decode_ros.transport.keys import RobotKeys
from spec_decode_ros.transport.loop import common_options
from spec_decode_ros.transport.rate_limiter import RateLimiter
from spec_decode_ros.transport.secured_router import SecuredRouter
from spec_decode_ros.transport.server import REVOKED

_log = logging.getLogger(__name__)

_AT_ONCE = 64
"""So many messages of one socket are read before the others have their turn."""
_BACK_QUEUE = 32
"""Messages that wait for a replica per robot; a frame may be among them, so that more would be much memory."""
_FULL_RETRY_MS = 5_000.0

_MOVED = encode(Error(0, HELLO_FIRST, "This robot gets another verifier; say hello first."))
_NOBODY = encode(
    Error(0, ErrorCode.BUSY, "No verifier behind this balancer can be reached now; try again later.", 500.0)
)
_REVOKED = encode(Error(0, ErrorCode.MISMATCH, REVOKED))

_FRONT = ("front", b"")
Key = tuple[str, bytes | str]


class _Owner(NamedTuple):
    """The key that a robot's first message came with, and the name of the robot; both empty without keys."""

    key: str
    name: str


class Forwarder:
    """Everything that one thread does with the table and the sockets.

    Args:
        context: where the sockets are made.
        gate: what robots connect to; closed with the rest.
        watch: where the sockets are registered, under keys that `read` understands.
        routing: the table.
        limits: how large messages may be.
        replica_keys: what is shown to replicas that want keys.
        silence_s: a replica that has not answered a ping for so long is dead.

    Attributes:
        forwarded: messages, both ways.
        moved: how often a robot has lost its replica.
        dropped: messages for which there was nobody, or no room.
    """

    def __init__(
        self,
        context: zmq.Context,
        gate: SecuredRouter,
        watch: SocketPoller[Key],
        routing: Routing,
        limits: Limits,
        replica_keys: RobotKeys | None,
        silence_s: float,
    ) -> None:
        self._context = context
        self._gate = gate
        self._watch = watch
        self.routing = routing
        self._limits = limits
        self._replica_keys = replica_keys
        self._voice = identity_prefix(gate.endpoint, replica_keys.public if replica_keys else b"")
        self._silence_s = silence_s
        self._backs = BackendSockets(self._prepare, context)
        self._hearts: dict[str, Heartbeat] = {}
        self._owners: dict[bytes, _Owner] = {}
        self._crowd = ConnectionCounts()
        self._usurped: set[bytes] = set()  # robots in whose name another key spoke last
        self._beside = {str(number): entry for number, entry in enumerate(gate.beside.items())}
        self._speaks = RateLimiter()
        self._served = time.monotonic()  # when something could be handed on to a replica
        self.forwarded = self.moved = self.dropped = 0
        watch.add(_FRONT, gate.sock)
        for name, (sock, _) in self._beside.items():
            watch.add(("beside", name), sock)

    # ---- replicas ------------------------------------------------------------------------------------------

    def add(self, replica: str) -> None:
        """Know a replica. Raises SpecDecodeError if that is no endpoint."""
        if replica not in self._hearts:
            try:
                heart = Heartbeat(self._context, replica, self._prepare, self._silence_s)
            except zmq.ZMQError as error:
                raise SpecDecodeError(
                    f"{replica!r} is not an endpoint of a verifier ({error.strerror}); write it as tcp://HOST:PORT."
                ) from error
            self._hearts[replica] = heart
            self._watch.add(("heart", replica), heart.sock)
            self._watch.add(("monitor", replica), heart.monitor)
        self.routing.add(replica)

    def leave(self, replica: str) -> None:
        """Let a replica's robots move as time allows. An unknown one is no error."""
        if replica in self._hearts:
            self.routing.leave(replica, time.monotonic())

    def remove(self, replica: str) -> None:
        """Forget a replica; its robots move now. An unknown one is no error."""
        heart = self._hearts.pop(replica, None)
        if heart:
            self._watch.remove(("heart", replica))
            self._watch.remove(("monitor", replica))
            heart.close()
        self._move(self.routing.remove(replica))

    def close(self) -> None:
        """Close every socket."""
        for heart in self._hearts.values():
            heart.close()
        self._hearts.clear()
        self._backs.close()
        self._gate.close()

    # ---- events --------------------------------------------------------------------------------------------

    def read(self, key: Key) -> None:
        """A socket that `watch` names may have something to read; other keys are ignored."""
        kind, name = key
        if kind == "front":
            self._read_front()
        elif kind == "back" and isinstance(name, bytes):
            self._read_back(name)
        elif kind == "beside":
            self._read_beside(str(name))
        elif isinstance(name, str) and name in self._hearts:
            now = time.monotonic()
            self._felt(name, self._hearts[name].read(now))
            self._felt(name, self._hearts[name].beat(now))

    def tick(self, now: float) -> None:
        """Time has passed; call it several times a second."""
        for name, heart in self._hearts.items():
            self._felt(name, heart.beat(now))
            self._watch.used(("heart", name))
        due = self.routing.tick(now)
        for robot in due.gone:
            self._forget(robot)
        self._move(due.moved)
        revoked = self._gate.tick()
        for robot, owner in [known for known in self._owners.items() if known[1].key in revoked]:
            # The robots of a balancer are as good as ever: it finds out by itself.
            if not revoked[owner.key].balancer:
                self._down(robot, _REVOKED)
            self.routing.forget(robot)
            self._forget(robot)

    def _read_front(self) -> None:
        now = time.monotonic()
        for _ in range(_AT_ONCE):
            # One frame too many goes on, so that the replica says what is wrong.
            frames = receive_now(self._gate.sock, self._limits.frames + 2)
            if frames is None:
                return
            key = self._gate.sender(frames)
            if key is not None:
                self._up(frames[0].bytes, key, frames[1:], now)
        self._watch.used(_FRONT)

    def _read_beside(self, name: str) -> None:
        sock, call = self._beside[name]
        call()
        if int(sock.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            self._watch.used(("beside", name))

    def _up(self, robot: bytes, key: str, frames: list[zmq.Frame], now: float) -> None:
        owner = self._owners.get(robot) or _Owner(key, self._gate.robot(key, robot))
        if owner.key != key:
            self._usurped.add(robot)
            self.dropped += 1
            return
        self._usurped.discard(robot)
        if not (self.routing.admits(robot) or self._makes_room_for(owner.name)):
            self.dropped += 1
            self._down(robot, _full(self.routing.policy.max_robots))
            return
        if robot not in self._owners:
            self._owners[robot] = owner
            self._crowd.add(owner.name, robot)
        replica = self.routing.route(robot, now)
        back = (
            None if replica is None else self._backs.get(robot) or self._connect(robot, replica, owner.name)
        )
        if back is None:
            self.dropped += 1
            if now - self._served > SILENCE_S:
                self._down(robot, _NOBODY)
            return
        self._served = now
        self._send(back, frames)
        self._watch.used(("back", robot))

    def _makes_room_for(self, name: str) -> bool:
        """So that no robot keeps the others out, whatever connections it has."""
        candidates = self._crowd.gives_way_to(name)
        if not candidates:
            return False
        robot = self.routing.longest_silent(candidates)
        self._down(robot, _full(self.routing.policy.max_robots))
        self.routing.forget(robot)
        self._forget(robot)
        return True

    def _connect(self, robot: bytes, replica: str, name: str) -> zmq.Socket | None:
        told = name if self._replica_keys else ""  # which nobody would believe, and everybody read
        try:
            back = self._backs.connect(robot, replica, routing_id(told, robot, self._voice))
        except zmq.ZMQError as error:  # no handle left, say
            if self._speaks():
                _log.warning("a robot can't be connected to %s: %s", replica, error.strerror)
            return None
        self._watch.add(("back", robot), back)
        return back

    def _read_back(self, robot: bytes) -> None:
        back = self._backs.get(robot)
        if back is None:
            return
        now = time.monotonic()
        for _ in range(_AT_ONCE):
            frames = receive_now(back)
            if frames is None:
                return
            self.routing.answered_to(robot, now)
            self._down(robot, frames)
        self._watch.used(("back", robot))

    def _down(self, robot: bytes, frames: Sequence[zmq.Frame | bytes]) -> None:
        if robot in self._usurped:  # until it is heard again itself
            self.dropped += 1
            return
        self._send(self._gate.sock, [robot, *frames])
        self._watch.used(_FRONT)

    def _send(self, sock: zmq.Socket, frames: Sequence[zmq.Frame | bytes]) -> None:
        try:
            sock.send_multipart(frames, zmq.DONTWAIT, copy=False)
            self.forwarded += 1
        except zmq.ZMQError:  # the other side reads too slowly, or is not there and may come back
            self.dropped += 1

    def _felt(self, replica: str, pulse: Pulse | None) -> None:
        if pulse is Pulse.ALIVE:
            self.routing.answered(replica)
        elif pulse is Pulse.DEAD:
            self._move(self.routing.lost(replica))

    def _move(self, robots: Iterable[bytes]) -> None:
        for robot in robots:
            self._read_back(robot)  # what its replica has said until now counts
            self._cut(robot)
            self.moved += 1
            self._down(robot, _MOVED)

    def _forget(self, robot: bytes) -> None:
        self._cut(robot)
        owner = self._owners.pop(robot, None)
        if owner is not None:
            self._crowd.remove(owner.name, robot)
        self._usurped.discard(robot)

    def _cut(self, robot: bytes) -> None:
        self._watch.remove(("back", robot))
        self._backs.drop(robot)

    def _prepare(self, sock: zmq.Socket) -> None:
        common_options(sock, self._limits)
        sock.setsockopt(zmq.SNDHWM, _BACK_QUEUE)
        if self._replica_keys:
            keys = self._replica_keys
            sock.curve_publickey, sock.curve_secretkey = keys.public, keys.secret
            sock.curve_serverkey = keys.server


def _full(robots: int) -> list[bytes]:
    sentence = f"The balancer serves {robots} robots already; try again later or go to another one."
    return encode(Error(0, ErrorCode.BUSY, sentence, _FULL_RETRY_MS))
