"""The velocities in a recorded bag."""

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

    Raises:
        SpecDecodeError: it cannot be read, or holds no velocities.
    """
    from rosbags.highlevel import AnyReader, AnyReaderError
    from rosbags.typesys import Stores, get_typestore

    samples: dict[str, list[Sample]] = {name: [] for name in _TOPICS}
    names = {topic: name for name, topic in _TOPICS.items()}
    try:
        with AnyReader([bag], default_typestore=get_typestore(Stores.ROS2_HUMBLE)) as reader:
            chosen = [c for c in reader.connections if _last_names(c.topic, names) is not None]
            for connection, time, data in reader.messages(connections=chosen):
                name = _last_names(connection.topic, names)
                assert name is not None
                message: Any = reader.deserialize(data, connection.msgtype)
                twist = getattr(message, "twist", message)
                twist = getattr(twist, "twist", twist)
                samples[name].append((time * 1e-9, float(twist.linear.x), float(twist.angular.z)))
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


def _last_names(topic: str, names: dict[str, str]) -> str | None:
    """Which of ours a topic is, in whatever namespace."""
    return next((name for ours, name in names.items() if f"/{topic.lstrip('/')}".endswith(f"/{ours}")), None)
