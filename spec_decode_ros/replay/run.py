"""A whole replay: reads a bag, decides again, compares and reports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from spec_decode_ros.actions.action import ACTION_PERIOD_S
from spec_decode_ros.actions.prompt import PromptStyle
from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.edge.pilot import Pilot
from spec_decode_ros.edge.runtime import EdgeRuntime
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models.interfaces import Drafter
from spec_decode_ros.models.pair_config import PairConfig
from spec_decode_ros.replay.bag import BagRecording, SkippedFrame, read_frames, read_recording
from spec_decode_ros.replay.compare import ReplayComparison, Tolerance, compare
from spec_decode_ros.replay.live import PromptKeeper, play_live
from spec_decode_ros.replay.moments import Moment, commands_of, moments_of
from spec_decode_ros.replay.play import Memory, Played, play
from spec_decode_ros.replay.report import as_document, print_report

if TYPE_CHECKING:
    from rich.console import Console

Speed = Literal["full", "real"]


@dataclass(frozen=True)
class ReplaySettings:
    """Settings of a replay.

    Attributes:
        instruction: replaces the bag's commands; empty: the bag's.
        image_topic, command_topic: of the bag; empty: found automatically.
        period_s: seconds between decisions, if the bag has no actions and at real speed.
        speed: ``full`` decides every recorded decision once, ``real`` on the newest frame, as on the robot.
        memory: which last action the prompt has at full speed.
        sampling: of the tokens.
    """

    instruction: str = ""
    image_topic: str = ""
    command_topic: str = ""
    period_s: float = ACTION_PERIOD_S
    speed: Speed = "full"
    memory: Memory = "recorded"
    sampling: Sampling = field(default_factory=Sampling)


class BagReplay:
    """The replay of one bag.

    Args:
        bag: folder or file of a rosbag2.
        settings: how to decide again.
        tolerance: what may differ.

    Raises:
        SpecDecodeError: the bag cannot be read, or there is nothing to decide in it.
    """

    def __init__(self, bag: str, settings: ReplaySettings, tolerance: Tolerance) -> None:
        self._bag = bag
        self._settings = settings
        self._tolerance = tolerance
        self.recording: BagRecording = read_recording(
            bag, image_topic=settings.image_topic, command_topic=settings.command_topic
        )
        self.moments: tuple[Moment, ...] = moments_of(self.recording, settings.instruction, settings.period_s)
        if not self.moments:
            raise SpecDecodeError(
                f"nothing can be decided in {self.recording.path}: no frame and no action comes after its first command"
            )

    def decide(
        self, runtime: EdgeRuntime, drafter: Drafter, pair: PairConfig, show: Callable[[Played], None]
    ) -> ReplayComparison:
        """Decide again and compare; `show` is called with each decision. Raises ActionFailed if the cloud fails."""
        settings, style = self._settings, cast(PromptStyle, pair.prompt)
        skipped: list[SkippedFrame] = []
        if settings.speed == "full":
            stamps = [moment.stamp for moment in self.moments]
            frames = read_frames(self.recording, stamps, skipped.append)
            played = play(
                self.moments,
                frames,
                runtime,
                drafter,
                style=style,
                sampling=settings.sampling,
                memory=settings.memory,
                show=show,
            )
        else:
            asked = PromptKeeper(runtime)
            pilot = Pilot(asked, style, settings.sampling)
            commands = commands_of(self.recording, settings.instruction)
            frames = read_frames(self.recording, on_skip=skipped.append)
            played = play_live(commands, frames, pilot, asked, period_s=settings.period_s, show=show)
        return compare(
            self.recording,
            self.moments,
            played,
            self._tolerance,
            style=style,
            same_prompt=settings.speed == "real",
            skipped=skipped,
        )

    def document(self, comparison: ReplayComparison, pair: str, method: str, rtt_ms: float) -> dict[str, Any]:
        """The result as plain values, for JSON."""
        settings = self._settings
        described = {
            "pair": pair,
            "speed": settings.speed,
            "method": method,
            "memory": settings.memory,
            "rtt_ms": rtt_ms,
            "temperature": settings.sampling.temperature,
            "seed": settings.sampling.seed,
        }
        return as_document(self.recording, comparison, described)

    def print(self, console: Console, comparison: ReplayComparison, pair: str, method: str) -> None:
        """Print the result."""
        title = f"{self._bag}: method {method}, pair {pair}, {self._settings.speed} speed"
        print_report(console, self.recording, comparison, title)

    def draw(self, comparison: ReplayComparison, out: str, subtitle: str) -> Path:
        """Plot velocities and latency over time."""
        from spec_decode_ros.replay.plot import draw_replay

        return draw_replay(comparison, out, f"{self._bag} · {subtitle}, {self._settings.speed} speed")

    def require_compared(self, comparison: ReplayComparison) -> None:
        """Raise SpecDecodeError if the bag has actions and none of them could be compared."""
        if comparison.recorded and not comparison.compared:
            reasons = "; ".join(f"{count}: {reason}" for reason, count in comparison.not_compared.items())
            raise SpecDecodeError(f"no recorded action of {self._bag} could be compared ({reasons})")
