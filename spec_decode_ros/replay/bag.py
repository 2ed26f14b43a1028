"""Reader for rosbag2 files: mcap or sqlite3, with or without metadata, raw or compressed images.

Whatever `rosbags` raises on a damaged file becomes a :class:`BagError`. A bag may not fit into memory, so it is read
once for times, stamps and texts, and the frames are read again one at a time.
"""

from __future__ import annotations

import contextlib
import functools
import heapq
import math
import operator
import struct
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.replay.pictures import picture_to_jpeg

COMPRESSED = "sensor_msgs/msg/CompressedImage"
RAW = "sensor_msgs/msg/Image"
STRING = "std_msgs/msg/String"
TWIST_STAMPED = "geometry_msgs/msg/TwistStamped"
DIAGNOSTICS = "diagnostic_msgs/msg/DiagnosticArray"

IMAGE_TOPIC = "camera/image/compressed"
COMMAND_TOPIC = "command"
STEP_TOPIC = "step"
"""Where there was a planner, the drafter heard its steps and not the operator."""

OVERLAY_TOPIC = "overlay/compressed"
STORAGES = (".mcap", ".db3")

# Encapsulation, seconds and nanoseconds: the beginning of every message with a header.
_LITTLE, _BIG = struct.Struct("<4xiI"), struct.Struct(">4xiI")


class BagError(SpecDecodeError):
    """A bag that cannot be read or used; the message says why and what to do."""


@dataclass(frozen=True)
class FrameMark:
    """The stamp in a frame's header and the time of its recording, both in nanoseconds."""

    stamp: int
    time: int


@dataclass(frozen=True)
class Said:
    """A text and the time of its recording in nanoseconds."""

    time: int
    text: str


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
            that topic, else ``command``.

    Raises:
        BagError: it cannot be read, or has no frames.
    """
    path = Path(path)
    with _opened(path) as storages:
        topics = {one.topic: one.msgtype for storage in storages for one in storage.connections}
        chosen = _Topics.find(topics, image_topic, command_topic, path)
        collected: dict[str, list[Any]] = defaultdict(list)
        origin: dict[str, str] = {}
        for topic, kind, time, data in _messages(storages, chosen.kinds):
            if topic == chosen.image:
                collected[topic].append(FrameMark(_stamp(data) or time, time))
            elif kind == STRING:
                collected[topic].append(Said(time, str(_decode(data, kind).data)))
            elif kind == TWIST_STAMPED:
                velocities = _velocities(_decode(data, kind), time)
                # Others never moved the robot.
                if math.isfinite(velocities.vx) and math.isfinite(velocities.wz):
                    collected[topic].append(velocities)
            else:
                _note_origin(_decode(data, kind), origin)
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
        tuple(sorted(origin.items())),
        chosen.notes,
    )


def read_frames(
    recording: BagRecording, stamps: Collection[int] | None = None
) -> Iterator[tuple[FrameMark, bytes]]:
    """The frames as JPEG bytes, in the order of recording: those with one of the stamps, or all of them.

    Raises:
        BagError: the bag cannot be read.
        SpecDecodeError: a frame is no picture.
    """
    wanted = None if stamps is None else set(stamps)
    with _opened(recording.path) as storages:
        for topic, kind, time, data in _messages(storages, (recording.image_topic,)):
            mark = FrameMark(_stamp(data) or time, time)
            if wanted is not None:
                if mark.stamp not in wanted:
                    continue
                # In a topic that was recorded twice, every frame comes twice.
                wanted.discard(mark.stamp)
            yield mark, picture_to_jpeg(_decode(data, kind), kind == RAW, f"a frame of {topic}")


# -- topics -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Topics:
    """Topics by their contents; empty where there is none."""

    image: str
    command: str
    text: str
    verified: str
    draft: str
    unverified: str
    diagnostics: str
    notes: tuple[str, ...]

    @property
    def kinds(self) -> tuple[str, ...]:
        """The topics that exist."""
        every = (self.image, self.command, self.text, self.verified, self.draft, self.unverified)
        return tuple(topic for topic in (*every, self.diagnostics) if topic)

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
            command or beside(STEP_TOPIC, STRING) or beside(COMMAND_TOPIC, STRING),
            beside("action/text", STRING),
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


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[list[Any]]:
    """Readers of the bag's files, in the order of their names."""
    from rosbags.rosbag2 import Reader

    with contextlib.ExitStack() as stack:
        files = _files(path)
        with _bag_errors(path):
            readers = [stack.enter_context(Reader(file)) for file in files]
        yield readers


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise BagError(f"there is no bag {path}")
    if path.is_file():
        if path.suffix in STORAGES:
            return [path]
        if path.name == "metadata.yaml":
            return [path.parent]
        hint = "convert it with rosbags-convert" if path.suffix == ".bag" else "give its folder or file"
        raise BagError(f"{path} is no rosbag2, which is a folder, a .mcap or a .db3 file: {hint}")
    if (path / "metadata.yaml").is_file():
        return [path]
    files = sorted(file for file in path.iterdir() if file.suffix in STORAGES)
    if not files:
        raise BagError(f"{path} is no rosbag2: it has neither metadata.yaml nor .mcap or .db3 files")
    if len({file.suffix for file in files}) > 1:
        raise BagError(f"{path} has .mcap and .db3 files and no metadata.yaml: name one of the files")
    return files


@contextlib.contextmanager
def _bag_errors(path: Path) -> Iterator[None]:
    """Turn every exception of `rosbags` into a BagError."""
    try:
        yield
    except SpecDecodeError:
        raise
    except Exception as error:
        # A damaged byte can raise anything from struct.error to errors of sqlite.
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise BagError(
            f"{path} cannot be read ({reason}): it is cut short or damaged; `mcap recover` or `ros2 bag reindex` "
            "may mend it, else record it again"
        ) from error


def _messages(readers: Sequence[Any], topics: Collection[str]) -> Iterator[tuple[str, str, int, bytes]]:
    """Topic, type, time of recording and bytes of every message on the topics, in the order of recording."""
    every = heapq.merge(*(_messages_of(reader, topics) for reader in readers), key=lambda message: message[2])
    while True:
        with _bag_errors(Path(readers[0].path)):
            message = next(every, None)
        if message is None:
            return
        yield message


def _messages_of(reader: Any, topics: Collection[str]) -> Iterator[tuple[str, str, int, bytes]]:
    connections = [connection for connection in reader.connections if connection.topic in topics]
    if connections:  # an empty list would select all topics
        for connection, time, data in reader.messages(connections):
            yield connection.topic, connection.msgtype, time, data


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


def _stamp(data: bytes) -> int:
    """The stamp in the header at the beginning of a message, in nanoseconds; 0 if it was not set."""
    if len(data) < _LITTLE.size:
        raise BagError("a frame in the bag is shorter than its header; the bag is damaged, record it again")
    seconds, nanoseconds = (_LITTLE if data[1] & 1 else _BIG).unpack_from(data)
    return int(seconds) * 10**9 + int(nanoseconds)


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
