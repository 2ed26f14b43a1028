"""Moments: the decisions that a replay makes, one for each recorded action, with its frame and prompt.

The prompt has the last action's text in it, with its counter as odometry had it, so it is taken from ``action/tokens``
where the bag has that. Else it is unknown for the first action of a bag that begins after the command, and after an
action that was never verified, whose text is not in the bag. Such actions are decided again too, but a
difference has no meaning; they are counted separately.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass

from spec_decode_ros.actions.action import ACTION_PERIOD_S
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.replay.bag import BagRecording, Said
from spec_decode_ros.replay.pairing import RecordedAction, recorded_actions, unverified_times

_HEARD_NS = 10_000_000
"""No decision is that fast: an action recorded within this time after a command answers the one before."""

NO_FRAME = "its frame is not in the bag"
BEGINS_LATE = "what was said before it is not in the bag"
AFTER_UNVERIFIED = "an action before it was not verified, so its prompt is not known"
AFTER_NO_TEXT = "the text of the action before it is not in the bag"


@dataclass(frozen=True)
class Moment:
    """One decision.

    Attributes:
        stamp: of the frame, nanoseconds.
        instruction: what the robot had been told.
        last_action: text of the previous action for that instruction; None at the beginning.
        recorded: the recorded action; None if the bag has no actions.
        uncertain: why the recorded prompt is unknown; empty if it is known.
    """

    stamp: int
    instruction: str
    last_action: str | None = None
    recorded: RecordedAction | None = None
    uncertain: str = ""


@dataclass(frozen=True)
class _Span:
    """An instruction and when it began (nanoseconds); a repeated command does not begin a new span.

    ``known`` is False if the bag has no commands, so that the true beginning is unknown.
    """

    time: int
    text: str
    known: bool


def moments_of(
    recording: BagRecording, instruction: str = "", period_s: float = ACTION_PERIOD_S
) -> tuple[Moment, ...]:
    """The moments of a bag: those of its actions, or one every `period_s` seconds if it has none.

    Args:
        recording: the bag.
        instruction: replaces the bag's commands.
        period_s: seconds from one decision to the next.

    Raises:
        SpecDecodeError: there is neither a command nor an instruction.
    """
    spans = _spans(recording, instruction)
    actions = recorded_actions(recording)
    return _recorded(recording, spans, actions) if actions else _regular(recording, spans, period_s)


def commands_of(recording: BagRecording, instruction: str = "") -> tuple[Said, ...]:
    """What the robot is told and when; a given `instruction` replaces every command.

    Raises:
        SpecDecodeError: there is neither a command nor an instruction.
    """
    if recording.commands:
        return tuple(Said(said.time, instruction or said.text) for said in recording.commands)
    if instruction:
        return (Said(recording.start, instruction),)
    raise SpecDecodeError(
        f"{recording.path} has no commands: say with --instruction what the robot is told, or name their topic "
        "with --command-topic"
    )


def _spans(recording: BagRecording, instruction: str) -> tuple[_Span, ...]:
    """The instructions and their beginnings, at least one."""
    spans: list[_Span] = []
    for command in commands_of(recording, instruction):
        if not spans or spans[-1].text != command.text:
            spans.append(_Span(command.time, command.text, bool(recording.commands)))
    return tuple(spans)


def _recorded(
    recording: BagRecording, spans: tuple[_Span, ...], actions: tuple[RecordedAction, ...]
) -> tuple[Moment, ...]:
    there = {mark.stamp for mark in recording.frames}
    lost = unverified_times(recording)
    begins = [span.time for span in spans]
    moments: list[Moment] = []
    before: RecordedAction | None = None
    heard: _Span | None = None
    for action in actions:
        index = bisect.bisect_right(begins, action.time - _HEARD_NS) - 1
        if index < 0 and spans[0].known:
            continue  # an answer to a command from before the recording
        span = spans[max(index, 0)]
        if span is not heard:
            heard, before = span, None
        since = before.time if before else span.time
        uncertain = ""
        if action.stamp not in there:
            uncertain = NO_FRAME
        elif before is None and not span.known:
            uncertain = BEGINS_LATE
        elif bisect.bisect_right(lost, since) < bisect.bisect_left(lost, action.time):
            uncertain = AFTER_UNVERIFIED
        elif before is not None and before.text is None:
            uncertain = AFTER_NO_TEXT
        if action.last_action is not None and uncertain != NO_FRAME:
            uncertain = ""
        last = action.last_action or (before.text if before else None)
        moments.append(Moment(action.stamp, span.text, last, action, uncertain))
        before = action
    return tuple(moments)


def _regular(recording: BagRecording, spans: tuple[_Span, ...], period_s: float) -> tuple[Moment, ...]:
    begins = [span.time for span in spans]
    moments: list[Moment] = []
    due = begins[0]
    for mark in recording.frames:
        if mark.time >= due:
            span = spans[bisect.bisect_right(begins, mark.time) - 1]
            moments.append(Moment(mark.stamp, span.text))
            due = max(due + round(period_s * 1e9), mark.time)
    return tuple(moments)
