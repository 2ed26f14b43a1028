"""The Foxglove layout is one, and speaks of topics and services that our nodes have, with their types."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: the messages come with ROS 2")

import diagnostic_msgs.msg
import geometry_msgs.msg
import nav_msgs.msg
import sensor_msgs.msg
import std_msgs.msg
import std_srvs.srv

from spec_decode_ros.edge.frame_loop import ActionKind

ROOT = Path(__file__).resolve().parents[2]
NODES = ROOT / "spec_decode_ros" / "nodes"
ON_THE_ROBOT = ("camera_node", "drafter_node", "motion_node", "planner_node", "common")
TYPES = {
    name: getattr(module, name)
    for module in (
        geometry_msgs.msg,
        sensor_msgs.msg,
        std_msgs.msg,
        diagnostic_msgs.msg,
        nav_msgs.msg,
        std_srvs.srv,
    )
    for name in dir(module)
    if isinstance(getattr(module, name), type)
}


def calls(method: str) -> Iterator[tuple[str, str, set[str]]]:
    """(node, name, types) for every call that creates a publisher, a subscription or a service."""
    for node in ON_THE_ROBOT:
        for call in ast.walk(ast.parse((NODES / f"{node}.py").read_text())):
            if (
                isinstance(call, ast.Call)
                and isinstance(call.func, ast.Attribute)
                and call.func.attr == method
            ):
                kind, name = call.args[:2]
                # `TwistStamped if stamped else Twist` is both.
                kinds = {part.id for part in ast.walk(kind) if isinstance(part, ast.Name)} & set(TYPES)
                if isinstance(name, ast.Constant) and isinstance(name.value, str):
                    yield node, name.value, kinds
                elif isinstance(name, ast.JoinedStr):  # the drafter's f"action/{kind}"
                    yield from ((node, f"action/{action}", kinds) for action in get_args(ActionKind))


def absolute(topic: str) -> str:
    return topic if topic.startswith("/") else f"/{topic}"


PUBLISHED = {absolute(name): kinds for _, name, kinds in calls("create_publisher")}
SUBSCRIBED = {absolute(name): kinds for _, name, kinds in calls("create_subscription")}
SERVICES = {name.replace("~", f"/{node}"): kinds for node, name, kinds in calls("create_service")}


@pytest.fixture(scope="module")
def layout() -> dict:
    return json.loads((ROOT / "config" / "foxglove_layout.json").read_text())


def panels(node: object) -> Iterator[str]:
    """The panels of a mosaic: a name, or two parts and how they are split."""
    if isinstance(node, str):
        yield node
        return
    assert isinstance(node, dict)
    assert set(node) == {"direction", "splitPercentage", "first", "second"}
    assert node["direction"] in ("row", "column")
    assert 5 <= node["splitPercentage"] <= 95
    yield from panels(node["first"])
    yield from panels(node["second"])


def kind_of(topic: str, path: str) -> str:
    """The type of a field of a published topic; fails where it has none."""
    assert PUBLISHED[topic], f"no type is known for {topic}"
    found = set()
    for name in PUBLISHED[topic]:
        kind, rest = TYPES[name], path.split(".") if path else []
        for position, field in enumerate(rest):
            fields = kind.get_fields_and_field_types()
            if name == "Twist" and position == 0 and field == "twist":
                continue  # the same path of a message without a stamp: Foxglove shows nothing then
            assert field in fields, f"{name} has no {path}"
            text = fields[field]
            kind = TYPES.get(text.rpartition("/")[2], text)
        found.add(kind if isinstance(kind, str) else kind.__name__)
    assert len(found) == 1
    return found.pop()


def split_path(value: str) -> tuple[str, str]:
    topic, _, path = value.partition(".")
    return topic, path


def test_every_panel_has_a_place_and_every_place_a_panel(layout):
    assert set(layout) == {"configById", "globalVariables", "userNodes", "playbackConfig", "layout"}
    placed = list(panels(layout["layout"]))
    assert sorted(placed) == sorted(layout["configById"])
    assert len(placed) == len(set(placed))
    kinds = {name.partition("!")[0] for name in placed}
    assert kinds == {"Image", "Plot", "RawMessages", "DiagnosticSummary", "Publish", "CallService"}


def test_every_topic_is_one_of_ours_with_the_type_that_the_panel_shows(layout):
    seen = set()
    for name, config in layout["configById"].items():
        kind = name.partition("!")[0]
        if kind == "Image":
            topics = [(config["imageMode"]["imageTopic"], "", {"CompressedImage"})]
        elif kind == "Plot":
            assert all(path["enabled"] for path in config["paths"])
            topics = [(*split_path(path["value"]), {"double"}) for path in config["paths"]]
        elif kind == "RawMessages":
            topics = [(*split_path(config["topicPath"]), {"string", "DiagnosticStatus"})]
        elif kind == "DiagnosticSummary":
            topics = [(config["topicToRender"], "", {"DiagnosticArray"})]
        else:
            continue
        for topic, path, wanted in topics:
            assert topic in PUBLISHED, f"{name}: no node publishes {topic}"
            assert kind_of(topic, path) in wanted
            seen.add(topic)
    assert seen >= {
        "/overlay/compressed",
        "/camera/image/compressed",
        "/action/draft",
        "/action/verified",
        "/action/text",
        "/plan",
        "/cmd_vel",
        "/diagnostics",
    }


def test_what_it_says_and_calls_is_heard(layout):
    for name, config in layout["configById"].items():
        if name.startswith("Publish!"):
            package, _, kind = config["datatype"].split("/")
            assert package == "std_msgs"
            assert SUBSCRIBED[config["topicName"]] == {kind}
            message = json.loads(config["value"])
            assert set(message) == set(TYPES[kind].get_fields_and_field_types())
        elif name.startswith("CallService!"):
            assert SERVICES[config["serviceName"]] == {"Trigger"}
            assert json.loads(config["requestPayload"]) == {}


def test_its_stop_is_one_that_needs_no_model(layout):
    from spec_decode_ros.robots.reflex import is_stop

    assert is_stop(json.loads(layout["configById"]["Publish!stop"]["value"])["data"])
    assert not is_stop(json.loads(layout["configById"]["Publish!say"]["value"])["data"])
