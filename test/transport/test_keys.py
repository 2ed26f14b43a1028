"""With keys only the right robot is let in, and only to the right server."""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from spec_decode_ros.decoding.messages import PROTOCOL, Welcome
from spec_decode_ros.transport.client import Client
from spec_decode_ros.transport.handshake import HandshakeError
from spec_decode_ros.transport.keyring import Keyring
from spec_decode_ros.transport.keys import (
    KeyFolderError,
    KnownRobot,
    RobotKeys,
    make_keys,
    read_certificate,
    revoke,
    robot_keys,
    robots_of,
    server_keys,
)
from spec_decode_ros.transport.server import Server

from .test_secured_router import eventually

WELCOME = Welcome(PROTOCOL, "toy", "words-1", (2,))


@contextlib.contextmanager
def guarded(folder: Path) -> Iterator[str]:
    server = Server(WELCOME, lambda *_: None, keys=server_keys(folder))
    try:
        yield server.start()
    finally:
        server.stop()


def is_let_in(endpoint: str, folder: Path | None, timeout_s: float) -> bool:
    keys = robot_keys(folder) if folder else None
    with Client(endpoint, "toy", "words-1", keys=keys) as client:
        try:
            client.wait_ready(timeout_s)
        except HandshakeError:
            return False
        return True


def test_a_robot_with_keys_is_let_in_and_no_other(tmp_path: Path) -> None:
    (robot,) = make_keys(tmp_path / "a")
    (stranger,) = make_keys(tmp_path / "b")
    with guarded(tmp_path / "a") as endpoint:
        assert is_let_in(endpoint, robot, 10.0)
        assert not is_let_in(endpoint, None, 0.7)
        assert not is_let_in(endpoint, stranger, 0.7)
        # The right server, but a robot that it does not know.
        (stranger / "cloud.key").write_bytes((robot / "cloud.key").read_bytes())
        assert not is_let_in(endpoint, stranger, 0.7)
        assert is_let_in(endpoint, robot, 10.0)


def test_a_robot_does_not_talk_to_a_false_server(tmp_path: Path) -> None:
    (robot,) = make_keys(tmp_path / "a")
    make_keys(tmp_path / "b")
    (tmp_path / "b" / "robots" / "robot.key").write_bytes(
        (tmp_path / "a" / "robots" / "robot.key").read_bytes()
    )
    with guarded(tmp_path / "b") as endpoint:
        assert not is_let_in(endpoint, robot, 0.7)


def test_more_robots_get_keys_of_their_own(tmp_path: Path) -> None:
    (first,) = make_keys(tmp_path)
    (second,) = make_keys(tmp_path, "go2-b")
    assert make_keys(tmp_path) == []
    assert robot_keys(first).public != robot_keys(second).public
    with guarded(tmp_path) as endpoint:
        assert is_let_in(endpoint, first, 10.0)
        assert is_let_in(endpoint, second, 10.0)
    with pytest.raises(KeyFolderError, match="already"):
        make_keys(tmp_path, "go2-b")
    with pytest.raises(KeyFolderError, match="name"):
        make_keys(tmp_path, "../elsewhere")


def test_secrets_are_readable_for_their_owner_only(tmp_path: Path) -> None:
    make_keys(tmp_path)
    secrets = list(tmp_path.rglob("*.key_secret"))
    assert len(secrets) == 2
    for secret in secrets:
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600


def test_folders_that_hold_no_keys_are_explained(tmp_path: Path) -> None:
    with pytest.raises(KeyFolderError, match="can't be read"):
        server_keys(tmp_path)
    with pytest.raises(KeyFolderError, match="not the key folder of a robot"):
        robot_keys(tmp_path)
    (robot,) = make_keys(tmp_path)
    (robot / "robot.key_secret").write_text("metadata\ncurve\n")
    with pytest.raises(KeyFolderError, match=r"robot\.key_secret"):
        robot_keys(robot)


def refusal(endpoint: str, keys: RobotKeys | None) -> str:
    """What the robot's operator reads."""
    with Client(endpoint, "toy", "words-1", keys=keys) as client, pytest.raises(HandshakeError) as caught:
        client.wait_ready(1.0)
    return str(caught.value)


def test_a_robot_that_is_not_let_in_reads_one_sentence_that_says_why(tmp_path: Path) -> None:
    right = robot_keys(make_keys(tmp_path / "a")[0])
    other = robot_keys(make_keys(tmp_path / "b")[0])
    with guarded(tmp_path / "a") as endpoint:
        assert "does not let this robot's key in; add it to the server's keys" in refusal(
            endpoint, RobotKeys(other.public, other.secret, right.server)
        )
        for keys in (None, other):
            assert "do not agree on encryption; give the robot the keys" in refusal(endpoint, keys)


def test_keys_that_come_and_go_while_robot_and_server_run(tmp_path: Path) -> None:
    (own,) = make_keys(tmp_path)
    keys, known = robot_keys(own), tmp_path / "robots" / "robot.key"
    public = known.read_bytes()
    with guarded(tmp_path) as endpoint, Client(endpoint, "toy", "words-1", keys=keys) as client:
        client.wait_ready(10.0)
        known.unlink()
        assert eventually(lambda: not client.ready)
        # It is told so once; where the end of its connection overtakes that, its next handshake fails.
        assert eventually(
            lambda: "were revoked" in client.refusal or "let this robot's key in" in client.refusal
        )
        known.write_bytes(public)
        assert eventually(lambda: client.ready)


def test_a_robot_is_revoked_with_what_was_never_copied(tmp_path: Path) -> None:
    make_keys(tmp_path, "one")
    make_keys(tmp_path, "two")
    assert [(robot.name, robot.to_copy) for robot in robots_of(tmp_path)] == [("one", True), ("two", True)]
    revoke(tmp_path, "one")
    assert [robot.name for robot in robots_of(tmp_path)] == ["two"]
    assert not (tmp_path / "one").exists()
    with pytest.raises(KeyFolderError, match=r"no robot 'one'.*let in: two"):
        revoke(tmp_path, "one")
    with pytest.raises(KeyFolderError, match="spec-decode keygen"):
        revoke(tmp_path / "nothing", "one")
    (again,) = make_keys(tmp_path, "one")
    assert robot_keys(again).server == server_keys(tmp_path).public


def test_a_secret_that_others_can_read_is_complained_about(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_keys(tmp_path)
    server_keys(tmp_path)
    assert not caplog.records
    (tmp_path / "cloud.key_secret").chmod(0o644)
    server_keys(tmp_path)
    assert "cloud.key_secret can be read by other users" in caplog.text


@pytest.mark.parametrize(
    "damage",
    [b"", b"public-key", b'public-key = "short"', b"\xff\xfe", b'public-key = "' + b"~" * 40 + b'"'],
)
def test_a_damaged_key_file_is_one_sentence(tmp_path: Path, damage: bytes) -> None:
    make_keys(tmp_path)
    (tmp_path / "cloud.key_secret").write_bytes(damage)
    with pytest.raises(KeyFolderError, match=r"can't be read|holds no secret key"):
        server_keys(tmp_path)


def test_a_balancers_mark_counts_in_the_servers_folder_and_nowhere_else(tmp_path: Path) -> None:
    (front,) = make_keys(tmp_path, "front", balancer=True)
    (robot,) = make_keys(tmp_path, "go2")
    assert [(each.name, each.balancer) for each in robots_of(tmp_path)] == [("front", True), ("go2", False)]
    keyring, key = Keyring(tmp_path / "robots"), robot_keys(robot).public.decode()
    balancers = robot_keys(front).public.decode()
    keyring.refresh()
    assert keyring.robot(balancers) == KnownRobot("front", balancers, to_copy=True, balancer=True)
    assert keyring.robot(key) == KnownRobot("go2", key, to_copy=True, balancer=False)
    # A mark in its own folder does not count.
    secret = robot / "go2.key_secret"
    secret.write_text(secret.read_text().replace("metadata\n", 'metadata\n    role = "balancer"\n'))
    keyring.refresh()
    assert keyring.robot(key) == KnownRobot("go2", key, to_copy=True, balancer=False)
    known = tmp_path / "robots" / "front.key"
    known.write_text(known.read_text().replace("role", "rule"))
    assert keyring.refresh() == {}
    unmarked = keyring.robot(balancers)
    assert unmarked == KnownRobot("front", balancers, to_copy=True, balancer=False)
    revoke(tmp_path, "front")
    assert keyring.refresh() == {balancers: unmarked}


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ('metadata\n    role = "balancer"\ncurve\n', True),
        ("metadata\n\tname = x\n\trole = balancer\n\ncurve\n", True),
        ("curve\n    role = balancer\n", False),
        ("# metadata\n    role = balancer\ncurve\n", False),
        ('metadata\n    role = "a balancer"\ncurve\n', False),
        ("metadata\nrole = balancer\ncurve\n", False),
        ("metadata\n    role\n    balancer\ncurve\n", False),
    ],
)
def test_the_mark_is_a_line_of_the_metadata(tmp_path: Path, text: str, marked: bool) -> None:
    file = tmp_path / "a.key"
    file.write_text(f'{text}    public-key = "{"a" * 39}0"\n')
    assert read_certificate(file).balancer is marked


def test_servers_that_start_at_once_make_the_keys_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = [robot for robots in pool.map(make_keys, [tmp_path] * 8) for robot in robots]
    assert len(made) == 1
    assert robot_keys(made[0]).server == server_keys(tmp_path).public
