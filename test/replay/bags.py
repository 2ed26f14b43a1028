"""Bags made with `rosbags`, as others make them, and the parts of a recording for tests of what follows from it."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from spec_decode_ros.replay.bag import BagRecording, Decided, FrameMark, Said, Velocities

WALK = Path(__file__).parents[1] / "data" / "walk"
"""The bag that ships with the tests; see test/data/make_walk.py."""

S = 10**9


def types() -> Any:
    from rosbags.typesys import Stores, get_typestore

    return get_typestore(Stores.ROS2_HUMBLE)


def header(stamp: int) -> Any:
    t = types().types
    time = t["builtin_interfaces/msg/Time"](sec=stamp // S, nanosec=stamp % S)
    return t["std_msgs/msg/Header"](stamp=time, frame_id="camera")


def jpeg(color: str = "red", size: tuple[int, int] = (64, 32)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, color).save(out, "JPEG")
    return out.getvalue()


def compressed(stamp: int, data: bytes | None = None, kind: str = "jpeg") -> Any:
    array = np.frombuffer(jpeg() if data is None else data, np.uint8)
    return types().types["sensor_msgs/msg/CompressedImage"](header=header(stamp), format=kind, data=array)


def raw(stamp: int, pixels: np.ndarray, encoding: str, padding: int = 0) -> Any:
    """A sensor_msgs Image of pixels (height, width, channels), each row followed by `padding` bytes."""
    height, width = pixels.shape[:2]
    rows = np.pad(pixels.reshape(height, -1), ((0, 0), (0, padding)))
    return types().types["sensor_msgs/msg/Image"](
        header=header(stamp),
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=0,
        step=rows.shape[1],
        data=rows.ravel(),
    )


def string(text: str) -> Any:
    return types().types["std_msgs/msg/String"](data=text)


def twist(stamp: int, vx: float, wz: float) -> Any:
    t = types().types
    vector = t["geometry_msgs/msg/Vector3"]
    value = t["geometry_msgs/msg/Twist"](
        linear=vector(x=vx, y=0.0, z=0.0), angular=vector(x=0.0, y=0.0, z=wz)
    )
    return t["geometry_msgs/msg/TwistStamped"](header=header(stamp), twist=value)


def write_bag(folder: Path, messages: Iterable[tuple[str, int, Any]], storage: str = "mcap") -> Path:
    """A bag of (topic, nanoseconds, message); the folder."""
    from rosbags.rosbag2 import StoragePlugin, Writer

    store = types()
    with Writer(folder, version=8, storage_plugin=StoragePlugin[storage.upper()]) as writer:
        connections: dict[str, Any] = {}
        for topic, time, message in messages:
            kind = message.__msgtype__
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=store)
            writer.write(connections[topic], time, store.serialize_cdr(message, kind))
    return folder


def cut(bag: Path, folder: Path, begin: int, end: int) -> Path:
    """A bag of the messages between two times (nanoseconds), byte for byte; the folder."""
    from rosbags.rosbag2 import Reader, StoragePlugin, Writer

    with Reader(bag) as reader, Writer(folder, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        connections = {
            one.id: writer.add_connection(one.topic, one.msgtype, typestore=types())
            for one in reader.connections
        }
        for connection, time, data in reader.messages(start=begin, stop=end):
            writer.write(connections[connection.id], time, data)
    return folder


def recording(
    *,
    frames: Iterable[float] = (),
    commands: Iterable[tuple[float, str]] = (),
    texts: Iterable[tuple[float, str]] = (),
    verified: Iterable[tuple[float, float, float, float]] = (),
    drafts: Iterable[tuple[float, float, float, float]] = (),
    decided: Iterable[tuple[float, str, str]] = (),
) -> BagRecording:
    """A recording in seconds: frames by stamp, which arrive 10 ms later; velocities as (time, stamp, vx, wz); actions
    with the last action that their prompts had as (time, text, last action)."""

    def ns(seconds: float) -> int:
        return round(seconds * S)

    return BagRecording(
        Path("some.mcap"),
        "/camera/image/compressed",
        tuple(FrameMark(ns(stamp), ns(stamp + 0.01)) for stamp in frames),
        tuple(Said(ns(time), text) for time, text in commands),
        tuple(Said(ns(time), text) for time, text in texts),
        tuple(Velocities(ns(time), ns(stamp), vx, wz) for time, stamp, vx, wz in verified),
        tuple(Velocities(ns(time), ns(stamp), vx, wz) for time, stamp, vx, wz in drafts),
        tuple(Decided(ns(time), text, last) for time, text, last in decided),
    )
