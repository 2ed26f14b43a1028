"""Deciding again at the speed of the recording: frames and commands come when they came, and the newest frame wins.

What is decided on which frame then depends on how fast this machine is, as on the robot. A decision whose frame and
prompt are those of a recorded one can be compared with it; the others are new.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

from spec_decode_ros.actions.action import ACTION_PERIOD_S
from spec_decode_ros.edge.runtime import ActionResult
from spec_decode_ros.replay.bag import FrameMark, Said
from spec_decode_ros.replay.play import MAX_FRAME_WIDTH, Played
from spec_decode_ros.robots.frames import to_jpeg

_WAIT_S = 0.5


class FrameDecider(Protocol):
    """What the robot decides with; see :class:`~spec_decode_ros.edge.pilot.FrameDecider`."""

    @property
    def resting(self) -> bool: ...

    def set_command(self, command: str) -> None: ...

    def decide(self, frame: bytes, on_velocities: None = ..., captured: float | None = ...) -> Any: ...


class PromptKeeper:
    """A runtime that remembers what it was asked last."""

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime
        self.prompt = ""

    def act(self, prompt: str, *args: Any, **options: Any) -> ActionResult:
        """As of :class:`~spec_decode_ros.edge.runtime.EdgeRuntime`."""
        self.prompt = prompt
        return self._runtime.act(prompt, *args, **options)


class _Box:
    """The newest frame and the command that holds, as the drafter has them."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.frame: tuple[int, bytes, float] | None = None
        self.command: str | None = None
        self.commands = 0
        self.over = False
        self.closing = False
        self.error: Exception | None = None


def play_live(
    commands: Sequence[Said],
    frames: Iterable[tuple[FrameMark, bytes]],
    pilot: FrameDecider,
    asked: PromptKeeper,
    *,
    period_s: float = ACTION_PERIOD_S,
    max_width: int = MAX_FRAME_WIDTH,
    show: Callable[[Played], None] = lambda played: None,
) -> list[Played]:
    """Decide on the newest frame again and again, at least `period_s` seconds apart, until the frames end.

    Args:
        commands: what the robot is told and when.
        frames: as of :func:`~spec_decode_ros.replay.bag.read_frames`.
        pilot: decides, through `asked`.
        asked: tells the prompts.
        period_s: seconds from one decision to the next.
        max_width: pixels; wider frames are scaled down, 0 leaves them.
        show: told of each decision at once.

    Raises:
        ActionFailed: if the cloud fails.
    """
    box = _Box()
    feeder = threading.Thread(target=_feed, args=(box, commands, frames), name="bag", daemon=True)
    feeder.start()
    results: list[Played] = []
    used, heard, due = None, 0, 0.0
    try:
        while True:
            with box.changed:
                frame, command, count = box.frame, box.command, box.commands
                idle = command is None or frame is None or frame[0] == used
                idle = idle or (count == heard and pilot.resting)
                if box.over and idle:
                    break
                wait_s = _WAIT_S if idle else due - time.perf_counter()
                if wait_s > 0:
                    box.changed.wait(wait_s)
                    continue
            assert frame is not None and command is not None
            used = frame[0]
            if count != heard:
                heard = count
                pilot.set_command(command)
            due = time.perf_counter() + period_s
            decision = pilot.decide(to_jpeg(frame[1], max_width, name="a frame"), None, frame[2])
            result: ActionResult = decision.result
            results.append(
                Played(used, command, asked.prompt, result.text, result.verified, dict(result.stats))
            )
            show(results[-1])
    finally:
        with box.changed:
            box.closing = True
            box.changed.notify()
        feeder.join(_WAIT_S)
    if box.error is not None:
        raise box.error
    return results


def timeline(
    commands: Sequence[Said], frames: Iterable[tuple[FrameMark, bytes]]
) -> Iterator[tuple[float, Said | None, tuple[FrameMark, bytes] | None]]:
    """Commands and frames in the order in which they came, with the seconds from the first of them."""
    waiting = list(commands)
    first: int | None = None
    for mark, jpeg in frames:
        if first is None:
            first = min(mark.time, commands[0].time) if commands else mark.time
        while waiting and waiting[0].time <= mark.time:
            yield (waiting[0].time - first) * 1e-9, waiting.pop(0), None
        yield (mark.time - first) * 1e-9, None, (mark, jpeg)


def _feed(box: _Box, commands: Sequence[Said], frames: Iterable[tuple[FrameMark, bytes]]) -> None:
    """Put frames and commands into the box when they are due, counted from the first of them."""
    try:
        began = time.perf_counter()
        for offset_s, command, frame in timeline(commands, frames):
            if not _until(box, began + offset_s):
                return
            with box.changed:
                if command:
                    box.command, box.commands = command.text, box.commands + 1
                if frame:
                    box.frame = (frame[0].stamp, frame[1], began + offset_s)
                box.changed.notify()
    except Exception as error:
        box.error = error
    finally:
        with box.changed:
            box.over = True
            box.changed.notify()


def _until(box: _Box, moment: float) -> bool:
    """Wait until that time; False if the replay ends before."""
    with box.changed:
        while not box.closing:
            wait_s = moment - time.perf_counter()
            if wait_s <= 0:
                return True
            box.changed.wait(min(wait_s, _WAIT_S))
    return False
