"""Keys between a balancer and its own replicas.

Where robots need keys, the replicas let in nobody but the balancer, so that nobody else on the machine gets past it;
and they believe it for which robot it speaks. The keys are made anew each time and go with the process.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

from spec_decode_ros.server.fleet.janitor import janitor
from spec_decode_ros.transport.keys import RobotKeys, make_keys, robot_keys

_BALANCER = "front"


@dataclass(frozen=True)
class Door:
    """The replicas' folder of keys, and what the balancer shows to them; without keys there is neither."""

    folder: str = ""
    shows: RobotKeys | None = None


@contextlib.contextmanager
def own_door(closed: bool) -> Iterator[Door]:
    """A door for this context, with keys if it is `closed`. Raises KeyFolderError."""
    if not closed:
        yield Door()
        return
    folder = tempfile.mkdtemp(prefix="spec-decode-keys-")  # for this user alone
    with janitor(folder), _kept(folder):
        (own,) = make_keys(folder, _BALANCER, balancer=True)
        yield Door(folder, robot_keys(own))


@contextlib.contextmanager
def _kept(folder: str) -> Iterator[None]:
    """However old it becomes: systemd-tmpfiles spares a folder that somebody has locked, and all that is in it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)
