"""What robots of a fleet write down of their actions, one JSON line each when it begins and when it has ended."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

Outcome = Literal["verified", "unverified", "refused", "crashed", "cut off", "not started"]
"""How an action ended: `refused` with a sentence, `crashed` with an error that was not foreseen, `cut off` by the end."""

FIGURES = ("ttva_ms", "cloud_passes", "cloud_busy_ms", "drafted", "accepted", "round_trips")
"""Of the numbers of an action those that are kept."""


@dataclass(frozen=True)
class Act:
    """One action of one robot; times are of `time.perf_counter`, seconds.

    Attributes:
        robot, number: whose it is, and which.
        way: method and objective by which it was decoded.
        due: when its frame was captured; `ttva_ms` counts from here.
        began: when the robot had time for it; None if it never did.
        ended: None as long as it goes on, or if its robot was killed.
        outcome: None as long as it goes on.
        same: whether its tokens are the reference's.
        sentence: why it was refused, or crashed.
        figures: see `FIGURES`.
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


class FleetLog:
    """Appends to a file from many threads."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")
        self._lock = threading.Lock()

    def write(self, act: Act) -> None:
        """At once, so that what a killed process did is known up to its end."""
        line = json.dumps({name: value for name, value in asdict(act).items() if value not in (None, "")})
        with self._lock:
            self._file.write(line + "\n")
            self._file.flush()

    def close(self) -> None:
        with self._lock:
            self._file.close()


def read_log(path: Path) -> list[Act]:
    """Every action, as the newest line about it says; a line that was being written does not count."""
    if not path.exists():
        return []
    data = path.read_text(encoding="utf-8")
    lines = data[: data.rfind("\n") + 1].splitlines()
    return merged(_act(json.loads(line)) for line in lines)


def merged(acts: Iterable[Act]) -> list[Act]:
    """One for each action: the last of them that tells most."""
    newest: dict[tuple[int, int], Act] = {}
    for act in acts:
        key = (act.robot, act.number)
        if key not in newest or newest[key].outcome is None:
            newest[key] = act
    return list(newest.values())


def _act(plain: dict[str, Any]) -> Act:
    return replace(Act(plain["robot"], plain["number"], plain["way"], plain["due"]), **plain)
