"""Answers of live nodes to a bag that is played to them, and their comparison with the bag."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from spec_decode_ros.actions.prompt import build_prompt
from spec_decode_ros.replay.bag import BagRecording, FrameMark, Said, SkippedFrame, Velocities
from spec_decode_ros.replay.compare import ReplayComparison, Tolerance, compare
from spec_decode_ros.replay.moments import Moment, moments_of
from spec_decode_ros.replay.play import Played


@dataclass
class LiveAnswers:
    """The messages that were sent and received, each frame with its stamp in the bag; and the frames that were not."""

    frames: list[tuple[FrameMark, int]] = field(default_factory=list)
    commands: list[Said] = field(default_factory=list)
    texts: list[Said] = field(default_factory=list)
    verified: list[Velocities] = field(default_factory=list)
    drafts: list[Velocities] = field(default_factory=list)
    skipped: list[SkippedFrame] = field(default_factory=list)

    def compare_with(self, bag: BagRecording, moments: Sequence[Moment]) -> ReplayComparison:
        """Compare the answers with the bag's actions at these moments."""
        played = self._played(bag) if self.commands else []
        return compare(bag, moments, played, Tolerance(), same_prompt=True, skipped=self.skipped)

    def _played(self, bag: BagRecording) -> list[Played]:
        """The live actions, by the stamps of the bag. One with an unknown prompt gets an empty one, which fits none."""
        # The messages form a recording with stamps of its own.
        live = replace(
            bag,
            frames=tuple(mark for mark, _ in self.frames),
            commands=tuple(self.commands),
            texts=tuple(self.texts),
            verified=tuple(self.verified),
            drafts=tuple(self.drafts),
        )
        original = {mark.stamp: stamp for mark, stamp in self.frames}
        arrived = {mark.stamp: mark.time for mark in live.frames}
        played = []
        for moment in moments_of(live):
            action = moment.recorded
            if action is None or action.text is None or moment.stamp not in original:
                continue
            prompt = "" if moment.uncertain else build_prompt(moment.instruction, moment.last_action)
            stats = {"ttva_ms": (action.time - arrived[moment.stamp]) * 1e-6}
            stamp = original[moment.stamp]
            played.append(Played(stamp, moment.instruction, prompt, action.text, True, stats))
        return played
