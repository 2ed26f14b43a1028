"""What it brings and what it costs to begin on a draft before its verdict. No ROS in here."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Correction:
    """By how much a robot would have moved otherwise, had it known the verdict from the draft on: m and rad.

    Before the motion guard slows drafts down; the way that was really gone wrong is shorter.
    """

    metres: float
    radians: float


@dataclass
class Advance:
    """The velocities of one action's drafts, each with the time (s) from which it was carried out."""

    drafts: list[tuple[float, float, float]] = field(default_factory=list)

    def drafted(self, vx: float, wz: float, at: float) -> None:
        """From now on the robot does this: m/s, rad/s, seconds."""
        self.drafts.append((at, vx, wz))

    def corrected(self, vx: float, wz: float, at: float) -> Correction:
        """The verdict has come."""
        ends = [begin for begin, _, _ in self.drafts[1:]] + [at]
        spans = (
            [
                (end - begin, abs(dx - vx), abs(dw - wz))
                for (begin, dx, dw), end in zip(self.drafts, ends, strict=True)
            ]
            if self.drafts
            else []
        )
        return Correction(sum(s * dx for s, dx, _ in spans), sum(s * dw for s, _, dw in spans))
