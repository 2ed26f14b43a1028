"""Client and server over real loopback sockets."""

from __future__ import annotations

import contextlib
import logging
import queue
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq

from spec_decode_ros.decoding.messages import (
    PROTOCOL,
    Close,
    Committed,
    Draft,
    Error,
    ErrorCode,
    Hello,
    Open,
    Opened,
    Ping,
    Pong,
    TokenOutcome,
    Welcome,
)
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.transport.client import Arrival, Client, Reconnected
from spec_decode_ros.transport.codec import DOWN, MAX_FRAME_BYTES, MAX_IMAGE_BYTES, WireError, decode, encode
from spec_decode_ros.transport.handshake import HELLO_FIRST, HandshakeError
from spec_decode_ros.transport.peers import PeerLimits
from spec_decode_ros.transport.server import Server

from .ipv6 import needs_ipv6
from .test_codec import EXAMPLES, images_of, mutated

WELCOME = Welcome(PROTOCOL, "toy", "words-1", (2,))
WAIT_S = 10.0


class Echo:
    """A server that answers `Open` with `Opened` and each draft with the same tokens, committed."""

    def __init__(self, bind: str = "tcp://127.0.0.1:*") -> None:
        self.seen: queue.Queue[tuple[bytes, object, tuple[bytes, ...]]] = queue.Queue()
        self.gone: queue.Queue[bytes] = queue.Queue()
        peers = PeerLimits(grace_s=0.1)
        self.server = Server(WELCOME, self._answer, self.gone.put, bind, peers=peers)
        self.endpoint = self.server.start()

    def _answer(self, client: bytes, message: object, images: tuple[bytes, ...]) -> None:
        self.seen.put((client, message, images))
        if isinstance(message, Open):
            self.server.send(client, Opened(message.action_id))
        elif isinstance(message, Draft):
            outcomes = (TokenOutcome.ACCEPTED,) * len(message.tokens)
            self.server.send(client, Committed(message.action_id, message.position, message.tokens, outcomes))


@contextlib.contextmanager
def echo(**options: object) -> Iterator[Echo]:
    served = Echo(**options)  # type: ignore[arg-type]
    try:
        yield served
    finally:
        served.server.stop()


@contextlib.contextmanager
def connected(
    endpoint: str, pair: str = "toy", vocabulary: str = "words-1", grammar: str = ""
) -> Iterator[tuple[Client, queue.Queue]]:
    arrivals: queue.Queue[Arrival] = queue.Queue()
    with Client(endpoint, pair, vocabulary, grammar=grammar) as client:
        client.listen(arrivals.put)
        yield client, arrivals


@contextlib.contextmanager
def raw_dealer(endpoint: str) -> Iterator[zmq.Socket]:
    sock = zmq.Context.instance().socket(zmq.DEALER)
    sock.setsockopt(zmq.LINGER, 0)
    sock.setsockopt(zmq.RCVTIMEO, int(WAIT_S * 1000))
    sock.setsockopt(zmq.SNDTIMEO, int(WAIT_S * 1000))
    sock.connect(endpoint)
    try:
        yield sock
    finally:
        sock.close(0)


def eventually(condition: Callable[[], bool]) -> bool:
    until = time.monotonic() + WAIT_S
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.01)
    return False


def test_an_action_goes_up_and_its_tokens_come_down() -> None:
    with echo() as served, connected(served.endpoint) as (client, arrivals):
        assert client.wait_ready(WAIT_S) == WELCOME
        size = client.send(Open(1, "go", images=2), [b"frame 1", b"frame 2"])
        assert arrivals.get(timeout=WAIT_S).message == Opened(1)
        assert served.seen.get(timeout=WAIT_S)[2] == (b"frame 1", b"frame 2")
        assert size == len(encode(Open(1, "go"))[0])
        client.send(Draft(1, 0, (5, 6)))
        arrival = arrivals.get(timeout=WAIT_S)
        assert arrival.message == Committed(1, 0, (5, 6), (TokenOutcome.ACCEPTED,) * 2)
        assert arrival.size == len(encode(arrival.message)[0])


def test_what_a_server_says_before_it_ends_is_heard_by_a_robot_that_is_busy() -> None:
    last = [Committed(1, position, (5,), (TokenOutcome.BONUS,)) for position in range(20)]
    heard: queue.Queue[object] = queue.Queue()
    busy = threading.Event()

    def listen(arrival: Arrival) -> None:
        heard.put(arrival.message)
        busy.wait(WAIT_S)

    with echo() as served, connected(served.endpoint) as (client, _):
        client.wait_ready(WAIT_S)
        client.listen(listen)
        client.send(Open(1, "go"))
        assert heard.get(timeout=WAIT_S) == Opened(1)
        name = served.seen.get(timeout=WAIT_S)[0]
        for message in last:
            served.server.send(name, message)
        served.server.stop()
        time.sleep(0.3)  # by now the end of the connection has come, too
        busy.set()
        assert [heard.get(timeout=WAIT_S) for _ in last] == last


def test_the_round_trip_time_is_measured() -> None:
    with echo() as served, connected(served.endpoint) as (client, _):
        assert client.rtt_ms is None
        client.wait_ready(WAIT_S)
        assert eventually(lambda: client.rtt_ms is not None)
        assert 0 < client.rtt_ms < 1000
        assert client.silence_s < WAIT_S


@pytest.mark.parametrize(
    ("pair", "vocabulary", "grammar", "sentence"),
    [
        ("other", "words-1", "", "robot runs the model pair 'other' and the cloud 'toy'"),
        ("toy", "words-2", "", r"vocabularies of the pair 'toy' differ \(robot words-2, cloud words-1\)"),
        (
            "toy",
            "words-1",
            "3f0c9a1b",
            r"grammars of the pair 'toy' differ \(robot 3f0c9a1b, cloud none\); set",
        ),
    ],
)
def test_a_mismatch_is_refused_with_a_sentence_that_says_what_differs(
    pair: str, vocabulary: str, grammar: str, sentence: str
) -> None:
    with echo() as served, connected(served.endpoint, pair, vocabulary, grammar) as (client, arrivals):
        with pytest.raises(HandshakeError, match=sentence):
            client.wait_ready(WAIT_S)
        assert not client.ready
        assert arrivals.get(timeout=WAIT_S).message.code == ErrorCode.MISMATCH
        client.send(Open(1, "go"))
        time.sleep(0.1)
        assert served.seen.empty()


def test_another_protocol_version_is_refused() -> None:
    with echo() as served, raw_dealer(served.endpoint) as sock:
        sock.send_multipart(encode(Hello(PROTOCOL + 1, "toy", "words-1")))
        answer, _ = decode(sock.recv_multipart(), DOWN)
        assert answer.code == ErrorCode.MISMATCH
        assert f"robot speaks protocol {PROTOCOL + 1} and the cloud protocol {PROTOCOL}" in answer.sentence


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ([b"\x07" + b"\x90"], "does not fit: The peer packs in version 7, this side in 1"),
        (
            encode(Error(0, ErrorCode.BAD_MESSAGE, "The peer packs in version 1, this side in 7.")),
            "this side in 7",
        ),
        (encode(Welcome(PROTOCOL + 1, "toy", "words-1")), "robot speaks protocol"),
    ],
)
def test_a_server_of_another_version_is_refused_by_the_client(answer: list[bytes], sentence: str) -> None:
    router = zmq.Context.instance().socket(zmq.ROUTER)
    router.setsockopt(zmq.LINGER, 0)
    router.setsockopt(zmq.RCVTIMEO, int(WAIT_S * 1000))
    router.bind("tcp://127.0.0.1:*")
    try:
        with Client(router.getsockopt_string(zmq.LAST_ENDPOINT), "toy", "words-1") as client:
            router.send_multipart([router.recv_multipart()[0], *answer])
            with pytest.raises(HandshakeError, match=sentence):
                client.wait_ready(WAIT_S)
    finally:
        router.close(0)


def test_nobody_there_is_a_time_out_with_the_remedy() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with (
            Client(f"tcp://127.0.0.1:{port}", "toy", "words-1") as client,
            pytest.raises(HandshakeError, match="spec-decode serve"),
        ):
            client.wait_ready(0.3)


@pytest.mark.parametrize("bind", [pytest.param("tcp://[::1]:*", marks=needs_ipv6), "ipc"])
def test_a_robot_is_served_over_ipv6_and_over_a_socket_of_the_machine(bind: str, tmp_path: Path) -> None:
    bind = f"ipc://{tmp_path}/verifier" if bind == "ipc" else bind
    with echo(bind=bind) as served, connected(served.endpoint) as (client, arrivals):
        client.wait_ready(WAIT_S)
        client.send(Open(1, "go"))
        assert arrivals.get(timeout=WAIT_S).message == Opened(1)


def test_bad_addresses_are_explained() -> None:
    with pytest.raises(SpecDecodeError, match="tcp://HOST:PORT"):
        Client("nonsense", "toy", "words-1")
    for port in ("notaport", "80000"):
        with pytest.raises(SpecDecodeError, match="is no port"):
            Server(WELCOME, lambda *_: None, bind=f"tcp://127.0.0.1:{port}").start()
    with echo() as served, pytest.raises(SpecDecodeError, match="choose a free address"):
        Server(WELCOME, lambda *_: None, bind=served.endpoint).start()


def test_without_a_hello_nothing_is_accepted() -> None:
    with echo() as served, raw_dealer(served.endpoint) as sock:
        sock.send_multipart(encode(Open(1, "go")))
        assert decode(sock.recv_multipart(), DOWN)[0].code == HELLO_FIRST
        assert served.seen.empty()


def test_a_restarted_server_is_greeted_again_and_the_method_told() -> None:
    with echo() as first:
        endpoint = first.endpoint
        client = Client(endpoint, "toy", "words-1")
        client.wait_ready(WAIT_S)
    arrivals: queue.Queue[Arrival] = queue.Queue()
    client.listen(arrivals.put)
    with client, echo(bind=endpoint):
        until = time.monotonic() + WAIT_S
        while arrivals.empty() and time.monotonic() < until:
            client.send(Draft(4, 0))  # what a method does when it hears nothing: it polls
            time.sleep(0.05)
        assert isinstance(arrivals.get(timeout=WAIT_S).message, Reconnected)
        client.send(Open(4, "go"))
        while (message := arrivals.get(timeout=WAIT_S).message) != Opened(4):
            assert isinstance(message, Error | Committed)


def test_two_clients_at_once_get_their_own_answers() -> None:
    with (
        echo() as served,
        connected(served.endpoint) as (one, one_hears),
        connected(served.endpoint) as (two, two_hears),
    ):
        one.wait_ready(WAIT_S)
        two.wait_ready(WAIT_S)
        for index in range(200):
            one.send(Draft(1, 0, (index,)))
            two.send(Draft(1, 0, (1000 + index,)))
        for index in range(200):
            assert one_hears.get(timeout=WAIT_S).message.tokens == (index,)
            assert two_hears.get(timeout=WAIT_S).message.tokens == (1000 + index,)


def test_a_client_that_is_gone_is_noticed() -> None:
    with echo() as served:
        with connected(served.endpoint) as (client, _):
            client.wait_ready(WAIT_S)
            client.send(Close(1))
            identity = served.seen.get(timeout=WAIT_S)[0]
        until = time.monotonic() + WAIT_S
        while served.gone.empty() and time.monotonic() < until:
            served.server.send(identity, Opened(1))
            time.sleep(0.02)
        assert served.gone.get(timeout=WAIT_S) == identity


def test_an_oversized_frame_costs_its_sender_the_connection_and_nobody_else() -> None:
    with echo() as served, connected(served.endpoint) as (client, arrivals):
        client.wait_ready(WAIT_S)
        with raw_dealer(served.endpoint) as sock:
            sock.send_multipart(encode(Hello(PROTOCOL, "toy", "words-1")))
            assert decode(sock.recv_multipart())[0] == WELCOME
            sock.send_multipart([*encode(Open(1, "go"))[:1], bytes(MAX_FRAME_BYTES + 1)])
            sock.setsockopt(zmq.RCVTIMEO, 300)
            with pytest.raises(zmq.Again):
                sock.recv_multipart()
        client.send(Open(1, "go"))
        assert arrivals.get(timeout=WAIT_S).message == Opened(1)
        assert served.seen.get(timeout=WAIT_S)[1] == Open(1, "go")
        assert served.seen.empty()


def test_what_is_too_large_is_refused_before_it_is_sent() -> None:
    with (
        echo() as served,
        Client(served.endpoint, "toy", "words-1") as client,
        pytest.raises(WireError, match="image has 4194305 bytes"),
    ):
        client.send(Open(1, "go", images=1), [bytes(MAX_IMAGE_BYTES + 1)])


def test_a_message_of_endless_frames_is_refused() -> None:
    with echo() as served, raw_dealer(served.endpoint) as sock:
        sock.send_multipart([b"x"] * 5000)
        answer = decode(sock.recv_multipart(), DOWN)[0]
        assert answer.code == ErrorCode.BAD_MESSAGE
        assert "frames" in answer.sentence


def test_thousands_of_malformed_messages_leave_the_server_serving() -> None:
    rng = random.Random(7)
    originals = [encode(message, images_of(message)) for message in EXAMPLES]
    with echo() as served, raw_dealer(served.endpoint) as sock:
        sock.send_multipart(encode(Hello(PROTOCOL, "toy", "words-1")))
        answers = 0
        for _ in range(100):
            for _ in range(50):
                frames = mutated(rng, rng.choice(originals)) or [b""]
                sock.send_multipart(frames)
            # Read along, so that no queue overflows; the ping comes back behind all answers.
            sock.send_multipart(encode(Ping(4711)))
            while decode(sock.recv_multipart(), DOWN)[0] != Pong(4711):
                answers += 1
        assert answers > 2_000
        with connected(served.endpoint) as (client, arrivals):
            client.wait_ready(WAIT_S)
            client.send(Open(1, "go"))
            assert arrivals.get(timeout=WAIT_S).message == Opened(1)


def test_other_protocols_at_the_port_leave_the_server_serving() -> None:
    rng = random.Random(3)
    with echo() as served, connected(served.endpoint) as (client, arrivals):
        host, port = served.endpoint.removeprefix("tcp://").split(":")
        for size in (1, 10, 100, 10_000):
            with socket.create_connection((host, int(port)), timeout=WAIT_S) as plain:
                plain.sendall(rng.randbytes(size))
        client.wait_ready(WAIT_S)
        client.send(Open(1, "go"))
        assert arrivals.get(timeout=WAIT_S).message == Opened(1)


def test_a_failing_handler_does_not_end_the_server(caplog: pytest.LogCaptureFixture) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a bug in the handler")

    server = Server(WELCOME, fail)
    with connected(server.start()) as (client, _), caplog.at_level(logging.ERROR):
        client.wait_ready(WAIT_S)
        client.send(Open(1, "go"))
        assert eventually(lambda: "a handler failed" in caplog.text)
        seen = client.rtt_ms
        assert eventually(lambda: client.rtt_ms != seen)
    server.stop()
