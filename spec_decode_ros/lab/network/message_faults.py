"""Harm that a network does to single messages on its way, one act at a time, for tests that count what comes of each."""

from __future__ import annotations

import random
import threading
from collections import deque
from dataclasses import dataclass
from typing import Literal, get_args

from spec_decode_ros.errors import SpecDecodeError

PrankKind = Literal["delayed", "repeated", "reordered", "truncated", "garbage"]
PRANKS: tuple[PrankKind, ...] = get_args(PrankKind)

_MOST_GARBAGE = 2_000
_MOST_REPEATS = 3

Handed = list[tuple[float, list[bytes]]]
"""What goes on in the place of a message: seconds later than it would, and its frames."""


@dataclass(frozen=True)
class MessageFault:
    """What happens to the next message in one direction.

    Attributes:
        kind: ``delayed`` comes `seconds` later; ``repeated`` comes again, some times within `seconds`; ``reordered``
            comes after the message that follows it, and never if none does; ``truncated`` loses the end of a frame, or
            whole frames; ``garbage`` is followed by bytes that no one has sent.
        up: to the cloud, or else to the robot.
        seconds: see above.
        seed: of what is chosen at random, such as where to cut.
    """

    kind: PrankKind
    up: bool
    seconds: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in PRANKS:
            raise SpecDecodeError(f"there is no prank {self.kind!r}: choose one of {', '.join(PRANKS)}")
        if not 0.0 <= self.seconds < 1e5:
            raise SpecDecodeError(f"a prank takes 0 s or more, not {self.seconds}")


class MessageFaults:
    """Pranks that wait for a message; ordered in one thread, played in another."""

    def __init__(self) -> None:
        self._waiting: dict[bool, deque[tuple[MessageFault, threading.Event]]] = {
            True: deque(),
            False: deque(),
        }
        self._held: dict[tuple[bool, bytes], list[bytes]] = {}

    def order(self, prank: MessageFault) -> threading.Event:
        """Play it on the next message in its direction; the event is set as soon as that has been done."""
        played = threading.Event()
        self._waiting[prank.up].append((prank, played))
        return played

    def done_to(self, up: bool, robot: bytes, frames: list[bytes]) -> Handed:
        """What is handed on in the place of a message of, or to, one robot."""
        kept = self._held.pop((up, robot), None)
        waiting = self._waiting[up]
        handed = self._play(*waiting.popleft(), robot, frames) if waiting else [(0.0, frames)]
        return [*handed, (0.0, kept)] if kept is not None else handed

    def _play(
        self, prank: MessageFault, played: threading.Event, robot: bytes, frames: list[bytes]
    ) -> Handed:
        played.set()
        chance = random.Random(prank.seed)
        if prank.kind == "delayed":
            return [(prank.seconds, frames)]
        if prank.kind == "repeated":
            again = chance.randint(1, _MOST_REPEATS)
            return [(0.0, frames), *((chance.random() * prank.seconds, frames) for _ in range(again))]
        if prank.kind == "reordered":
            self._held[prank.up, robot] = frames
            return []
        if prank.kind == "truncated":
            return [(0.0, truncated(frames, chance))]
        return [(0.0, frames), (0.0, garbage(frames, chance))]


def truncated(frames: list[bytes], chance: random.Random) -> list[bytes]:
    """Without the end of a frame, which may be all of it, or without the last frames."""
    if len(frames) > 1 and chance.random() < 0.3:
        return frames[: chance.randrange(1, len(frames))]
    place = chance.randrange(len(frames))
    cut = frames[place][: chance.randrange(max(1, len(frames[place])))]
    return [*frames[:place], cut, *frames[place + 1 :]]


def garbage(frames: list[bytes], chance: random.Random) -> list[bytes]:
    """Random frames; half of them begin as a real message does, so that more than the first byte is looked at."""
    made = [chance.randbytes(chance.randrange(_MOST_GARBAGE)) for _ in range(chance.randint(1, 3))]
    if chance.random() < 0.5:
        made[0] = frames[0][:3] + made[0]
    return made
