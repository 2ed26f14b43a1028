"""Who may talk to whom: CurveZMQ keys in a folder, made on first use.

The cloud's folder holds its own pair of keys, the public keys of the robots that it serves, and for each robot a
folder to copy to it::

    cloud.key  cloud.key_secret        the server
    robots/robot.key                   robots that are let in
    robot/cloud.key  robot/robot.key_secret    copy this folder to the robot, and delete it here

With keys everything on the wire is encrypted, a robot talks only to this server, and the server only to its robots.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

import zmq
import zmq.auth
from zmq.utils import z85

from spec_decode_ros.errors import SpecDecodeError

_log = logging.getLogger(__name__)

CLOUD = "cloud"
ROBOTS = "robots"
FIRST_ROBOT = "robot"
_AWAY = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES)


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


@dataclass(frozen=True)
class Robot:
    """A robot that is let in: its name, its public key (40 characters), and whether its folder is still here."""

    name: str
    key: str
    to_copy: bool


def make_keys(folder: str | Path, robot: str | None = None) -> list[Path]:
    """Complete the cloud's folder: its own keys if it has none, and those of `robot` (of a first one, if there is none).

    Returns the folders that are to be copied to robots.

    Raises:
        KeyFolderError: if the folder can't be written, or there are keys for `robot` already.
    """
    folder = Path(folder)
    if robot is not None:
        _check_name(robot)
    try:
        (folder / ROBOTS).mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (folder / f"{CLOUD}.key_secret").exists():
            _make_pair(folder, CLOUD)
        if robot is None and not any((folder / ROBOTS).glob("*.key")):
            robot = FIRST_ROBOT
        return [_add_robot(folder, robot)] if robot else []
    except OSError as error:
        raise KeyFolderError(f"Keys can't be made in {folder}: {error.strerror or error}.") from error
    except zmq.ZMQError as error:
        raise KeyFolderError(
            "This ZeroMQ has no encryption, so that no keys can be made: install one that has, with "
            "`pip install --force-reinstall pyzmq`."
        ) from error


def robots_of(folder: str | Path) -> list[Robot]:
    """The robots that the server with this folder lets in, by name. Raises KeyFolderError."""
    folder = _cloud_folder(folder)
    return [
        Robot(path.stem, read_public_key(path), (folder / path.stem / f"{path.stem}.key_secret").exists())
        for path in sorted((folder / ROBOTS).glob("*.key"))
    ]


def revoke(folder: str | Path, robot: str) -> None:
    """Shut a robot out, also from servers that run: they follow the folder.

    Raises:
        KeyFolderError: if there is no such robot, or its key can't be deleted.
    """
    folder = _cloud_folder(folder)
    _check_name(robot)
    known = folder / ROBOTS / f"{robot}.key"
    try:
        known.unlink()
        # What was never copied is of no use any more.
        for left in (folder / robot / f"{robot}.key_secret", folder / robot / f"{CLOUD}.key"):
            left.unlink(missing_ok=True)
        if (folder / robot).is_dir() and not any((folder / robot).iterdir()):
            (folder / robot).rmdir()
    except FileNotFoundError:
        names = ", ".join(path.stem for path in sorted((folder / ROBOTS).glob("*.key"))) or "none"
        raise KeyFolderError(f"There is no robot {robot!r} in {folder}; those let in: {names}.") from None
    except OSError as error:
        raise KeyFolderError(f"{robot!r} can't be revoked in {folder}: {error.strerror or error}.") from error


def _cloud_folder(folder: str | Path) -> Path:
    folder = Path(folder)
    if not (folder / ROBOTS).is_dir():
        raise KeyFolderError(
            f"{folder} is not a server's key folder; make one with `spec-decode keygen {folder}`."
        )
    return folder


def _check_name(robot: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", robot) or robot in (CLOUD, ROBOTS):
        raise KeyFolderError(f"A robot's name has 1 to 64 letters, digits, - or _, and is not {robot!r}.")


def _add_robot(folder: Path, robot: str) -> Path:
    known = folder / ROBOTS / f"{robot}.key"
    if known.exists():
        raise KeyFolderError(
            f"There are keys for {robot!r} already; shut it out first with `spec-decode keygen {folder} --revoke "
            f"{robot}`, or choose another name."
        )
    own = folder / robot
    own.mkdir(mode=0o700, exist_ok=True)
    _make_pair(own, robot)
    shutil.copy(folder / f"{CLOUD}.key", own / f"{CLOUD}.key")
    shutil.move(own / f"{robot}.key", known)  # last: from here on it is let in
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
    """A robot's own keys, from the folder that was copied to it. Raises KeyFolderError."""
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


def read_public_key(path: Path) -> str:
    """The public key in a file, as 40 characters.

    Raises:
        KeyFolderError: if the file is not there, may not be read, or holds no key.
        OSError: if it can't be read for now, such as with too many open files.
    """
    public, _ = _load(path, secret_needed=False)
    return public.decode("ascii")


def _load(path: Path, secret_needed: bool = True) -> tuple[bytes, bytes]:
    try:
        public, secret = zmq.auth.load_certificate(path)
        if secret_needed and secret is None:
            raise KeyFolderError(f"The key file {path} holds no secret key.")
        if any(len(key) != 40 or len(z85.decode(key)) != 32 for key in (public, secret) if key is not None):
            raise ValueError("a key has 40 characters of Z85")
        if secret is not None and stat.S_IMODE(path.stat().st_mode) & 0o077:
            _log.warning("%s can be read by other users of this machine: chmod 600 it", path)
    except KeyFolderError:
        raise
    except (OSError, ValueError, KeyError, IndexError, struct.error) as error:
        if isinstance(error, OSError) and error.errno not in (None, *_AWAY):
            raise
        raise KeyFolderError(f"The key file {path} can't be read: {error}.") from error
    return public, secret or b""
