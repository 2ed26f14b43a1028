"""Who may talk to whom: CurveZMQ keys in a folder, made on first use.

The cloud's folder holds its own pair of keys, the public keys of the robots that it serves, and for each robot a
folder to copy to it::

    cloud.key  cloud.key_secret        the server
    robots/robot.key                   robots that are let in, and balancers, whose keys are marked
    robot/cloud.key  robot/robot.key_secret    copy this folder to the robot, and delete it here

With keys everything on the wire is encrypted, a robot talks only to this server, and the server only to its robots.
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
"""What a robot or a balancer may be called."""


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
class KnownRobot:
    """A robot that is let in, or a balancer, which speaks for robots of its own.

    Attributes:
        name: of its keys.
        key: its public key (40 characters).
        to_copy: whether its folder is still here.
        balancer: whether it is one.
    """

    name: str
    key: str
    to_copy: bool
    balancer: bool


def make_keys(folder: str | Path, robot: str | None = None, balancer: bool = False) -> list[Path]:
    """Complete the cloud's folder: its own keys if it has none, and those of `robot` (of a first one, if there is none).

    With `balancer` the new keys are marked as those of a balancer: whoever has them is believed for which robot it
    speaks. Returns the folders that are to be copied to their owners.

    Raises:
        KeyFolderError: if the folder can't be written, or there are keys for `robot` already.
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
    folder = _cloud_folder(folder)
    robots = []
    for path in sorted((folder / ROBOTS).glob("*.key")):
        known, own = read_certificate(path), folder / path.stem / f"{path.stem}.key_secret"
        robots.append(KnownRobot(path.stem, known.public.decode("ascii"), own.exists(), known.balancer))
    return robots


def revoke(folder: str | Path, robot: str) -> None:
    """Shut a robot or a balancer out, also from servers that run: they follow the folder.

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
    if not re.fullmatch(NAME, robot) or robot in (CLOUD, ROBOTS):
        raise KeyFolderError(f"A robot's name has 1 to 64 letters, digits, - or _, and is not {robot!r}.")


def _add_robot(folder: Path, robot: str, balancer: bool) -> Path:
    known = folder / ROBOTS / f"{robot}.key"
    if known.exists():
        raise KeyFolderError(
            f"There are keys for {robot!r} already; shut it out first with `spec-decode keygen {folder} --revoke "
            f"{robot}`, or choose another name."
        )
    own = folder / robot
    own.mkdir(mode=0o700, exist_ok=True)
    make_certificate(own, robot, balancer)
    shutil.copy(folder / f"{CLOUD}.key", own / f"{CLOUD}.key")
    shutil.move(own / f"{robot}.key", known)  # last: from here on it is let in
    return own


def server_keys(folder: str | Path) -> ServerKeys:
    """The cloud's keys. Raises KeyFolderError."""
    folder = Path(folder)
    own = read_certificate(folder / f"{CLOUD}.key_secret", secret_needed=True)
    return ServerKeys(own.public, own.secret, folder / ROBOTS)


def robot_keys(folder: str | Path) -> RobotKeys:
    """A robot's own keys, from the folder that was copied to it. Raises KeyFolderError."""
    folder = Path(folder)
    secrets = [path for path in folder.glob("*.key_secret") if path.stem != CLOUD]
    if len(secrets) != 1:
        raise KeyFolderError(
            f"{folder} is not the key folder of a robot, which holds one robot's .key_secret and {CLOUD}.key; copy it "
            "from where the server keeps its keys."
        )
    own = read_certificate(secrets[0], secret_needed=True)
    return RobotKeys(own.public, own.secret, read_certificate(folder / f"{CLOUD}.key").public)
