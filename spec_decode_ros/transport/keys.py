"""Who may talk to whom: CurveZMQ keys in a folder, made on first use.

The cloud's folder holds its own pair of keys, the public keys of the robots that it serves, and for each robot a
folder to copy to it::

    cloud.key  cloud.key_secret        the server
    robots/robot.key                   robots that are let in
    robot/cloud.key  robot/robot.key_secret    copy this folder to the robot, and delete it here

With keys everything on the wire is encrypted, a robot talks only to this server, and the server only to its robots.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import zmq.auth

from spec_decode_ros.errors import SpecDecodeError

CLOUD = "cloud"
ROBOTS = "robots"
FIRST_ROBOT = "robot"


class KeyFolderError(SpecDecodeError):
    """A folder of keys that can't be used."""


@dataclass(frozen=True)
class ServerKeys:
    """The server's own keys and the folder with the public keys of its robots."""

    public: bytes
    secret: bytes
    robots: Path


@dataclass(frozen=True)
class RobotKeys:
    """A robot's own keys and the public key of its server."""

    public: bytes
    secret: bytes
    server: bytes


def make_keys(folder: str | Path, robot: str | None = None) -> list[Path]:
    """Complete the cloud's folder: its own keys if it has none, and those of `robot` (of a first one, if there is none).

    Returns the folders that are to be copied to robots.

    Raises:
        KeyFolderError: if the folder can't be written, or there are keys for `robot` already.
    """
    folder = Path(folder)
    try:
        (folder / ROBOTS).mkdir(parents=True, exist_ok=True)
        if not (folder / f"{CLOUD}.key_secret").exists():
            _make_pair(folder, CLOUD)
        if robot is None and not any((folder / ROBOTS).glob("*.key")):
            robot = FIRST_ROBOT
        return [_add_robot(folder, robot)] if robot else []
    except OSError as error:
        raise KeyFolderError(f"Keys can't be made in {folder}: {error.strerror or error}.") from error


def _add_robot(folder: Path, robot: str) -> Path:
    if not re.fullmatch(r"[\w-]{1,64}", robot) or robot in (CLOUD, ROBOTS):
        raise KeyFolderError(f"A robot's name has 1 to 64 letters, digits, - or _, and is not {robot!r}.")
    known = folder / ROBOTS / f"{robot}.key"
    if known.exists():
        raise KeyFolderError(
            f"There are keys for {robot!r} already; delete {known} to shut it out, or choose a name."
        )
    own = folder / robot
    own.mkdir(mode=0o700, exist_ok=True)
    _make_pair(own, robot)
    shutil.move(own / f"{robot}.key", known)
    shutil.copy(folder / f"{CLOUD}.key", own / f"{CLOUD}.key")
    return own


def _make_pair(folder: Path, name: str) -> None:
    before = os.umask(0o077)
    try:
        zmq.auth.create_certificates(folder, name)
    finally:
        os.umask(before)


def server_keys(folder: str | Path) -> ServerKeys:
    """The cloud's keys. Raises KeyFolderError."""
    folder = Path(folder)
    public, secret = _load(folder / f"{CLOUD}.key_secret")
    return ServerKeys(public, secret, folder / ROBOTS)


def robot_keys(folder: str | Path) -> RobotKeys:
    """A robot's keys, from the folder that was copied to it. Raises KeyFolderError."""
    folder = Path(folder)
    secrets = [path for path in folder.glob("*.key_secret") if path.stem != CLOUD]
    if len(secrets) != 1:
        raise KeyFolderError(
            f"{folder} is not the key folder of a robot, which holds one robot's .key_secret and {CLOUD}.key; copy it "
            "from where the server keeps its keys."
        )
    public, secret = _load(secrets[0])
    server, _ = _load(folder / f"{CLOUD}.key", secret_needed=False)
    return RobotKeys(public, secret, server)


def _load(path: Path, secret_needed: bool = True) -> tuple[bytes, bytes]:
    try:
        public, secret = zmq.auth.load_certificate(path)
    except (OSError, ValueError) as error:
        raise KeyFolderError(f"The key file {path} can't be read: {error}.") from error
    if secret_needed and secret is None:
        raise KeyFolderError(f"The key file {path} holds no secret key.")
    return public, secret or b""
