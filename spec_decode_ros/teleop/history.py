"""The history of commands, kept in a file from one session to the next."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

MOST = 500


def default_path() -> Path:
    """``$XDG_STATE_HOME/spec_decode_ros/history``, by default under ``~/.local/state``."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "spec_decode_ros" / "history"


class History:
    """Old commands, newest last; :meth:`older` and :meth:`newer` walk those that contain what is typed.

    If the file cannot be read or written, :attr:`problem` says why, and the history lasts for this session only.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.problem = ""
        self.entries: list[str] = []
        self._needle = ""
        self._place: int | None = None
        if path is not None and path.exists():
            try:
                lines = path.read_text("utf-8", "replace").splitlines()
                self.entries = [line.strip() for line in lines if line.strip()][-MOST:]
            except OSError as error:
                self.problem = f"the history cannot be read: {error}"

    def add(self, command: str) -> None:
        """Remember a command; the same one twice in a row is remembered once."""
        self.reset()
        command = " ".join(command.split())
        if not command or (self.entries and self.entries[-1] == command):
            return
        self.entries = [*self.entries, command][-MOST:]
        if self.path is not None:
            try:
                self._write(self.path)
            except OSError as error:
                self.problem = f"the history cannot be kept: {error}"

    def _write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f"{path.name}.{os.getpid()}")
        # Commands are private, and a full disk must not cost the old history.
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write("".join(f"{entry}\n" for entry in self.entries))
            new.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                new.unlink()
            raise

    def reset(self) -> None:
        """End the walk: the next :meth:`older` begins at the newest."""
        self._place = None

    @property
    def shown(self) -> str | None:
        """The command at which the walk is; None without a walk."""
        return None if self._place is None else self.entries[self._place]

    def older(self, typed: str) -> str | None:
        """The next older command that contains what was typed when the walk began; None if there is none."""
        if self._place is None:
            self._needle, self._place = typed.strip(), len(self.entries)
        for place in range(self._place - 1, -1, -1):
            if self._fits(place, typed):
                self._place = place
                return self.entries[place]
        return None

    def newer(self, typed: str) -> str | None:
        """The next newer command, at the end what was typed at first; None without a walk."""
        if self._place is None:
            return None
        for place in range(self._place + 1, len(self.entries)):
            if self._fits(place, typed):
                self._place = place
                return self.entries[place]
        self._place = None
        return self._needle

    def _fits(self, place: int, shown: str) -> bool:
        entry = self.entries[place]
        return self._needle.lower() in entry.lower() and entry != shown
