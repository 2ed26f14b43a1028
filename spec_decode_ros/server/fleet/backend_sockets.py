"""A connection of its own for each robot behind a ROUTER, so that the server behind tells the robots apart as ever."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import zmq


class BackendSockets:
    """One DEALER per robot.

    Args:
        prepare: sets the options of a new socket, before it connects.
        context: where the sockets are made; by default the process's own.
    """

    def __init__(self, prepare: Callable[[zmq.Socket], None], context: zmq.Context | None = None) -> None:
        self._prepare = prepare
        self._context = context or zmq.Context.instance()
        self._sockets: dict[bytes, zmq.Socket] = {}

    def __len__(self) -> int:
        return len(self._sockets)

    def get(self, robot: bytes) -> zmq.Socket | None:
        """The robot's connection, if it has one."""
        return self._sockets.get(robot)

    def connect(self, robot: bytes, endpoint: str, routing_id: bytes = b"") -> zmq.Socket:
        """Connect the robot to `endpoint`, and end the connection that it had. Raises zmq.ZMQError.

        Without a `routing_id` to be known by there, the one that the robot has chosen is used there too.
        """
        self.drop(robot)
        sock: zmq.Socket = self._context.socket(zmq.DEALER)
        try:
            self._prepare(sock)
            if routing_id or not robot.startswith(b"\0"):  # else one that ZeroMQ made up for this connection
                sock.setsockopt(zmq.ROUTING_ID, routing_id or robot)
            sock.connect(endpoint)
        except zmq.ZMQError:
            sock.close(0)
            raise
        self._sockets[robot] = sock
        return sock

    def drop(self, robot: bytes) -> None:
        """End the robot's connection, if it has one; what is under way is lost."""
        sock = self._sockets.pop(robot, None)
        if sock is not None:
            sock.close(0)

    def items(self) -> Iterator[tuple[bytes, zmq.Socket]]:
        """Every robot and its connection."""
        return iter(self._sockets.items())

    def close(self) -> None:
        for robot in list(self._sockets):
            self.drop(robot)


def receive_now(sock: zmq.Socket, most: int | None = None) -> list[zmq.Frame] | None:
    """The frames of the next message, or None when there is none; of a longer one than `most` the first `most` frames."""
    try:
        frames = [sock.recv(zmq.DONTWAIT, copy=False)]
    except zmq.Again:
        return None
    while sock.getsockopt(zmq.RCVMORE):
        part = sock.recv(copy=False)
        if most is None or len(frames) < most:
            frames.append(part)
    return frames
