"""Records topics into an mcap bag; neither writing nor reading it needs rosbag2."""

from __future__ import annotations

import importlib
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

from spec_decode_ros.nodes.common import steady_clock

_LOOK_PERIOD_S = 0.2
_DEPTH = 100


def offered_profiles(node: Node, topic: str) -> list[Any]:
    """The quality of service that each publisher of a topic offers, as `rosbags` writes it."""
    from rosbags import interfaces as bags

    def span(duration: Duration) -> bags.QosTime:
        return bags.QosTime(*divmod(duration.nanoseconds, 10**9))

    return [
        bags.Qos(
            bags.QosHistory(int(offered.history)),
            offered.depth,
            bags.QosReliability(int(offered.reliability)),
            bags.QosDurability(int(offered.durability)),
            span(offered.deadline),
            span(offered.lifespan),
            bags.QosLiveliness(int(offered.liveliness)),
            span(offered.liveliness_lease_duration),
            offered.avoid_ros_namespace_conventions,
        )
        for offered in (info.qos_profile for info in node.get_publishers_info_by_topic(topic))
    ]


class BagRecorder:
    """Subscribes to topics as they appear and writes their messages unchanged.

    Args:
        node: whose subscriptions are used.
        folder: where `<name>.mcap` and `metadata.yaml` go; older ones are replaced.
        name: of the bag.
        wanted: whether a topic is recorded, by its name; by default all are.
        max_bytes: of messages, after which recording stops; 0 is no limit.
    """

    def __init__(
        self,
        node: Node,
        folder: Path,
        name: str = "demo",
        wanted: Callable[[str], bool] = lambda topic: True,
        max_bytes: int = 0,
    ) -> None:
        from rosbags.rosbag2 import StoragePlugin, Writer
        from rosbags.typesys import Stores, get_typestore

        self._node = node
        self._folder = folder
        self._wanted = wanted
        self._max_bytes = max_bytes
        # The wall clock is read once, so that the order of times stays when it is set.
        self._epoch = time.time_ns() - time.monotonic_ns()
        self._unfinished = folder / f".{name}" / name
        shutil.rmtree(self._unfinished.parent, ignore_errors=True)
        # Version 8 is what Humble's tools read too.
        self._writer = Writer(self._unfinished, version=8, storage_plugin=StoragePlugin.MCAP)
        self._writer.open()
        self._types = get_typestore(Stores.ROS2_HUMBLE)
        self._subscriptions: dict[str, Any] = {}
        self.counts: dict[str, int] = {}
        """Messages recorded, by topic."""
        self.bytes = 0
        """Of all messages recorded."""
        self.full = ""
        """Why recording has stopped: the limit, or a full disk; empty while recording."""
        self.look()
        self._timer = node.create_timer(_LOOK_PERIOD_S, self.look, clock=steady_clock())

    def look(self) -> None:
        """Subscribe to topics that are new since the last look."""
        for topic, types in self._node.get_topic_names_and_types():
            new = topic not in self._subscriptions and self._wanted(topic)
            if new and self._node.count_publishers(topic):
                self._subscribe(topic, types[0])

    def _subscribe(self, topic: str, kind: str) -> None:
        package, _, name = kind.partition("/msg/")
        try:
            message_type = getattr(importlib.import_module(f"{package}.msg"), name)
            connection = self._writer.add_connection(
                topic,
                kind,
                typestore=self._types,
                offered_qos_profiles=offered_profiles(self._node, topic),
            )
        except (ImportError, AttributeError, KeyError) as error:
            self._node.get_logger().warning(f"{topic} is not recorded: {kind} is unknown here ({error})")
            self._subscriptions[topic] = None
            return
        self.counts[topic] = 0

        def write(data: bytes) -> None:
            if self.full:
                return
            if self._max_bytes and self.bytes + len(data) > self._max_bytes:
                self.full = f"the limit of {self._max_bytes / 1e6:g} MB is reached"
                return
            try:
                self._writer.write(connection, self._epoch + time.monotonic_ns(), data)
            except OSError as error:
                self.full = f"the bag cannot be written: {error.strerror or error}"
                return
            self.counts[topic] += 1
            self.bytes += len(data)

        self._subscriptions[topic] = self._node.create_subscription(
            message_type, topic, write, self._quality(topic), raw=True
        )

    def _quality(self, topic: str) -> QoSProfile:
        """A quality of service that every publisher of the topic offers."""
        offered = [info.qos_profile for info in self._node.get_publishers_info_by_topic(topic)]
        reliable = all(quality.reliability == ReliabilityPolicy.RELIABLE for quality in offered)
        latched = all(quality.durability == DurabilityPolicy.TRANSIENT_LOCAL for quality in offered)
        return QoSProfile(
            history=HistoryPolicy.KEEP_LAST,
            depth=_DEPTH,
            reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
            durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
        )

    def close(self) -> Path:
        """Finish the bag and return its mcap file."""
        self._node.destroy_timer(self._timer)
        for subscription in self._subscriptions.values():
            if subscription is not None:
                self._node.destroy_subscription(subscription)
        self._subscriptions.clear()
        self._writer.close()
        for path in self._unfinished.iterdir():
            path.replace(self._folder / path.name)
        shutil.rmtree(self._unfinished.parent)
        return self._folder / f"{self._unfinished.name}.mcap"
