"""The configuration for rviz2 shows topics that our nodes have, by relative names that follow rviz2's namespace."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

pytest.importorskip("rclpy", reason="rclpy is not installed: the messages come with ROS 2")

from test_foxglove_layout import PUBLISHED

CONFIG = yaml.safe_load((Path(__file__).resolve().parents[2] / "config" / "robot.rviz").read_text())
DISPLAYS = CONFIG["Visualization Manager"]["Displays"]
SHOWS = {"Odometry": {"Odometry"}, "Image": {"CompressedImage"}}
"""Displays with the types of the topics that they can show; images come through image_transport."""


def test_every_topic_is_one_of_ours_with_the_type_that_the_display_shows() -> None:
    seen = set()
    for display in DISPLAYS:
        kind = display["Class"].removeprefix("rviz_default_plugins/")
        topic = display.get("Topic", {}).get("Value")
        assert (topic is not None) == (kind in SHOWS), kind
        if topic is not None:
            assert not topic.startswith("/")
            assert PUBLISHED[f"/{topic}"] == SHOWS[kind]
            seen.add(topic)
    assert seen == {"odom", "overlay/compressed", "camera/image/compressed"}


def test_a_display_hears_what_its_publisher_offers() -> None:
    """A display that asks for reliable messages gets no frames, which are best effort."""
    asked = {
        each["Topic"]["Value"]: each["Topic"]["Reliability Policy"] for each in DISPLAYS if "Topic" in each
    }
    assert asked["camera/image/compressed"] == "Best Effort"


def test_it_is_seen_from_above_in_the_frame_of_the_odometry() -> None:
    manager = CONFIG["Visualization Manager"]
    assert manager["Global Options"]["Fixed Frame"] == "odom"
    assert manager["Views"]["Current"]["Class"] == "rviz_default_plugins/TopDownOrtho"
    names = [display["Name"] for display in DISPLAYS]
    docks = set(CONFIG["Window Geometry"]) - {"Height", "Width", "Displays"}
    assert docks == {each["Name"] for each in DISPLAYS if each["Class"].endswith("/Image")}
    assert len(set(names)) == len(names)
