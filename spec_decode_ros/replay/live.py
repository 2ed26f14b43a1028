"""Live replay: frames and commands come when they were recorded, and the robot decides on the newest frame.

Which frames are decided on depends on the speed of this machine, as on the robot. A decision can be compared where a
recorded one has the same frame and prompt.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from spec_decode_ros.actions.action import ACTION_PERIOD_S
from spec_decode_ros.edge.pilot import Pilot
from spec_decode_ros.edge.runtime import ActionResult
from spec_decode_ros.pictures import to_jpeg
from spec_decode_ros.replay.bag import FrameMark, Said
from spec_decode_ros.replay.play import MAX_FRAME_WIDTH, Played

_WAIT_S = 0.5


class PromptKeeper:
    """A runtime for the pilot that remembers the last prompt."""

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime
        self.prompt = ""

    def act(self, prompt: str, *args: Any, **options: Any) -> ActionResult:
        """As of :class:`~spec_decode_ros.edge.runtime.EdgeRuntime`."""
        self.prompt = prompt
        return self._runtime.act(prompt, *args, **options)


def play_live(
    commands: Sequence[Said],
    frames: Iterable[tuple[FrameMark, bytes]],
    pilot: Pilot,
    runtime: PromptKeeper,
    *,
    period_s: float = ACTION_PERIOD_S,
    show: Callable[[Played], None] = lambda played: None,
) -> list[Played]:
    """Decide on the newest frame again and again, at least `period_s` seconds apart, until the frames end.

    Args:
        commands: what the robot is told and when.
        frames: as of :func:`~spec_decode_ros.replay.bag.read_frames`.
        pilot: decides, through `runtime`.
        runtime: remembers the prompts.
        period_s: seconds from one decision to the next.
        show: called with each decision at once.

    Raises:
        ActionFailed: the cloud failed.
    """
    results: list[Played] = []
    due = 0.0
    with _Feed(commands, frames) as feed:
        while (now := feed.next(due, pilot.resting)) is not None:
            if now.is_new_command:
                pilot.set_command(now.command)
            due = time.perf_counter() + period_s
            jpeg = to_jpeg(now.jpeg, MAX_FRAME_WIDTH, name="a frame")
            runtime.prompt = ""  # stays so where no model is asked
            result = pilot.decide(jpeg, captured=now.captured).result
            results.append(
                Played(
                    now.stamp, now.command, runtime.prompt, result.text, result.verified, dict(result.stats)
                )
            )
            show(results[-1])
    return results


def timeline(
    commands: Sequence[Said], frames: Iterable[tuple[FrameMark, bytes]]
) -> Iterator[tuple[float, Said | None, tuple[FrameMark, bytes] | None]]:
    """Commands and frames in the order of recording, with the seconds since the first of them."""
    waiting = list(commands)
    first: int | None = None
    for mark, jpeg in frames:
        if first is None:
            first = min(mark.time, commands[0].time) if commands else mark.time
        while waiting and waiting[0].time <= mark.time:
            yield (waiting[0].time - first) * 1e-9, waiting.pop(0), None
        yield (mark.time - first) * 1e-9, None, (mark, jpeg)


class _Newest(NamedTuple):
    """The newest frame, the command in force, and whether that has come since the last decision."""

    stamp: int
    jpeg: bytes
    captured: float
    command: str
    is_new_command: bool


class _Feed:
    """Releases frames and commands when they are due, in a thread of its own, and keeps the newest of each."""

    def __init__(self, commands: Sequence[Said], frames: Iterable[tuple[FrameMark, bytes]]) -> None:
        self._commands, self._frames = commands, frames
        self._changed = threading.Condition()
        self._frame: tuple[int, bytes, float] | None = None
        self._command: str | None = None
        self._is_new_command = False
        self._decided_on: int | None = None  # stamp of a frame
        self._over = False
        self._closing = False
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="bag", daemon=True)

    def next(self, due: float, resting: bool) -> _Newest | None:
        """Wait for something to decide on and for the time `due`; None at the end of the bag."""
        with self._changed:
            while True:
                idle = self._command is None or self._frame is None or self._frame[0] == self._decided_on
                idle = idle or (resting and not self._is_new_command)
                if self._over and idle:
                    if self._error is not None:
                        raise self._error
                    return None
                wait_s = _WAIT_S if idle else due - time.perf_counter()
                if wait_s <= 0:
                    break
                self._changed.wait(wait_s)
            assert self._frame is not None and self._command is not None
            newest = _Newest(*self._frame, self._command, self._is_new_command)
            self._decided_on, self._is_new_command = newest.stamp, False
            return newest

    def _run(self) -> None:
        try:
            began = time.perf_counter()
            for offset_s, command, frame in timeline(self._commands, self._frames):
                if not self._wait_until(began + offset_s):
                    return
                with self._changed:
                    if command:
                        self._command, self._is_new_command = command.text, True
                    if frame:
                        self._frame = (frame[0].stamp, frame[1], began + offset_s)
                    self._changed.notify()
        except Exception as error:
            self._error = error
        finally:
            with self._changed:
                self._over = True
                self._changed.notify()

    def _wait_until(self, moment: float) -> bool:
        """Wait until that time; False if the replay ends before."""
        with self._changed:
            while not self._closing:
                wait_s = moment - time.perf_counter()
                if wait_s <= 0:
                    return True
                self._changed.wait(min(wait_s, _WAIT_S))
        return False

    def __enter__(self) -> _Feed:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(_WAIT_S)
