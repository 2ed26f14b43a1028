"""The robot's own account of what it was told and what it did, read while it is being written.

See ``spec-decode go2-sim --log``: JSON lines whose ``t`` is time.monotonic(), one clock for all processes of a machine.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_left
from dataclasses import dataclass, field
from pathlib import Path

STOPS = frozenset({"stop", "expired", "damp", "stand down"})
_WALKS_MPS = 0.15
_STANDS_MPS, _STANDS_RADPS = 0.1, 0.2


@dataclass(frozen=True)
class Order:
    """What the robot was told: velocities in m/s and rad/s, both zero for a stop of any kind."""

    t: float
    vx: float
    wz: float

    @property
    def moves(self) -> bool:
        return self.vx != 0.0 or self.wz != 0.0


@dataclass(frozen=True)
class Motion:
    """What the robot really did: m/s and rad/s, and where it was in metres."""

    t: float
    vx: float
    wz: float
    x: float = 0.0
    y: float = 0.0

    @property
    def stands(self) -> bool:
        """Whether it stands, but for the sway of a robot on legs."""
        return abs(self.vx) < _STANDS_MPS and abs(self.wz) < _STANDS_RADPS


@dataclass
class MotionAccount:
    """The account in the file ``path``; call :meth:`read` for what is new."""

    path: Path
    orders: list[Order] = field(default_factory=list)
    motions: list[Motion] = field(default_factory=list)
    _position: int = 0

    def read(self) -> None:
        """Take in the lines that have been completed since the last time; there may be no file yet."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._position)
            data = file.read()
        whole = data.rfind(b"\n") + 1
        self._position += whole
        for line in data[:whole].splitlines():
            entry = json.loads(line)
            event, t = entry["event"], entry["t"]
            if event == "move":
                self.orders.append(Order(t, float(entry["vx"]), float(entry["wz"])))
            elif event in STOPS:
                self.orders.append(Order(t, 0.0, 0.0))
            elif event == "state":
                self.motions.append(Motion(t, entry["vx"], entry["wz"], entry["x"], entry["y"]))

    def walks(self, now: float, for_s: float) -> bool:
        """Whether nothing but orders to walk have come for so long, several of them."""
        recent = self.orders[bisect_left(self.orders, now - for_s, key=lambda order: order.t) :]
        return len(recent) >= 4 and all(abs(order.vx) > _WALKS_MPS for order in recent)

    def first_stop(self, after: float) -> float | None:
        """Seconds from ``after`` to the first order to stand."""
        return next((order.t - after for order in self.orders if order.t >= after and not order.moves), None)

    def last_stop(self, after: float) -> float | None:
        """Seconds from ``after`` to the order to stand that none to move has followed; 0 if it stood already."""
        end: float | None = None
        for order in self.orders:
            if order.moves:
                end = None
            elif end is None:
                end = order.t
        return None if end is None else max(0.0, end - after)

    def way(self, after: float) -> float:
        """Metres between where the robot was at ``after`` and the farthest place that it has been to since."""
        after_that = [motion for motion in self.motions if motion.t >= after]
        if not after_that:
            return 0.0
        here = after_that[0]
        return max(math.hypot(motion.x - here.x, motion.y - here.y) for motion in after_that)

    def stands_since(self, after: float) -> float | None:
        """Seconds from ``after`` until the body has come to rest and stayed there; None if it has not."""
        moving = [motion.t for motion in self.motions if motion.t >= after and not motion.stands]
        if not self.motions or not self.motions[-1].stands:
            return None
        return max(0.0, moving[-1] - after) if moving else 0.0
