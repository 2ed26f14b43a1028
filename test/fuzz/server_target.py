"""A whole verifier behind real sockets, told anything by three clients, while a fourth one must get what it is owed."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import zmq
from server.toys import ToyDrafter, ToyVerifier, target_answer

from fuzz import cases
from spec_decode_ros.decoding.messages import Committed, Open, Opened, Ping, Pong, Welcome
from spec_decode_ros.server.config import ServiceConfig
from spec_decode_ros.server.server_drafts import ServerDrafter
from spec_decode_ros.server.verifier_server import VerifierServer
from spec_decode_ros.transport.codec import DOWN, decode, encode

_WAIT_MS = 20_000
_HONEST_EVERY = 40
_END = Ping(2**61 - 1)


class _Failures(logging.Handler):
    """Errors in the log are bugs: what robots send may only lead to warnings and answers."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(self.format(record))


class _Robot:
    def __init__(self, endpoint: str) -> None:
        self.sock = zmq.Context.instance().socket(zmq.DEALER)
        self.sock.setsockopt(zmq.LINGER, 0)
        self.sock.setsockopt(zmq.SNDTIMEO, _WAIT_MS)
        self.sock.setsockopt(zmq.RCVTIMEO, _WAIT_MS)
        self.sock.setsockopt(zmq.RCVHWM, 0)
        self.sock.connect(endpoint)
        self.say(encode(cases.HELLO))

    def say(self, frames: list[bytes]) -> None:
        self.sock.send_multipart(frames)

    def hear(self) -> object:
        return decode(self.sock.recv_multipart(), DOWN)[0]  # whatever comes down is well formed

    def settle(self) -> int:
        """Until everything that was said has been answered; returns how many answers came."""
        self.say(encode(_END))
        answers = 0
        while self.hear() != Pong(_END.stamp):
            answers += 1
        return answers


def _owed(robot: _Robot, number: int) -> None:
    """An honest action in the midst of it all gets its tokens, and all of them."""
    prompt = f"honest {number}"
    robot.say(encode(cases.HELLO))
    robot.say(encode(Open(number, prompt)))
    tokens: list[int] = []
    while True:
        message = robot.hear()
        if isinstance(message, Committed):
            assert message.action_id == number and message.position == len(tokens), message
            tokens += message.tokens
            if message.done:
                break
        else:
            assert isinstance(message, Opened | Welcome), message
    assert tuple(tokens) == target_answer(prompt), (tokens, target_answer(prompt))


@contextlib.contextmanager
def whole_server() -> Iterator:
    """Yields what sends one case and checks on the server."""
    failures = _Failures()
    log = logging.getLogger("spec_decode_ros")
    log.addHandler(failures)
    log.propagate, before = False, log.propagate
    verifier = ToyVerifier()
    server = VerifierServer(
        verifier,
        cases.PAIR,
        ServiceConfig(max_sessions=8, actions_per_second=1e4, expire_s=5.0),
        drafter=ServerDrafter(lambda _: 2, drafter=ToyDrafter()),
    )
    count = 0
    with server, contextlib.ExitStack() as stack:
        robots = [_Robot(server.endpoint) for _ in range(cases.CLIENTS)]
        honest = _Robot(server.endpoint)
        for robot in (*robots, honest):
            stack.callback(robot.sock.close, 0)

        def attempt(data: bytes) -> int:
            nonlocal count
            case = cases.split(data)
            for client, frames in case:
                robots[client].say(frames)
            for client in {client for client, _ in case}:
                robots[client].settle()
            count += 1
            if count % _HONEST_EVERY == 0:
                _owed(honest, count)
            verifier.passes.clear()  # the toy's own notes
            verifier.shared.clear()
            assert server.socket.alive
            assert not failures.seen, failures.seen[0]
            return len(case)

        try:
            yield attempt
        finally:
            log.removeHandler(failures)
            log.propagate = before
