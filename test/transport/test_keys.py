"""With keys only the right robot is let in, and only to the right server."""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from spec_decode_ros.decoding.messages import PROTOCOL, Welcome
from spec_decode_ros.transport.client import Client
from spec_decode_ros.transport.handshake import HandshakeError
from spec_decode_ros.transport.keys import KeyFolderError, make_keys, robot_keys, server_keys
from spec_decode_ros.transport.server import Server

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
