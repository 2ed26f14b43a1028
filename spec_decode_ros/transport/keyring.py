"""The public keys that a server lets in, kept up to date with its folder of keys."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from spec_decode_ros.transport.certificates import UNAVAILABLE, KeyFolderError, read_certificate

_log = logging.getLogger(__name__)

_FileStamp = tuple[int, int, int, int]


@dataclass(frozen=True)
class KeyHolder:
    """Owner of a key: a robot, or a balancer, which forwards for robots of its own."""

    name: str
    balancer: bool = False


class Keyring:
    """The public keys in a folder, ``NAME.key`` each. Added files are let in, deleted ones no longer.

    A folder that is missing or may not be read lets nobody in. If it can't be read for another reason, such as too many
    open files, the keys stay as they are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stamps: dict[str, _FileStamp] = {}
        self._holders: dict[str, KeyHolder] = {}

    def refresh(self) -> Mapping[str, KeyHolder]:
        """Read the folder again if it has changed; returns the revoked keys. Costs a stat per file."""
        try:
            stamps = self._read_stamps()
            if stamps == self._stamps:
                return {}
            holders = self._read_holders(stamps)
        except OSError as error:
            _log.error(
                "the keys in %s can't be read now (%s): going on with those known", self._folder, error
            )
            return {}
        before, self._holders, self._stamps = self._holders, holders, stamps
        return {key: holder for key, holder in before.items() if key not in holders}

    def holder(self, key: str) -> KeyHolder | None:
        """The owner of this key (40 characters), or None if it is not let in."""
        return self._holders.get(key)

    def __len__(self) -> int:
        return len(self._holders)

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
            if self._holders:
                _log.error("the folder of keys %s is gone (%s): no robot is let in", self._folder, error)
            return {}
        return stamps

    def _read_holders(self, files: Iterable[str]) -> dict[str, KeyHolder]:
        holders = {}
        for file in sorted(files):
            path = self._folder / file
            try:
                certificate = read_certificate(path)
                holders[certificate.public.decode("ascii")] = KeyHolder(path.stem, certificate.balancer)
            except KeyFolderError as error:
                _log.warning("%s Its robot is not let in.", error)
        return holders
