"""One connection per robot to the server behind a ROUTER, so that the server tells the robots apart."""

from __future__ import annotations

from collections.abc import Callable

import zmq

from spec_decode_ros.transport.endpoint import EndpointError, parse_endpoint


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

    def get(self, robot: bytes) -> zmq.Socket | None:
        """The robot's socket, if it has one."""
        return self._sockets.get(robot)

    def connect(self, robot: bytes, endpoint: str, routing_id: bytes = b"") -> zmq.Socket:
        """Connect the robot, which has no socket, to `endpoint`. Raises EndpointError or zmq.ZMQError.

        Without a `routing_id` the one that the robot has chosen is used there too.
        """
        sock: zmq.Socket = self._context.socket(zmq.DEALER)
        try:
            self._prepare(sock)
            sock.setsockopt(zmq.IPV6, parse_endpoint(endpoint).ipv6)
            if routing_id or not robot.startswith(b"\0"):  # not one that ZeroMQ made up
                sock.setsockopt(zmq.ROUTING_ID, routing_id or robot)
            sock.connect(endpoint)
        except (EndpointError, zmq.ZMQError):
            sock.close(0)
            raise
        self._sockets[robot] = sock
        return sock

    def drop(self, robot: bytes) -> None:
        """Close the robot's socket, if it has one; what is under way is lost."""
        sock = self._sockets.pop(robot, None)
        if sock is not None:
            sock.close(0)

    def close(self) -> None:
        for robot in list(self._sockets):
            self.drop(robot)
