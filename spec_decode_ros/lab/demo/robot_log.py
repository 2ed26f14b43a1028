"""Reads the log of the simulated Go2 while it is being written: its orders, its motion, and what it touched.

See ``spec-decode go2-sim --log``: JSON lines whose ``t`` is time.monotonic(), one clock for all processes of a machine.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from spec_decode_ros.lab.bench.fleet.log import complete_lines

_PERIOD_S = 0.02
"""Simulated seconds from one line of motion to the next."""

_STOPS = frozenset({"stop", "expired", "damp", "stand down"})
_NO_ORDERS = frozenset({"state", "ready", "end", "touched"})
_WALKS_MPS = 0.15
_STANDS_MPS, _STANDS_RADPS = 0.1, 0.2


@dataclass(frozen=True)
class Order:
    """An order to the robot: velocities in m/s and rad/s, both zero for a stop of any kind."""

    t: float
    vx: float
    wz: float

    @property
    def moves(self) -> bool:
        return self.vx != 0.0 or self.wz != 0.0


@dataclass(frozen=True)
class Motion:
    """What the robot really did: m/s and rad/s, and its position in metres."""

    t: float
    vx: float
    wz: float
    x: float = 0.0
    y: float = 0.0

    @property
    def stands(self) -> bool:
        """Whether it stands, apart from the sway of a robot on legs."""
        return abs(self.vx) < _STANDS_MPS and abs(self.wz) < _STANDS_RADPS


@dataclass
class RobotLogReader:
    """The log in the file ``path``; call :meth:`read` for what is new.

    ``counts`` are the orders by kind, ``touches`` the things that it touched, each with its time.
    """

    path: Path
    orders: list[Order] = field(default_factory=list)
    motions: list[Motion] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    touches: list[tuple[float, str]] = field(default_factory=list)
    _position: int = 0

    def read(self) -> RobotLogReader:
        """Read the lines that have been completed since the last time; there may be no file yet."""
        lines, self._position = complete_lines(self.path, self._position)
        for line in lines:
            entry = json.loads(line)
            event, t = entry["event"], entry["t"]
            if event not in _NO_ORDERS:
                self.counts[event] += 1
            if event == "move":
                self.orders.append(Order(t, float(entry["vx"]), float(entry["wz"])))
            elif event in _STOPS:
                self.orders.append(Order(t, 0.0, 0.0))
            elif event == "state":
                self.motions.append(Motion(t, entry["vx"], entry["wz"], entry["x"], entry["y"]))
            elif event == "touched":
                self.touches.append((t, entry["thing"]))
        return self

    @property
    def touched(self) -> list[str]:
        """Names of the things that it touched."""
        return [thing for _, thing in self.touches]

    @property
    def real_time_factor(self) -> float:
        """Simulated seconds per second of the clock; below 1 where the machine is too slow for the robot."""
        if len(self.motions) < 2:
            return 0.0
        return (len(self.motions) - 1) * _PERIOD_S / (self.motions[-1].t - self.motions[0].t)

    def walks(self, now: float, for_s: float) -> bool:
        """Whether all orders of the last `for_s` seconds, several of them, were to walk."""
        recent = self.orders[bisect_left(self.orders, now - for_s, key=lambda order: order.t) :]
        return len(recent) >= 4 and all(abs(order.vx) > _WALKS_MPS for order in recent)

    def first_stop(self, after: float) -> float | None:
        """Seconds from ``after`` to the first order to stand."""
        return next((order.t - after for order in self.orders if order.t >= after and not order.moves), None)

    def last_stop(self, after: float) -> float | None:
        """Seconds from ``after`` to the order to stand that no order to move followed; 0 if it stood already."""
        end: float | None = None
        for order in self.orders:
            if order.moves:
                end = None
            elif end is None:
                end = order.t
        return None if end is None else max(0.0, end - after)

    def way(self, after: float) -> float:
        """Largest distance in metres from where the robot was at ``after``."""
        since = [motion for motion in self.motions if motion.t >= after]
        return max((math.hypot(m.x - since[0].x, m.y - since[0].y) for m in since), default=0.0)

    def stands_since(self, after: float) -> float | None:
        """Seconds from ``after`` until the body stood still for good; None if it does not."""
        if not self.motions or not self.motions[-1].stands:
            return None
        moving = [motion.t for motion in self.motions if motion.t >= after and not motion.stands]
        return max(0.0, moving[-1] - after) if moving else 0.0
