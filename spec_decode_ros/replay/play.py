"""Deciding again on recorded frames, as fast as it goes: every recorded decision once, on its own frame."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from spec_decode_ros.actions.action import ActionError, parse_action
from spec_decode_ros.actions.prompt import PromptStyle, build_prompt
from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.edge.runtime import EdgeRuntime
from spec_decode_ros.models.interfaces import Drafter
from spec_decode_ros.replay.bag import FrameMark
from spec_decode_ros.replay.moments import Moment
from spec_decode_ros.robots.frames import to_jpeg

MAX_FRAME_WIDTH = 640
"""Pixels: wider frames are scaled down as the drafter does it."""

Memory = Literal["recorded", "own"]
"""Whose last action the prompt holds: the recorded one, or the one that this replay said itself."""


@dataclass(frozen=True)
class Played:
    """One decision of a replay. ``stamp`` of its frame in nanoseconds; ``stats`` as of EdgeRuntime."""

    stamp: int
    instruction: str
    prompt: str
    text: str
    verified: bool
    stats: dict[str, Any]


def play(
    moments: Sequence[Moment],
    frames: Iterable[tuple[FrameMark, bytes]],
    runtime: EdgeRuntime,
    drafter: Drafter,
    *,
    style: PromptStyle = "trained",
    sampling: Sampling | None = None,
    memory: Memory = "recorded",
    max_width: int = MAX_FRAME_WIDTH,
    show: Callable[[Played], None] = lambda played: None,
) -> list[Played]:
    """Decide on every moment whose frame comes along.

    Args:
        moments: what to decide, in the order of their frames.
        frames: as of :func:`~spec_decode_ros.replay.bag.read_frames`.
        runtime, drafter: the stack.
        style: of the prompt, as the pair says.
        sampling: greedy if None.
        memory: with ``recorded`` a difference counts once, with ``own`` it may change what follows.
        max_width: pixels; wider frames are scaled down, 0 leaves them.
        show: told of each decision at once.

    Raises:
        ActionFailed: if the cloud fails.
    """
    chain = _Chain()
    results = []
    for moment, jpeg in _together(moments, frames):
        last = moment.last_action if memory == "recorded" else chain.last(moment.instruction)
        prompt = build_prompt(moment.instruction, last, style)
        tokens = (*drafter.encode(last), min(drafter.eos_ids)) if last else ()
        result = runtime.act(prompt, [to_jpeg(jpeg, max_width, name="a frame")], tokens, sampling=sampling)
        chain.said(moment.instruction, result.text)
        results.append(
            Played(moment.stamp, moment.instruction, prompt, result.text, result.verified, dict(result.stats))
        )
        show(results[-1])
    return results


class _Chain:
    """The last valid action of one instruction, as the robot remembers it."""

    def __init__(self) -> None:
        self._instruction = ""
        self._text: str | None = None

    def last(self, instruction: str) -> str | None:
        return self._text if instruction == self._instruction else None

    def said(self, instruction: str, text: str) -> None:
        if instruction != self._instruction:
            self._instruction, self._text = instruction, None
        try:
            parse_action(text)
        except ActionError:
            return
        self._text = text


def _together(
    moments: Sequence[Moment], frames: Iterable[tuple[FrameMark, bytes]]
) -> Iterator[tuple[Moment, bytes]]:
    by_stamp = {moment.stamp: moment for moment in moments}
    for mark, jpeg in frames:
        moment = by_stamp.get(mark.stamp)
        if moment is not None:
            yield moment, jpeg
