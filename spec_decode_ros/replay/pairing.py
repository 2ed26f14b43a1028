"""Pairing: matches recorded texts with recorded velocities, which have the stamp of their frame.

A text has no stamp. It follows the last velocities of its action, has the same velocities in it, and texts are in the
order of their actions. Two topics may be recorded slightly out of order, but by less than any decision takes.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

from spec_decode_ros.actions.action import ActionError, parse_action
from spec_decode_ros.replay.bag import BagRecording, Decided, Said, Velocities

_BEFORE_NS = 5 * 10**9
"""Longest time from velocities to their text: more than any deadline for an action."""

_SWAPPED_NS = 10**7
"""Velocities recorded this short a time after a text may still be its own: no next decision is that fast."""

_DELAYED_NS = 10**8
"""Longest such time on a busy machine, if no other velocities fit."""

_SAME = 1e-9


@dataclass(frozen=True)
class RecordedAction:
    """One verified action of a bag.

    Attributes:
        stamp: of its frame, nanoseconds.
        time: when its last part was recorded, nanoseconds.
        vx, wz: m/s, rad/s.
        text: of the action; None if the bag has only the velocities.
        last_action: the last action as its prompt had it; None if the bag does not say.
    """

    stamp: int
    time: int
    vx: float
    wz: float
    text: str | None = None
    last_action: str | None = None


def recorded_actions(recording: BagRecording) -> tuple[RecordedAction, ...]:
    """The verified actions, in the order of their frames."""
    last = _last_of_each_frame(recording.verified)
    texts = _texts(last, recording.texts)
    return tuple(
        RecordedAction(
            said.stamp,
            max(said.time, text.time) if text else said.time,
            said.vx,
            said.wz,
            text.text if text else None,
            _last_action(text, recording.decided) if text else None,
        )
        for said, text in zip(last, texts, strict=True)
    )


def _last_action(text: Said, decided: Sequence[Decided]) -> str | None:
    """What the prompt of a text had as its last action, from the message that follows the text."""
    first = bisect.bisect_left(decided, text.time - _DELAYED_NS, key=lambda each: each.time)
    for each in decided[first:]:
        if each.time > text.time + _DELAYED_NS:
            return None
        if each.text.strip() == text.text.strip():
            return each.last_action or None
    return None


def unverified_times(recording: BagRecording) -> list[int]:
    """Times (nanoseconds) of drafts that were never verified: the cloud was gone, or the text was no action."""
    verified = {said.stamp for said in recording.verified}
    return sorted(said.time for said in recording.drafts if said.stamp not in verified)


def _last_of_each_frame(said: Sequence[Velocities]) -> list[Velocities]:
    latest: dict[int, Velocities] = {}
    for velocities in said:
        latest[velocities.stamp] = velocities
    return sorted(latest.values(), key=lambda velocities: velocities.stamp)


def _texts(said: Sequence[Velocities], texts: Sequence[Said]) -> list[Said | None]:
    """The text of each action, None where there is none."""
    found: list[Said | None] = [None] * len(said)
    free = 0
    for text in texts:
        try:
            action = parse_action(text.text)
        except ActionError:
            continue
        chosen = None
        for index in range(free, len(said)):
            age = text.time - said[index].time
            if age < -_DELAYED_NS or (age < -_SWAPPED_NS and chosen is not None):
                break
            if age <= _BEFORE_NS and _same(said[index], (action.vx, action.wz)):
                chosen = index
        if chosen is not None:
            found[chosen] = text
            free = chosen + 1
    return found


def _same(said: Velocities, velocities: tuple[float, float]) -> bool:
    return abs(said.vx - velocities[0]) < _SAME and abs(said.wz - velocities[1]) < _SAME
