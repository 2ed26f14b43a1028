"""How far a robot that moves on drafts goes wrong before the verdicts come. No ROS."""

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
class DraftMotion:
    """The velocities of one action's drafts, each with the time (s) from which it was carried out."""

    drafts: list[tuple[float, float, float]] = field(default_factory=list)

    def drafted(self, vx: float, wz: float, at: float) -> None:
        """From ``at`` (s) on the robot moves with this draft's velocities, m/s and rad/s."""
        self.drafts.append((at, vx, wz))

    def correction(self, vx: float, wz: float, at: float) -> Correction:
        """What the drafts cost, now that the verdict has come with its velocities."""
        ends = [*(begin for begin, _, _ in self.drafts[1:]), at]
        spans = [
            (end - begin, abs(dx - vx), abs(dw - wz))
            for (begin, dx, dw), end in zip(self.drafts, ends, strict=False)
        ]
        return Correction(sum(s * dx for s, dx, _ in spans), sum(s * dw for s, _, dw in spans))
