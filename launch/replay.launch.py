"""Plays a recorded bag to live nodes and compares their actions with those in the bag.

    ros2 launch spec_decode_ros replay.launch.py bag:=/path/of/bag

Everything runs in the namespace `replay`, velocities included, so that no robot on the same network moves. With an
empty `endpoint` a verifier is started here. No planner is needed: of a bag with a topic `step` the steps are played,
which the drafter heard. The table and the verdict are replay_node's; when it ends, all end.
"""

import socket

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

ARGUMENTS = {
    "bag": ("", "the rosbag2: its folder, or an .mcap or .db3 file"),
    "namespace": ("replay", "namespace of all nodes and topics"),
    "pair": ("tiny", "model pair: a shipped name or the path of a pair file"),
    "method": ("auto", "decoding method, as `spec-decode generate --help` lists them"),
    "endpoint": ("", "a verifier that runs already, tcp://HOST:PORT; empty: one is started here"),
    "instruction": ("", "what the robot is told; empty: what the bag says"),
    "image_topic": ("", "of the frames in the bag; empty: found by itself"),
    "command_topic": ("", "of the commands in the bag; empty: found by itself"),
    "rate": ("1.0", "of playing: 1 is as recorded, 2 twice as fast"),
    "motion": ("false", "start motion_node too, which publishes cmd_vel in the namespace (true or false)"),
    "json": ("", "file for the result; empty: none"),
    "plot": ("", "file for the picture; empty: none"),
}


def free_endpoint():
    """Where nothing listens on this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


def launch_nodes(context):
    """The nodes that the arguments ask for."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    endpoint = given["endpoint"] or free_endpoint()

    def typed(parameters):
        """Text stays text, whatever YAML would make of it."""
        return {
            key: ParameterValue(value, value_type=str) if isinstance(value, str) else value
            for key, value in parameters.items()
        }

    def node(name, parameters=None, **options):
        return Node(
            package="spec_decode_ros",
            executable=name,
            name=name,
            namespace=given["namespace"],
            parameters=[typed(parameters or {})],
            output="screen",
            **options,
        )

    nodes = []
    if not given["endpoint"]:
        nodes.append(node("cloud_bridge_node", {"pair": given["pair"], "bind": endpoint}))
    # A replay waits for the answers of a slow machine too.
    drafting = {"pair": given["pair"], "method": given["method"], "endpoint": endpoint, "deadline": 10.0}
    nodes.append(node("drafter_node", drafting))
    to_drafter = [("command", "command/received")]
    if given["motion"].lower() in ("true", "1", "yes"):
        nodes.append(node("motion_node"))
        to_drafter = []  # motion_node hands the commands on
    names = ("bag", "instruction", "image_topic", "command_topic", "json", "plot")
    replaying = {name: given[name] for name in names}
    nodes.append(
        node(
            "replay_node",
            {**replaying, "rate": float(given["rate"])},
            remappings=to_drafter,
            on_exit=Shutdown(reason="replayed"),
        )
    )
    return nodes


def generate_launch_description():
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=launch_nodes)])
