"""CurveZMQ keys of a server and its robots: a folder of key files, made on first use.

The server's folder holds its own key pair, the public keys of the robots that it lets in, and for each robot a folder
to copy to it::

    cloud.key  cloud.key_secret        the server
    robots/robot.key                   robots that are let in, and balancers, whose keys are marked
    robot/cloud.key  robot/robot.key_secret    copy this folder to the robot, and delete it here

With keys all traffic is encrypted, a robot talks only to this server, and the server only to its robots.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import zmq

from spec_decode_ros.transport.certificates import KeyFolderError, make_certificate, read_certificate

CLOUD = "cloud"
ROBOTS = "robots"
FIRST_ROBOT = "robot"
NAME = "[A-Za-z0-9_-]{1,64}"
"""Names that a robot or a balancer may have."""


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
    """A robot or balancer that is let in.

    `key` is its public key (40 characters), `to_copy` says whether its folder is still here.
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


def robots_of(folder: str | Path) -> list[KnownRobot]:
    """The robots and balancers that the server with this folder lets in, by name. Raises KeyFolderError."""
    folder = _server_folder(folder)
    robots = []
    for path in sorted((folder / ROBOTS).glob("*.key")):
        certificate, secret = read_certificate(path), folder / path.stem / f"{path.stem}.key_secret"
        key = certificate.public.decode("ascii")
        robots.append(KnownRobot(path.stem, key, secret.exists(), certificate.balancer))
    return robots


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
