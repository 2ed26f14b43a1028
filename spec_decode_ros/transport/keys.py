"""CurveZMQ keys of a server and its robots: a folder of key files in the format of ZeroMQ's own tools, made on first use.

The server's folder holds its own key pair, the public keys of the robots that it lets in, and for each robot a folder
to copy to it::

    cloud.key  cloud.key_secret        the server
    robots/robot.key                   robots that are let in, and balancers, whose keys are marked
    robot/cloud.key  robot/robot.key_secret    copy this folder to the robot, and delete it here

With keys all traffic is encrypted, a robot talks only to this server, and the server only to its robots. The metadata of a
public key can mark it as a balancer's. Only the mark in the server's folder counts, so it is set by whoever runs the server.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import re
import shutil
import stat
import struct
from collections.abc import Iterator
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
NAME = "[A-Za-z0-9_-]{1,64}"
"""Names that a robot or a balancer may have."""
UNAVAILABLE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES)
"""Errors of a file or folder that is not there or may not be read; other errors may pass."""
_METADATA = "metadata\n"
_ROLE, _BALANCER = "role", "balancer"


class KeyFolderError(SpecDecodeError):
    """Keys that can't be used."""


@dataclass(frozen=True)
class Certificate:
    """Content of a key file: keys of 40 characters; `secret` is empty in a public file."""

    public: bytes
    secret: bytes
    balancer: bool = False


@dataclass(frozen=True)
class ServerKeys:
    """Key pair of a server, and the folder with the public keys of its robots."""

    public: bytes
    secret: bytes
    robots: Path


@dataclass(frozen=True)
class RobotKeys:
    """Key pair of a robot, and the public key of its server."""

    public: bytes
    secret: bytes
    server: bytes

    def apply(self, sock: zmq.Socket) -> None:
        """Encrypt the connections that this client socket will make."""
        sock.curve_publickey, sock.curve_secretkey = self.public, self.secret
        sock.curve_serverkey = self.server


@dataclass(frozen=True)
class KnownRobot:
    """A robot, or a balancer that forwards for robots of its own, which is let in.

    `key` is its public key (40 characters), `to_copy` says whether its folder is still at the server.
    """

    name: str
    key: str
    to_copy: bool
    balancer: bool


def make_keys(folder: str | Path, robot: str | None = None, balancer: bool = False) -> list[Path]:
    """Complete a server's folder: its own keys if it has none, and those of `robot` (or of a first robot, if there is none).

    With `balancer` the new key is marked as a balancer's, whose statements about the robots behind it are trusted. Returns
    the folders that are to be copied to their owners.

    Raises:
        KeyFolderError: the folder can't be written, or there are keys for `robot` already.
    """
    folder = Path(folder)
    if robot is not None:
        _check_name(robot)
    try:
        (folder / ROBOTS).mkdir(mode=0o700, parents=True, exist_ok=True)
        # Not the folder itself, which others lock for reasons of their own.
        with _locked(folder / ROBOTS):
            if not (folder / f"{CLOUD}.key_secret").exists():
                make_certificate(folder, CLOUD)
            if robot is None and not any((folder / ROBOTS).glob("*.key")):
                robot = FIRST_ROBOT
            return [_add_robot(folder, robot, balancer)] if robot else []
    except OSError as error:
        raise KeyFolderError(f"Keys can't be made in {folder}: {error.strerror or error}.") from error
    except zmq.ZMQError as error:
        raise KeyFolderError(
            "This ZeroMQ has no encryption, so that no keys can be made: install one that has, with "
            "`pip install --force-reinstall pyzmq`."
        ) from error


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Two servers that start at once, as with a planner, must not each make the keys of one folder."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def robots_of(folder: str | Path) -> list[KnownRobot]:
    """The robots and balancers that the server with this folder lets in, by name. Raises KeyFolderError."""
    folder = _server_folder(folder)
    return [read_robot(path) for path in sorted((folder / ROBOTS).glob("*.key"))]


def revoke(folder: str | Path, robot: str) -> None:
    """Shut a robot or a balancer out, also from running servers, which follow the folder.

    Raises:
        KeyFolderError: there is no such robot, or its key can't be deleted.
    """
    folder = _server_folder(folder)
    _check_name(robot)
    try:
        (folder / ROBOTS / f"{robot}.key").unlink()
        # A folder that was never copied is of no use any more.
        for file in (folder / robot / f"{robot}.key_secret", folder / robot / f"{CLOUD}.key"):
            file.unlink(missing_ok=True)
        if (folder / robot).is_dir() and not any((folder / robot).iterdir()):
            (folder / robot).rmdir()
    except FileNotFoundError:
        names = ", ".join(path.stem for path in sorted((folder / ROBOTS).glob("*.key"))) or "none"
        raise KeyFolderError(f"There is no robot {robot!r} in {folder}; those let in: {names}.") from None
    except OSError as error:
        raise KeyFolderError(f"{robot!r} can't be revoked in {folder}: {error.strerror or error}.") from error


def _server_folder(folder: str | Path) -> Path:
    folder = Path(folder)
    if not (folder / ROBOTS).is_dir():
        raise KeyFolderError(
            f"{folder} is not a server's key folder; make one with `spec-decode keygen {folder}`."
        )
    return folder


def _check_name(robot: str) -> None:
    if not re.fullmatch(NAME, robot) or robot in (CLOUD, ROBOTS):
        raise KeyFolderError(f"A robot's name has 1 to 64 letters, digits, - or _, and is not {robot!r}.")


def _add_robot(folder: Path, robot: str, balancer: bool) -> Path:
    public = folder / ROBOTS / f"{robot}.key"
    if public.exists():
        raise KeyFolderError(
            f"There are keys for {robot!r} already; shut it out first with `spec-decode keygen {folder} --revoke "
            f"{robot}`, or choose another name."
        )
    robot_folder = folder / robot
    robot_folder.mkdir(mode=0o700, exist_ok=True)
    make_certificate(robot_folder, robot, balancer)
    shutil.copy(folder / f"{CLOUD}.key", robot_folder / f"{CLOUD}.key")
    shutil.move(robot_folder / f"{robot}.key", public)  # last: from here on it is let in
    return robot_folder


def server_keys(folder: str | Path) -> ServerKeys:
    """The keys of the server with this folder. Raises KeyFolderError."""
    folder = Path(folder)
    pair = read_certificate(folder / f"{CLOUD}.key_secret", secret_needed=True)
    return ServerKeys(pair.public, pair.secret, folder / ROBOTS)


def robot_keys(folder: str | Path) -> RobotKeys:
    """A robot's keys, from the folder that was copied to it. Raises KeyFolderError."""
    folder = Path(folder)
    secrets = [path for path in folder.glob("*.key_secret") if path.stem != CLOUD]
    if len(secrets) != 1:
        raise KeyFolderError(
            f"{folder} is not the key folder of a robot, which holds one robot's .key_secret and {CLOUD}.key; copy it "
            "from where the server keeps its keys."
        )
    pair = read_certificate(secrets[0], secret_needed=True)
    return RobotKeys(pair.public, pair.secret, read_certificate(folder / f"{CLOUD}.key").public)


def read_robot(path: Path) -> KnownRobot:
    """The robot with this public key file in a server's folder. Raises KeyFolderError, OSError."""
    certificate = read_certificate(path)
    secret = path.parent.parent / path.stem / f"{path.stem}.key_secret"
    return KnownRobot(path.stem, certificate.public.decode("ascii"), secret.exists(), certificate.balancer)


def make_certificate(folder: Path, name: str, balancer: bool = False) -> None:
    """Write a new key pair to `folder`, as NAME.key and NAME.key_secret. Raises OSError, zmq.ZMQError."""
    umask = os.umask(0o077)
    try:
        public, _ = zmq.auth.create_certificates(folder, name)
        if balancer:  # pyzmq writes metadata into the secret file only
            text = Path(public).read_text(encoding="utf-8")
            marked = text.replace(_METADATA, f'{_METADATA}    {_ROLE} = "{_BALANCER}"\n', 1)
            Path(public).write_text(marked, encoding="utf-8")
    finally:
        os.umask(umask)


def read_certificate(path: Path, secret_needed: bool = False) -> Certificate:
    """Read a key file.

    Raises:
        KeyFolderError: the file is missing, may not be read or holds no valid key, or no secret key where one is needed.
        OSError: it can't be read for now, for example because too many files are open.
    """
    try:
        public, secret = zmq.auth.load_certificate(path)
        if secret_needed and secret is None:
            raise KeyFolderError(f"The key file {path} holds no secret key.")
        if any(len(key) != 40 or len(z85.decode(key)) != 32 for key in (public, secret) if key is not None):
            raise ValueError("a key has 40 characters of Z85")
        if secret is not None and stat.S_IMODE(path.stat().st_mode) & 0o077:
            _log.warning("%s can be read by other users of this machine: chmod 600 it", path)
        return Certificate(public, secret or b"", _has_balancer_mark(path.read_text("utf-8", "replace")))
    except KeyFolderError:
        raise
    except (OSError, ValueError, KeyError, IndexError, struct.error) as error:
        if isinstance(error, OSError) and error.errno not in (None, *UNAVAILABLE):
            raise
        raise KeyFolderError(f"The key file {path} can't be read: {error}.") from error


def _has_balancer_mark(text: str) -> bool:
    """Whether the section ``metadata``, whose lines are indented, has the mark."""
    section = ""
    for line in text.splitlines():
        if not line[:1].isspace():
            section = line.strip()
        elif section == _METADATA.strip():
            name, _, value = line.partition("=")
            if (name.strip(), value.strip(" \t\"'")) == (_ROLE, _BALANCER):
                return True
    return False
