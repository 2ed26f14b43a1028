"""Without a key, or with a wrong or revoked one or another robot's identity, nothing gets through; over real sockets."""

from __future__ import annotations

import contextlib
import os
import queue
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq

from spec_decode_ros.decoding.messages import (
    PROTOCOL,
    Close,
    Error,
    ErrorCode,
    Hello,
    Message,
    Open,
    Opened,
    Ping,
    Pong,
    Welcome,
)
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.transport.codec import DOWN, decode, encode
from spec_decode_ros.transport.keys import RobotKeys, make_keys, revoke, robot_keys, server_keys
from spec_decode_ros.transport.peers import PeerLimits
from spec_decode_ros.transport.server import Server, Traffic

WELCOME = Welcome(PROTOCOL, "toy", "words-1", (2,))
HELLO = Hello(PROTOCOL, "toy", "words-1")
WAIT_S = 10.0
SILENT_S = 0.4
"""How long a test listens to be sure that nothing comes; loopback answers within a millisecond."""


class Guarded:
    """A server with keys that answers `Open` with `Opened` and remembers what got through."""

    own_process = False

    def __init__(self, folder: Path, own_process: bool | None = None, **options: object) -> None:
        self.seen: queue.Queue[tuple[bytes, Message]] = queue.Queue()
        self.gone: queue.Queue[bytes] = queue.Queue()
        self.server = Server(WELCOME, self._answer, self.gone.put, keys=server_keys(folder), **options)
        self.endpoint = self.server.start(self.own_process if own_process is None else own_process)

    def _answer(self, client: bytes, message: Message, images: tuple[bytes, ...]) -> None:
        self.seen.put((client, message))
        if isinstance(message, Open):
            self.server.send(client, Opened(message.action_id))


@pytest.fixture(autouse=True, params=[False, True], ids=["its own socket", "a socket in another process"])
def own_process(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Guarded, "own_process", request.param)


@contextlib.contextmanager
def guarded(folder: Path, **options: object) -> Iterator[Guarded]:
    served = Guarded(folder, **options)
    try:
        yield served
    finally:
        served.server.stop()


class Robot:
    """A DEALER that sends exactly the given messages."""

    def __init__(self, endpoint: str, keys: RobotKeys | None = None, identity: bytes = b"") -> None:
        self.sock = zmq.Context.instance().socket(zmq.DEALER)
        self.sock.setsockopt(zmq.LINGER, 0)
        self.sock.setsockopt(zmq.SNDTIMEO, int(WAIT_S * 1000))
        if identity:
            self.sock.setsockopt(zmq.ROUTING_ID, identity)
        if keys:
            self.sock.curve_publickey, self.sock.curve_secretkey = keys.public, keys.secret
            self.sock.curve_serverkey = keys.server
        self.sock.connect(endpoint)

    def __enter__(self) -> Robot:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close(0)

    def say(self, message: Message) -> None:
        self.sock.send_multipart(encode(message))

    def hear(self, within_s: float = WAIT_S) -> Message | None:
        if not self.sock.poll(int(within_s * 1000)):
            return None
        return decode(self.sock.recv_multipart(), DOWN)[0]

    def ask(self, message: Message) -> Message | None:
        self.say(message)
        return self.hear()


def eventually(condition: Callable[[], bool]) -> bool:
    until = time.monotonic() + WAIT_S
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.01)
    return False


def test_without_a_key_or_with_a_wrong_one_nothing_gets_in(tmp_path: Path) -> None:
    (own,) = make_keys(tmp_path / "cloud")
    (other,) = make_keys(tmp_path / "other")
    right, stranger = robot_keys(own), robot_keys(other)
    wrong_robot = RobotKeys(stranger.public, stranger.secret, right.server)
    stolen_public = RobotKeys(right.public, stranger.secret, right.server)
    wrong_server = RobotKeys(right.public, right.secret, stranger.server)
    with guarded(tmp_path / "cloud") as served, contextlib.ExitStack() as stack:
        intruders = [
            stack.enter_context(Robot(served.endpoint, keys))
            for keys in (None, stranger, wrong_robot, stolen_public, wrong_server)
        ]
        for intruder in intruders:
            intruder.sock.setsockopt(zmq.SNDTIMEO, 200)
            for message in (HELLO, Open(1, "go"), Close(1), Ping(1)):
                with contextlib.suppress(zmq.Again):  # it may have been refused for good already
                    intruder.say(message)
        with Robot(served.endpoint, right) as robot:
            assert robot.ask(HELLO) == WELCOME
            assert robot.ask(Open(1, "go")) == Opened(1)
        assert [intruder.hear(SILENT_S / 5) for intruder in intruders] == [None] * 5
        assert eventually(lambda: served.server.traffic.refused_peers >= 5)
        assert served.seen.get(timeout=WAIT_S)[1] == Open(1, "go")
        assert served.seen.empty()


def test_a_robot_is_added_while_the_server_runs(tmp_path: Path) -> None:
    make_keys(tmp_path)
    with guarded(tmp_path) as served:
        (late,) = make_keys(tmp_path, "late")

        def let_in() -> bool:
            # Each time a new connection: ZeroMQ does not try again after a key was refused.
            with Robot(served.endpoint, robot_keys(late)) as robot:
                robot.say(HELLO)
                return robot.hear(SILENT_S) == WELCOME

        assert eventually(let_in)


def test_a_revoked_robot_is_shut_out_although_it_is_connected(tmp_path: Path) -> None:
    (own,) = make_keys(tmp_path, "go2-a")
    (other,) = make_keys(tmp_path, "go2-b")
    keys = robot_keys(own)
    with (
        guarded(tmp_path) as served,
        Robot(served.endpoint, keys) as robot,
        Robot(served.endpoint, robot_keys(other)) as bystander,
    ):
        assert robot.ask(HELLO) == WELCOME
        assert bystander.ask(HELLO) == WELCOME
        assert robot.ask(Open(1, "go")) == Opened(1)
        client, _ = served.seen.get(timeout=WAIT_S)
        assert served.server.robot(client) == "go2-a"
        revoke(tmp_path, "go2-a")
        assert served.gone.get(timeout=WAIT_S) == client  # its actions are freed
        refusal = robot.hear()
        assert isinstance(refusal, Error)
        assert (refusal.action_id, refusal.code) == (0, ErrorCode.MISMATCH)
        assert "keys of this robot were revoked" in refusal.sentence
        for message in (Open(2, "go"), Ping(1), HELLO, Open(3, "go")):
            robot.say(message)
        assert bystander.ask(Open(1, "go")) == Opened(1)
        assert eventually(lambda: 1 <= served.server.traffic.bad_messages <= 4)
        assert robot.hear(SILENT_S) is None
        assert served.seen.get(timeout=WAIT_S)[0] != client
        assert served.seen.empty()
        with Robot(served.endpoint, keys) as again:
            again.say(HELLO)
            assert again.hear(SILENT_S) is None


def test_a_folder_of_keys_that_is_gone_lets_nobody_in_until_it_is_back(tmp_path: Path) -> None:
    (own,) = make_keys(tmp_path / "keys")
    keys = robot_keys(own)
    with guarded(tmp_path / "keys") as served, Robot(served.endpoint, keys) as robot:
        assert robot.ask(HELLO) == WELCOME
        os.rename(tmp_path / "keys", tmp_path / "away")
        served.gone.get(timeout=WAIT_S)
        robot.say(Open(1, "go"))
        assert eventually(lambda: served.server.traffic.bad_messages == 1)
        os.rename(tmp_path / "away", tmp_path / "keys")

        def welcome() -> bool:
            with Robot(served.endpoint, keys) as again:
                again.say(HELLO)
                return again.hear(SILENT_S) == WELCOME

        assert eventually(welcome)


def test_a_broken_key_file_shuts_out_its_robot_alone(tmp_path: Path) -> None:
    (first,) = make_keys(tmp_path, "first")
    (second,) = make_keys(tmp_path, "second")
    (tmp_path / "robots" / "first.key").write_bytes(b'public-key = "' + bytes(40) + b'"\n')
    with (
        guarded(tmp_path) as served,
        Robot(served.endpoint, robot_keys(first)) as one,
        Robot(served.endpoint, robot_keys(second)) as two,
    ):
        one.say(HELLO)
        assert two.ask(HELLO) == WELCOME
        assert one.hear(SILENT_S) is None


def test_another_key_cannot_send_or_receive_under_a_robots_identity(tmp_path: Path) -> None:
    (own,) = make_keys(tmp_path, "victim")
    (other,) = make_keys(tmp_path, "thief")
    identity = b"the victim's routing id"
    with guarded(tmp_path) as served, Robot(served.endpoint, robot_keys(own), identity) as victim:
        assert victim.ask(HELLO) == WELCOME
        assert victim.ask(Open(1, "go")) == Opened(1)
        assert served.seen.get(timeout=WAIT_S)[0] == identity
        with Robot(served.endpoint, robot_keys(other), identity) as thief:
            for message in (HELLO, Open(2, "go elsewhere"), Close(1)):
                thief.say(message)
            # The victim's connection was taken over; it comes back, and may take it back.
            assert eventually(lambda: served.server.traffic.bad_messages >= 1)
            served.server.send(identity, Opened(99))
            assert thief.hear(SILENT_S) is None
        assert served.gone.empty()

        def is_back() -> bool:
            victim.say(Open(3, "go on"))
            return victim.hear(SILENT_S) == Opened(3)

        assert eventually(is_back)
        heard = {message for _, message in list(served.seen.queue)}
        assert heard == {Open(3, "go on")}


def test_a_robot_that_comes_back_with_its_identity_is_known_again(tmp_path: Path) -> None:
    (own,) = make_keys(tmp_path)
    with guarded(tmp_path) as served:
        with Robot(served.endpoint, robot_keys(own), b"stable") as robot:
            assert robot.ask(HELLO) == WELCOME
        with Robot(served.endpoint, robot_keys(own), b"stable") as again:
            assert again.ask(Open(2, "go")) == Opened(2)  # without a hello
        assert served.gone.empty()


def test_a_robot_that_stays_away_is_gone(tmp_path: Path) -> None:
    (own,) = make_keys(tmp_path)
    with guarded(tmp_path, peers=PeerLimits(grace_s=0.2)) as served:
        with Robot(served.endpoint, robot_keys(own), b"stable") as robot:
            assert robot.ask(HELLO) == WELCOME
        until = time.monotonic() + WAIT_S
        while served.gone.empty() and time.monotonic() < until:
            served.server.send(b"stable", Opened(1))
            time.sleep(0.02)
        assert served.gone.get(timeout=WAIT_S) == b"stable"


def test_a_full_server_says_when_to_come_back(tmp_path: Path) -> None:
    make_keys(tmp_path, "a")
    make_keys(tmp_path, "b")
    keys = [robot_keys(tmp_path / name) for name in "ab"]
    with (
        guarded(tmp_path, peers=PeerLimits(most=1)) as served,
        Robot(served.endpoint, keys[0]) as first,
        Robot(served.endpoint, keys[1]) as second,
    ):
        assert first.ask(HELLO) == WELCOME
        answer = second.ask(HELLO)
        assert isinstance(answer, Error)
        assert (answer.code, answer.retry_ms) == (ErrorCode.BUSY, 5000.0)
        assert first.ask(HELLO) == WELCOME  # a known robot needs no room


@pytest.mark.parametrize("bind", ["tcp://0.0.0.0:*", "tcp://*:*", "tcp://[::]:*"])
def test_beyond_this_machine_a_server_without_keys_does_not_start(bind: str) -> None:
    server = Server(WELCOME, lambda *_: None, bind=bind)
    with pytest.raises(SpecDecodeError, match=r"spec-decode keygen .* --keys .* --insecure"):
        server.start()
    assert server.endpoint == ""
    server.stop()


def test_with_insecure_it_starts(caplog: pytest.LogCaptureFixture) -> None:
    server = Server(WELCOME, lambda *_: None, bind="tcp://0.0.0.0:*", insecure=True)
    try:
        port = server.start().rpartition(":")[2]
        assert "serves whoever reaches it, unencrypted" in caplog.text
        with Robot(f"tcp://127.0.0.1:{port}") as anyone:
            assert anyone.ask(HELLO) == WELCOME
    finally:
        server.stop()


def test_with_keys_it_listens_anywhere(tmp_path: Path) -> None:
    (own,) = make_keys(tmp_path)
    with guarded(tmp_path, bind="tcp://0.0.0.0:*") as served:
        port = served.endpoint.rpartition(":")[2]
        with Robot(f"tcp://127.0.0.1:{port}", robot_keys(own)) as robot:
            assert robot.ask(HELLO) == WELCOME


def test_a_message_can_be_sent_to_every_robot(tmp_path: Path) -> None:
    make_keys(tmp_path, "a")
    make_keys(tmp_path, "b")
    with (
        guarded(tmp_path) as served,
        Robot(served.endpoint, robot_keys(tmp_path / "a")) as first,
        Robot(served.endpoint, robot_keys(tmp_path / "b")) as second,
        Robot(served.endpoint, robot_keys(tmp_path / "b")) as unknown,
    ):
        assert first.ask(HELLO) == second.ask(HELLO) == WELCOME
        assert unknown.ask(Ping(1)) == Pong(1)
        leaving = Error(0, ErrorCode.DRAINING, "This verifier ends.", 1000.0)
        served.server.broadcast(leaving)
        assert first.hear() == second.hear() == leaving
        assert unknown.hear(SILENT_S / 4) is None


def test_traffic_is_counted(tmp_path: Path) -> None:
    (own,) = make_keys(tmp_path)
    with guarded(tmp_path) as served, Robot(served.endpoint, robot_keys(own)) as robot:
        assert served.server.traffic == Traffic()
        robot.ask(HELLO)
        robot.ask(Ping(5))
        received = sum(len(encode(message)[0]) for message in (HELLO, Ping(5)))
        sent = sum(len(encode(message)[0]) for message in (WELCOME, Pong(5)))
        assert eventually(lambda: served.server.traffic == Traffic(received, sent))
        robot.sock.send_multipart([b"nonsense"])
        assert isinstance(robot.hear(), Error)
        assert eventually(lambda: served.server.traffic.bad_messages == 1)
        robot.ask(Hello(PROTOCOL, "other", "words-1"))
        assert eventually(lambda: served.server.traffic.refused_peers == 1)
