"""Which frame each recorded action was made from, and which text belongs to it.

Velocities carry the stamp of their frame. A text carries nothing; it follows the last velocities of its own action,
says the same velocities, and comes in the order of the actions. Two topics may be recorded out of their order by a
little, but by less than any next decision takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spec_decode_ros.actions.action import parse_velocity_prefix
from spec_decode_ros.replay.bag import BagRecording, Said, Velocities

_BEFORE_NS = 5 * 10**9
"""The velocities of a text came at most so much before it: longer than any deadline for an action."""

_SWAPPED_NS = 10**7
"""Velocities that were recorded at most so much after a text were said before it: nobody decides that fast."""

_DELAYED_NS = 10**8
"""On a busy machine they may have been delayed by so much, if no others fit."""

_SAME = 1e-9


@dataclass(frozen=True)
class RecordedAction:
    """One verified action of a bag.

    Attributes:
        stamp: of its frame, nanoseconds.
        time: when its last part was recorded, nanoseconds.
        vx, wz: m/s, rad/s.
        text: the whole action; None where the bag has only the velocities.
    """

    stamp: int
    time: int
    vx: float
    wz: float
    text: str | None = None


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
        )
        for said, text in zip(last, texts, strict=True)
    )


def unverified_times(recording: BagRecording) -> list[int]:
    """When (nanoseconds) drafts were recorded of which no verdict came: the cloud was gone, or it was no action."""
    verified = {said.stamp for said in recording.verified}
    return sorted(said.time for said in recording.drafts if said.stamp not in verified)


def texts_without_frame(recording: BagRecording) -> int:
    """How many texts belong to no recorded velocities, so that nobody knows what they were made from."""
    found = _texts(_last_of_each_frame(recording.verified), recording.texts)
    return len(recording.texts) - sum(text is not None for text in found)


def _last_of_each_frame(said: Sequence[Velocities]) -> list[Velocities]:
    latest: dict[int, Velocities] = {}
    for velocities in said:
        latest[velocities.stamp] = velocities
    return sorted(latest.values(), key=lambda velocities: velocities.stamp)


def _texts(said: Sequence[Velocities], texts: Sequence[Said]) -> list[Said | None]:
    """For each action its text, or None."""
    found: list[Said | None] = [None] * len(said)
    free = 0
    for text in texts:
        velocities = parse_velocity_prefix(text.text)
        chosen = None
        for index in range(free, len(said)):
            age = text.time - said[index].time
            if age < -_DELAYED_NS or (age < -_SWAPPED_NS and chosen is not None):
                break
            if velocities and age <= _BEFORE_NS and _same(said[index], velocities):
                chosen = index
        if chosen is not None:
            found[chosen] = text
            free = chosen + 1
    return found


def _same(said: Velocities, velocities: tuple[float, float]) -> bool:
    return abs(said.vx - velocities[0]) < _SAME and abs(said.wz - velocities[1]) < _SAME
