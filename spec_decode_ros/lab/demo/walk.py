"""Reads the velocities of a walk from a recorded bag, for the velocity plot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.viz.velocity import Sample, Walk

_TOPICS = {
    "commanded": "cmd_vel",
    "actual": "odom",
    "verified": "action/verified",
    "drafts": "action/draft",
}
_PAUSE_S = 1.0


def read_walk(bag: Path) -> Walk:
    """The walk in a rosbag2, a folder or one of its files, from the first movement to the last.

    Raises SpecDecodeError if it cannot be read, or holds no velocities.
    """
    from rosbags.highlevel import AnyReader, AnyReaderError
    from rosbags.typesys import Stores, get_typestore

    samples: dict[str, list[Sample]] = {name: [] for name in _TOPICS}
    try:
        with AnyReader([bag], default_typestore=get_typestore(Stores.ROS2_HUMBLE)) as reader:
            chosen = [connection for connection in reader.connections if _name_of(connection.topic)]
            for connection, time, data in reader.messages(connections=chosen):
                message: Any = reader.deserialize(data, connection.msgtype)
                twist = getattr(message, "twist", message)
                twist = getattr(twist, "twist", twist)
                sample = (time * 1e-9, float(twist.linear.x), float(twist.angular.z))
                samples[_name_of(connection.topic) or ""].append(sample)
    except (AnyReaderError, OSError, ValueError, KeyError) as error:
        raise SpecDecodeError(f"cannot read the bag {bag}: {error}") from error
    moving = [t for t, vx, wz in samples["commanded"] if vx or wz]
    if not moving:
        raise SpecDecodeError(f"nothing moves in {bag}: it has no velocities on cmd_vel")
    begin, end = moving[0] - _PAUSE_S, moving[-1] + _PAUSE_S
    return Walk(
        **{
            name: tuple((t - begin, vx, wz) for t, vx, wz in found if begin <= t <= end)
            for name, found in samples.items()
        }
    )


def _name_of(topic: str) -> str | None:
    """Which of `_TOPICS` a topic is, in any namespace."""
    path = f"/{topic.lstrip('/')}"
    return next((name for name, ours in _TOPICS.items() if path.endswith(f"/{ours}")), None)
