"""A velocity ramp, limited in acceleration and in jerk. No clock, no I/O."""

from __future__ import annotations

import math

CLOSE = 1e-4
"""m/s or rad/s; nearer than this a velocity counts as reached."""


class Ramp:
    """A velocity and its present rate of change.

    Each step picks the largest acceleration that can still be taken back to zero, within the jerk limit, before
    the wanted velocity is reached. What is wanted may change at any time; then the velocity may pass the new one
    by what the jerk limit needs to turn the acceleration round, and leaves the range of all that was wanted by no
    more than :data:`CLOSE`.
    """

    def __init__(self) -> None:
        self.velocity = 0.0
        self.acceleration = 0.0

    def stop(self) -> None:
        """Zero at once: no limit applies to a stop."""
        self.velocity = self.acceleration = 0.0

    def step(self, wanted: float, elapsed: float, max_acceleration: float, max_jerk: float) -> float:
        """The velocity ``elapsed`` seconds later; a wanted zero is reached at once."""
        if wanted == 0.0:
            self.stop()
        elif elapsed > 0.0:
            self._approach(wanted, elapsed, max_acceleration, max_jerk)
        return self.velocity

    def _approach(self, wanted: float, elapsed: float, max_acceleration: float, max_jerk: float) -> None:
        missing = wanted - self.velocity
        turn = max_jerk * elapsed
        # With this one, taking it back by the jerk limit from the next step on ends exactly at the wanted velocity:
        # missing = a * elapsed + a² / (2 * jerk). Steps of another length only end before it.
        best = 2.0 * max_jerk * missing / (math.sqrt(turn * turn + 2.0 * max_jerk * abs(missing)) + turn)
        best = max(self.acceleration - turn, min(self.acceleration + turn, best))
        self.acceleration = max(-max_acceleration, min(max_acceleration, best))
        self.velocity += self.acceleration * elapsed
        arriving = self.acceleration**2 <= 2.0 * max_jerk * CLOSE
        if arriving and abs(wanted - self.velocity) <= CLOSE:
            self.velocity = wanted
