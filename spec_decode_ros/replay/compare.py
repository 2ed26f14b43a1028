"""Comparison of replayed with recorded actions, within a tolerance."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from spec_decode_ros.actions.prompt import PromptStyle, build_prompt
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.replay.bag import BagRecording, SkippedFrame
from spec_decode_ros.replay.moments import NO_FRAME, Moment
from spec_decode_ros.replay.play import Played, action_or_none

BAD_FRAME = "its frame cannot be read"
NOT_PLAYED = "the replay decided on other frames"
OTHER_PROMPT = "the replay's prompt was another one"
NOTHING_RECORDED = "nothing was recorded on its frame"


@dataclass(frozen=True)
class Tolerance:
    """What a replay may differ by.

    Attributes:
        velocity: m/s and rad/s; None: the texts have to be identical.
        latency_ms: increase of the median time to a verified action; None: any.
        differences: number of actions that may differ by more.
    """

    velocity: float | None = None
    latency_ms: float | None = None
    differences: int = 0

    def __post_init__(self) -> None:
        for name in ("velocity", "latency_ms"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise SpecDecodeError(f"the tolerance {name} is {value}: it must be a number from 0 up")
        if self.differences < 0:
            raise SpecDecodeError(f"{self.differences} differences cannot be allowed: give 0 or more")


@dataclass(frozen=True)
class ComparedAction:
    """One action: recorded, replayed, or both.

    Attributes:
        at_s: seconds from the first frame or command of the bag to its frame.
        instruction: what the robot was told.
        recorded, replayed: the texts; None if there is none.
        recorded_velocities, replayed_velocities: vx in m/s and wz in rad/s; None if there is no action.
        recorded_ms, replayed_ms: from the frame to the verified action; None if unknown.
        same: whether they agree within the tolerance; None if they cannot be compared.
        apart: why the two cannot be compared; empty if they can.
    """

    at_s: float
    instruction: str
    recorded: str | None
    replayed: str | None
    recorded_velocities: tuple[float, float] | None
    replayed_velocities: tuple[float, float] | None
    recorded_ms: float | None
    replayed_ms: float | None
    same: bool | None
    apart: str


@dataclass(frozen=True)
class ReplayComparison:
    """All actions in the order of their frames, whether they are within the tolerance, and the frames left out."""

    rows: tuple[ComparedAction, ...]
    tolerance: Tolerance
    stats: tuple[dict[str, Any], ...] = field(default=(), repr=False)
    skipped: tuple[SkippedFrame, ...] = ()

    @cached_property
    def compared(self) -> int:
        """Number of actions that could be compared."""
        return sum(row.same is not None for row in self.rows)

    @cached_property
    def differences(self) -> int:
        """Number of those that differ by more than the tolerance."""
        return sum(row.same is False for row in self.rows)

    @cached_property
    def replayed(self) -> int:
        """Number of actions that the replay produced."""
        return sum(row.replayed is not None for row in self.rows)

    @cached_property
    def recorded(self) -> int:
        """Number of actions in the bag."""
        return sum(row.recorded_velocities is not None for row in self.rows)

    @cached_property
    def not_compared(self) -> dict[str, int]:
        """Number of actions that could not be compared, by reason."""
        return dict(Counter(row.apart for row in self.rows if row.apart).most_common())

    @cached_property
    def largest(self) -> tuple[float, float]:
        """Largest differences of vx (m/s) and wz (rad/s) among the compared actions."""
        vx = wz = 0.0
        for row in self.rows:
            if row.same is not None and row.recorded_velocities and row.replayed_velocities:
                vx = max(vx, abs(row.recorded_velocities[0] - row.replayed_velocities[0]))
                wz = max(wz, abs(row.recorded_velocities[1] - row.replayed_velocities[1]))
        return vx, wz

    @cached_property
    def latency_ms(self) -> tuple[float | None, float | None]:
        """Median time from a frame to its verified action, as recorded and as replayed."""
        recorded = [row.recorded_ms for row in self.rows if row.recorded_ms is not None]
        replayed = [row.replayed_ms for row in self.rows if row.replayed_ms is not None]
        return (
            statistics.median(recorded) if recorded else None,
            statistics.median(replayed) if replayed else None,
        )

    @cached_property
    def failures(self) -> tuple[str, ...]:
        """Reasons why the replay has failed; empty if it has not."""
        found = []
        allowed = self.tolerance.differences
        if self.differences > allowed:
            within = f", {allowed} may" if allowed else ""
            found.append(f"{self.differences} of {self.compared} actions differ{within}")
        recorded, replayed = self.latency_ms
        limit = self.tolerance.latency_ms
        if limit is None or recorded is None or replayed is None:
            return tuple(found)
        if replayed > recorded + limit:
            found.append(
                f"the median latency is {replayed:.0f} ms, more than {limit:g} ms above the recorded {recorded:.0f}"
            )
        return tuple(found)

    @property
    def passed(self) -> bool:
        """Whether everything is within the tolerance."""
        return not self.failures


def compare(
    recording: BagRecording,
    moments: Sequence[Moment],
    played: Sequence[Played],
    tolerance: Tolerance | None = None,
    *,
    style: PromptStyle = "trained",
    same_prompt: bool = True,
    skipped: Sequence[SkippedFrame] = (),
) -> ReplayComparison:
    """Match recorded and replayed actions by the stamps of their frames.

    Args:
        recording: of the bag.
        moments: the recorded decisions.
        played: the replayed decisions.
        tolerance: of the differences; by default the texts have to be identical.
        style: of the prompts, as in the pair's configuration.
        same_prompt: do not compare actions whose prompt differs from that of the recorded action.
        skipped: frames that could not be read.
    """
    tolerance = tolerance or Tolerance()
    arrived = {mark.stamp: mark.time for mark in recording.frames}
    moments_by_stamp = {moment.stamp: moment for moment in moments}
    played_by_stamp = {one.stamp: one for one in played}
    bad = {frame.stamp for frame in skipped}
    rows = []
    for stamp in sorted({*moments_by_stamp, *played_by_stamp}):
        moment, one = moments_by_stamp.get(stamp), played_by_stamp.get(stamp)
        prompt = build_prompt(moment.instruction, moment.last_action, style) if moment else ""
        apart = _apart(moment, one, prompt if same_prompt else None)
        if apart == NOT_PLAYED and stamp in bad:
            apart = BAD_FRAME
        time = arrived.get(stamp, moment.recorded.time if moment and moment.recorded else recording.start)
        rows.append(_row(moment, one, apart, tolerance, (time - recording.start) * 1e-9, arrived.get(stamp)))
    return ReplayComparison(tuple(rows), tolerance, tuple(one.stats for one in played), tuple(skipped))


def _apart(moment: Moment | None, played: Played | None, prompt: str | None) -> str:
    if moment is None or moment.recorded is None:
        return NOTHING_RECORDED
    if moment.uncertain == NO_FRAME:
        return NO_FRAME
    if played is None:
        return NOT_PLAYED
    if moment.uncertain:
        return moment.uncertain
    return OTHER_PROMPT if prompt is not None and played.prompt != prompt else ""


def _row(
    moment: Moment | None,
    played: Played | None,
    apart: str,
    tolerance: Tolerance,
    at_s: float,
    arrived: int | None,
) -> ComparedAction:
    recorded = moment.recorded if moment else None
    action = action_or_none(played.text) if played else None
    was = (recorded.vx, recorded.wz) if recorded else None
    now = (action.vx, action.wz) if action else None
    same = None
    if not apart:
        assert recorded is not None and played is not None
        if tolerance.velocity is None and recorded.text is not None:
            same = recorded.text == played.text
        else:
            same = _near(was, now, tolerance.velocity or 0.0)
    instruction = moment.instruction if moment else played.instruction if played else ""
    took = played.stats.get("ttva_ms") if played else None
    return ComparedAction(
        at_s,
        instruction,
        recorded.text if recorded else None,
        played.text if played else None,
        was,
        now,
        (recorded.time - arrived) * 1e-6 if recorded and arrived is not None else None,
        float(took) if took is not None else None,
        same,
        apart,
    )


def _near(was: tuple[float, float] | None, now: tuple[float, float] | None, tolerance: float) -> bool:
    if was is None or now is None:
        return False
    # With room for the rounding of decimal fractions.
    return all(abs(a - b) <= tolerance + 1e-9 for a, b in zip(was, now, strict=True))
