"""Connections that exceed their limits are ended, and the others are served all the same; over real sockets."""

from __future__ import annotations

import contextlib
import queue
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from spec_decode_ros.decoding.messages import PROTOCOL, Hello, Open, Opened, Ping, Pong, Welcome
from spec_decode_ros.transport.codec import decode, encode
from spec_decode_ros.transport.connection_guard import ConnectionLimits
from spec_decode_ros.transport.keys import make_keys, robot_keys, server_keys
from spec_decode_ros.transport.secured_router import SecuredRouter
from spec_decode_ros.transport.server import Server

from .test_secured_router import SILENT_S, WAIT_S, Robot, eventually

WELCOME = Welcome(PROTOCOL, "toy", "words-1", (2,))
HELLO = Hello(PROTOCOL, "toy", "words-1")
TIGHT = ConnectionLimits(unread_bytes=1_000_000, silence_s=0.6, most=4)


class Polled:
    """A router in a thread, which answers a `Ping` with a `Pong`."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.router = SecuredRouter(zmq.Context.instance(), "tcp://127.0.0.1:*", None, limits=limits)
        self.endpoint = self.router.endpoint
        self.reads = True
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping.is_set():
            if not self.reads:
                time.sleep(0.02)
            elif self.router.sock.poll(20):
                frames = self.router.sock.recv_multipart(copy=False)
                self.router.receive(frames)
                if len(frames) == 2:
                    pong = encode(Pong(decode([frames[1].bytes])[0].stamp))
                    self.router.sock.send_multipart([frames[0].bytes, *pong])
            for call in self.router.extra_sockets.values():
                call()
            self.router.tick()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(WAIT_S)
        self.router.close()


@contextlib.contextmanager
def polled(limits: ConnectionLimits = TIGHT) -> Iterator[Polled]:
    served = Polled(limits)
    try:
        yield served
    finally:
        served.stop()


@contextlib.contextmanager
def plain(endpoint: str, speaks: bool = True) -> Iterator[socket.socket]:
    """A TCP connection on which ZeroMQ's handshake is done by hand, as a DEALER without keys."""
    host, port = endpoint.removeprefix("tcp://").split(":")
    with socket.create_connection((host, int(port)), timeout=WAIT_S) as sock:
        if speaks:
            sock.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32))
            ready = b"\x05READY\x0bSocket-Type" + struct.pack(">I", 6) + b"DEALER"
            sock.sendall(bytes([4, len(ready)]) + ready)
            greeting = b""
            while b"\x08Identity\0\0\0\0" not in greeting:
                greeting += sock.recv(4096)
        yield sock


def frame(body: bytes, more: bool) -> bytes:
    return bytes([2 + more]) + struct.pack(">Q", len(body)) + body


def is_ended(sock: socket.socket) -> bool:
    """Whether the other side has closed within the time-out; what it says before is read."""
    try:
        while sock.recv(65_536):
            pass
    except ConnectionError:
        pass
    except TimeoutError:
        return False
    return True


def test_a_message_without_an_end_costs_its_sender_the_connection() -> None:
    chunk = frame(bytes(100_000), more=True)
    with polled() as served, Robot(served.endpoint) as robot, plain(served.endpoint) as flood:
        with contextlib.suppress(ConnectionError):
            for _ in range(500):
                flood.sendall(chunk)
                time.sleep(0.005)
        assert is_ended(flood)
        assert served.router.guard.ended >= 1
        assert robot.ask(Ping(7)) == Pong(7)


def test_more_messages_than_are_read_cost_their_sender_the_connection() -> None:
    roomy = ConnectionLimits(unread_bytes=1_000_000)
    with polled(roomy) as served, Robot(served.endpoint) as robot, plain(served.endpoint) as flood:
        assert robot.ask(Ping(6)) == Pong(6)
        served.reads = False
        with contextlib.suppress(ConnectionError):
            for _ in range(500):
                flood.sendall(frame(bytes(50_000), more=True) + frame(bytes(50_000), more=False))
                time.sleep(0.002)
        assert is_ended(flood)
        assert served.router.guard.ended == 1
        served.reads = True
        assert robot.ask(Ping(7)) == Pong(7)


def test_what_waits_over_all_connections_is_bounded_too() -> None:
    tight = ConnectionLimits(unread_bytes=10_000_000, all_unread_bytes=1_500_000)
    with polled(tight) as served, plain(served.endpoint) as modest, plain(served.endpoint) as greedy:
        served.reads = False
        for _ in range(10):
            modest.sendall(frame(bytes(50_000), more=True) + frame(bytes(10), more=False))
        with contextlib.suppress(ConnectionError):
            for _ in range(100):
                greedy.sendall(frame(bytes(50_000), more=True) + frame(bytes(10), more=False))
                time.sleep(0.005)
        assert is_ended(greedy)
        served.reads = True
        (ping,) = encode(Ping(9))
        (pong,) = encode(Pong(9))
        modest.sendall(frame(ping, more=False))
        heard = b""
        while pong not in heard:
            chunk = modest.recv(4096)
            assert chunk, "the one with less was ended"
            heard += chunk


def test_who_sends_much_in_messages_that_end_is_served() -> None:
    with polled() as served, plain(served.endpoint) as sender:
        # Twenty times as much as may be unread, in messages of a tenth.
        for _ in range(200):
            sender.sendall(frame(bytes(50_000), more=True) + frame(bytes(50_000), more=False))
            time.sleep(0.002)
        (ping,) = encode(Ping(9))
        sender.sendall(frame(ping, more=False))
        (pong,) = encode(Pong(9))
        heard = b""
        while pong not in heard:
            chunk = sender.recv(4096)
            assert chunk, "the connection was ended"
            heard += chunk
        assert served.router.guard.ended == 0


@pytest.mark.parametrize("speaks", [True, False], ids=["a handshake and no word", "not even a handshake"])
def test_a_silent_connection_is_ended(speaks: bool) -> None:
    with polled() as served, plain(served.endpoint, speaks) as silent:
        assert is_ended(silent)
        assert served.router.guard.ended == 1


def test_a_connection_with_messages_now_and_then_is_kept() -> None:
    with polled() as served, Robot(served.endpoint) as robot:
        for number in range(1, 8):
            assert robot.ask(Ping(number)) == Pong(number)
            time.sleep(0.2)
        assert served.router.guard.ended == 0


def test_silent_connections_do_not_keep_robots_out() -> None:
    patient = ConnectionLimits(unread_bytes=1_000_000, most=4)
    with polled(patient) as served, Robot(served.endpoint) as early, contextlib.ExitStack() as stack:
        assert early.ask(Ping(1)) == Pong(1)
        silent = [stack.enter_context(plain(served.endpoint, speaks=False)) for _ in range(20)]
        late = stack.enter_context(Robot(served.endpoint))
        assert late.ask(Ping(2)) == Pong(2)
        assert early.ask(Ping(3)) == Pong(3)
        assert eventually(lambda: served.router.guard.ended >= 17)
        silent[0].settimeout(WAIT_S)
        assert is_ended(silent[0])  # the oldest of the silent ones


def test_a_robot_has_no_more_connections_than_its_share(tmp_path: Path) -> None:
    for name in ("greedy", "modest"):
        make_keys(tmp_path, name)
    greedy, modest = robot_keys(tmp_path / "greedy"), robot_keys(tmp_path / "modest")
    most = ConnectionLimits(1).most_each
    server = Server(WELCOME, lambda *_: None, keys=server_keys(tmp_path))
    endpoint = server.start()
    try:
        with Robot(endpoint, modest) as other, contextlib.ExitStack() as stack:
            assert other.ask(HELLO) == WELCOME
            first = stack.enter_context(Robot(endpoint, greedy))
            ended = first.sock.get_monitor_socket(zmq.EVENT_DISCONNECTED)
            assert first.ask(HELLO) == WELCOME
            for _ in range(most - 1):
                assert stack.enter_context(Robot(endpoint, greedy)).ask(HELLO) == WELCOME
            assert not ended.poll(int(SILENT_S * 1000))
            assert stack.enter_context(Robot(endpoint, greedy)).ask(HELLO) == WELCOME
            assert ended.poll(int(WAIT_S * 1000)), "the longest silent one stays"
            assert other.ask(Ping(1)) == Pong(1)
            first.sock.disable_monitor()
            ended.close(0)
    finally:
        server.stop()


def test_a_revoked_robots_connection_is_ended_when_it_speaks(tmp_path: Path) -> None:
    (own,) = make_keys(tmp_path)
    server = Server(WELCOME, lambda *_: None, keys=server_keys(tmp_path))
    endpoint = server.start()
    try:
        with Robot(endpoint, robot_keys(own)) as robot:
            monitor = robot.sock.get_monitor_socket(zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_FAILED_AUTH)
            assert robot.ask(HELLO) == WELCOME
            (tmp_path / "robots" / "robot.key").unlink()
            assert robot.hear() is not None  # that its keys were revoked
            robot.say(Ping(1))
            events = []
            while zmq.EVENT_HANDSHAKE_FAILED_AUTH not in events:
                assert monitor.poll(int(WAIT_S * 1000)), events
                events.append(struct.unpack_from("=H", monitor.recv_multipart()[0])[0])
            assert events[0] == zmq.EVENT_DISCONNECTED
            monitor.close(0)
    finally:
        server.stop()


def test_robots_take_turns_however_fast_one_of_them_sends() -> None:
    """While the server is busy, one robot sends a thousand messages and another one a single one, which is read soon."""
    order: queue.Queue[int] = queue.Queue()
    go_on = threading.Event()

    def on_message(client: bytes, message: object, images: tuple[bytes, ...]) -> None:
        assert isinstance(message, Open)
        order.put(message.action_id)
        if message.action_id == 1:
            assert go_on.wait(WAIT_S)
        server.send(client, Opened(message.action_id))

    server = Server(WELCOME, on_message)
    endpoint = server.start()
    try:
        with Robot(endpoint) as greedy, Robot(endpoint) as modest:
            assert greedy.ask(HELLO) == modest.ask(HELLO) == WELCOME
            greedy.say(Open(1, "keep the server busy"))
            assert order.get(timeout=WAIT_S) == 1
            for number in range(2, 1002):
                greedy.say(Open(number, "x"))
            modest.say(Open(5000, "x"))
            time.sleep(0.5)  # so that all of them wait at the server
            go_on.set()
            assert modest.hear() == Opened(5000)
            before = []
            while (number := order.get(timeout=WAIT_S)) != 5000:
                before.append(number)
            assert len(before) <= 20
            while (answer := greedy.hear()) != Opened(1001):
                assert answer is not None
    finally:
        go_on.set()
        server.stop()


def test_many_connections_do_not_stop_zeromq_while_the_server_is_busy() -> None:
    """ZeroMQ's thread, which serves all sockets, reports every connection to the monitor and must not wait for it."""
    context = zmq.Context()
    router = SecuredRouter(context, "tcp://127.0.0.1:*", None)
    try:
        host, port = router.endpoint.removeprefix("tcp://").split(":")
        for _ in range(1500):
            with socket.create_connection((host, int(port)), timeout=WAIT_S) as stranger:
                stranger.sendall(b"\xff" * 82)
        with context.socket(zmq.ROUTER) as here, context.socket(zmq.DEALER) as there:
            here.setsockopt(zmq.LINGER, 0)
            there.setsockopt(zmq.LINGER, 0)
            port = here.bind_to_random_port("tcp://127.0.0.1")
            there.connect(f"tcp://127.0.0.1:{port}")
            there.send(b"hello")
            assert here.poll(int(WAIT_S * 1000))
        (take_in,) = router.extra_sockets.values()

        def refused_all() -> bool:
            take_in()
            return router.guard.refused == 1500

        assert eventually(refused_all)
    finally:
        router.close()
        context.destroy(linger=0)
