"""What the layouts for Foxglove show is in the bag that ships with the tests, and they follow a namespace."""

from __future__ import annotations

import json
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rosbags", reason="rosbags is not installed: bags need it")

from bags import WALK, types

from spec_decode_ros.replay.storage import open_bag
from spec_decode_ros.viz.decoded_action import DecodedAction
from spec_decode_ros.viz.style import OUTCOME_COLORS

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "config"
LAYOUTS = ("foxglove_bag.json", "foxglove_robot.json")

ONLY_WITH_A_PLANNER = {"/plan"}
"""The shipped bag is of a robot without one, whose layouts keep the plan behind a tab."""


@pytest.fixture(scope="module")
def messages() -> dict[str, list[Any]]:
    store, found = types(), defaultdict(list)
    with open_bag(WALK) as bag:
        for message in bag.messages(list(bag.topics)):
            found[message.topic].append(store.deserialize_cdr(message.data, message.kind))
    return found


def strings(node: object) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict | list):
        for part in node.values() if isinstance(node, dict) else node:
            yield from strings(part)


def paths(layout: dict) -> set[str]:
    """The topics, with or without fields, that the panels of a layout show; not the ones that it computes or calls."""
    shown = {panel: config for panel, config in layout["configById"].items() if "Service" not in panel}
    found = {text for text in strings(shown) if text.startswith("/")}
    inputs = re.findall(r'inputs = \["([^"]+)"\]', " ".join(strings(layout["userNodes"])))
    found |= {topic for config in shown.values() for topic in config.get("topics", {})} | set(inputs)
    return {path for path in found if not path.startswith("/studio_script/")}


def values(message: Any, path: str) -> list[Any]:
    """What a message path selects, as the viewer does: `.field`, `[:]` and `{field=="text"}`."""
    found = [message]
    for field, everything, name, text in re.findall(r'\.(\w+)|(\[:\])|\{(\w+)=="([^"]*)"\}', path):
        if field:
            found = [getattr(value, field) for value in found]
        elif everything:
            found = [part for value in found for part in value]
        else:
            found = [value for value in found if getattr(value, name) == text]
    return found


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_topic_and_field_is_in_the_shipped_bag(name: str, messages: dict[str, list[Any]]):
    wanted = paths(json.loads((CONFIG / name).read_text()))
    assert len(wanted) > 10
    for path in wanted:
        topic = re.match(r"[/\w]+", path)[0]
        if topic in ONLY_WITH_A_PLANNER:
            continue
        selected = [value for message in messages[topic] for value in values(message, path[len(topic) :])]
        assert selected, f"{name}: nothing in the bag is {path}"
        if "diagnostics" in path and path.endswith(".value"):
            assert any(float(value) > 0 for value in selected if value), path


def test_the_plan_is_behind_a_tab():
    """A panel whose topic a bag lacks says so as long as it is seen."""
    layout = json.loads((CONFIG / LAYOUTS[0]).read_text())
    tabs = layout["configById"]["Tab!texts"]
    assert "RawMessages!plan" not in set(strings(layout["layout"]))
    assert tabs["tabs"][tabs["activeTabIdx"]]["layout"] != "RawMessages!plan"


def test_the_main_panel_of_the_shipped_bag_has_a_picture_for_each_action(messages: dict[str, list[Any]]):
    pictures, actions = messages["/overlay/compressed"], messages["/action/text"]
    assert abs(len(pictures) - len(actions)) <= 1
    assert all(picture.format == "jpeg" for picture in pictures)


def test_the_outcomes_of_the_shipped_bag_are_those_that_the_software_has_today(
    messages: dict[str, list[Any]],
):
    decoded = [DecodedAction.from_json(message.data) for message in messages["/action/tokens"]]
    outcomes = {piece.outcome for action in decoded if action.state == "verified" for piece in action.pieces}
    assert {"accepted", "recovered"} <= outcomes <= set(OUTCOME_COLORS)


def test_the_shipped_bag_says_what_quality_of_service_was_offered():
    from rosbags.interfaces import QosReliability
    from rosbags.rosbag2 import Reader

    with Reader(WALK) as reader:
        offered = {one.topic: one.ext.offered_qos_profiles for one in reader.connections}
    assert all(offered.values())
    best_effort = {
        topic
        for topic, profiles in offered.items()
        if any(profile.reliability is QosReliability.BEST_EFFORT for profile in profiles)
    }
    assert best_effort == {"/camera/image/compressed"}


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_command_of_the_documents_gives_a_layout_for_a_namespace(name: str):
    (command,) = re.findall(
        r"^(sed -E .*) config/foxglove_robot\.json", (ROOT / "docs/ros.md").read_text(), re.M
    )
    done = subprocess.run(
        ["sh", "-c", f"{command} {CONFIG / name}"], capture_output=True, text=True, timeout=20, check=True
    )
    layout = json.loads(done.stdout)
    for path in paths(layout):
        assert path.startswith(("/go2/", "/diagnostics")), path
    called = {text for text in strings(layout) if text.endswith(("emergency_stop", "release"))}
    assert all(service.startswith("/go2/motion_node/") for service in called if "/" in service)
    assert '"drafter_node' not in done.stdout
    scripts = " ".join(strings(layout["userNodes"]))
    assert scripts.count("/studio_script/") == scripts.count('Input<"/go2/') == 2
