"""The public keys of the robots and balancers that a server lets in, as they are in its folder now."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from spec_decode_ros.transport.certificates import KeyFolderError, read_certificate

_log = logging.getLogger(__name__)

_Stamp = tuple[int, int, int, int]
_AWAY = (errno.ENOENT, errno.ENOTDIR, errno.EACCES)


@dataclass(frozen=True)
class Holder:
    """Who has a key: its name, and whether it is a balancer, which speaks for robots of its own."""

    name: str
    balancer: bool = False


class Keyring:
    """Follows a folder of public keys, ``NAME.key`` each: what is added counts, and what is deleted no longer does.

    A folder that is away, or may not be read, lets nobody in. One that can't be read for another reason, such as too
    many open files, leaves things as they are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stamps: dict[str, _Stamp] = {}
        self._holders: dict[str, Holder] = {}

    def refresh(self) -> Mapping[str, Holder]:
        """Look at the folder; returns the keys that were let in and no longer are. Costs a stat for each robot."""
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

    def holder(self, key: str) -> Holder | None:
        """Who has this key (as 40 characters), or None for one that is not let in."""
        return self._holders.get(key)

    def __len__(self) -> int:
        return len(self._holders)

    def _read_stamps(self) -> dict[str, _Stamp]:
        stamps = {}
        try:
            with os.scandir(self._folder) as entries:
                for entry in entries:
                    if entry.name.endswith(".key"):
                        with contextlib.suppress(FileNotFoundError):  # deleted a moment ago
                            stat = entry.stat()
                            stamps[entry.name] = (
                                stat.st_mtime_ns,
                                stat.st_ctime_ns,
                                stat.st_ino,
                                stat.st_size,
                            )
        except OSError as error:
            if error.errno not in _AWAY:
                raise
            if self._holders:
                _log.error("the folder of keys %s is gone (%s): no robot is let in", self._folder, error)
            return {}
        return stamps

    def _read_holders(self, files: Iterable[str]) -> dict[str, Holder]:
        holders = {}
        for file in sorted(files):
            path = self._folder / file
            try:
                known = read_certificate(path)
                holders[known.public.decode("ascii")] = Holder(path.stem, known.balancer)
            except KeyFolderError as error:
                _log.warning("%s Its robot is not let in.", error)
        return holders
