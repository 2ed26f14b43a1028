"""The log of a fleet's actions: JSON lines, one when an action begins and one when it has ended."""

from __future__ import annotations

import json
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

Outcome = Literal["verified", "unverified", "refused", "crashed", "cut off", "not started"]
"""How an action ended: `refused` with an error message, `crashed` by a bug, `cut off` because the run was over."""

FIGURES = ("ttva_ms", "cloud_passes", "cloud_busy_ms", "drafted", "accepted", "round_trips")
"""Metrics of an action that are kept."""


@dataclass(frozen=True)
class LoggedAction:
    """Action `number` of a robot; times are of `time.perf_counter`, in seconds.

    `way` is the name of the method variant. The frame was captured at `due`, and the robot had time for it at `began`,
    None if it never had. `ended` and `outcome` are None while it is running, and if its robot was killed. `same` says that
    its tokens are those of the reference, `sentence` why it was refused or crashed.
    """

    robot: int
    number: int
    way: str
    due: float
    began: float | None = None
    ended: float | None = None
    outcome: Outcome | None = None
    same: bool = False
    sentence: str = ""
    figures: dict[str, float | None] | None = None

    def figure(self, name: str) -> float:
        """One of the figures; 0 where it does not apply."""
        return float((self.figures or {}).get(name) or 0.0)

    @property
    def late(self) -> bool:
        """Whether it began more than `LATE_S` after its frame, or never, because its robot was still busy."""
        return self.began is None or self.began - self.due > LATE_S


LATE_S = 0.01


class FleetLog:
    """Appends actions to a file, from many threads."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")
        self._lock = threading.Lock()

    def write(self, action: LoggedAction) -> None:
        """Write and flush, so that the log of a killed process is complete."""
        line = json.dumps({name: value for name, value in asdict(action).items() if value not in (None, "")})
        with self._lock:
            self._file.write(line + "\n")
            self._file.flush()

    def close(self) -> None:
        with self._lock:
            self._file.close()


def read_log(path: Path) -> list[LoggedAction]:
    """Every action once, as the last of its lines says."""
    newest: dict[tuple[int, int], LoggedAction] = {}
    for line in complete_lines(path)[0]:
        action = LoggedAction(**json.loads(line))
        newest[action.robot, action.number] = action
    return list(newest.values())


def complete_lines(path: Path, start: int = 0) -> tuple[list[bytes], int]:
    """Lines of a file that is being written, from byte `start` to the last complete one, and the byte behind it."""
    if not path.exists():
        return [], start
    with path.open("rb") as file:
        file.seek(start)
        data = file.read()
    end = data.rfind(b"\n") + 1
    return data[:end].splitlines(), start + end
