"""The layouts for Foxglove are some, and speak of topics and services that our nodes have, with their types."""

from __future__ import annotations

import ast
import json
import re
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
NODE_FILES = (
    "camera_node",
    "common",
    "drafter_node",
    "go2_link",
    "motion_node",
    "planner_node",
    "teleop_commands",
)
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
    for node in NODE_FILES:
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


BAG, ROBOT = "foxglove_bag.json", "foxglove_robot.json"
SCRIPT_TOPICS = "/studio_script/"
"""How topics begin that the viewer computes by itself."""


def read(name: str) -> dict:
    return json.loads((ROOT / "config" / name).read_text())


@pytest.fixture(scope="module", params=[BAG, ROBOT])
def layout(request) -> dict:
    return read(request.param)


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
            text = fields[field].removeprefix("sequence<").removesuffix(">")
            kind = TYPES.get(text.rpartition("/")[2], text)
        found.add(kind if isinstance(kind, str) else kind.__name__)
    assert len(found) == 1
    return found.pop()


def split_path(value: str) -> tuple[str, str]:
    """Topic and fields, without the slices and filters between them."""
    topic, _, path = re.sub(r"\[[^]]*\]|\{[^}]*\}", "", value).partition(".")
    return topic, path


def all_panels(layout: dict) -> list[str]:
    """Those of the mosaic and those in tabs."""
    found = list(panels(layout["layout"]))
    for name in found:
        for tab in layout["configById"][name].get("tabs", ()):
            found += panels(tab["layout"])
    return found


def test_every_panel_has_a_place_and_every_place_a_panel(layout):
    assert set(layout) == {"configById", "globalVariables", "userNodes", "playbackConfig", "layout"}
    placed = all_panels(layout)
    assert sorted(placed) == sorted(layout["configById"])
    assert len(placed) == len(set(placed))


def test_a_bag_gets_no_buttons_and_a_robot_gets_them():
    def kinds(name: str) -> set[str]:
        return {panel.partition("!")[0] for panel in read(name)["configById"]}

    assert kinds(BAG) == {"3D", "DiagnosticSummary", "Image", "Plot", "RawMessages", "Tab", "Table"}
    assert kinds(ROBOT) - kinds(BAG) == {"Publish", "CallService"}
    # In everything else they are the same.
    bag, robot = read(BAG), read(ROBOT)
    assert bag["configById"].items() <= robot["configById"].items()
    assert bag["userNodes"] == robot["userNodes"]


def test_plots_show_the_whole_walk_and_legends_lie_beside_the_curves(layout):
    for name, config in layout["configById"].items():
        if name.startswith("Plot!"):
            assert "followingViewWidth" not in config  # it hides what a bag holds
            assert config["legendDisplay"] in ("left", "top")
            assert all(path["enabled"] and path["label"] for path in config["paths"])
        if "Tab" not in name:
            assert config["foxglovePanelTitle"] == config["lichtblickPanelTitle"]


def topics_of(name: str, config: dict) -> list[tuple[str, set[str]]]:
    """What a panel shows: paths of topics and fields, with the types that it can show."""
    kind = name.partition("!")[0]
    if kind == "Image":
        return [(config["imageMode"]["imageTopic"], {"CompressedImage"})]
    if kind == "Plot":
        return [(path["value"], {"double", "string"}) for path in config["paths"]]
    if kind in ("RawMessages", "Table"):
        return [(config["topicPath"], {"string", "DiagnosticStatus"})]
    if kind == "DiagnosticSummary":
        return [(config["topicToRender"], {"DiagnosticArray"})]
    return [(topic, set()) for topic in config.get("topics", {})]


def test_every_topic_is_one_of_ours_with_the_type_that_the_panel_shows(layout):
    scripts = [script["sourceCode"] for script in layout["userNodes"].values()]
    computed = set(re.findall(r'export const output = "([^"]+)"', "".join(scripts)))
    seen = set(re.findall(r'export const inputs = \["([^"]+)"\]', "".join(scripts)))
    assert len(computed) == len(seen) == len(scripts)
    assert seen <= set(PUBLISHED)
    for name, config in layout["configById"].items():
        for path, wanted in topics_of(name, config):
            topic, fields = split_path(path)
            if topic.startswith(SCRIPT_TOPICS):
                assert topic in computed
                continue
            assert topic in PUBLISHED, f"{name}: no node publishes {topic}"
            assert kind_of(topic, fields) in wanted
            seen.add(topic)
    assert seen >= {
        "/overlay/compressed",
        "/camera/image/compressed",
        "/action/draft",
        "/action/verified",
        "/action/text",
        "/action/tokens",
        "/command",
        "/plan",
        "/odom",
        "/cmd_vel",
        "/diagnostics",
    }


def test_what_it_says_and_calls_is_heard():
    for name, config in read(ROBOT)["configById"].items():
        if name.startswith("Publish!"):
            package, _, kind = config["datatype"].split("/")
            assert package == "std_msgs"
            assert SUBSCRIBED[config["topicName"]] == {kind}
            message = json.loads(config["value"])
            assert set(message) == set(TYPES[kind].get_fields_and_field_types())
        elif name.startswith("CallService!"):
            assert SERVICES[config["serviceName"]] == {"Trigger"}
            assert json.loads(config["requestPayload"]) == {}


def test_its_stop_is_one_that_needs_no_model():
    from spec_decode_ros.robots.reflex import is_stop

    layout = read(ROBOT)
    assert is_stop(json.loads(layout["configById"]["Publish!stop"]["value"])["data"])
    assert not is_stop(json.loads(layout["configById"]["Publish!say"]["value"])["data"])
