"""Faults of single messages on an emulated link: delayed, repeated, reordered, truncated, or followed by garbage."""

from __future__ import annotations

import random
import threading
from collections import defaultdict, deque
from dataclasses import dataclass
from typing import Literal, get_args

from spec_decode_ros.errors import SpecDecodeError

MessageFaultKind = Literal["delayed", "repeated", "reordered", "truncated", "garbage"]
MESSAGE_FAULT_KINDS: tuple[MessageFaultKind, ...] = get_args(MessageFaultKind)

_MOST_GARBAGE = 2_000
_MOST_REPEATS = 3

Forwarded = list[tuple[float, list[bytes]]]
"""What is forwarded in place of a message: extra delay in seconds, and frames."""


@dataclass(frozen=True)
class MessageFault:
    """A fault of the next message to the cloud (`up`) or to the robot.

    A ``delayed`` message arrives `seconds` later; a ``repeated`` one again, some times within `seconds`; a ``reordered`` one
    after the message that follows it, and never if none does; a ``truncated`` one loses the end of a frame, or whole frames;
    after ``garbage`` a message of random bytes follows. `seed` is of what is random, such as where to cut.
    """

    kind: MessageFaultKind
    up: bool
    seconds: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in MESSAGE_FAULT_KINDS:
            raise SpecDecodeError(
                f"there is no message fault {self.kind!r}: choose one of {', '.join(MESSAGE_FAULT_KINDS)}"
            )
        if not 0.0 <= self.seconds < 1e5:
            raise SpecDecodeError(f"a message fault takes 0 s or more, not {self.seconds}")


class MessageFaults:
    """Faults that wait for their message; scheduled in one thread, applied in the link's."""

    def __init__(self) -> None:
        self._waiting: dict[bool, deque[tuple[MessageFault, threading.Event]]] = defaultdict(deque)
        self._held: dict[tuple[bool, bytes], list[bytes]] = {}

    def schedule(self, fault: MessageFault) -> threading.Event:
        """Apply it to the next message in its direction; the event is set when that has been done."""
        applied = threading.Event()
        self._waiting[fault.up].append((fault, applied))
        return applied

    def apply(self, up: bool, robot: bytes, frames: list[bytes]) -> Forwarded:
        """What is forwarded in place of a message from, or to, one robot."""
        held = self._held.pop((up, robot), None)
        forwarded: Forwarded = [(0.0, frames)]
        if self._waiting[up]:
            fault, applied = self._waiting[up].popleft()
            applied.set()
            forwarded = self._with_fault(fault, robot, frames)
        return [*forwarded, (0.0, held)] if held is not None else forwarded

    def _with_fault(self, fault: MessageFault, robot: bytes, frames: list[bytes]) -> Forwarded:
        rng = random.Random(fault.seed)
        match fault.kind:
            case "delayed":
                return [(fault.seconds, frames)]
            case "repeated":
                again = range(rng.randint(1, _MOST_REPEATS))
                return [(0.0, frames), *((rng.random() * fault.seconds, frames) for _ in again)]
            case "reordered":
                self._held[fault.up, robot] = frames
                return []
            case "truncated":
                return [(0.0, truncated(frames, rng))]
            case "garbage":
                return [(0.0, frames), (0.0, garbage(frames, rng))]


def truncated(frames: list[bytes], rng: random.Random) -> list[bytes]:
    """The frames without the end of one of them, which may be all of it, or without the last ones."""
    if len(frames) > 1 and rng.random() < 0.3:
        return frames[: rng.randrange(1, len(frames))]
    place = rng.randrange(len(frames))
    cut = frames[place][: rng.randrange(max(1, len(frames[place])))]
    return [*frames[:place], cut, *frames[place + 1 :]]


def garbage(frames: list[bytes], rng: random.Random) -> list[bytes]:
    """Random frames; half of them start with the first bytes of a real message, so that they are decoded further."""
    made = [rng.randbytes(rng.randrange(_MOST_GARBAGE)) for _ in range(rng.randint(1, 3))]
    if rng.random() < 0.5:
        made[0] = frames[0][:3] + made[0]
    return made
