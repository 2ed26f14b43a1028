"""What a bag holds of a robot's run: raw or compressed frames, what the robot was told, and what it decided.

A bag may not fit into memory, so it is read once for times, stamps and texts, and the frames are read again one at a
time. A message that is damaged is left out, and said so.
"""

from __future__ import annotations

import functools
import math
import operator
import struct
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.image_messages import picture_to_jpeg
from spec_decode_ros.replay.storage import BagError, Message, open_bag
from spec_decode_ros.viz.decoded_action import DecodedAction, DecodedActionError

COMPRESSED = "sensor_msgs/msg/CompressedImage"
RAW = "sensor_msgs/msg/Image"
STRING = "std_msgs/msg/String"
TWIST_STAMPED = "geometry_msgs/msg/TwistStamped"
DIAGNOSTICS = "diagnostic_msgs/msg/DiagnosticArray"

IMAGE_TOPIC = "camera/image/compressed"
COMMAND_TOPIC = "command"
RECEIVED_TOPIC = "command/received"
"""The same as a node took it: a command that is sent once may have missed the recorder."""

STEP_TOPIC = "step"
"""Where there was a planner, the drafter heard its steps and not the operator."""

OVERLAY_TOPIC = "overlay/compressed"

MOST_MESSAGES = 1_000_000
"""On the topics that are read: nine hours of 30 frames a second."""

MOST_TEXT_BYTES = 64 * 2**10
"""Of a message that is no frame."""

SHOWN_SKIPPED = 5
"""Skipped frames that are named one by one."""

# Encapsulation, seconds and nanoseconds: the beginning of every message with a header.
_LITTLE, _BIG = struct.Struct("<4xiI"), struct.Struct(">4xiI")


@dataclass(frozen=True)
class FrameMark:
    """The stamp in a frame's header and the time of its recording, both in nanoseconds."""

    stamp: int
    time: int


@dataclass(frozen=True)
class SkippedFrame:
    """A damaged frame: its stamp in nanoseconds, its time in seconds since the bag's start, and what is wrong with it."""

    stamp: int
    at_s: float
    reason: str


@dataclass(frozen=True)
class Said:
    """A text and the time of its recording in nanoseconds."""

    time: int
    text: str


@dataclass(frozen=True)
class Decided:
    """A verified action's text, the last action as its prompt had it, and the time of recording in nanoseconds."""

    time: int
    text: str
    last_action: str


@dataclass(frozen=True)
class Velocities:
    """Velocities of an action (m/s, rad/s), the stamp of its frame and the time of recording in nanoseconds."""

    time: int
    stamp: int
    vx: float
    wz: float


@dataclass(frozen=True)
class BagRecording:
    """The contents of a bag, without the frames' pictures.

    Attributes:
        path: of the bag.
        image_topic: topic of its frames.
        frames, commands, texts, verified, drafts: in the order of recording; `drafts` are velocities that the target
            had not verified when they were published.
        decided: the verified actions as ``action/tokens`` has them.
        origin: pair and method as the recorded drafter reported them; empty if it did not.
        notes: what was left out, one sentence each.
    """

    path: Path
    image_topic: str
    frames: tuple[FrameMark, ...]
    commands: tuple[Said, ...]
    texts: tuple[Said, ...] = ()
    verified: tuple[Velocities, ...] = ()
    drafts: tuple[Velocities, ...] = ()
    decided: tuple[Decided, ...] = ()
    origin: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def start(self) -> int:
        """Time of the first frame or command in nanoseconds."""
        return min([mark.time for mark in self.frames[:1]] + [said.time for said in self.commands[:1]])


def read_recording(path: str | Path, *, image_topic: str = "", command_topic: str = "") -> BagRecording:
    """Read everything but the pictures.

    Args:
        path: a bag's folder, or one of its files.
        image_topic: of the frames; by default found by its name or, if there is only one, by its type.
        command_topic: of what the drafter was told; by default ``step`` in the namespace of the frames where there is
            that topic, else ``command/received``, else ``command``.

    Raises:
        BagError: it cannot be read, or has no frames.
    """
    path = Path(path)
    with open_bag(path) as bag:
        chosen = _Topics.find(bag.topics, image_topic, command_topic, path)
        contents = _Contents(chosen.image)
        for number, message in enumerate(bag.messages(chosen.kinds)):
            if number >= MOST_MESSAGES:
                raise BagError(
                    f"{path} has more than {MOST_MESSAGES:,} messages that a replay reads: cut it with "
                    "`ros2 bag convert`, and replay the parts"
                )
            contents.add(message)
    collected = contents.collected
    frames = collected[chosen.image]
    drafts = collected[chosen.draft] + collected[chosen.unverified]
    if not frames:
        raise BagError(
            f"the topic {chosen.image} in {path} holds no frames; name another one with --image-topic"
        )
    return BagRecording(
        path,
        chosen.image,
        tuple(frames),
        tuple(collected[chosen.command]),
        tuple(collected[chosen.text]),
        tuple(collected[chosen.verified]),
        tuple(sorted(drafts, key=operator.attrgetter("time"))),
        tuple(filter(None, map(_decided, collected[chosen.tokens]))),
        tuple(sorted(contents.origin.items())),
        (*chosen.notes, *contents.notes()),
    )


def read_frames(
    recording: BagRecording,
    stamps: Collection[int] | None = None,
    on_skip: Callable[[SkippedFrame], object] = lambda frame: None,
) -> Iterator[tuple[FrameMark, bytes]]:
    """The frames as JPEG bytes, in the order of recording: those with one of the stamps, or all of them.

    A frame that is damaged is skipped, and `on_skip` is told.

    Raises:
        BagError: the bag cannot be read.
        SpecDecodeError: no frame can be read.
    """
    wanted = None if stamps is None else set(stamps)
    whole, problem = 0, None
    with open_bag(recording.path) as bag:
        for message in bag.messages((recording.image_topic,)):
            mark = _mark(message)
            if mark is None:
                continue
            if wanted is not None:
                if mark.stamp not in wanted:
                    continue
                # In a topic that was recorded twice, every frame comes twice.
                wanted.discard(mark.stamp)
            try:
                picture = _decode(message.data, message.kind)
                jpeg = picture_to_jpeg(picture, message.kind == RAW, f"a frame of {message.topic}")
            except SpecDecodeError as error:
                problem = problem or error
                on_skip(SkippedFrame(mark.stamp, (message.time - recording.start) * 1e-9, str(error)))
                continue
            whole += 1
            yield mark, jpeg
    if problem and not whole:
        raise problem


def skipped_notes(skipped: Sequence[SkippedFrame]) -> list[str]:
    """A sentence about each of the first skipped frames, and one about the others."""
    notes = [f"the frame at {one.at_s:.2f} s is skipped: {one.reason}" for one in skipped[:SHOWN_SKIPPED]]
    more = len(skipped) - len(notes)
    return (
        [*notes, f"{more} more frames are skipped, the last at {skipped[-1].at_s:.2f} s"] if more else notes
    )


# -- topics -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Topics:
    """Topics by their contents; empty where there is none."""

    image: str
    command: str
    text: str
    tokens: str
    verified: str
    draft: str
    unverified: str
    diagnostics: str
    notes: tuple[str, ...]

    @property
    def kinds(self) -> tuple[str, ...]:
        """The topics that exist."""
        said = (self.image, self.command, self.text, self.tokens)
        velocities = (self.verified, self.draft, self.unverified)
        return tuple(topic for topic in (*said, *velocities, self.diagnostics) if topic)

    @classmethod
    def find(cls, topics: dict[str, str], image: str, command: str, path: Path) -> _Topics:
        image = _image_topic(topics, image, path)
        space = image.removesuffix(IMAGE_TOPIC) if image.endswith(f"/{IMAGE_TOPIC}") else "/"
        notes: list[str] = []

        def beside(name: str, kind: str) -> str:
            topic = f"{space}{name}"
            if topic in topics and topics[topic] != kind:
                notes.append(f"{topic} is {topics[topic]} and not {kind}, so it is left out")
                return ""
            return topic if topic in topics else ""

        if command:
            command = _named(topics, command, (STRING,), "--command-topic", path)
        return cls(
            image,
            command
            or beside(STEP_TOPIC, STRING)
            or beside(RECEIVED_TOPIC, STRING)
            or beside(COMMAND_TOPIC, STRING),
            beside("action/text", STRING),
            beside("action/tokens", STRING),
            beside("action/verified", TWIST_STAMPED),
            beside("action/draft", TWIST_STAMPED),
            beside("action/unverified", TWIST_STAMPED),
            "/diagnostics" if topics.get("/diagnostics") == DIAGNOSTICS else "",
            tuple(notes),
        )


def _named(topics: dict[str, str], name: str, kinds: Sequence[str], option: str, path: Path) -> str:
    topic = name if name.startswith("/") else f"/{name}"
    wanted = " or ".join(kinds)
    candidates = sorted(topic for topic, kind in topics.items() if kind in kinds)
    there = f"there is {', '.join(candidates)}" if candidates else "no topic has that type"
    if topic not in topics:
        raise BagError(f"{path} has no topic {topic}; {option} takes a topic of {wanted}: {there}")
    if topics[topic] not in kinds:
        raise BagError(f"{topic} in {path} is {topics[topic]}; {option} takes a topic of {wanted}: {there}")
    return topic


def _image_topic(topics: dict[str, str], name: str, path: Path) -> str:
    if name:
        return _named(topics, name, (COMPRESSED, RAW), "--image-topic", path)
    images = sorted(topic for topic, kind in topics.items() if kind in (COMPRESSED, RAW))
    usual = [topic for topic in images if topic.endswith(f"/{IMAGE_TOPIC}") and topics[topic] == COMPRESSED]
    found = usual or [topic for topic in images if not topic.endswith(f"/{OVERLAY_TOPIC}")]
    if len(found) == 1:
        return found[0]
    if found:
        raise BagError(f"{path} has frames on {', '.join(found)}: choose one of them with --image-topic")
    raise BagError(
        f"{path} has no frames: none of its {len(topics)} topics is {COMPRESSED} or {RAW}; record the camera too"
    )


# -- messages -----------------------------------------------------------------------------------------------


class _Contents:
    """Collects what the messages say, by their topics."""

    def __init__(self, image_topic: str) -> None:
        self.collected: dict[str, list[Any]] = defaultdict(list)
        self.origin: dict[str, str] = {}
        self._image_topic = image_topic
        self._start: int | None = None
        self._damaged: dict[str, list[int]] = defaultdict(list)

    def add(self, message: Message) -> None:
        """Keep what counts; a damaged message is only counted."""
        self._start = message.time if self._start is None else self._start
        topic, kind, time, data = message
        try:
            if topic == self._image_topic:
                mark = _mark(message)
                if mark is None:
                    raise BagError(f"a frame on {topic} is shorter than its header")
                self.collected[topic].append(mark)
                return
            if len(data) > MOST_TEXT_BYTES:
                raise BagError(f"a message on {topic} has {len(data):,} bytes")
            found = _decode(data, kind)
            if kind == STRING:
                self.collected[topic].append(Said(time, str(found.data)))
            elif kind == TWIST_STAMPED:
                velocities = _velocities(found, time)
                # Others never moved the robot.
                if math.isfinite(velocities.vx) and math.isfinite(velocities.wz):
                    self.collected[topic].append(velocities)
            else:
                _note_origin(found, self.origin)
        except BagError:
            self._damaged[topic].append(time)

    def notes(self) -> list[str]:
        """A sentence about each topic with damaged messages."""
        start = self._start or 0
        return [
            f"{len(times)} damaged messages on {topic} are left out, the first at {(times[0] - start) * 1e-9:.2f} s"
            for topic, times in self._damaged.items()
        ]


def _decided(said: Said) -> Decided | None:
    """A verified action of ``action/tokens``; None for what is no such action."""
    try:
        decoded = DecodedAction.from_json(said.text)
    except DecodedActionError:
        return None
    return Decided(said.time, decoded.text, decoded.last_action) if decoded.state == "verified" else None


def _decode(data: bytes, kind: str) -> Any:
    try:
        return _types().deserialize_cdr(data, kind)
    except Exception as error:
        raise BagError(
            f"a message of type {kind} in the bag is damaged ({' '.join(str(error).split())[:120]}); record it again"
        ) from error


@functools.cache
def _types() -> Any:
    """The message types; those that are read have been the same in every ROS 2 since Humble."""
    from rosbags.typesys import Stores, get_typestore

    return get_typestore(Stores.ROS2_HUMBLE)


def _mark(message: Message) -> FrameMark | None:
    """By the header at the beginning of a frame's message; None where the message is shorter than that."""
    data = message.data
    if len(data) < _LITTLE.size:
        return None
    seconds, nanoseconds = (_LITTLE if data[1] & 1 else _BIG).unpack_from(data)
    # A frame whose stamp was not set has that of its recording.
    return FrameMark(int(seconds) * 10**9 + int(nanoseconds) or message.time, message.time)


def _velocities(message: Any, time: int) -> Velocities:
    stamp = message.header.stamp
    return Velocities(
        time,
        int(stamp.sec) * 10**9 + int(stamp.nanosec),
        float(message.twist.linear.x),
        float(message.twist.angular.z),
    )


def _note_origin(message: Any, origin: dict[str, str]) -> None:
    for status in message.status:
        if status.name.endswith("drafter"):
            values = {value.key: value.value for value in status.values}
            origin.update({name: values[name] for name in ("pair", "method") if name in values})
