"""Temporary keys between a balancer and its own replicas.

Where robots need keys, the replicas let in only the balancer, so that nobody else on the machine bypasses it, and trust
its forwarded identities. The keys are new each time and are deleted with the process.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass

from spec_decode_ros.server.fleet.janitor import temporary_folder
from spec_decode_ros.transport.keys import RobotKeys, make_keys, robot_keys

_BALANCER = "front"


@dataclass(frozen=True)
class ReplicaKeys:
    """The key folder of the replicas, and the balancer's own keys; empty and None without keys."""

    folder: str = ""
    balancer: RobotKeys | None = None


@contextlib.contextmanager
def temporary_keys(needed: bool) -> Iterator[ReplicaKeys]:
    """New keys that exist while this context lasts, if they are needed. Raises KeyFolderError."""
    if not needed:
        yield ReplicaKeys()
        return
    with temporary_folder("spec-decode-keys-") as folder, _locked(folder):
        (balancer_folder,) = make_keys(folder, _BALANCER, balancer=True)
        yield ReplicaKeys(folder, robot_keys(balancer_folder))


@contextlib.contextmanager
def _locked(folder: str) -> Iterator[None]:
    """Keeps systemd-tmpfiles from deleting the folder when it becomes old: it spares locked folders."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)
