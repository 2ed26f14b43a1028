"""The public keys that a server lets in, and the ZAP handler (ZeroMQ RFC 27) that checks every new connection's key.

ZeroMQ asks over an inproc socket. Our servers name a ZAP domain, so while nobody answers, no connection is accepted.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import zmq
from zmq.utils import z85

from spec_decode_ros.transport.keys import UNAVAILABLE, KeyFolderError, KnownRobot, read_robot
from spec_decode_ros.transport.rate_limiter import RateLimiter

_log = logging.getLogger(__name__)

ZAP_DOMAIN = b"robots"
_ZAP_ENDPOINT = "inproc://zeromq.zap.01"
_ZAP_VERSION = b"1.0"
_MAX_BATCH = 64

_FileStamp = tuple[int, int, int, int]


class Keyring:
    """The public keys in a folder, ``NAME.key`` each. Added files are let in, deleted ones no longer.

    A folder that is missing or may not be read lets nobody in. If it can't be read for another reason, such as too many
    open files, the keys stay as they are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stamps: dict[str, _FileStamp] = {}
        self._robots: dict[str, KnownRobot] = {}

    def refresh(self) -> Mapping[str, KnownRobot]:
        """Read the folder again if it has changed; returns the revoked keys. Costs a stat per file."""
        try:
            stamps = self._read_stamps()
            if stamps == self._stamps:
                return {}
            robots = self._read_robots(stamps)
        except OSError as error:
            _log.error(
                "the keys in %s can't be read now (%s): going on with those known", self._folder, error
            )
            return {}
        before, self._robots, self._stamps = self._robots, robots, stamps
        return {key: robot for key, robot in before.items() if key not in robots}

    def robot(self, key: str) -> KnownRobot | None:
        """The owner of this key (40 characters), or None if it is not let in."""
        return self._robots.get(key)

    def __len__(self) -> int:
        return len(self._robots)

    def _read_stamps(self) -> dict[str, _FileStamp]:
        stamps = {}
        try:
            with os.scandir(self._folder) as entries:
                for entry in entries:
                    if entry.name.endswith(".key"):
                        with contextlib.suppress(FileNotFoundError):  # deleted a moment ago
                            stat = entry.stat()
                            stamp = (stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, stat.st_size)
                            stamps[entry.name] = stamp
        except OSError as error:
            if error.errno not in UNAVAILABLE:
                raise
            if self._robots:
                _log.error("the folder of keys %s is gone (%s): no robot is let in", self._folder, error)
            return {}
        return stamps

    def _read_robots(self, files: Iterable[str]) -> dict[str, KnownRobot]:
        robots = {}
        for file in sorted(files):
            try:
                robot = read_robot(self._folder / file)
                robots[robot.key] = robot
            except KeyFolderError as error:
                _log.warning("%s Its robot is not let in.", error)
        return robots


class Authenticator:
    """Lets in the keys of a keyring. A ZeroMQ context can have only one."""

    def __init__(self, context: zmq.Context, keyring: Keyring) -> None:
        self._keyring = keyring
        self._log_limiter = RateLimiter()
        self.socket: zmq.Socket = context.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind(_ZAP_ENDPOINT)

    def answer(self) -> None:
        """Answer the waiting requests. Call it in the thread that owns `socket`, when that is readable."""
        for _ in range(_MAX_BATCH):
            try:
                frames = self.socket.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return
            sender, _, _, request_id = frames[:4]
            key = _key(frames[4:])
            accepted = bool(key) and self._keyring.robot(key) is not None
            if not accepted and self._log_limiter.allow():
                address = frames[5].decode("ascii", "replace") if len(frames) > 5 else ""
                _log.warning(
                    "refused a robot at %s: its key is not among the %d that are let in",
                    address,
                    len(self._keyring),
                    extra={"robot": key, "address": address},
                )
            # The key becomes the User-Id of every message of this connection.
            answer = [b"200", b"OK", key.encode()] if accepted else [b"400", b"unknown key", b""]
            self.socket.send_multipart([sender, b"", _ZAP_VERSION, request_id, *answer, b""], zmq.DONTWAIT)


def _key(request: list[bytes]) -> str:
    """The public key in [domain, address, routing id, mechanism, credential]; empty for any other request."""
    if len(request) != 5:
        return ""
    domain, _, _, mechanism, credential = request
    if domain != ZAP_DOMAIN or mechanism != b"CURVE" or len(credential) != 32:
        return ""
    return z85.encode(credential).decode("ascii")
