"""Full-speed replay: decides again on the frame of every recorded decision, as fast as it goes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from spec_decode_ros.actions.action import Action, ActionError, parse_action
from spec_decode_ros.actions.prompt import PromptStyle, build_prompt
from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.edge.runtime import EdgeRuntime
from spec_decode_ros.models.interfaces import Drafter
from spec_decode_ros.pictures import to_jpeg
from spec_decode_ros.replay.bag import FrameMark
from spec_decode_ros.replay.moments import Moment

MAX_FRAME_WIDTH = 640
"""Pixels: wider frames are scaled down, as in the drafter node."""

Memory = Literal["recorded", "own"]
"""Which last action the prompt has: the recorded one or this replay's own."""


@dataclass(frozen=True)
class Played:
    """One decision of a replay; ``stamp`` is that of its frame in nanoseconds, ``stats`` are EdgeRuntime's."""

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
    show: Callable[[Played], None] = lambda played: None,
) -> list[Played]:
    """Decide on every moment whose frame is there.

    Args:
        moments: what to decide, in the order of their frames.
        frames: as of :func:`~spec_decode_ros.replay.bag.read_frames`.
        runtime, drafter: decide.
        style: of the prompt, as in the pair's configuration.
        sampling: greedy if None.
        memory: with ``recorded`` a difference counts once, with ``own`` it may change later decisions.
        show: called with each decision at once.

    Raises:
        ActionFailed: the cloud failed.
    """
    by_stamp = {moment.stamp: moment for moment in moments}
    instruction, own_last = "", None
    results = []
    for mark, jpeg in frames:
        moment = by_stamp.get(mark.stamp)
        if moment is None:
            continue
        if moment.instruction != instruction:
            instruction, own_last = moment.instruction, None
        last = moment.last_action if memory == "recorded" else own_last
        prompt = build_prompt(instruction, last, style)
        tokens = (*drafter.encode(last), min(drafter.eos_ids)) if last else ()
        picture = to_jpeg(jpeg, MAX_FRAME_WIDTH, name="a frame")
        result = runtime.act(prompt, [picture], tokens, sampling=sampling)
        if action_or_none(result.text):
            own_last = result.text
        results.append(
            Played(moment.stamp, instruction, prompt, result.text, result.verified, dict(result.stats))
        )
        show(results[-1])
    return results


def action_or_none(text: str) -> Action | None:
    """The action of a text, None if it is not one."""
    try:
        return parse_action(text)
    except ActionError:
        return None
