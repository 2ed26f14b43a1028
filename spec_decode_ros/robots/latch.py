"""The emergency stop's latch on disk, so that a node that crashed and was started again is still stopped."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

_MAX_TEXT = 200


def state_folder(given: str = "") -> Path:
    """`given`, or where a user's programs keep their state (``~/.local/state/spec_decode_ros``)."""
    if given:
        return Path(given).expanduser()
    home = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(home).expanduser() / "spec_decode_ros"


class Latch:
    """A file that is there while the stop is latched; its text says why.

    Args:
        folder: where it lies; made when it is needed.
        name: of the node, with whatever tells it from others on this machine.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / (re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_") + ".emergency_stop")

    @property
    def reason(self) -> str:
        """Why it is latched, empty if it is not. What cannot be read is latched."""
        try:
            said = self.path.read_text(errors="replace")[:_MAX_TEXT]
        except FileNotFoundError:
            return ""
        except OSError as error:
            return f"{self.path} cannot be read: {error.strerror}"
        return " ".join(said.split()) or "no reason was written"

    def set(self, reason: str) -> None:
        """Latch, in one step that a crash cannot cut in two. Raises OSError."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = self.path.with_suffix(".new")
        with new.open("w") as file:
            file.write(reason)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.path)

    def clear(self) -> None:
        """Release. Raises OSError."""
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()
