"""What runs on the robot: drafter, motion node, a camera node if no other one publishes, and a planner if one is named.

    ros2 launch spec_decode_ros robot.launch.py robot:=go2 network_interface:=eth0 endpoint:=tcp://10.0.0.5:5555
    ros2 launch spec_decode_ros robot.launch.py endpoint:=tcp://10.0.0.5:5555      # any base that takes cmd_vel
    ros2 launch spec_decode_ros robot.launch.py endpoint:=tcp://10.0.0.5:5555 \
        planner:=planner planner_endpoint:=tcp://10.0.0.5:5556                     # plain English, planned first

`ros2 launch spec_decode_ros robot.launch.py --show-args` lists the arguments. What is left out is as in the parameter
file. Commands go to the topic `command`: `ros2 run spec_decode_ros teleop_node`.
"""

from pathlib import Path

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from spec_decode_ros.nodes.launch_arguments import check_arguments, check_params_file

NODES = ("motion_node", "drafter_node", "camera_node", "planner_node")
CONFIG = Path(__file__).resolve().parent.parent / "config" / "robot.yaml"


def truth(text):
    """Whether a word on the command line means yes."""
    return text.lower() in ("true", "1", "yes")


# For each argument: its default, what it means, and the (node, parameter, type) that it sets where it is given.
ARGUMENTS = {
    "namespace": ("", "namespace of all nodes and topics, one for each robot of a fleet", ()),
    "params_file": (str(CONFIG), "parameters of the nodes", ()),
    "endpoint": (
        "",
        "where the verifier listens, tcp://HOST:PORT; several by commas, the preferred one first",
        (("drafter_node", "endpoint", str),),
    ),
    "robot_keys": (
        "",
        "folder of this robot's keys, if the verifier wants them",
        (("drafter_node", "keys", str), ("planner_node", "keys", str)),
    ),
    "pair": (
        "",
        "model pair: a shipped name or the path of a pair file",
        (("drafter_node", "pair", str), ("planner_node", "acting_pair", str)),
    ),
    "method": (
        "",
        "decoding method, as `spec-decode generate --help` lists them",
        (("drafter_node", "method", str),),
    ),
    "planner": (
        "none",
        "pair of language models that turns what the operator says into plain steps for the drafter: a shipped name or the "
        "path of a pair file; none: the drafter hears the operator itself",
        (("planner_node", "pair", str),),
    ),
    "planner_endpoint": (
        "",
        "where the planner's verifier listens, as endpoint",
        (("planner_node", "endpoint", str),),
    ),
    "robot": (
        "",
        "go2: drive a Unitree Go2 by its own services, and see with its own camera; none: cmd_vel only",
        (("motion_node", "robot", str),),
    ),
    "network_interface": (
        "",
        "that the Go2 is plugged into, such as eth0",
        (("motion_node", "network_interface", str), ("camera_node", "network_interface", str)),
    ),
    "dds_domain": (
        "",
        "of the Go2's own DDS, not of ROS",
        (("motion_node", "dds_domain", int), ("camera_node", "dds_domain", int)),
    ),
    "obstacle_avoidance": (
        "",
        "let the Go2 avoid obstacles by itself (true or false)",
        (("motion_node", "obstacle_avoidance", truth),),
    ),
    "source": (
        "",
        "start a camera node on go2, a folder, video or device; empty: go2 where robot is go2, else nothing; "
        "none: somebody else publishes frames",
        (("camera_node", "source", str),),
    ),
    "stamped": (
        "",
        "cmd_vel as TwistStamped (true) or Twist (false)",
        (("motion_node", "stamped", truth),),
    ),
    "unverified_factor": (
        "",
        "speed of drafts that the cloud has not confirmed, 0 to 1",
        (("motion_node", "unverified_factor", float),),
    ),
    "cmd_vel": ("cmd_vel", "topic of the velocities that go out", ()),
    "image": ("camera/image/compressed", "topic of the camera's CompressedImage", ()),
    "raw_image": ("", "topic of the camera's raw Image, in place of the compressed one", ()),
}


def launch_nodes(context):
    """The nodes, with what was given on the command line over what is in the parameter file."""
    check_arguments(context.launch_configurations, ARGUMENTS)
    check_params_file(LaunchConfiguration("params_file").perform(context), NODES, CONFIG)
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    given["source"] = given["source"] or ("go2" if given["robot"] == "go2" else "none")
    parameters = {}
    for name, (_, _, targets) in ARGUMENTS.items():
        for node, parameter, kind in targets:
            if given[name]:
                parameters.setdefault(node, {})[parameter] = kind(given[name])
    nodes = ["motion_node", "drafter_node"] + ([] if given["source"] == "none" else ["camera_node"])
    topics = [("cmd_vel", given["cmd_vel"]), ("camera/image/compressed", given["image"])]
    if given["raw_image"]:
        topics.append(("camera/image", given["raw_image"]))
        parameters.setdefault("drafter_node", {})["image_transport"] = "raw"
    remappings = {}
    if given["planner"] != "none":
        nodes.append("planner_node")
        parameters.setdefault("motion_node", {})["planner"] = True
        remappings["drafter_node"] = [("command/received", "step")]
    return [
        Node(
            package="spec_decode_ros",
            executable=node,
            name=node,
            namespace=given["namespace"],
            parameters=[given["params_file"], parameters.get(node, {})],
            remappings=topics + remappings.get(node, []),
            output="screen",
        )
        for node in nodes
    ]


def generate_launch_description():
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description, _) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=launch_nodes)])
